"""Runs a search: query to embedding, embedding to candidates, candidates to hits, each stage timed."""

from collections.abc import Callable, Sequence

import numpy as np

from services.query.live_recall import AnsweredSearch, LiveRecall
from services.query.replica.mapped_segment import Vectors
from services.query.replica.replica import Replica
from services.query.replica.replica_sync import ReplicaSync
from services.query.replica.view import RowFilter
from services.query.search.candidates import Probed, good_enough, needs_scan, rerank
from services.query.search.ranking import rank
from services.query.search.relevance_feedback import moved
from services.query.search.search_query import SearchQuery, SearchResult
from services.query.search.stage_timer import StageTimer
from shared.errors import Invalid, Unavailable
from shared.images import Limits, decode
from shared.rpc.query import MAX_BATCH
from shared.rpc.serving import ServingClient, ServingError
from shared.state import BucketStore

_BUCKETS = 2048  # that the queries of a batch look into at a time: their ids are in memory together


class Searcher:
    """Searches replicas. `connect_model` gives a client for a model and version.

    `live_recall` is offered what the index answers to live searches.
    """

    def __init__(
        self,
        *,
        replica_sync: ReplicaSync,
        buckets: BucketStore,
        connect_model: Callable[[str, int], ServingClient],
        limits: Limits,
        exact_below: int,
        live_recall: LiveRecall | None = None,
    ) -> None:
        self._replica_sync, self._buckets = replica_sync, buckets
        self._connect_model = connect_model
        self._limits = limits
        self._exact_below = exact_below
        self._live_recall = live_recall
        self._models: dict[tuple[str, int], ServingClient] = {}

    def search(self, search_query: SearchQuery, *, time_left_s: float | None = None) -> tuple[SearchResult, Replica]:
        """Return the images most similar to the query, and the replica that was searched.

        Images that are asked for by their ids, as query or as examples, are found like any other.

        Raises:
            NotFound: No such collection or image.
            ImageRefused: The query image is refused.
            Invalid: A parameter does not fit.
            Unavailable: The model server, or for `mode=lsh` the index, does not answer.
        """
        search_query.check()
        timer = StageTimer()

        def run(replica: Replica) -> list[SearchResult]:
            query = self._query(search_query, replica, timer, time_left_s)
            like, unlike = (_stored(replica, examples) for examples in (search_query.like, search_query.unlike))
            if query is None and not len(like) and not len(unlike):
                raise Invalid("nothing to search for: give an image, an id, a vector or examples")
            return self._search(moved(query, like, unlike)[np.newaxis], search_query, replica, timer)

        with timer.stage("total"):
            (found,), replica = self._in_one_replica(search_query.collection, run)
        found.timings_ms = timer.timings_ms
        return found, replica

    def _in_one_replica(
        self, collection: str, run: Callable[[Replica], list[SearchResult]]
    ) -> tuple[list[SearchResult], Replica]:
        """Return what a search finds, and the replica in which all of it was done.

        If the collection changes to another model meanwhile, buckets were dropped: then another replica is taken.
        """
        while True:
            replica = self._replica_sync.replica(collection)
            try:
                return run(replica), replica
            except _Superseded:
                continue
            except ServingError:
                if self._replica_sync.is_in_use(replica):  # the model that was asked for is not of the past
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
        if not 1 <= len(queries) <= MAX_BATCH:
            raise Invalid(f"number of queries is {len(queries)}, expected 1 to {MAX_BATCH}")
        timer = StageTimer()

        def run(replica: Replica) -> list[SearchResult]:
            like, unlike = (_stored(replica, examples) for examples in (options.like, options.unlike))
            points = []
            for place, query in enumerate(queries):
                if isinstance(query, int):
                    (point,) = _stored(replica, [query])
                else:
                    point = _checked(query, replica.embedding_set.dim, f"the vector of query {place}")
                points.append(moved(point, like, unlike))
            return self._search(np.stack(points), options, replica, timer)

        with timer.stage("total"):
            found, replica = self._in_one_replica(options.collection, run)
        for result in found:
            result.timings_ms = timer.timings_ms
        return found, replica

    # The query

    def _query(
        self, search_query: SearchQuery, replica: Replica, timer: StageTimer, time_left_s: float | None
    ) -> Vectors | None:
        if search_query.id is not None:
            stored: Vectors = _stored(replica, [search_query.id])[0]
            return stored
        if search_query.vector is not None:
            return _checked(search_query.vector, replica.embedding_set.dim, "the vector")
        if search_query.image is None:
            return None
        serving = self._model(replica.embedding_set.model, replica.embedding_set.version)
        with timer.stage("decode"):
            pixels, _ = decode(search_query.image, size=serving.signature().input_size, limits=self._limits)
        with timer.stage("embed"):
            vector: Vectors = serving.embed(pixels[np.newaxis], timeout_s=time_left_s)[0]
            return vector

    def _model(self, model: str, version: int) -> ServingClient:
        key = (model, version)
        if key not in self._models:
            self._models[key] = self._connect_model(model, version)
        return self._models[key]

    # The search

    def _search(
        self, queries: Vectors, search_query: SearchQuery, replica: Replica, timer: StageTimer
    ) -> list[SearchResult]:
        """Return what is found for queries, float32 [q, dim]."""
        found: list[SearchResult | None] = [None] * len(queries)
        row_filter = RowFilter(replica.view, search_query.filter())
        if not self._scans(search_query, replica, row_filter):
            start = 0
            while start < len(queries):
                probed = self._probe(queries[start:], search_query, replica, timer)
                if probed is None:
                    break
                # The view is taken after the candidates: what was in the index by then is in it.
                with timer.stage("rank"):
                    row_filter = row_filter.of(replica.view)
                    for place in range(len(probed.candidates)):
                        result = rerank(queries[start + place], probed, place, search_query, row_filter)
                        found[start + place] = result
                        if not needs_scan(result, search_query):
                            self._offer(queries[start + place], search_query, row_filter, result)
                start += len(probed.candidates)
        with timer.stage("rank"):
            # Too few candidates: the query is unlike anything in the collection, so all that may be found is compared.
            rest = [place for place, result in enumerate(found) if result is None or needs_scan(result, search_query)]
            if rest:
                row_filter = row_filter.of(replica.view)
                rows = row_filter.rows()
                ranked = rank(row_filter.view, queries[rest], rows, k=search_query.k, metric=search_query.metric)
                for place, hits in zip(rest, ranked, strict=True):
                    found[place] = SearchResult(good_enough(hits, search_query), candidates=len(rows), passed=len(rows))
        return [result for result in found if result is not None]

    def _offer(self, query: Vectors, search_query: SearchQuery, row_filter: RowFilter, found: SearchResult) -> None:
        """Offer an answer of the index to live recall, unless the search is made to evaluate the index."""
        if self._live_recall is None or search_query.trial:
            return
        self._live_recall.offer(
            AnsweredSearch(
                search_query.collection,
                query,
                row_filter,
                search_query.k,
                search_query.metric,
                search_query.min_score,
                found.hits,
            )
        )

    def _scans(self, search_query: SearchQuery, replica: Replica, row_filter: RowFilter) -> bool:
        """Return whether to compare all that may be found without asking the index."""
        if search_query.mode == "exact" or replica.generation is None:
            return True
        return search_query.mode == "auto" and (row_filter.size < self._exact_below or not self._replica_sync.connected)

    def _probe(self, queries: Vectors, search_query: SearchQuery, replica: Replica, timer: StageTimer) -> Probed | None:
        """Return the candidates of the first of these queries, of as many as fit into memory; None without an index."""
        try:
            while (generation := replica.generation) is not None:
                names: list[list[bytes]] = []
                with timer.stage("probe"):
                    for query in queries:
                        names.append(generation.probed(query, search_query.probes))
                        if sum(map(len, names)) >= _BUCKETS:
                            break
                with timer.stage("fetch"):
                    candidates = self._buckets.candidates_of(names)
                    # The generation may have been replaced, and its buckets dropped, under our hands.
                    self._replica_sync.catch_up(search_query.collection)
                if not self._replica_sync.is_in_use(replica):
                    raise _Superseded
                if replica.generation is not None and replica.generation.number == generation.number:
                    budget = search_query.budget
                    if budget is None and search_query.probes is None:  # as the index was fitted
                        budget = generation.budget(replica.view.images)
                    return Probed(generation.number, candidates, [len(some) for some in names], budget)
        except Unavailable:
            if search_query.mode == "lsh":
                raise
        return None


class _Superseded(Exception):
    """The collection has changed to another embedding set since the search began."""


def _stored(replica: Replica, ids: Sequence[int]) -> Vectors:
    """Return the embeddings of images of the collection, float32 [n, dim]."""
    points = np.empty((len(ids), replica.embedding_set.dim), dtype=np.float32)
    for place, image in enumerate(ids):
        mapped, row = replica.find(image)
        points[place] = mapped.vectors[row]
    return points


def _checked(vector: Vectors, dim: int, name: str) -> Vectors:
    if vector.shape != (dim,) or not np.isfinite(vector).all():
        raise Invalid(f"{name} has shape {vector.shape}, expected {dim} finite numbers")
    return vector
