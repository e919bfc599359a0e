"""Where everything lies in the object store: the keys, and the identity of an image.

images/<sha256>                                       originals, shared by all collections
collections/<name>.json                               manifests of the embedding sets in use
embedding-sets/<set>.json                             manifests of embedding sets that are being filled, or were in use
vectors/<set>/<segment>.arrow                         vector segments, written once
tombstones/<set>/<segment>/<id>                       empty objects: this row of this segment is deleted
merges/<set>/<segment>.json                           segments that are being merged into this one
indexes/<set>/<generation>.npz                        index generations, written once
indexes/<set>/<generation>.json                       what was predicted and measured of each
indexes/<set>/current.json                            which generation is in use
set-aside/<sha256>.json                               images that killed their worker repeatedly
evaluations/<collection>/<id>.json, .parquet          how good a collection's answers were found to be
evaluating/<id>/<part>                                parts of an evaluation that is under way
querysets/<digest>/queries.json                       a set of labelled queries, by its content
querysets/<digest>/users/<id>                         empty markers: this evaluation used it
querysets/names/<name>.json                           which set is kept under a name
queries/<sha256>                                      originals of queries, shared by all sets
embeddings/<model>/<version>/<sha256>                 embeddings of queries

An embedding set is what one model version makes of a collection. The first has the collection's name, each
later set a number behind a dot, which no name of a collection holds.
"""

import hashlib
import re
import secrets
import time
from urllib.parse import quote

from shared.errors import Invalid

COLLECTIONS = "collections/"
EMBEDDING_SETS = "embedding-sets/"
SET_ASIDE = "set-aside/"
EVALUATIONS = "evaluations/"
QUERY_SETS = "querysets/"
KEPT_SETS = "querysets/names/"
QUERIES = "queries/"
_MERGED = "merged-"
_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}")
_GENERATION = re.compile(rf"indexes/{_NAME.pattern}(?:\.\d+)?/(\d+)\.(?:npz|json)")
ID_BITS = 53  # what a JSON number holds exactly in every language


def collection_name(name: str) -> str:
    """Return `name` if it may name a collection.

    Raises:
        Invalid: It is not 1 to 63 lower-case letters, digits, ``-`` and ``_``, starting with a letter or digit.
    """
    if not _NAME.fullmatch(name):
        raise Invalid(
            f"{name[:80]!r} cannot name a collection: use 1 to 63 of a-z, 0-9, '-' and '_', "
            "starting with a letter or digit"
        )
    return name


def digest_of(data: bytes) -> str:
    """Return the SHA-256 of an image's bytes, hexadecimal."""
    return hashlib.sha256(data).hexdigest()


def image_id(digest: str) -> int:
    """Return the integer id of the image with this SHA-256: its first 53 bits.

    The id follows from the content, so that a task which runs twice, or a rebuild, cannot give an image another one.
    Among a million images two share an id with probability 6e-5; the second then counts as a duplicate of the first.
    """
    return max(1, int(digest[:16], 16) >> (64 - ID_BITS))


def original_key(digest: str) -> str:
    """Return the key of an original."""
    return f"images/{digest}"


