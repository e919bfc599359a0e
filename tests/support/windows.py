"""Windows of the images of a `System`: a set of windows beside its collection, and what a plain computation expects."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from services.query.search.search_query import SearchResult
from shared import tuning
from shared.index.generations import Generation
from shared.rpc.query import Metric
from shared.state import Change, IndexState
from shared.storage import layout, segments
from shared.storage.catalog import CurrentIndex
from shared.storage.segments import Entry
from shared.windows import windows, written
from tests.support import rows
from tests.support.query_system import DIM, System
from tests.support.rows import Vectors

NAME = layout.regions_of("art")
EACH = 5  # windows of an image that are stored
COUNTED: dict[Metric, float] = {"cosine": 1.2, "euclidean": 1.2**0.5}
"""What the distance of a window is multiplied by."""

Found = tuple[int, float, tuple[int, int, int, int] | None]


def box(place: int) -> tuple[int, int, int, int]:
    """Return x, y, width and height of the window of an image at a place."""
    left, top, right, bottom = windows(640, 480)[place]
    return left, top, right - left, bottom - top


def entry(number: int, place: int) -> Entry:
    """Return the row of a window of the image with a number."""
    image = rows.entry(number)
    return Entry(
        id=layout.window_id(image.digest, place),
        digest=image.digest,
        name=written(windows(image.width, image.height)[place]),
        label=None,
        size=image.size,
        media_type=image.media_type,
        width=image.width,
        height=image.height,
        added=image.added,
    )


class Windows:
    """The windows of some images of a system, in segments of forty images."""

    def __init__(self, system: System, numbers: Sequence[int], *, model: str = "lite") -> None:
        self.system, self.numbers = system, list(numbers)
        shape = (max(numbers) + 1, EACH, DIM)
        moves = np.random.default_rng(11).standard_normal(shape) * np.linalg.norm(system.vectors, axis=1).mean() / 5
        self.vectors = (system.vectors[: shape[0], np.newaxis] + moves).astype(np.float32)
        self.collection = system.catalog.create(NAME, model=model, version=1, dim=DIM, windows_of="all")
        system.state.index_states.set(NAME, IndexState())
        for start in range(0, len(self.numbers), 40):
            self._put(f"w{start}", self.numbers[start : start + 40])

    def _put(self, segment: str, numbers: Sequence[int]) -> None:
        entries = [entry(number, place) for number in numbers for place in range(EACH)]
        embedding_set = self.collection
        data = segments.pack(
            entries,
            self.vectors[list(numbers)].reshape(-1, DIM),
            collection=embedding_set.collection,
            model=embedding_set.model,
            version=embedding_set.version,
        )
        self.system.catalog.store.put(layout.segment_key(NAME, segment), data)
        self.system.state.claims.claim(NAME, segment, [one.id for one in entries])
        self.system.changes.announce(Change(NAME, "segment", segment))

    def fit(self, number: int, **options: Any) -> Generation:
        """Make an index generation with every window in it, and the one in use."""
        points = self.vectors[self.numbers].reshape(-1, DIM)
        if "hashes" in options:
            options["family"] = "p-stable"
        generation = Generation(self.collection, number, tuning.fit(points, seed=number, **options))
        generation.save(self.system.catalog.store)
        ids = [entry(number, place).id for number in self.numbers for place in range(EACH)]
        self.system.buckets.add(generation.buckets(points), np.repeat(ids, generation.family.tables).tolist())
        self.system.state.index_states.set(NAME, IndexState(number, 0, len(ids)))
        self.system.catalog.set_current_index(NAME, CurrentIndex(number, len(ids)))
        self.system.changes.announce(Change(NAME, "index"))
        return generation

    def expected(self, query: Vectors, metric: Metric, images: Sequence[int], k: int) -> list[Found]:
        """Return id, distance and window of the nearest of these images, ties by id: plainly, in float64."""
        with_windows = set(self.numbers)
        found = []
        for number in images:
            points = self.system.vectors[[number]]
            if number in with_windows:
                points = np.concatenate([points, self.vectors[number]])
            distances = plain_distances(points.astype(np.float64), query.astype(np.float64), metric)
            distances[1:] *= COUNTED[metric]
            distances = np.round(distances, 11)
            best = int(distances.argmin())  # the first of equals, which is the whole image
            found.append((float(distances[best]), rows.image_id(number), box(best - 1) if best else None))
        return [(image, distance, region) for distance, image, region in sorted(found, key=lambda one: one[:2])[:k]]


def plain_distances(points: Any, query: Any, metric: Metric) -> Any:
    """Return the distances of points, [n, dim], to a query, plainly."""
    if metric == "cosine":
        return 1 - points @ query / (np.linalg.norm(points, axis=1) * np.linalg.norm(query))
    return np.linalg.norm(points - query, axis=1)


def found_of(result: SearchResult) -> list[Found]:
    """Return id, distance and window of each hit."""
    return [(hit.image_id, round(hit.distance, 11) + 0.0, hit.region) for hit in result.hits]
