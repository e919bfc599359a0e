"""Reads segments whole and checked, and the live rows of all segments of an embedding set."""

import logging
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from shared.errors import Invalid, ObjectNotFound
from shared.storage import layout, segments
from shared.storage.catalog import Catalog, EmbeddingSet
from shared.storage.object_store import ObjectStore

_log = logging.getLogger(__name__)

_AHEAD = 4  # segments fetched while others are worked on

LiveRows = tuple[str, npt.NDArray[np.int64], npt.NDArray[np.float32]]
"""A segment's name, and ids int64 [n] and embeddings float32 [n, dim] of its live rows."""


class SegmentReader:
    """Reads segments from the object store."""

    def __init__(self, store: ObjectStore) -> None:
        self._store = store
        self._catalog = Catalog(store)

    def read(self, embedding_set: EmbeddingSet, segment: str) -> pa.RecordBatch:
        """Return a segment.

        Raises:
            ObjectNotFound: There is no such segment.
            Invalid: The segment is damaged, or of another model than the embedding set's.
        """
        rows = segments.unpack(self._store.get(layout.segment_key(embedding_set.name, segment)), verify=True)
        segments.check_model(rows, model=embedding_set.model, version=embedding_set.version)
        return rows

    def live_rows(self, embedding_set: EmbeddingSet) -> Iterator[LiveRows]:
        """Yield the live rows of every segment that has some; a damaged or missing segment is logged and skipped.

        The caller holds the lock on the collection's segments: no segment may be merged meanwhile.
        """
        tombstones = self._catalog.tombstones(embedding_set.name)
        names = iter(self._catalog.segments(embedding_set.name))
        with ThreadPoolExecutor(_AHEAD, thread_name_prefix="segments") as pool:
            ahead = [(name, pool.submit(self._live, embedding_set, name, tombstones)) for name in islice(names, _AHEAD)]
            while ahead:
                name, read = ahead.pop(0)
                ahead += [
                    (later, pool.submit(self._live, embedding_set, later, tombstones)) for later in islice(names, 1)
                ]
                ids, vectors = read.result()
                if len(ids):
                    yield name, ids, vectors

    def _live(
        self, embedding_set: EmbeddingSet, segment: str, tombstones: set[tuple[str, int]]
    ) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]:
        try:
            rows = self.read(embedding_set, segment)
        except (Invalid, ObjectNotFound) as error:
            _log.error("%s: the segment %s is passed over: %s", embedding_set.collection, segment, error)
            return np.empty(0, np.int64), np.empty((0, embedding_set.dim), np.float32)
        ids, vectors = segments.ids_of(rows), float32(rows)
        if len(tombstones) < len(ids):
            deleted = {image_id for other, image_id in tombstones if other == segment}
            flags = [image_id not in deleted for image_id in ids.tolist()]
        else:
            flags = [(segment, image_id) not in tombstones for image_id in ids.tolist()]
        live = np.array(flags, dtype=np.bool_)
        return (ids, vectors) if live.all() else (ids[live], vectors[live])


def float32(rows: pa.RecordBatch) -> npt.NDArray[np.float32]:
    """Return the embeddings of a segment's rows as float32 [n, dim]."""
    return segments.vectors_of(rows).astype(np.float32, copy=False)
