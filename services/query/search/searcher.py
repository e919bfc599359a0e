"""A search: query to embedding, embedding to candidates, candidates to hits, each stage timed."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from services.query.live_recall import Answered, LiveRecall
from services.query.replica.mapped_segment import Ids, Vectors
from services.query.replica.replica import Replica
from services.query.replica.replica_sync import ReplicaSync
from services.query.replica.view import Filter, RowFilter
from services.query.search.ranking import Ranked, rank
from services.query.search.relevance_feedback import moved
from shared.errors import Invalid, Unavailable
from shared.images import Limits, decode
from shared.rpc.query import MAX_AMONG, MAX_BATCH, MAX_EXAMPLES, MAX_K, MAX_LABELS, MAX_PROBES, Metric, Mode
from shared.rpc.serving import ServingClient, ServingError
from shared.state import BucketStore, Candidates, most_seen

_BUCKETS = 2048  # that the queries of a batch look into at a time: their ids are in memory together


@dataclass(frozen=True)
class SearchQuery:
    """What is searched for: at most one of `image` (bytes of a file), `id` and `vector` (float32 [dim]), or examples.

    Attributes:
        labels: Only images with one of these; none: any.
        among: Only images with these ids, int64; None: any.
        like: Ids of images that the hits should be like; likewise `unlike`.
        min_score: Only hits with at least this score.
        budget: Candidates of the index that are ranked at most; None: what the index was fitted with.
        trial: It is made to judge the index, so it does not count as a live search.
    """

    collection: str
    image: bytes | None = None
    id: int | None = None
    vector: Vectors | None = None
    k: int = 10
    mode: Mode = "auto"
    metric: Metric = "cosine"
    probes: int | None = None
    labels: Sequence[str] = ()
    among: Ids | None = None
    like: Sequence[int] = ()
    unlike: Sequence[int] = ()
    min_score: float | None = None
    budget: int | None = None
    trial: bool = False

    def check(self) -> None:
        """Check what can be checked without the collection.

        Raises:
            Invalid: A parameter does not fit; the message names it.
        """
        _within("k", self.k, 1, MAX_K)
        for name, value, most in (("probes", self.probes, MAX_PROBES), ("budget", self.budget, None)):
            if value is not None:
                _within(name, value, 1, most)
        _within("labels", len(self.labels), 0, MAX_LABELS, "number of ")
        if self.among is not None:
            _within("among", len(self.among), 0, MAX_AMONG, "number of ids in ")
        for name, examples in (("like", self.like), ("unlike", self.unlike)):
            _within(name, len(examples), 0, MAX_EXAMPLES, "number of ids in ")
        if self.min_score is not None and not np.isfinite(self.min_score):
            raise Invalid(f"min_score is {self.min_score}, expected a finite number")

    def filter(self) -> Filter:
        """Return which images may be found."""
        return Filter(frozenset(self.labels) or None, self.among)


def _within(name: str, value: int, least: int, most: int | None, what: str = "") -> None:
    if value < least or (most is not None and value > most):
        expected = f"at least {least}" if most is None else f"{least} to {most}"
        raise Invalid(f"{what}{name} is {value}, expected {expected}")


@dataclass
class SearchResult:
    """The answer: hits, how they were found, and milliseconds by stage.

    Attributes:
        candidates: Images that were ranked; of those `passed` that passed the filters and may be over the budget.
        generation: The index generation that was asked, 0 for none; likewise `probed` buckets, `truncated` ones that
            hold more than they gave, and distinct ids `seen` in them before filters and budget.
    """

    hits: list[Ranked] = field(default_factory=list)
    mode: Literal["lsh", "exact"] = "exact"
    candidates: int = 0
    passed: int = 0
    generation: int = 0
    probed: int = 0
    truncated: int = 0
    seen: int = 0
    timings_ms: dict[str, float] = field(default_factory=dict)


class _Watch:
    """Times stages; one that comes twice adds up."""

    def __init__(self) -> None:
        self.timings_ms: dict[str, float] = {}

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        started = time.perf_counter()
        try:
            yield
        finally:
            spent = (time.perf_counter() - started) * 1000
            self.timings_ms[name] = self.timings_ms.get(name, 0.0) + spent


@dataclass(frozen=True)
class _Probed:
    """What the index holds for some queries."""

    generation: int
    candidates: list[Candidates]
    buckets: list[int]  # how many were looked into for each query
    budget: int | None


class Searcher:
    """Searches the follower's copies. `connect_model` gives a client for a model and version.

    `live_recall` is offered what the index answers to live searches.
    """

    def __init__(
        self,
        *,
        follower: ReplicaSync,
        buckets: BucketStore,
        connect_model: Callable[[str, int], ServingClient],
        limits: Limits,
        exact_below: int,
        live_recall: LiveRecall | None = None,
    ) -> None:
        self._follower, self._buckets = follower, buckets
        self._connect_model = connect_model
        self._limits = limits
        self._exact_below = exact_below
        self._live_recall = live_recall
        self._models: dict[tuple[str, int], ServingClient] = {}

    def search(self, wanted: SearchQuery, *, time_left_s: float | None = None) -> tuple[SearchResult, Replica]:
        """Return the images most similar to what is wanted, and the copy that was searched.

        Images that are asked for by their ids, as query or as examples, are found like any other.

        Raises:
            NotFound: No such collection or image.
            ImageRefused: The query image is refused.
            Invalid: A parameter does not fit.
            Unavailable: The model server, or for `mode=lsh` the index, does not answer.
        """
        wanted.check()
        watch = _Watch()

        def run(copy: Replica) -> list[SearchResult]:
            query = self._query(wanted, copy, watch, time_left_s)
            like, unlike = (_stored(copy, examples) for examples in (wanted.like, wanted.unlike))
            if query is None and not len(like) and not len(unlike):
                raise Invalid("nothing to search for: give an image, an id, a vector or examples")
            return self._search(moved(query, like, unlike)[np.newaxis], wanted, copy, watch)

        with watch.stage("total"):
            (found,), copy = self._in_one_copy(wanted.collection, run)
        found.timings_ms = watch.timings_ms
        return found, copy

    def _in_one_copy(
        self, collection: str, run: Callable[[Replica], list[SearchResult]]
    ) -> tuple[list[SearchResult], Replica]:
        """Return what a search finds, and the copy in which all of it was done.

        Another one is taken if the collection has changed to another model under its hands: then buckets were dropped.
        """
        while True:
            copy = self._follower.copy(collection)
            try:
                return run(copy), copy
            except _Left:
                continue
            except ServingError:
                if self._follower.is_in_use(copy):  # the model that was asked for is not of the past
                    raise

    def search_batch(
        self, options: SearchQuery, queries: Sequence[int | Vectors]
    ) -> tuple[list[SearchResult], Replica]:
        """Return for each query, an id or a vector, what `search` would; the stages are those of the whole batch.

        Raises:
            NotFound: No such collection or image.
            Invalid: A parameter does not fit.
            Unavailable: For `mode=lsh`, the index does not answer.
        """
        options.check()
        _within("queries", len(queries), 1, MAX_BATCH, "number of ")
        watch = _Watch()

        def run(copy: Replica) -> list[SearchResult]:
            like, unlike = (_stored(copy, examples) for examples in (options.like, options.unlike))
            points = []
            for place, query in enumerate(queries):
                if isinstance(query, int):
                    (point,) = _stored(copy, [query])
                else:
                    point = _checked(query, copy.embedding_set.dim, f"the vector of query {place}")
                points.append(moved(point, like, unlike))
            return self._search(np.stack(points), options, copy, watch)

        with watch.stage("total"):
            found, copy = self._in_one_copy(options.collection, run)
        for one in found:
            one.timings_ms = watch.timings_ms
        return found, copy

    # The query

    def _query(self, wanted: SearchQuery, copy: Replica, watch: _Watch, time_left_s: float | None) -> Vectors | None:
        if wanted.id is not None:
            stored: Vectors = _stored(copy, [wanted.id])[0]
            return stored
        if wanted.vector is not None:
            return _checked(wanted.vector, copy.embedding_set.dim, "the vector")
        if wanted.image is None:
            return None
        serving = self._model(copy.embedding_set.model, copy.embedding_set.version)
        with watch.stage("decode"):
            pixels, _ = decode(wanted.image, size=serving.signature().input_size, limits=self._limits)
        with watch.stage("embed"):
            vector: Vectors = serving.embed(pixels[np.newaxis], timeout_s=time_left_s)[0]
            return vector

    def _model(self, model: str, version: int) -> ServingClient:
        key = (model, version)
        if key not in self._models:
            self._models[key] = self._connect_model(model, version)
        return self._models[key]

    # The search

    def _search(self, queries: Vectors, wanted: SearchQuery, copy: Replica, watch: _Watch) -> list[SearchResult]:
        """Return what is found for queries, float32 [q, dim]."""
        found: list[SearchResult | None] = [None] * len(queries)
        gate = RowFilter(copy.view, wanted.filter())
        if not self._scans(wanted, copy, gate):
            start = 0
            while start < len(queries):
                probed = self._probe(queries[start:], wanted, copy, watch)
                if probed is None:
                    break
                # The view is taken after the candidates: what was in the index by then is in it.
                with watch.stage("rank"):
                    gate = gate.of(copy.view)
                    for place in range(len(probed.candidates)):
                        one = _rerank(queries[start + place], probed, place, wanted, gate)
                        found[start + place] = one
                        if not _wants_more(one, wanted):
                            self._offer(queries[start + place], wanted, gate, one)
                start += len(probed.candidates)
        with watch.stage("rank"):
            # Too few candidates: the query is unlike anything in the collection, so all that may be found is compared.
            rest = [place for place, one in enumerate(found) if one is None or _wants_more(one, wanted)]
            if rest:
                gate = gate.of(copy.view)
                rows = gate.rows()
                ranked = rank(gate.view, queries[rest], rows, k=wanted.k, metric=wanted.metric)
                for place, hits in zip(rest, ranked, strict=True):
                    found[place] = SearchResult(_good(hits, wanted), candidates=len(rows), passed=len(rows))
        return [one for one in found if one is not None]

    def _offer(self, query: Vectors, wanted: SearchQuery, gate: RowFilter, found: SearchResult) -> None:
        """Have an answer of the index checked, if it is one of those that are."""
        if self._live_recall is None or wanted.trial:
            return
        self._live_recall.offer(
            Answered(wanted.collection, query, gate, wanted.k, wanted.metric, wanted.min_score, found.hits)
        )

    def _scans(self, wanted: SearchQuery, copy: Replica, gate: RowFilter) -> bool:
        """Return whether to compare all that may be found without asking the index."""
        if wanted.mode == "exact" or copy.generation is None:
            return True
        return wanted.mode == "auto" and (gate.size < self._exact_below or not self._follower.connected)

    def _probe(self, queries: Vectors, wanted: SearchQuery, copy: Replica, watch: _Watch) -> _Probed | None:
        """Return the candidates of the first of these queries, of as many as fit into memory; None without an index."""
        try:
            while (generation := copy.generation) is not None:
                names: list[list[bytes]] = []
                with watch.stage("probe"):
                    for query in queries:
                        names.append(generation.probed(query, wanted.probes))
                        if sum(map(len, names)) >= _BUCKETS:
                            break
                with watch.stage("fetch"):
                    candidates = self._buckets.candidates_of(names)
                    # The generation may have been replaced, and its buckets dropped, under our hands.
                    self._follower.catch_up(wanted.collection)
                if not self._follower.is_in_use(copy):
                    raise _Left
                if copy.generation is not None and copy.generation.number == generation.number:
                    budget = wanted.budget
                    if budget is None and wanted.probes is None:  # as the index was fitted
                        budget = generation.budget(copy.view.images)
                    return _Probed(generation.number, candidates, [len(some) for some in names], budget)
        except Unavailable:
            if wanted.mode == "lsh":
                raise
        return None


class _Left(Exception):
    """The collection has changed to another embedding set since the search began."""


def _stored(copy: Replica, ids: Sequence[int]) -> Vectors:
    """Return the embeddings of images of the collection, float32 [n, dim]."""
    points = np.empty((len(ids), copy.embedding_set.dim), dtype=np.float32)
    for place, image in enumerate(ids):
        pack, row = copy.find(image)
        points[place] = pack.vectors[row]
    return points


def _checked(vector: Vectors, dim: int, name: str) -> Vectors:
    if vector.shape != (dim,) or not np.isfinite(vector).all():
        raise Invalid(f"{name} has shape {vector.shape}, expected {dim} finite numbers")
    return vector


def _rerank(query: Vectors, probed: _Probed, place: int, wanted: SearchQuery, gate: RowFilter) -> SearchResult:
    """Return the best of the candidates of one query."""
    candidates = probed.candidates[place]
    rows = gate.view.find(candidates.ids)
    kept = gate.passing(rows)
    rows = rows[kept]
    passed = len(rows)
    if probed.budget is not None and passed > probed.budget:
        rows = rows[most_seen(candidates.counts[kept], candidates.first[kept], probed.budget)]
    hits = rank(gate.view, query[np.newaxis], np.sort(rows), k=wanted.k, metric=wanted.metric)[0]
    return SearchResult(
        hits=_good(hits, wanted),
        mode="lsh",
        candidates=len(rows),
        passed=passed,
        generation=probed.generation,
        probed=probed.buckets[place],
        truncated=candidates.truncated,
        seen=len(candidates.ids),
    )


def _wants_more(found: SearchResult, wanted: SearchQuery) -> bool:
    """Return whether what the index yielded is too little, so that all that may be found is compared."""
    return wanted.mode == "auto" and found.passed < wanted.k


def _good(hits: list[Ranked], wanted: SearchQuery) -> list[Ranked]:
    return hits if wanted.min_score is None else [hit for hit in hits if hit.score >= wanted.min_score]
