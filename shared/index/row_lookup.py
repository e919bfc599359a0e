"""Looking up rows of a segment, entries or embeddings of some images, without reading a large segment whole."""

import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from shared.errors import Invalid
from shared.storage import layout, segments
from shared.storage.object_store import ObjectStore, RangeFile
from shared.storage.segments import Entry

_KEPT_BYTES = 128 * 2**20  # of ids of merged segments: 16 million images
_BYTES_A_READ = 256 * 1024  # read in the time that a request takes
_FEW = 4  # embeddings that are read one by one, whatever the size of their segment
_THREADS = 8

Ids = npt.NDArray[np.int64]
Vector = npt.NDArray[np.float32]


class RowLookup:
    """Finds rows in the object store, and remembers where the rows of merged segments lie: those never change."""

    def __init__(self, store: ObjectStore) -> None:
        self._store = store
        self._merged: dict[str, tuple[segments.Places, Ids]] = {}
        self._kept_bytes = 0
        self._lock = threading.Lock()

    def entries(self, set_name: str, segment: str, image_ids: Sequence[int]) -> dict[int, Entry]:
        """Return the entries of a segment's rows of some images; images that it does not hold are left out.

        Of a merged segment, all columns are read but the embeddings.

        Raises:
            ObjectNotFound: There is no such segment.
            Invalid: The segment is damaged.
        """
        key = layout.segment_key(set_name, segment)
        if not layout.is_merged(segment):
            batch = self._whole(key)
            rows = _rows_of(segments.ids_of(batch), image_ids)
        else:
            places, ids = self._places(key)
            rows = _rows_of(ids, image_ids)
            if not rows:
                return {}
            with RangeFile(self._store, key, tail_from=places.vector(places.rows)[0]) as file:
                batch = segments.without_vectors(pa.PythonFile(file, mode="r"))
        return {entry.id: entry for entry in segments.entries_of(batch, list(rows.values()))}

    def vectors(self, set_name: str, segment: str, image_ids: Sequence[int]) -> dict[int, Vector]:
        """Return the embeddings, float32 [dim], of a segment's rows of some images; others are left out.

        Raises:
            ObjectNotFound: There is no such segment.
            Invalid: The segment is damaged.
        """
        key = layout.segment_key(set_name, segment)
        if layout.is_merged(segment):
            places, ids = self._places(key)
            rows = _rows_of(ids, image_ids)
            if len(rows) <= max(_FEW, _reads_of_all(places)):
                return self._read_vectors(key, places, rows)
        batch = self._whole(key)
        rows = _rows_of(segments.ids_of(batch), image_ids)
        found = segments.vectors_of(batch)[list(rows.values())].astype(np.float32, copy=False)
        return dict(zip(rows, found, strict=True))

    def reads_of_vectors(self, set_name: str, segment: str, image_ids: Sequence[int]) -> float:
        """Return how many requests take as long as reading the embeddings of some rows of a segment."""
        if not layout.is_merged(segment):
            return 1.0
        places, _ = self._places(layout.segment_key(set_name, segment))
        return min(len(image_ids), max(_FEW, _reads_of_all(places)))

    def _whole(self, key: str) -> pa.RecordBatch:
        return segments.unpack(self._store.get(key), verify=True)

    def _places(self, key: str) -> tuple[segments.Places, Ids]:
        """Return where the rows of a merged segment lie, and its ids."""
        with self._lock:
            known = self._merged.get(key)
        if known is None:
            places = segments.places_of(self._store.get(key, size=segments.HEAD_BYTES))
            known = places, np.frombuffer(self._read(key, places.ids, 8 * places.rows), np.int64)
            with self._lock:
                if self._kept_bytes + known[1].nbytes > _KEPT_BYTES:
                    self._merged.clear()
                    self._kept_bytes = 0
                self._merged[key] = known
                self._kept_bytes += known[1].nbytes
        return known

    def _read_vectors(self, key: str, places: segments.Places, rows: Mapping[int, int]) -> dict[int, Vector]:
        def read(row: int) -> Vector:
            return np.frombuffer(self._read(key, *places.vector(row)), places.dtype).astype(np.float32)

        if len(rows) < 2:
            return {image_id: read(row) for image_id, row in rows.items()}
        with ThreadPoolExecutor(_THREADS, thread_name_prefix="rows") as pool:
            return dict(zip(rows, pool.map(read, rows.values()), strict=True))

    def _read(self, key: str, start: int, size: int) -> bytes:
        data = self._store.get(key, start=start, size=size)
        if len(data) != size:
            raise Invalid(f"the segment {key!r} ends before its byte {start + size}")
        return data


def _reads_of_all(places: segments.Places) -> float:
    """Return how many requests take as long as reading all embeddings of a merged segment."""
    return places.rows * places.dim * places.dtype.itemsize / _BYTES_A_READ


def _rows_of(ids: Ids, image_ids: Sequence[int]) -> dict[int, int]:
    rows = np.flatnonzero(np.isin(ids, np.array(image_ids, dtype=np.int64)))
    return {int(ids[row]): int(row) for row in rows[::-1]}  # the first row of an image that is there twice
