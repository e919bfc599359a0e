"""A snapshot of a collection's embeddings, in a file: the indexes of a grid are filled with it and evaluated on it."""

import shutil
import tempfile
from collections.abc import Iterable, Iterator
from typing import IO, Self

import numpy as np
import numpy.typing as npt

from shared.errors import Invalid
from shared.search_limits import Metric
from shared.similarity import distances_and_scores
from shared.sorted_numbers import places_among
from shared.state import State
from shared.state.locks import LEASE_S, segments_lock
from shared.storage import layout, segments
from shared.storage.catalog import Catalog, EmbeddingSet
from shared.storage.object_store import ObjectStore

Ids = npt.NDArray[np.int64]
Vectors = npt.NDArray[np.float32]
Floats = npt.NDArray[np.float64]

_BLOCK = 2**21  # numbers worked on at a time: 8 MB of float32
_PRODUCTS = 2**21  # distances worked on at a time: 16 MB
_SPARE = 1.2  # of the disk that it takes


class Snapshot:
    """The live rows of a collection at one moment. The file has no name, so that it goes with the process.

    Attributes:
        ids: int64 [n], ascending.
        labels: The classes of each, as a place in `classes`, int32 [n]; -1 for none. `classify` says what they are.
        classes: Classes of an image as one text, each once.
    """

    def __init__(self, file: IO[bytes], ids: Ids, dim: int) -> None:
        self._file = file
        stored: Vectors = np.memmap(file, dtype=np.float32, mode="r", shape=(len(ids), dim))
        first = np.unique(ids, return_index=True)[1]
        self._rows = first  # of the file, in the order of the ids
        self._stored = stored
        self.ids = ids[first]
        self.labels = np.full(len(first), -1, dtype=np.int32)
        self.classes: list[str] = []

    @classmethod
    def take(cls, embedding_set: EmbeddingSet, *, store: ObjectStore, state: State) -> Self:
        """Read a collection, a segment at a time, while nobody merges its segments.

        Raises:
            Invalid: A segment is damaged, or there is no room on the disk.
            Unavailable: A server is away, or the collection is being tuned or merged.
        """
        catalog = Catalog(store)
        with state.locks.hold(segments_lock(embedding_set.collection), wait_s=4 * LEASE_S):
            sizes = catalog.segment_sizes(embedding_set.name)
            _check_disk(2 * sum(sizes.values()))  # float16 becomes float32
            tombstones = catalog.tombstones_by_segment(embedding_set.name)
            file = tempfile.TemporaryFile(prefix="artseek-")  # noqa: SIM115 -- it lives as long as the snapshot
            ids: list[Ids] = []
            for name in sizes:
                rows = segments.unpack(store.get(layout.segment_key(embedding_set.name, name)), verify=True)
                row_ids = segments.ids_of(rows)
                deleted = tombstones[name]
                live = ~np.isin(row_ids, np.fromiter(deleted, np.int64, len(deleted)))
                vectors = segments.vectors_of(rows)[live].astype(np.float32, copy=False)
                if vectors.shape[1] != embedding_set.dim:
                    raise Invalid(
                        f"the segment {name!r} has {vectors.shape[1]} numbers a row, expected {embedding_set.dim}"
                    )
                file.write(vectors.tobytes())
                ids.append(row_ids[live].copy())
            state.locks.check(segments_lock(embedding_set.collection))
        file.flush()
        if not sum(map(len, ids)):
            raise Invalid(f"the collection {embedding_set.collection!r} has no image: add some first")
        return cls(file, np.concatenate(ids), embedding_set.dim)

    def classify(self, texts: Iterable[tuple[int, str]]) -> None:
        """Take over the classes of images, as their ids and the classes as one text; the others have none."""
        numbers: dict[str, int] = {}
        pairs = [(image_id, numbers.setdefault(text, len(numbers))) for image_id, text in texts]
        self.labels = np.full(len(self), -1, dtype=np.int32)
        self.classes = list(numbers)
        places = self.places(np.array([image_id for image_id, _ in pairs], dtype=np.int64))
        held = places >= 0
        self.labels[places[held]] = np.array([number for _, number in pairs], dtype=np.int32)[held]

    def __len__(self) -> int:
        return len(self.ids)

    def close(self) -> None:
        """Free the file."""
        self._file.close()

    def vectors(self, places: npt.NDArray[np.integer]) -> Vectors:
        """Return the embeddings of some images, by their places in `ids`: float32 [n, dim]."""
        return np.asarray(self._stored[self._rows[places]])

    def blocks(self) -> Iterator[tuple[Ids, Vectors]]:
        """Yield ids and embeddings of all images, some at a time."""
        step = max(1, _BLOCK // self._stored.shape[1])
        for start in range(0, len(self), step):
            places = np.arange(start, min(start + step, len(self)))
            yield self.ids[places], self.vectors(places)

    def places(self, ids: Ids) -> npt.NDArray[np.int64]:
        """Return the places of images in `ids`, -1 where there is none: int64 [n]."""
        return places_among(self.ids, ids)


class Distances:
    """The distances of all queries to all images of a snapshot, in a file of its own, and the best of some images."""

    def __init__(self, snapshot: Snapshot, queries: Vectors, metric: Metric) -> None:
        self._snapshot, self._queries, self.metric = snapshot, queries, metric
        _check_disk(8 * len(queries) * len(snapshot))
        self._file = tempfile.TemporaryFile(prefix="artseek-")  # noqa: SIM115 -- likewise
        self._file.truncate(8 * len(queries) * len(snapshot))
        distances = np.memmap(self._file, dtype=np.float64, mode="r+", shape=(len(queries), len(snapshot)))
        targets = queries.astype(np.float64)
        lengths = np.linalg.norm(targets, axis=1)
        start = 0
        for ids, vectors in snapshot.blocks():
            points = vectors.astype(np.float64)
            norms = np.linalg.norm(points, axis=1)
            for row in range(0, len(queries), max(1, _PRODUCTS // len(ids))):
                rows = slice(row, row + max(1, _PRODUCTS // len(ids)))
                products = targets[rows] @ points.T
                if metric == "cosine":
                    both = np.outer(lengths[rows], norms)
                    near = 1 - np.divide(products, both, out=np.zeros_like(products), where=both > 0)
                else:
                    squares = np.square(lengths[rows])[:, None] + np.square(norms) - 2 * products
                    near = np.sqrt(np.maximum(squares, 0))
                distances[rows, start : start + len(ids)] = near
            start += len(ids)
        self._distances = distances

    def close(self) -> None:
        """Free the file."""
        self._file.close()

    def best(self, query: int, places: npt.NDArray[np.int64], k: int) -> tuple[npt.NDArray[np.int64], Floats, Floats]:
        """Return the k nearest of some images, by their places: places, distances and scores, the best first.

        Those that may be among them are measured anew, as the query service does.
        """
        near = self._distances[query, places]
        if len(places) > k:
            least = np.partition(near, k - 1)[k - 1]
            places = places[near <= least + 1e-6 * max(1.0, least)]
        distances, scores = distances_and_scores(
            self._snapshot.vectors(places).astype(np.float64), self._queries[query], self.metric
        )
        order = np.lexsort((self._snapshot.ids[places], distances))[:k]
        return places[order], distances[order], scores[order]


def _check_disk(size: int) -> None:
    folder = tempfile.gettempdir()
    free = shutil.disk_usage(folder).free
    if free < _SPARE * size:
        raise Invalid(
            f"a grid over this collection takes {size / 2**20:,.0f} MB of disk, and {folder!r} has {free / 2**20:,.0f} "
            "free: make room, or name another folder in TMPDIR"
        )
