"""Looking up rows of a segment: embeddings and digests of some images, without reading a large segment whole."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from shared.errors import Invalid
from shared.storage import layout, segments
from shared.storage.object_store import ObjectStore, RangeFile
from shared.storage.segments import Entry

_FEW = 64  # rows of a merged segment; for more, the whole segment is read
_KEPT = 32  # merged segments whose ids are kept: half a megabyte each at most

Ids = npt.NDArray[np.int64]


@dataclass(frozen=True)
class StoredRow:
    """What has to be known of a row to remove it: embedding, float32 [dim], digest of the original, and its entry.

    The entry is None unless it was asked for.
    """

    vector: npt.NDArray[np.float32]
    digest: str
    entry: Entry | None = None


class RowLookup:
    """Finds rows in the object store, and remembers where the rows of merged segments lie: those never change."""

    def __init__(self, store: ObjectStore) -> None:
        self._store = store
        self._merged: dict[str, tuple[segments.Places, Ids]] = {}

    def rows(
        self, set_name: str, segment: str, image_ids: Sequence[int], *, with_entries: bool = False
    ) -> dict[int, StoredRow]:
        """Return the rows of a segment that hold some images; images that it does not hold are left out.

        Of a merged segment with many rows, only what is asked for is read: for entries, all columns but the embeddings.

        Raises:
            ObjectNotFound: There is no such segment.
            Invalid: The segment is damaged.
        """
        key = layout.segment_key(set_name, segment)
        if layout.is_merged(segment) and len(image_ids) <= _FEW:
            return self._read_rows(key, image_ids, with_entries=with_entries)
        rows = segments.unpack(self._store.get(key), verify=True)
        vectors = segments.vectors_of(rows)
        found = {}
        for image_id, row in _rows_of(segments.ids_of(rows), image_ids).items():
            entry = segments.entry_of(rows, row)
            found[image_id] = StoredRow(vectors[row].astype(np.float32), entry.digest, entry)
        return found

    def _read_rows(self, key: str, image_ids: Sequence[int], *, with_entries: bool) -> dict[int, StoredRow]:
        if key not in self._merged:
            places = segments.places_of(self._store.get(key, size=segments.HEAD_BYTES))
            ids = np.frombuffer(self._read(key, places.ids, 8 * places.rows), np.int64)
            if len(self._merged) >= _KEPT:
                self._merged.pop(next(iter(self._merged)))
            self._merged[key] = places, ids
        places, ids = self._merged[key]
        found = {}
        places_of_rows = _rows_of(ids, image_ids)
        entries = self._read_entries(key, places_of_rows) if with_entries and places_of_rows else {}
        for image_id, row in places_of_rows.items():
            vector = np.frombuffer(self._read(key, *places.vector(row)), places.dtype)
            digest = self._read(key, *places.digest(row)).hex()
            found[image_id] = StoredRow(vector.astype(np.float32), digest, entries.get(image_id))
        return found

    def _read_entries(self, key: str, rows: Mapping[int, int]) -> dict[int, Entry]:
        """Return the entries of rows, by image."""
        with RangeFile(self._store, key) as file:
            batch = segments.without_vectors(pa.PythonFile(file, mode="r"))
        return {image_id: segments.entry_of(batch, row) for image_id, row in rows.items()}

    def _read(self, key: str, start: int, size: int) -> bytes:
        data = self._store.get(key, start=start, size=size)
        if len(data) != size:
            raise Invalid(f"the segment {key!r} ends before its byte {start + size}")
        return data


def _rows_of(ids: Ids, image_ids: Sequence[int]) -> dict[int, int]:
    rows = np.flatnonzero(np.isin(ids, np.array(image_ids, dtype=np.int64)))
    return {int(ids[row]): int(row) for row in rows[::-1]}  # the first row of an image that is there twice
