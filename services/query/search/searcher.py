"""Runs a search: query vector, probe, candidates, re-rank; or an exact scan. Each stage is timed.

The stages are in the modules beside this one: `query_vectors`, `probe`, `candidates`, `rerank` and `exact_scan`.
"""

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass

import numpy as np

from services.query.announced import Announced
from services.query.live_recall import AnsweredSearch, LiveRecall
from services.query.replica.mapped_segment import Vectors
from services.query.replica.replica import Replica
from services.query.replica.replica_sync import ReplicaSync
from services.query.replica.view import RowFilter
from services.query.replica.window_filter import WindowFilter
from services.query.search.bucket_cache import BucketCache
from services.query.search.bucket_reader import BucketReader
from services.query.search.candidates import CandidateFetcher, ReplicaSuperseded
from services.query.search.exact_scan import exact_scan, needs_scan
from services.query.search.query_vectors import QueryVectors, Searched
from services.query.search.region_hits import with_windows
from services.query.search.rerank import rerank
from services.query.search.search_query import SearchQuery, SearchResult
from services.query.search.stage_timer import StageTimer
from services.query.search.turns import Turns
from shared.clients import Clients
from shared.errors import Invalid, NotFound
from shared.images import Decoder
from shared.rpc.query import MAX_BATCH
from shared.rpc.serving import ServingError
from shared.settings import BUCKET_MEMORY_MB


@dataclass(frozen=True)
class _Asked:
    """What one search asks the index: its vector, float32 [dim], and the id of the image whose vector it is."""

    vector: Vectors
    own_id: int | None
    announced: Announced
    timer: StageTimer


