"""Candidates: the ids that the probed buckets hold, fetched from Redis by one pipeline."""

from collections.abc import Sequence
from dataclasses import dataclass

from services.query.replica.mapped_segment import Vectors
from services.query.replica.replica import Replica
from services.query.replica.replica_sync import ReplicaSync
from services.query.search.probe import probe
from services.query.search.search_query import SearchQuery
from services.query.search.stage_timer import StageTimer
from shared.errors import Unavailable
from shared.index.generations import Generation
from shared.state import BucketStore, Candidates


@dataclass(frozen=True)
class FetchedCandidates:
    """What the index holds for some queries.

    Attributes:
        generation: The number of the index generation that was asked.
        candidates: The candidates of each query.
        probed_buckets: How many buckets were probed for each query.
        budget: How many candidates of a query are ranked at most; None: all.
    """

    generation: int
    candidates: Sequence[Candidates]
    probed_buckets: Sequence[int]
    budget: int | None


class ReplicaSuperseded(Exception):
    """The collection has changed to another embedding set since the search began."""


class CandidateFetcher:
    """Probes the index generation of a replica and fetches the candidates."""

    def __init__(self, buckets: BucketStore, replica_sync: ReplicaSync) -> None:
        self._buckets = buckets
        self._replica_sync = replica_sync

    def fetch(
        self, queries: Vectors, search_query: SearchQuery, replica: Replica, timer: StageTimer
    ) -> FetchedCandidates | None:
        """Return the candidates of the first of these queries, of as many as fit into memory; None without an index.

        Raises:
            ReplicaSuperseded: The replica is not in use any more.
            Unavailable: For `mode=lsh`, the index does not answer.
        """
        try:
            while (generation := replica.generation) is not None:
                with timer.stage("probe"):
                    buckets = probe(generation, queries, search_query.probes)
                with timer.stage("fetch"):
                    candidates = self._buckets.candidates_of(buckets)
                    # The generation may have been replaced, and its buckets dropped, while they were read.
                    self._replica_sync.catch_up(replica.embedding_set.collection)
                if not self._replica_sync.is_in_use(replica):
                    raise ReplicaSuperseded
                if replica.generation is not None and replica.generation.number == generation.number:
                    return FetchedCandidates(
                        generation.number,
                        candidates,
                        [len(names) for names in buckets],
                        _budget(search_query, generation, replica),
                    )
        except Unavailable:
            if search_query.mode == "lsh":
                raise
        return None


def _budget(search_query: SearchQuery, generation: Generation, replica: Replica) -> int | None:
    """Return the budget of the search, or the one that the index was fitted with if it is probed as it was fitted."""
    if search_query.budget is None and search_query.probes is None:
        return generation.budget(replica.view.images)
    return search_query.budget
