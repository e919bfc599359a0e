"""Probing: which buckets of the index a query is looked for in."""

from collections.abc import Sequence

from services.query.replica.mapped_segment import Vectors
from shared.index.generations import Generation

_BUCKETS = 2048  # of the queries that are answered together: the ids of all their buckets are in memory at a time


def probe(generation: Generation, queries: Vectors, probes: int | None) -> Sequence[Sequence[bytes]]:
    """Return the names of the buckets of each of the first queries, float32 [q, dim], the most promising first.

    It stops behind the query with which there are enough buckets for one round. `probes` is the number of buckets for
    each table; None: as the index was fitted.
    """
    buckets: list[list[bytes]] = []
    for query in queries:
        buckets.append(generation.probed(query, probes))
        if sum(map(len, buckets)) >= _BUCKETS:
            break
    return buckets
