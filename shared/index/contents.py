"""What a collection contains by the object store: its live rows, and its index generations."""

import logging
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from shared.errors import Invalid, ObjectNotFound
from shared.index.generations import Generation
from shared.storage import layout, segments
from shared.storage.catalog import Catalog, Collection
from shared.storage.object_store import ObjectStore

_log = logging.getLogger(__name__)

_AHEAD = 4  # segments fetched while others are worked on
_GENERATIONS = 32  # kept

Rows = tuple[str, npt.NDArray[np.int64], npt.NDArray[np.float32]]
"""A segment's name, and ids int64 [n] and embeddings float32 [n, dim] of its live rows."""


class Contents:
    """Reads segments and generations; a segment that is damaged or missing is named and passed over."""

    def __init__(self, store: ObjectStore) -> None:
        self._store = store
        self._catalog = Catalog(store)
        self._generations: dict[tuple[str, int], Generation] = {}

    def segment(self, collection: Collection, segment: str) -> pa.RecordBatch:
        """Return a segment.

        Raises:
            ObjectNotFound: There is no such segment.
            Invalid: It is damaged, or of another model than the collection's.
        """
        rows = segments.unpack(self._store.get(layout.segment_key(collection.space, segment)), verify=True)
        segments.check_model(rows, model=collection.model, version=collection.version)
        return rows

    def live_rows(self, collection: Collection) -> Iterator[Rows]:
        """Yield the live rows of every segment that has some.

        While it is read, nothing may merge the collection's segments: whoever reads holds the lock `tend:`.
        """
        dead = self._catalog.dead_rows(collection.space)
        names = iter(self._catalog.segments(collection.space))
        with ThreadPoolExecutor(_AHEAD, thread_name_prefix="segments") as pool:
            ahead = [(name, pool.submit(self._live, collection, name, dead)) for name in islice(names, _AHEAD)]
            while ahead:
                name, read = ahead.pop(0)
                ahead += [(later, pool.submit(self._live, collection, later, dead)) for later in islice(names, 1)]
                ids, vectors = read.result()
                if len(ids):
                    yield name, ids, vectors

    def _live(
        self, collection: Collection, segment: str, dead: set[tuple[str, int]]
    ) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]:
        try:
            rows = self.segment(collection, segment)
        except (Invalid, ObjectNotFound) as error:
            _log.error("%s: the segment %s is passed over: %s", collection.name, segment, error)
            return np.empty(0, np.int64), np.empty((0, collection.dim), np.float32)
        ids, vectors = segments.ids_of(rows), float32(rows)
        marked = {image for other, image in dead if other == segment} if len(dead) < len(ids) else None
        live = np.array(
            [image not in marked if marked is not None else (segment, image) not in dead for image in ids.tolist()],
            dtype=np.bool_,
        )
        return (ids, vectors) if live.all() else (ids[live], vectors[live])

    def generation(self, collection: Collection, number: int) -> Generation:
        """Return a generation.

        Raises:
            Invalid: It is missing or damaged; the message names the remedy.
        """
        key = (collection.tag, number)
        if key not in self._generations:
            if len(self._generations) >= _GENERATIONS:
                self._generations.clear()
            try:
                self._generations[key] = Generation.load(self._store, collection, number)
            except (ObjectNotFound, Invalid) as error:
                raise Invalid(
                    f"generation {number} of the index of {collection.name!r} cannot be read: {error}; "
                    f"`artseek rebuild --collection {collection.name} --fit` makes another one"
                ) from error
        return self._generations[key]


def float32(rows: pa.RecordBatch) -> npt.NDArray[np.float32]:
    """Return the embeddings of a segment's rows as float32 [n, dim]."""
    return segments.vectors_of(rows).astype(np.float32, copy=False)
