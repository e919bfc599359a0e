"""Query-directed multi-probe: which neighbouring buckets to look into, and in what order.

Lv, Josephson, Wang, Charikar, Li: Multi-Probe LSH, VLDB 2007. A query lies at distance x_i(-1) from the lower boundary
of its slot of hash i and at x_i(+1) = w - x_i(-1) from the upper. A perturbation set moves some hashes by one slot, up
or down; its score, the sum of the squared distances to the boundaries crossed, is low where a neighbour is likely. The
paper sorts the 2k distances and makes the sets with a heap: shift the largest rank of a set by one, or expand the set
by the next; a set that moves a hash both ways is skipped.

The two distances of a hash add up to w, so ranks j and 2k + 1 - j are always the same hash: whether a set of ranks is
valid, and which sets come no later than another, is the same for each query. So the sets that can be among the first T
are made once for k and T, and a query only scores and sorts them, for all its tables at a time.
"""

import heapq
from functools import lru_cache, reduce
from operator import or_

import numpy as np
import numpy.typing as npt

from shared.hashing.types import BucketKeys

_SCORE_STEPS = 2.0**32  # scores are whole numbers of these, so that their sums do not depend on the order of adding


def perturbations(
    positions: npt.NDArray[np.float64], steps: BucketKeys, probes: int
) -> tuple[BucketKeys, npt.NDArray[np.float64]]:
    """Return the perturbation sets of least score, the empty one (the home bucket) first.

    Args:
        positions: [..., k], where the query lies in its slot of each hash, from 0 (lower boundary) to 1 (upper).
        steps: [k], what moving hash i up by one slot adds to the slot sum, modulo 2**64.
        probes: How many sets; a table has 3**k, and gives no more.

    Returns:
        What each set adds to the slot sum, uint64 [..., probes], and its score in units of w², rising, float64.
    """
    hashes = positions.shape[-1]
    sets = _rank_sets(hashes, min(probes, 3**hashes))
    near = np.minimum(positions, 1.0 - positions)
    order = np.argsort(near, axis=-1, kind="stable")
    near = np.take_along_axis(near, order, axis=-1)
    distances = np.concatenate([near, (1.0 - near)[..., ::-1]], axis=-1)
    upwards = np.where(positions > 0.5, steps, -steps)
    moves = np.take_along_axis(upwards, order, axis=-1)
    moves = np.concatenate([moves, (-moves)[..., ::-1]], axis=-1)
    scores = np.rint(distances**2 * _SCORE_STEPS) @ sets.T
    best = np.argsort(scores, axis=-1, kind="stable")[..., : min(probes, 3**hashes)]
    added = (moves[..., None, :] * sets.astype(np.uint64)[best]).sum(axis=-1, dtype=np.uint64)
    return added, np.take_along_axis(scores, best, axis=-1) / _SCORE_STEPS


@lru_cache(maxsize=64)
def _rank_sets(hashes: int, probes: int) -> npt.NDArray[np.float64]:
    """Return the sets that can be among the first `probes` of some query: rows of 0 and 1 over the ranks, [sets, 2k].

    Taking a rank of a set down by one, or rank 1 out, never raises the score. A set is left out if that leads to as
    many as `probes` other valid sets, the empty one among them. Each is visited after all those below it.
    """
    ranks = 2 * hashes
    valid = [frozenset[int]()]
    reached: dict[frozenset[int], int] = {}  # by set, which of `valid` are it or below it, as bits
    queue: list[tuple[int, tuple[int, ...]]] = [(1, (1,))]
    queued = {frozenset({1})}
    while queue and probes > 1:
        current = frozenset(heapq.heappop(queue)[1])
        lower = [current - {rank} | {rank - 1} for rank in current if rank > 1 and rank - 1 not in current]
        if 1 in current and len(current) > 1:
            lower.append(current - {1})
        if any(item not in reached for item in lower):
            continue
        below = reduce(or_, (reached[item] for item in lower), 1)
        if below.bit_count() >= probes:
            continue
        if not any(ranks + 1 - rank in current for rank in current):
            below |= 1 << len(valid)
            valid.append(current)
        reached[current] = below
        higher = [current - {rank} | {rank + 1} for rank in current if rank < ranks and rank + 1 not in current]
        if 1 not in current:
            higher.append(current | {1})
        for item in higher:
            if item not in queued:
                queued.add(item)
                heapq.heappush(queue, (sum(item), tuple(sorted(item))))
    rows = np.zeros((len(valid), ranks))
    for row, item in zip(rows, valid, strict=True):
        row[[rank - 1 for rank in item]] = 1.0
    return rows
