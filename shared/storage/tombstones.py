"""Tombstones: which rows of segments are deleted, as the object store has it.

A single row has an empty object, whose key names it. Several rows of a segment that are deleted together have one
object, which lists them. Such a list is never changed, and its key follows from what it says.
"""

import hashlib
import threading
from collections import OrderedDict, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from shared.errors import ObjectNotFound, StoreUnavailable
from shared.storage import layout
from shared.storage.object_store import ObjectStore
from shared.versioned import StoredKind

_LIST = StoredKind("list of tombstones")
_THREADS = 8  # a server waits for its disk, not for its processor
_KEPT_IDS = 500_000  # of lists that are kept in memory
_LISTINGS = 5  # while merges remove what was listed

Row = tuple[str, int]
"""Segment and image id."""

Item = TypeVar("Item")
Made = TypeVar("Made")


class Tombstones:
    """Reads and writes tombstones; every call may run twice.

    Every method that reads raises `Invalid` if a list cannot be read: rows that are deleted must not come back.
    """

    def __init__(self, store: ObjectStore) -> None:
        self._store = store
        self._kept: OrderedDict[str, frozenset[int]] = OrderedDict()
        self._kept_ids = 0
        self._lock = threading.Lock()

    def of_set(self, set_name: str) -> defaultdict[str, set[int]]:
        """Return the ids of the deleted rows of an embedding set, by segment."""
        return self._below(layout.tombstones_prefix(set_name))

    def of_segment(self, set_name: str, segment: str) -> set[int]:
        """Return the ids of a segment's deleted rows."""
        return self._below(f"{layout.tombstones_prefix(set_name)}{segment}/")[segment]

    def _below(self, prefix: str) -> defaultdict[str, set[int]]:
        for _ in range(_LISTINGS):
            try:
                return self.listed(item.key for item in self._store.list(prefix))
            except ObjectNotFound:  # its rows are among those of a merged segment by now
                continue
        raise StoreUnavailable(f"the tombstones below {prefix!r} change faster than they can be read")

    def listed(self, keys: Iterable[str]) -> defaultdict[str, set[int]]:
        """Return the ids of the rows that objects say are deleted, by segment; other objects are passed over.

        Raises:
            ObjectNotFound: A list was removed meanwhile.
        """
        found: defaultdict[str, set[int]] = defaultdict(set)
        lists: list[tuple[str, str]] = []
        for key in keys:
            if single := layout.tombstone_of(key):
                found[single[0]].add(single[1])
            elif segment := layout.tombstone_list_of(key):
                lists.append((segment, key))
        for (segment, _), ids in zip(lists, _each(self._read, [key for _, key in lists]), strict=True):
            found[segment] |= ids
        return found

    def add(self, set_name: str, rows: Iterable[Row]) -> None:
        """Note that rows are deleted, for good: segments are never changed."""
        objects: list[tuple[str, bytes]] = []
        for segment, ids in _by_segment(rows).items():
            objects.append(_object_of(set_name, segment, sorted(ids)))
        _each(lambda item: self._store.put(*item), objects)

    def remove(self, set_name: str, rows: Iterable[Row]) -> None:
        """Remove tombstones of segments that are gone. What else a list says is listed anew before it goes."""
        for segment, unwanted in _by_segment(rows).items():
            keys = [layout.tombstone_key(set_name, segment, image_id) for image_id in unwanted]
            for item in self._store.list(f"{layout.tombstones_prefix(set_name)}{segment}/"):
                if layout.tombstone_list_of(item.key) is None:
                    continue
                try:
                    ids = self._read(item.key)
                except ObjectNotFound:
                    continue
                if ids & unwanted:
                    if left := sorted(ids - unwanted):
                        self._store.put(*_object_of(set_name, segment, left))
                    keys.append(item.key)
            self._store.delete(keys)

    def remove_all(self, set_name: str, segments: Iterable[str]) -> None:
        """Remove the tombstones of segments that are gone."""
        for segment in segments:
            keys = [item.key for item in self._store.list(f"{layout.tombstones_prefix(set_name)}{segment}/")]
            if keys:
                self._store.delete(keys)

    def _read(self, key: str) -> frozenset[int]:
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
                return self._kept[key]
        ids = _LIST.loads(self._store.get(key), _ids_of, place=key)
        with self._lock:
            if key not in self._kept:
                self._kept[key] = ids
                self._kept_ids += len(ids)
            while self._kept_ids > _KEPT_IDS:
                self._kept_ids -= len(self._kept.popitem(last=False)[1])
        return ids


def _by_segment(rows: Iterable[Row]) -> Mapping[str, set[int]]:
    found: defaultdict[str, set[int]] = defaultdict(set)
    for segment, image_id in rows:
        found[segment].add(image_id)
    return found


def _object_of(set_name: str, segment: str, ids: Sequence[int]) -> tuple[str, bytes]:
    """Return key and bytes of the object that says that rows of a segment are deleted; `ids` are ascending."""
    if len(ids) == 1:
        return layout.tombstone_key(set_name, segment, ids[0]), b""
    data = _LIST.dumps({"ids": ids})
    return layout.tombstone_list_key(set_name, segment, hashlib.sha256(data).hexdigest()), data


def _ids_of(values: Mapping[str, Sequence[int]]) -> frozenset[int]:
    return frozenset(map(int, values["ids"]))


def _each(work: Callable[[Item], Made], items: Sequence[Item]) -> list[Made]:
    if len(items) < 2:
        return [work(item) for item in items]
    with ThreadPoolExecutor(min(len(items), _THREADS), thread_name_prefix="tombstones") as pool:
        return list(pool.map(work, items))
