"""Candidates: the ids that the probed buckets hold, by one round trip to Redis."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain

from services.query.announced import Announced
from services.query.replica.mapped_segment import Ids, Vectors
from services.query.replica.replica import Replica
from services.query.replica.replica_sync import ReplicaSync
from services.query.search.bucket_reader import BucketReader
from services.query.search.probe import probe
from services.query.search.search_query import SearchQuery
from services.query.search.stage_timer import StageTimer
from shared.errors import Unavailable
from shared.index.generations import Generation
from shared.state import Candidates


@dataclass(frozen=True)
class FetchedCandidates:
    """What the index holds for some queries.

    Attributes:
        generation: The number of the index generation that was asked.
        held: The ids in all of the buckets, int64.
        candidates: The candidates of each query.
        probed_buckets: How many buckets were probed for each query.
        budget: How many candidates of a query are ranked at most; None: all.
    """

    generation: int
    held: Ids
    candidates: Sequence[Candidates]
    probed_buckets: Sequence[int]
    budget: int | None


class ReplicaSuperseded(Exception):
    """The collection has changed to another embedding set since the search began."""


class CandidateFetcher:
    """Probes the index generation of a replica and fetches the candidates."""

    def __init__(self, buckets: BucketReader, replica_sync: ReplicaSync) -> None:
        self._reader = buckets
        self._replica_sync = replica_sync

    def fetch(
        self,
        queries: Vectors,
        search_query: SearchQuery,
        replica: Replica,
        announced: Sequence[Announced],
        timer: StageTimer,
    ) -> FetchedCandidates | None:
        """Return the candidates of the first of these queries, of as many as fit into memory; None without an index.

        `announced` are those of the requests, one or several, that these queries come from, all with the same streams.

        Raises:
            ReplicaSuperseded: The replica is not in use any more.
            Unavailable: For `mode=lsh`, the index does not answer.
        """
        set_name = replica.embedding_set.name
        try:
            while (generation := replica.generation) is not None and replica.index_fault is None:
                epoch = self._replica_sync.epoch(set_name)
                with timer.stage("probe"):
                    probed = probe(generation, queries, search_query.probes)
                with timer.stage("fetch"):
                    places = {name: place for place, name in enumerate(dict.fromkeys(chain.from_iterable(probed)))}
                    found = self._reader.read(list(places), set_name, epoch, announced[0].streams)
                    # The generation may have been replaced, and its buckets dropped, while they were read: that was
                    # announced before the ends of the streams were read.
                    for each in announced:
                        each.note(found.fetched.ends)
                    self._replica_sync.catch_up(replica.embedding_set.collection, read=False)
                    is_same_epoch = self._replica_sync.epoch(set_name) == epoch
                    if is_same_epoch:
                        self._reader.keep(found)
                if not self._replica_sync.is_in_use(replica):
                    raise ReplicaSuperseded
                is_current = is_same_epoch or not found.from_memory
                if is_current and replica.generation is not None and replica.generation.number == generation.number:
                    with timer.stage("fetch"):
                        buckets = found.joined()
                        candidates = buckets.candidates_of([[places[name] for name in names] for names in probed])
                    return FetchedCandidates(
                        generation.number,
                        buckets.ids,
                        candidates,
                        [len(names) for names in probed],
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