class Searcher:
    """Searches the replicas that `replica_sync` keeps.

    Args:
        clients: Buckets and model server.
        replica_sync: Gives the replica of a collection.
        decoder: Decodes query images.
        exact_below: With ``mode=auto``, fewer images than this are scanned exactly.
        live_recall: Is offered the answers of the index to live searches; None: nothing is measured.
        bucket_cache: Holds buckets in memory; None: as many as by default.
    """

    def __init__(
        self,
        clients: Clients,
        replica_sync: ReplicaSync,
        *,
        decoder: Decoder,
        exact_below: int,
        live_recall: LiveRecall | None = None,
        bucket_cache: BucketCache | None = None,
    ) -> None:
        self._replica_sync = replica_sync
        self._query_vectors = QueryVectors(clients.connect_model, decoder, clients.store)
        buckets = BucketReader(clients.state.buckets, bucket_cache or BucketCache(BUCKET_MEMORY_MB))
        self._candidates = CandidateFetcher(buckets, replica_sync)
        self._turns: Turns[_Asked, SearchResult | None] = Turns()
        self._exact_below = exact_below
        self._live_recall = live_recall

    def search(
        self, search_query: SearchQuery, *, announced: Announced | None = None, time_left_s: float | None = None
    ) -> tuple[SearchResult, Replica]:
        """Return the images most similar to the query, and the replica that was searched.

        Images that are named by their ids, as query or as examples, are found like any other image. `announced` is
        that of the request; None: it begins with the search.

        Raises:
            NotFound: No such collection or image.
            ImageRefused: The query image is refused.
            Invalid: A parameter does not fit.
            Unavailable: The model server, the decoders, or for `mode=lsh` the index, does not answer.
        """
        search_query.check()
        timer, announced = StageTimer(), announced or Announced(self._replica_sync)

        def run(replica: Replica) -> list[SearchResult]:
            vector = self.vector(search_query, replica, timer, time_left_s)
            return [self.search_by_vector(vector, search_query, replica, announced, timer)]

        with timer.stage("total"):
            own = [] if search_query.image_id is None else [search_query.image_id]
            (result,), replica = self._in_one_replica(search_query, own, announced, run)
        return result, replica

    def vector(
        self, search_query: SearchQuery, searched: Searched, timer: StageTimer, time_left_s: float | None
    ) -> Vectors:
        """Return the vector of a search, moved by its examples: float32 [dim]; see `QueryVectors.of_search`."""
        return self._query_vectors.of_search(search_query, searched, timer, time_left_s)

    def search_by_vector(
        self, vector: Vectors, search_query: SearchQuery, replica: Replica, announced: Announced, timer: StageTimer
    ) -> SearchResult:
        """Return the images of a replica most similar to the vector of a search, float32 [dim].

        Raises:
            ReplicaSuperseded: The replica is not in use any more.
            Unavailable: For `mode=lsh`, the index does not answer.
        """
        own_id = None if search_query.box else search_query.image_id
        (result,) = self._search(vector[np.newaxis], [own_id], search_query, replica, announced, timer)
        result.timings_ms, result.index_fault = timer.timings_ms, _index_fault(search_query, replica)
        return result

    def search_batch(
        self, options: SearchQuery, queries: Sequence[int | Vectors], *, announced: Announced | None = None
    ) -> tuple[list[SearchResult], Replica]:
        """Return for each query, an image id or a vector, what `search` would return.

        The stages are timed for the whole batch. Of two buckets that are as promising but for a rounding, a batch may
        look into the other one.

        Raises:
            NotFound: No such collection or image.
            Invalid: A parameter does not fit.
            Unavailable: For `mode=lsh`, the index does not answer.
        """
        options.check()
        if not 1 <= len(queries) <= MAX_BATCH:
            raise Invalid(f"number of queries is {len(queries)}, expected 1 to {MAX_BATCH}")
        timer, announced = StageTimer(), announced or Announced(self._replica_sync)
        own_ids = [query if isinstance(query, int) else None for query in queries]

        def run(replica: Replica) -> list[SearchResult]:
            vectors = self._query_vectors.of_batch(options, queries, replica)
            return self._search(vectors, own_ids, options, replica, announced, timer)

        with timer.stage("total"):
            own = [own_id for own_id in own_ids if own_id is not None]
            results, replica = self._in_one_replica(options, own, announced, run)
        for result in results:
            result.timings_ms, result.index_fault = timer.timings_ms, _index_fault(options, replica)
        return results, replica

    def _in_one_replica(
        self,
        search_query: SearchQuery,
        own: Sequence[int],
        announced: Announced,
        run: Callable[[Replica], list[SearchResult]],
    ) -> tuple[list[SearchResult], Replica]:
        """Return the results of a search, and the replica in which all of it was done.

        If the collection changes to another model meanwhile, its old buckets are dropped. The search then begins anew
        in the new replica. So it does if it began before the streams were read, and they say that an image which it
        names, in `own` or as an example, has come or gone.
        """
        named = np.array([*own, *search_query.like, *search_query.unlike], dtype=np.int64)
        while True:
            if not self._reads_with_buckets(search_query):
                announced.read()
            replica = self._replica_sync.replica(search_query.collection, read=False)
            view, is_early = replica.view, not announced.is_read
            try:
                results = run(replica)
            except ReplicaSuperseded:
                continue
            except ServingError:
                if self._replica_sync.is_in_use(replica):  # otherwise the old model is no longer served
                    raise
            except (NotFound, Invalid):
                if not is_early:
                    raise
                announced.read()
            else:
                if not is_early or replica.view is view or (replica.view.find(named) >= 0).all():
                    return results, replica

    def _reads_with_buckets(self, search_query: SearchQuery) -> bool:
        """Return whether a search may begin with what is known: it reads the streams when it fetches its buckets."""
        if search_query.among is not None or search_query.labels or search_query.chosen is not None:
            return False  # whether the index is asked depends on how many images pass
        if search_query.image is not None or search_query.images or search_query.box is not None:
            return False  # beside decoding and embedding, a round trip is nothing
        replica = self._replica_sync.in_use(search_query.collection)
        return replica is not None and self._uses_index(search_query, replica, replica.view.images)

    def _search(
        self,
        queries: Vectors,
        own_ids: Sequence[int | None],
        search_query: SearchQuery,
        replica: Replica,
        announced: Announced,
        timer: StageTimer,
    ) -> list[SearchResult]:
        """Return the result for each query vector, float32 [q, dim], and the image's id where it is one of them."""
        row_filter = RowFilter(replica.view, search_query.criteria())
        results = self._search_rows(queries, own_ids, search_query, replica, row_filter, announced, timer)
        windows = self._replica_sync.windows(replica) if search_query.regions else None
        if windows is not None:
            row_filter = row_filter.of(replica.view)
            of_windows = self._search_windows(queries, search_query, windows, row_filter, announced, timer)
            with timer.stage("rank"):
                results = [
                    with_windows(of_images, found, row_filter.view, search_query.k, own_id)
                    for of_images, found, own_id in zip(results, of_windows, own_ids, strict=True)
                ]
        for query, result in zip(queries, results, strict=True):
            self._offer(query, search_query, result)
        return results

    def _search_windows(
        self,
        queries: Vectors,
        search_query: SearchQuery,
        windows: Replica,
        images: RowFilter,
        announced: Announced,
        timer: StageTimer,
    ) -> list[SearchResult]:
        """Return what is found for each query among the windows of the images that pass a filter."""
        no_ids, window_filter = [None] * len(queries), WindowFilter(windows.view, images)
        try:
            return self._search_rows(queries, no_ids, search_query, windows, window_filter, announced, timer)
        except ReplicaSuperseded:  # they were dropped or made anew at this moment: what is whole is found without them
            return [SearchResult() for _ in queries]

    def _search_rows(
        self,
        queries: Vectors,
        own_ids: Sequence[int | None],
        search_query: SearchQuery,
        replica: Replica,
        row_filter: RowFilter | WindowFilter,
        announced: Announced,
        timer: StageTimer,
    ) -> list[SearchResult]:
        """Return what is found for each query among the rows of a replica: images, or windows of images."""
        results: list[SearchResult | None] = [None] * len(queries)
        if self._uses_index(search_query, replica, row_filter.size):
            results = self._search_index(queries, own_ids, search_query, replica, row_filter, announced, timer)
        if not announced.is_read:  # the index became unusable at this moment
            announced.read()
            raise ReplicaSuperseded
        with timer.stage("rank"):
            # A query with too few candidates is unlike anything in the collection, so it is scanned too.
            rest = [
                place
                for place, result in enumerate(results)
                if result is None or needs_scan(result, search_query, row_filter)
            ]
            if rest:
                own_of_rest = [own_ids[place] for place in rest]
                scanned = exact_scan(queries[rest], own_of_rest, search_query, row_filter.of(replica.view))
                for place, result in zip(rest, scanned, strict=True):
                    results[place] = result
        return [result for result in results if result is not None]

    def _uses_index(self, search_query: SearchQuery, replica: Replica, size: int) -> bool:
        """Return whether the index is asked; otherwise all that pass the filters, at most `size`, are scanned."""
        if search_query.mode == "exact" or replica.generation is None or replica.index_fault is not None:
            return False
        return search_query.mode == "lsh" or (size >= self._exact_below and self._replica_sync.connected)

    def _search_index(
        self,
        queries: Vectors,
        own_ids: Sequence[int | None],
        search_query: SearchQuery,
        replica: Replica,
        row_filter: RowFilter | WindowFilter,
        announced: Announced,
        timer: StageTimer,
    ) -> list[SearchResult | None]:
        """Return for each query what the index yields, None if there is no index."""

        def compute(company: Sequence[_Asked]) -> list[SearchResult | None]:
            together = StageTimer()
            found = self._ask_index(
                np.stack([asked.vector for asked in company]),
                [asked.own_id for asked in company],
                search_query,
                replica,
                row_filter,
                [asked.announced for asked in company],
                together,
            )
            for asked in company:
                asked.timer.add(together)
            return found

        if len(queries) > 1:
            return self._ask_index(queries, own_ids, search_query, replica, row_filter, [announced], timer)
        asked = _Asked(queries[0], own_ids[0], announced, timer)
        return [self._turns.search(asked, compute, kind=_kind(search_query, replica, row_filter, announced))]

    def _ask_index(
        self,
        queries: Vectors,
        own_ids: Sequence[int | None],
        search_query: SearchQuery,
        replica: Replica,
        row_filter: RowFilter | WindowFilter,
        announced: Sequence[Announced],
        timer: StageTimer,
    ) -> list[SearchResult | None]:
        results: list[SearchResult | None] = []
        while len(results) < len(queries):
            rest, own_of_rest = queries[len(results) :], own_ids[len(results) :]
            fetched = self._candidates.fetch(rest, search_query, replica, announced, timer)
            if fetched is None:
                return [*results, *(None for _ in rest)]
            # The view is taken after the candidates: it has every image that was in the index by then.
            with timer.stage("rank"):
                row_filter = row_filter.of(replica.view)
                results += rerank(rest, own_of_rest, fetched, search_query, row_filter)
        return results

    def _offer(self, query: Vectors, search_query: SearchQuery, result: SearchResult) -> None:
        """Offer an answer of the index to live recall, unless the search is made to evaluate the index."""
        if self._live_recall is None or search_query.for_evaluation or result.mode == "exact":
            return
        self._live_recall.offer(
            AnsweredSearch(
                collection=search_query.collection,
                query=query,
                searched=result.searched,
                k=search_query.k,
                metric=search_query.metric,
                min_score=search_query.min_score,
                hits=result.hits,
            )
        )


def _kind(
    search_query: SearchQuery, replica: Replica, row_filter: RowFilter | WindowFilter, announced: Announced
) -> Hashable:
    """Return what is equal for searches that differ in their queries alone; None: others do not find the same rows."""
    if not row_filter.passes_all:
        return None
    asked = search_query
    return replica, asked.mode, asked.probes, asked.budget, asked.k, asked.metric, asked.min_score, announced.streams


def _index_fault(search_query: SearchQuery, replica: Replica) -> str | None:
    """Return why the index was not asked though the search allowed it; None if there was no reason."""
    return None if search_query.mode == "exact" else replica.index_fault
