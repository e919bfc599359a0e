"""A search: query to embedding, embedding to candidates, candidates to hits, each stage timed."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import numpy.typing as npt

from services.query import ranking
from services.query.copy import CollectionCopy
from services.query.follower import Follower
from services.query.packs import Ids, Vectors
from services.query.ranking import Ranked
from shared.errors import Invalid, Unavailable
from shared.images import Limits, decode
from shared.index import BucketStore
from shared.query import Metric, Mode
from shared.serving import ServingClient

MAX_K = 1000
MAX_PROBES = 1024


@dataclass(frozen=True)
class Wanted:
    """What is searched for: exactly one of `image` (bytes of a file), `id` and `vector` (float32 [dim])."""

    collection: str
    image: bytes | None = None
    id: int | None = None
    vector: Vectors | None = None
    k: int = 10
    mode: Mode = "auto"
    metric: Metric = "cosine"
    probes: int | None = None


@dataclass
class Found:
    """The answer: hits, how they were found, and milliseconds by stage."""

    hits: list[Ranked] = field(default_factory=list)
    mode: Literal["lsh", "exact"] = "exact"
    candidates: int = 0
    generation: int = 0
    timings_ms: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Time the block as a stage; a stage that comes twice adds up."""
        started = time.perf_counter()
        try:
            yield
        finally:
            spent = (time.perf_counter() - started) * 1000
            self.timings_ms[name] = self.timings_ms.get(name, 0.0) + spent


class Searcher:
    """Searches the follower's copies. `connect_model` gives a client for a model and version."""

    def __init__(
        self,
        *,
        follower: Follower,
        buckets: BucketStore,
        connect_model: Callable[[str, int], ServingClient],
        limits: Limits,
        exact_below: int,
    ) -> None:
        self._follower, self._buckets = follower, buckets
        self._connect_model = connect_model
        self._limits = limits
        self._exact_below = exact_below
        self._models: dict[tuple[str, int], ServingClient] = {}

    def search(self, wanted: Wanted, *, time_left_s: float | None = None) -> tuple[Found, CollectionCopy]:
        """Return the images most similar to what is wanted, and the copy that was searched.

        Raises:
            NotFound: No such collection or image.
            ImageRefused: The query image is refused.
            Invalid: A parameter does not fit.
            Unavailable: The model server, or for `mode=lsh` the index, does not answer.
        """
        if not 1 <= wanted.k <= MAX_K:
            raise Invalid(f"k is {wanted.k}, expected 1 to {MAX_K}")
        if wanted.probes is not None and not 1 <= wanted.probes <= MAX_PROBES:
            raise Invalid(f"probes is {wanted.probes}, expected 1 to {MAX_PROBES}")
        found = Found()
        with found.stage("total"):
            copy = self._follower.copy(wanted.collection)
            query = self._query(wanted, copy, found, time_left_s)
            ids = self._candidates(wanted, copy, query, found)
            with found.stage("rank"):
                if ids is not None:
                    found.mode = "lsh"
                    found.hits, found.candidates = ranking.rerank(
                        copy.packs, query, ids, k=wanted.k, metric=wanted.metric
                    )
                # Too few candidates: the query is unlike anything in the collection, so all of it is compared.
                if ids is None or (wanted.mode == "auto" and len(found.hits) < wanted.k):
                    found.mode, found.generation = "exact", 0
                    found.hits, found.candidates = ranking.scan(copy.packs, query, k=wanted.k, metric=wanted.metric)
        return found, copy

    def _query(self, wanted: Wanted, copy: CollectionCopy, found: Found, time_left_s: float | None) -> Vectors:
        dim = copy.collection.dim
        if wanted.id is not None:
            pack, row = copy.find(wanted.id)
            stored: Vectors = pack.vectors[row]
            return stored
        if wanted.vector is not None:
            if wanted.vector.shape != (dim,) or not np.isfinite(wanted.vector).all():
                raise Invalid(f"the vector has shape {wanted.vector.shape}, expected {dim} finite numbers")
            return wanted.vector
        if wanted.image is None:
            raise Invalid("nothing to search for: give an image, an id or a vector")
        serving = self._model(copy.collection.model, copy.collection.version)
        with found.stage("decode"):
            pixels, _ = decode(wanted.image, size=serving.signature().input_size, limits=self._limits)
        with found.stage("embed"):
            vector: npt.NDArray[np.float32] = serving.embed(pixels[np.newaxis], timeout_s=time_left_s)[0]
        return vector

    def _candidates(self, wanted: Wanted, copy: CollectionCopy, query: Vectors, found: Found) -> Ids | None:
        """Return the candidates' ids, None for all: an exact scan."""
        if wanted.mode == "exact" or copy.generation is None:
            return None
        if wanted.mode == "auto" and (copy.counts().images < self._exact_below or not self._follower.connected):
            return None
        with found.stage("probe"):
            try:
                while True:
                    generation = copy.generation
                    ids, _ = self._buckets.candidates(generation.probed(query, wanted.probes))
                    # The generation may have been replaced, and its buckets dropped, under our hands.
                    self._follower.catch_up()
                    if copy.generation is None or copy.generation.number == generation.number:
                        found.generation = generation.number
                        return ids
            except Unavailable:
                if wanted.mode == "lsh":
                    raise
                return None

    def _model(self, model: str, version: int) -> ServingClient:
        key = (model, version)
        if key not in self._models:
            self._models[key] = self._connect_model(model, version)
        return self._models[key]