def originals_prefix(image_id: int) -> str:
    """Return what the keys of the originals of the images with this id start with, and of a few others."""
    return original_key(f"{image_id << (64 - ID_BITS):016x}"[: ID_BITS // 4])


def manifest_key(collection: str) -> str:
    """Return the key of a collection's manifest."""
    return f"{COLLECTIONS}{collection}.json"


def embedding_set_name(collection: str, number: int) -> str:
    """Return the name of a collection's embedding set."""
    return f"{collection}.{number}" if number else collection


def collection_of(set_name: str) -> str:
    """Return the name of the collection that an embedding set is one of."""
    return set_name.partition(".")[0]


def number_of(set_name: str) -> int:
    """Return the number of an embedding set among those of its collection."""
    return int(set_name.partition(".")[2] or 0)


def embedding_sets_prefix(collection: str) -> str:
    """Return what the keys of the manifests of a collection's embedding sets that are not in use start with."""
    return f"{EMBEDDING_SETS}{collection}."


def embedding_set_key(set_name: str) -> str:
    """Return the key of the manifest of an embedding set that is not in use."""
    return f"{EMBEDDING_SETS}{set_name}.json"


def segments_prefix(set_name: str) -> str:
    """Return what the keys of an embedding set's segments start with."""
    return f"vectors/{set_name}/"


def segment_key(set_name: str, segment: str) -> str:
    """Return the key of a segment."""
    return f"{segments_prefix(set_name)}{segment}.arrow"


def segment_of(key: str) -> str:
    """Return the name of the segment with this key."""
    return key.rsplit("/", 1)[-1].removesuffix(".arrow")


def new_merged_segment() -> str:
    """Return a name for a segment that others are merged into, never given twice, which sorts behind theirs.

    A listing of tombstones goes by the names of segments: it cannot miss one that moves from an input to the result.
    """
    return f"{_MERGED}{time.time_ns():016x}{secrets.token_hex(3)}"


def is_merged(segment: str) -> bool:
    """Return whether a segment was made of others."""
    return segment.startswith(_MERGED)


def batch_of(segment: str) -> tuple[str, int] | None:
    """Return the job and the number of the batch that a segment was written for; None for a merged one."""
    job, _, batch = segment.rpartition("-")
    return (job, int(batch)) if job and batch.isdecimal() and not is_merged(segment) else None


def merges_prefix(set_name: str) -> str:
    """Return what the keys of an embedding set's merges in progress start with."""
    return f"merges/{set_name}/"


def merge_key(set_name: str, merged: str) -> str:
    """Return the key of the object that says what is being merged into a segment."""
    return f"{merges_prefix(set_name)}{merged}.json"


def tombstones_prefix(set_name: str) -> str:
    """Return what the keys of an embedding set's tombstones start with."""
    return f"tombstones/{set_name}/"


def tombstone_key(set_name: str, segment: str, image_id: int) -> str:
    """Return the key of the tombstone of a row."""
    return f"{tombstones_prefix(set_name)}{segment}/{image_id}"


def tombstone_of(key: str) -> tuple[str, int]:
    """Return segment and id of the tombstone with this key."""
    _, _, segment, image_id = key.split("/")
    return segment, int(image_id)


def indexes_prefix(set_name: str) -> str:
    """Return what the keys of an embedding set's index generations start with."""
    return f"indexes/{set_name}/"


def generation_key(set_name: str, generation: int) -> str:
    """Return the key of an index generation."""
    return f"{indexes_prefix(set_name)}{generation:06d}.npz"


def generation_report_key(set_name: str, generation: int) -> str:
    """Return the key of the report on an index generation."""
    return f"{indexes_prefix(set_name)}{generation:06d}.json"


def generation_of(key: str) -> int | None:
    """Return the number of the generation whose arrays or report have this key; None for any other key."""
    found = _GENERATION.fullmatch(key)
    return int(found[1]) if found else None


def current_index_key(set_name: str) -> str:
    """Return the key of the object that says which generation is in use."""
    return f"{indexes_prefix(set_name)}current.json"


def set_aside_key(digest: str) -> str:
    """Return the key of the report on an image that was set aside."""
    return f"{SET_ASIDE}{digest}.json"


def evaluations_prefix(collection: str) -> str:
    """Return what the keys of a collection's evaluations start with."""
    return f"{EVALUATIONS}{collection}/"


def evaluation_key(collection: str, evaluation: str) -> str:
    """Return the key of an evaluation."""
    return f"{evaluations_prefix(collection)}{evaluation}.json"


def evaluation_rows_key(collection: str, evaluation: str) -> str:
    """Return the key of an evaluation's rows, one for each query of each run."""
    return f"{evaluations_prefix(collection)}{evaluation}.parquet"


def evaluating_prefix(evaluation: str) -> str:
    """Return what the keys of the parts of an evaluation under way start with."""
    return f"evaluating/{evaluation}/"


def query_set_prefix(digest: str) -> str:
    """Return what the keys of a query set start with."""
    return f"{QUERY_SETS}{digest}/"


def query_set_key(digest: str) -> str:
    """Return the key of a query set."""
    return f"{query_set_prefix(digest)}queries.json"


def query_set_users_prefix(digest: str) -> str:
    """Return what the keys of the markers of a query set's users start with."""
    return f"{query_set_prefix(digest)}users/"


def kept_set_key(name: str) -> str:
    """Return the key of the object that says which query set is kept under a name."""
    return f"{KEPT_SETS}{name}.json"


def query_key(digest: str) -> str:
    """Return the key of a query's original."""
    return f"{QUERIES}{digest}"


def embedding_key(model: str, version: int, digest: str) -> str:
    """Return the key of a query's embedding."""
    return f"embeddings/{quote(model, safe='')}/{version}/{digest}"
