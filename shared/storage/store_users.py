"""Makes the bucket of a MinIO, and a user with rights of its own for each service: run as its owner, before the rest.

``python -m shared.storage.store_users KEYS POLICIES``: `KEYS` is a file with a line ``SERVICE ACCESS-KEY SECRET-KEY``
for each service, `POLICIES` a folder with ``SERVICE.json`` for each. It may be run again: what is there is made to be
as the files say. Without arguments, it makes the bucket alone, for stores that know their users by themselves.
"""

import json
import logging
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from minio.credentials.providers import StaticProvider
from minio.error import MinioAdminException
from minio.minioadmin import MinioAdmin
from urllib3.exceptions import HTTPError

from shared.errors import ArtseekError, Invalid, StoreUnavailable
from shared.logs import configure
from shared.settings import Settings, load_settings
from shared.storage.object_store import ObjectStore, http_pool

_PREFIX: Final = "artseek-"  # of the names of policies
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class StoreUser:
    """A user of the store: the service that it is for, its keys, and what it may do."""

    service: str
    access_key: str
    secret_key: str
    policy: dict[str, Any]


def read_users(keys: Path, policies: Path) -> list[StoreUser]:
    """Return the users that the files describe.

    Raises:
        Invalid: A line or a policy does not fit; the message has no key.
        OSError: A file cannot be read.
    """
    users = []
    for number, line in enumerate(keys.read_text("ascii").splitlines(), 1):
        parts = line.split()
        if len(parts) != 3:
            raise Invalid(f"line {number} of {keys} should have a service, an access key and a secret key")
        path = policies / f"{parts[0]}.json"
        try:
            policy = json.loads(path.read_text("utf-8"))
        except ValueError as error:
            raise Invalid(f"{path} is not JSON: {error}") from None
        users.append(StoreUser(parts[0], parts[1], parts[2], policy))
    return users


def make_users(settings: Settings, users: Sequence[StoreUser]) -> None:
    """Make users with their policies, or give those that are there these keys and rights.

    Raises:
        StoreUnavailable: The store does not answer, or refuses.
    """
    admin = MinioAdmin(
        endpoint=settings.s3_endpoint,
        credentials=StaticProvider(
            settings.s3_access_key.get_secret_value(), settings.s3_secret_key.get_secret_value()
        ),
        region=settings.s3_region,
        secure=settings.s3_secure,
        http_client=http_pool(2, ca=settings.s3_ca),
    )
    for user in users:
        try:
            admin.policy_add(_PREFIX + user.service, policy=user.policy)
            admin.user_add(user.access_key, user.secret_key)
            admin.policy_set(_PREFIX + user.service, user=user.access_key)
        except MinioAdminException as error:
            raise StoreUnavailable(
                f"the store at {settings.s3_endpoint} does not take the user of {user.service!r}: {error}"
            ) from None
        except HTTPError as error:  # whose words have the address, and so the access key
            raise StoreUnavailable(
                f"the store at {settings.s3_endpoint} does not answer: {type(error).__name__}"
            ) from None
        _log.info("the store has a user for %s", user.service)


def main(arguments: Sequence[str]) -> int:
    """Make bucket and users; returns the exit status."""
    configure("INFO")
    if len(arguments) not in {0, 2}:
        _log.error("usage: python -m shared.storage.store_users [KEYS POLICIES]")
        return 2
    try:
        settings = load_settings()
        users = read_users(Path(arguments[0]), Path(arguments[1])) if arguments else []
        ObjectStore.from_settings(settings, connections=1).ensure_bucket()
        make_users(settings, users)
    except (ArtseekError, OSError) as error:
        _log.error("%s", error)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
