"""Reads segments whole and checked, and the live rows of all segments of an embedding set."""

import logging
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from shared.errors import Invalid, ObjectNotFound
from shared.look_ahead import made_ahead
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
        return unpacked(embedding_set, self._store.get(layout.segment_key(embedding_set.name, segment)))

    def live_rows(self, embedding_set: EmbeddingSet, *, with_empty: bool = False) -> Iterator[LiveRows]:
        """Yield the live rows of every segment that has some; a damaged or missing segment is logged and skipped.

        `with_empty` also yields the segments that can be read and have no live row.

        The caller holds the lock on the collection's segments: no segment may be merged meanwhile.
        """
        deleted = self._catalog.tombstones_by_segment(embedding_set.name)
        names = self._catalog.segments(embedding_set.name)

        def read(name: str) -> tuple[npt.NDArray[np.int64], segments.Vectors] | None:
            return self._live(embedding_set, name, deleted.get(name, set()))

        for name, live in made_ahead(read, names, threads=_AHEAD, name="segments"):
            if live is not None and (with_empty or len(live[0])):
                ids, vectors = live
                del live  # so that none but this segment is in memory twice
                yield name, ids, vectors.astype(np.float32, copy=False)

    def _live(
        self, embedding_set: EmbeddingSet, segment: str, deleted: set[int]
    ) -> tuple[npt.NDArray[np.int64], segments.Vectors] | None:
        try:
            rows = self.read(embedding_set, segment)
        except (Invalid, ObjectNotFound) as error:
            _log.error("%s: the segment %s is passed over: %s", embedding_set.collection, segment, error)
            return None
        # A copy: whoever keeps the ids of all segments must not keep the segments with them.
        ids, vectors = segments.ids_of(rows).copy(), segments.vectors_of(rows)
        if not deleted:
            return ids, vectors
        live = ~np.isin(ids, np.fromiter(deleted, np.int64, len(deleted)))
        return (ids, vectors) if live.all() else (ids[live], vectors[live])


def unpacked(embedding_set: EmbeddingSet, data: bytes) -> pa.RecordBatch:
    """Return the rows of a segment.

    Raises:
        Invalid: The segment is damaged, or of another model than the embedding set's.
    """
    rows = segments.unpack(data, verify=True)
    segments.check_model(rows, model=embedding_set.model, version=embedding_set.version)
    return rows


def float32(rows: pa.RecordBatch) -> npt.NDArray[np.float32]:
    """Return the embeddings of a segment's rows as float32 [n, dim]."""
    return segments.vectors_of(rows).astype(np.float32, copy=False)
