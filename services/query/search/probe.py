"""Probing: which buckets of the index a query is looked for in."""

from collections.abc import Sequence
from typing import Final

from services.query.replica.mapped_segment import Vectors
from shared.index.generations import Generation

_BUCKETS: Final = 2048  # in a round: the ids of all of them are in memory at a time
_QUERIES: Final = 64  # probed at a time


def probe(generation: Generation, queries: Vectors, probes: int | None) -> Sequence[Sequence[bytes]]:
    """Return the names of the buckets of each of the first queries, float32 [q, dim], the most promising first.

    It stops behind the query with which there are enough different buckets for one round. `probes` is the number of
    buckets for each table; None: as the index was fitted.
    """
    buckets: list[list[bytes]] = []
    different: set[bytes] = set()
    for start in range(0, len(queries), _QUERIES):
        for names in generation.probed_by_each(queries[start : start + _QUERIES], probes):
            buckets.append(names)
            different.update(names)
            if len(different) >= _BUCKETS:
                return buckets
    return buckets
