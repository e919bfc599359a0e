"""What each service of ours may do at Redis and at the object store: what it needs, and no more.

Whoever takes a service over, by a picture that its decoder does not survive, has the credentials of that service alone.
The user of the commands, whose credentials are in ``settings.env``, may do everything.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass

from shared.storage import access_layout, evaluation_layout, layout

OWN_COMMANDS = "+@all -@admin -@dangerous +info"
_IDENTITY = ("system", "ready*")
_WORK = ("heartbeats", "lock:*", "once:*", "attempt:*", "job:*", "jobs", "jobs:*", "sent:*", "submitter:*", "tally")
_IMAGES = ("pin:*", "deleting:*", "set-aside:*")
_INDEX = (
    *("b:*", "claims:*", "indexed:*", "index:*", "since-compaction:*", "changes", "suspect", "model-change:*"),
    *("pending-deletes:*", "failed:*", "regions:*", "record-changes"),
)
_VISITORS = ("access:*", "session:*", "log-in:*", "rate:*", "in-flight:*")

_OBJECTS_OF_IMAGES = (
    layout.ORIGINALS,
    layout.LINKS,
    layout.DOCUMENTS,
    layout.DERIVATIVES,
    layout.THUMBNAILS,
    layout.FEATURES,
    layout.COLLECTIONS,
    layout.EMBEDDING_SETS,
    layout.VECTORS,
    layout.TRASH,
    layout.RECORDS,
    layout.SET_ASIDE,
    layout.RENAMES,
    layout.RENAMING,
    "tombstones/",
    "merges/",
    "indexes/",
)
_OBJECTS_OF_EVALUATIONS = (
    evaluation_layout.EVALUATIONS,
    evaluation_layout.EVALUATING,
    evaluation_layout.DUPLICATES,
    evaluation_layout.DUPLICATING,
    evaluation_layout.QUERY_SETS,
    evaluation_layout.QUERIES,
    evaluation_layout.EMBEDDINGS,
)
_OBJECTS_OF_THE_SYSTEM = (layout.SYSTEM, layout.RESTORING, ".ready")
_EVERY_OBJECT = ("",)


@dataclass(frozen=True)
class Rights:
    """The rights of a service.

    Attributes:
        keys: Patterns of the keys of the index that it writes; it may read all of them.
        commands: What it may send to index and broker.
        reads: The beginnings of the keys of the objects that it reads; it may list all of them.
        writes: The beginnings of the keys of the objects that it writes and deletes.
        sends: Whether it has to do with the broker.
    """

    keys: tuple[str, ...]
    commands: str = OWN_COMMANDS
    reads: tuple[str, ...] = (*_OBJECTS_OF_IMAGES, *_OBJECTS_OF_EVALUATIONS, *_OBJECTS_OF_THE_SYSTEM)
    writes: tuple[str, ...] = ()
    sends: bool = True


SERVICES: Mapping[str, Rights] = {
    "web": Rights(
        keys=(*_IDENTITY, *_WORK, *_IMAGES, *_VISITORS, "index:*", "record-changes"),
        reads=_EVERY_OBJECT,
        writes=(
            *(
                layout.ORIGINALS,
                layout.DERIVATIVES,
                layout.THUMBNAILS,
                layout.FEATURES,
                layout.COLLECTIONS,
                layout.TRASH,
                layout.RECORDS,
                evaluation_layout.KEPT_QUERIES,
                access_layout.ACCESS,
                access_layout.AUDIT,
            ),
            *(*_OBJECTS_OF_EVALUATIONS, *_OBJECTS_OF_THE_SYSTEM),
        ),
    ),
    "embedder": Rights(
        keys=(*_IDENTITY, *_WORK, *_IMAGES, *_INDEX[1:]),
        writes=(*_OBJECTS_OF_IMAGES, *_OBJECTS_OF_THE_SYSTEM),
    ),
    "indexer": Rights(
        keys=(*_IDENTITY, *_WORK, *_IMAGES, *_INDEX),
        writes=(*_OBJECTS_OF_IMAGES, *_OBJECTS_OF_THE_SYSTEM),
    ),
    "maintenance": Rights(
        keys=("*",),
        commands=f"{OWN_COMMANDS} +bgrewriteaof",
        reads=_EVERY_OBJECT,
        writes=_EVERY_OBJECT,
    ),
    "evaluator": Rights(
        keys=(*_IDENTITY, *_WORK, "e:*", "scratch"),
        writes=(*_OBJECTS_OF_EVALUATIONS, layout.FEATURES, *_OBJECTS_OF_THE_SYSTEM),
    ),
    "query": Rights(
        keys=(*_IDENTITY, "lock:system", "recall:*", "suspect"),
        reads=(*_OBJECTS_OF_IMAGES, *_OBJECTS_OF_THE_SYSTEM),
        sends=False,
    ),
}


def secret_names() -> list[str]:
    """Return the names of the secrets of all services."""
    return [
        f"{service}_{what}"
        for service, rights in SERVICES.items()
        for what in ("index_password", *(["broker_password"] if rights.sends else []), "s3_access_key", "s3_secret_key")
    ]


def index_users(passwords: Mapping[str, str]) -> list[str]:
    """Return the lines of Valkey's configuration with the users of the index; `passwords` are by the service."""
    return [
        _user(service, passwords[service], f"%R~* {' '.join(f'~{key}' for key in rights.keys)} {rights.commands}")
        for service, rights in SERVICES.items()
    ]


def broker_users(passwords: Mapping[str, str]) -> list[str]:
    """Return the lines of Valkey's configuration with the users of the broker.

    Each worker gives back what others have not renewed, so each needs all queues.
    """
    return [
        _user(service, passwords[service], f"~* &* {rights.commands}")
        for service, rights in SERVICES.items()
        if rights.sends
    ]


def store_actions(service: str, bucket: str) -> list[str]:
    """Return what a service may do in SeaweedFS' words."""
    rights = SERVICES[service]
    return [
        f"List:{bucket}",
        *(f"{action}:{bucket}/{prefix}*" for action, prefixes in (("Read", rights.reads), ("Write", rights.writes))
          for prefix in prefixes if prefix),
        *(f"{action}:{bucket}" for action, prefixes in (("Read", rights.reads), ("Write", rights.writes))
          if "" in prefixes),
    ]  # fmt: skip


def store_policy(service: str, bucket: str) -> dict[str, object]:
    """Return what a service may do as a policy of S3, which MinIO takes."""
    rights = SERVICES[service]
    statements = [
        _statement(["s3:GetBucketLocation", "s3:ListBucket"], [bucket]),
        _statement(["s3:GetObject"], [f"{bucket}/{prefix}*" for prefix in rights.reads]),
    ]
    if rights.writes:
        actions = ["s3:AbortMultipartUpload", "s3:DeleteObject", "s3:ListMultipartUploadParts", "s3:PutObject"]
        statements.append(_statement(actions, [f"{bucket}/{prefix}*" for prefix in rights.writes]))
    return {"Version": "2012-10-17", "Statement": statements}


def _statement(actions: list[str], resources: list[str]) -> dict[str, object]:
    return {"Effect": "Allow", "Action": actions, "Resource": [f"arn:aws:s3:::{resource}" for resource in resources]}


def _user(name: str, password: str, rights: str) -> str:
    """Return a line that names a user by the hash of the password."""
    return f"user {name} reset on #{hashlib.sha256(password.encode()).hexdigest()} {rights}"
