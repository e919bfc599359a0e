"""Pictures that were searched for, kept for some days so that the search has an address.

A picture lies below the collection that was searched in: whoever may look into that may open the search. Each time that
it is kept it gets keys of its own, which are never written again: what is tidied away cannot be what somebody is just
keeping. The JSON is written last, and makes it whole.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from shared.errors import ObjectNotFound
from shared.storage import evaluation_layout, layout
from shared.storage.object_store import ObjectStore
from shared.versioned import StoredKind

_KIND: Final = StoredKind("kept query")
_DAY_S: Final = 24 * 3600.0
_GRACE_S: Final = 3600.0  # for those who read it just when it runs out


@dataclass(frozen=True)
class KeptQuery:
    """A picture that was searched for.

    Attributes:
        key: Where its bytes are.
        digest: Their SHA-256, hexadecimal.
        name: The name that its file had.
        stored: When it was kept, in seconds since 1970.
    """

    key: str
    digest: str
    name: str
    stored: float

    def until(self, days: float) -> float:
        """Return when it goes, in seconds since 1970."""
        return self.stored + days * _DAY_S


class KeptQueries:
    """Keeps and finds the pictures that were searched for."""

    def __init__(self, store: ObjectStore, *, clock: Callable[[], float] = time.time) -> None:
        self._store, self._clock = store, clock

    def keep(self, collection: str, data: bytes, name: str) -> KeptQuery:
        """Keep a picture that was searched for in a collection."""
        digest, stored = layout.digest_of(data), self._clock()
        key = evaluation_layout.new_kept_query(collection, digest, stored)
        self._store.put(key, data)
        self._store.put(f"{key}.json", _KIND.dumps({"name": name, "stored": stored}), "application/json")
        return KeptQuery(key, digest, name, stored)

    def find(self, collection: str, digest: str, *, days: float) -> KeptQuery | None:
        """Return the picture with a digest that was kept last; None if none was within so many days."""
        keys = [item.key for item in self._store.list(evaluation_layout.kept_query_prefix(collection, digest))]
        for key in sorted(keys, reverse=True):
            place = evaluation_layout.kept_query_of(key)
            if place is None or not key.endswith(".json") or self._clock() > place[1] + days * _DAY_S:
                continue
            try:
                name, stored = _KIND.loads(self._store.get(key), _values, place=key)
            except ObjectNotFound:  # tidied away meanwhile
                continue
            return KeptQuery(key.removesuffix(".json"), digest, name, stored)
        return None

    def read(self, kept: KeptQuery) -> bytes:
        """Return the bytes of a picture.

        Raises:
            ObjectNotFound: It was tidied away.
        """
        return self._store.get(kept.key)

    def drop(self, collection: str) -> None:
        """Delete what was searched for in a collection."""
        self._store.delete([item.key for item in self._store.list(evaluation_layout.kept_queries_prefix(collection))])

    def tidy(self, *, days: float) -> int:
        """Delete what was kept for so many days; returns how many objects."""
        last = self._clock() - days * _DAY_S - (_GRACE_S if days else 0.0)
        old = [
            item.key
            for item in self._store.list(evaluation_layout.KEPT_QUERIES)
            if (place := evaluation_layout.kept_query_of(item.key)) is not None and place[1] <= last
        ]
        self._store.delete(sorted(old, reverse=True))  # the JSON first
        return len(old)


def _values(values: Mapping[str, Any]) -> tuple[str, float]:
    return str(values["name"]), float(values["stored"])
