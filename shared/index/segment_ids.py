"""Which segments of an embedding set have rows of some images, by the segments themselves, whatever the claims say."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial

import numpy as np
import numpy.typing as npt

from shared.errors import Invalid, ObjectNotFound
from shared.look_ahead import made_ahead
from shared.sorted_numbers import places_among
from shared.storage import layout, segments
from shared.storage.catalog import Catalog
from shared.storage.object_store import ObjectStore

_KEPT_BYTES = 128 * 2**20  # of ids: 16 million images
_FETCHES = 4

Ids = npt.NDArray[np.int64]


@dataclass(frozen=True)
class FoundRows:
    """Images by the segment that has a row of them, deleted or not; and why segments could not be read, by name."""

    by_segment: dict[str, list[int]] = field(default_factory=dict)
    unreadable: dict[str, str] = field(default_factory=dict)


class SegmentIds:
    """Searches the id columns of segments, and remembers them: segments never change.

    Each search goes through all segments of an embedding set. So what is kept of it stays, and what finds no room is
    read each time: if the last one came instead of the first, nothing would be there when it is searched for again.
    """

    def __init__(self, store: ObjectStore) -> None:
        self._store, self._catalog = store, Catalog(store)
        self._kept: dict[str, tuple[str, Ids]] = {}  # by key: embedding set and sorted ids
        self._kept_bytes = 0

    def find(self, set_name: str, image_ids: Sequence[int]) -> FoundRows:
        """Return in which segments of an embedding set there are rows of images."""
        wanted, found = np.unique(np.array(image_ids, dtype=np.int64)), FoundRows()
        names = self._catalog.segments(set_name) if len(wanted) else []
        self._forget_others(set_name, names)
        for name, ids in self._columns(set_name, names):
            if isinstance(ids, str):
                found.unreadable[name] = ids
            elif ids is not None:
                self._keep(set_name, name, ids)
                held = wanted[places_among(ids, wanted) >= 0].tolist()
                if held:
                    found.by_segment[name] = held
        return found

    def _columns(self, set_name: str, names: Sequence[str]) -> Iterator[tuple[str, Ids | str | None]]:
        """Yield each segment with its sorted ids, or with why they cannot be read; few that are not kept at a time."""
        if all(layout.segment_key(set_name, name) in self._kept for name in names):
            yield from ((name, self._ids(set_name, name)) for name in names)
            return
        yield from made_ahead(partial(self._ids, set_name), names, threads=_FETCHES, name="ids")

    def _ids(self, set_name: str, segment: str) -> Ids | str | None:
        """Return a segment's sorted ids, why it cannot be read, or None if it was removed since it was listed."""
        key = layout.segment_key(set_name, segment)
        kept = self._kept.get(key)
        if kept is not None:
            return kept[1]
        try:
            return self._read(key, segment)
        except ObjectNotFound:
            return None
        except Invalid as error:
            return str(error)

    def _read(self, key: str, segment: str) -> Ids:
        if layout.is_merged(segment):
            places = segments.places_of(self._store.get(key, size=segments.HEAD_BYTES))
            data = self._store.get(key, start=places.ids, size=8 * places.rows)
            if len(data) != 8 * places.rows:
                raise Invalid(f"the segment {key!r} ends among its ids")
            return np.sort(np.frombuffer(data, np.int64))
        return np.sort(segments.ids_of(segments.unpack(self._store.get(key), verify=True)))

    def _forget_others(self, set_name: str, names: Sequence[str]) -> None:
        """Forget the segments of an embedding set that are not there any more, since they were merged."""
        listed = {layout.segment_key(set_name, name) for name in names}
        for key in [key for key, (kept_set, _) in self._kept.items() if kept_set == set_name and key not in listed]:
            self._forget(key)

    def _keep(self, set_name: str, segment: str, ids: Ids) -> None:
        key = layout.segment_key(set_name, segment)
        if key in self._kept:
            return
        others = [other for other, (kept_set, _) in self._kept.items() if kept_set != set_name]
        while others and self._kept_bytes + ids.nbytes > _KEPT_BYTES:
            self._forget(others.pop(0))
        if self._kept_bytes + ids.nbytes <= _KEPT_BYTES:
            self._kept[key] = set_name, ids
            self._kept_bytes += ids.nbytes

    def _forget(self, key: str) -> None:
        self._kept_bytes -= self._kept.pop(key)[1].nbytes
