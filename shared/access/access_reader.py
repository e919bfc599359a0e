"""Reads accounts, API keys, share links and the access of collections from the object store: only what has changed."""

import logging
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from shared.access.accounts import ACCOUNT, COLLECTION, KEY, AccessState, Account, ApiKey, CollectionAccess
from shared.access.links import LINK, ShareLink
from shared.errors import Invalid, ObjectNotFound
from shared.storage import access_layout
from shared.storage.object_store import ObjectStore, StoredObject
from shared.versioned import StoredKind

_log = logging.getLogger(__name__)

_READS: Final = 8  # at a time
Made = TypeVar("Made")
_KINDS: Final[Mapping[str, tuple[StoredKind, Callable[[Any], object]]]] = {
    access_layout.ACCOUNTS: (ACCOUNT, Account.from_json),
    access_layout.API_KEYS: (KEY, ApiKey.from_json),
    access_layout.COLLECTION_ACCESS: (COLLECTION, CollectionAccess.from_json),
    access_layout.LINKS: (LINK, ShareLink.from_json),
}


@dataclass(frozen=True)
class _Read:
    """An object as it was read, and what its listing said then; what cannot be read allows nothing to anybody."""

    item: StoredObject
    made: object | None


class AccessReader:
    """Knows what it has read, so that a change costs a listing, and what is new in it. Threads may share it."""

    def __init__(self, store: ObjectStore) -> None:
        self._store = store
        self._kept: dict[str, _Read] = {}

    def load(self) -> AccessState:
        """Return all accounts, keys, links and collections.

        Raises:
            Unavailable: The object store does not answer.
        """
        items = {item.key: item for prefix in _KINDS for item in self._store.list(prefix) if item.key.endswith(".json")}
        kept = {key: found for key, found in self._kept.items() if found.item.etag and items.get(key) == found.item}
        changed = [item for key, item in items.items() if key not in kept]
        if changed:
            with ThreadPoolExecutor(_READS, thread_name_prefix="access") as pool:
                kept |= {found.item.key: found for found in pool.map(self._read, changed) if found is not None}
        self._kept = kept
        accounts = _named(kept, access_layout.ACCOUNTS, Account)
        keys = _named(kept, access_layout.API_KEYS, ApiKey)
        return AccessState(
            accounts={account.name: account for account in accounts.values()},
            keys={key.id: key for key in keys.values()},
            collections=_named(kept, access_layout.COLLECTION_ACCESS, CollectionAccess),
            links=_named(kept, access_layout.LINKS, ShareLink),
        )

    def _read(self, item: StoredObject) -> _Read | None:
        kind, make = next(kind for prefix, kind in _KINDS.items() if item.key.startswith(prefix))
        try:
            return _Read(item, kind.loads(self._store.get(item.key), make, place=item.key))
        except ObjectNotFound:  # removed since it was listed
            return None
        except Invalid as error:
            _log.error("%s; it is passed over", error)
            return _Read(item, None)


def _named(found: Mapping[str, _Read], prefix: str, kind: type[Made]) -> dict[str, Made]:
    """Return what was read below a prefix, by its name."""
    return {
        key.removeprefix(prefix).removesuffix(".json"): read.made
        for key, read in sorted(found.items())
        if key.startswith(prefix) and isinstance(read.made, kind)
    }
