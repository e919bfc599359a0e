"""Vectors simulated from real ones: as many as wanted, with the neighbourhoods of the real ones and a contrast at will.

Each simulated vector is drawn around a real one, chosen at random, from a Gaussian with the covariance of that one's
neighbours (Vincent, Bengio: Manifold Parzen Windows, NIPS 2002), and scaled to length 1:

    x = a + s / √k · Σⱼ gⱼ (bⱼ - a),    gⱼ ~ N(0, 1),    b₁ … b_k the nearest neighbours of the real vector a

So the clusters, the uneven density and the directions in which neighbours differ are those of the real vectors, while
the spread s, one number, sets how far the draws around one vector reach into those around the next. It is chosen by
the contrast that comes out: the median distance of two random vectors over the median distance of a vector to its 10th
neighbour, which is what makes a collection easy or hard to search (after He, Kumar, Chang: On the Difficulty of Nearest
Neighbor Search, ICML 2012). The contrast of a given number of vectors falls as s grows.

By default s is what gives as many simulated vectors as there are real ones the contrast of these: the neighbourhoods
are kept, and more vectors fill them more densely, as they do where a collection grows, so that the contrast rises. (The
one s that keeps the contrast of 12,000 vectors of art and photographs, about 0.7, keeps that of 1,000, 3,000 and 10,000
of them within 2 %.) A contrast asked for by number is that of all the vectors. Rows are in random order: the first of
them are a smaller collection of the same kind.

Vectors are drawn in blocks, each from the seed and its own number. So a smaller collection with the same spread is the
beginning of a larger one, and a collection may lie in a file that is mapped into memory, in half precision too.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from benchmarks.nearest import keep_least

Vectors = npt.NDArray[np.float32]
StoredVectors = npt.NDArray[np.float32] | npt.NDArray[np.float16]
Rows = npt.NDArray[np.int64]

NEIGHBOURS = 32
"""k: the rank of a local covariance."""

SPREADS = (1 / 32, 4.0)
"""The least and the largest s: below, draws are the real vectors over again; beyond, noise alone."""

KEPT_SPREADS = (0.4, 4.0)
"""Where s is sought that keeps the real contrast: below, as few draws as real vectors have it whatever s is."""

RANK = 10
"""Which neighbour's distance the contrast is measured by."""

_PROBES = 512  # vectors whose 10th neighbours are looked for, at least, and more where there are few to compare with
_COMPARED = 1 << 25
_PAIRS = 20_000
_BLOCK = 16_384  # vectors compared with the probes at a time
_DRAWN = 1 << 16  # vectors drawn at a time: 8 MB of noise
_TOGETHER = 512  # of which the neighbours are gathered at a time: 8 MB with 128 dimensions
_OF_VECTORS, _OF_QUERIES = 2, 3  # what a block's seed says of what is drawn
_TRIALS = 12
_UNDER = (0.98, 0.995)  # what a contrast asked for may come out as, so that another sample does not find it exceeded


class SimulationError(ValueError):
    """Real vectors or a contrast that no simulation can be made of."""


@dataclass(frozen=True)
class Contrast:
    """How much farther two random vectors lie apart than a vector and its 10th neighbour, by medians."""

    random: float
    tenth: float

    @property
    def ratio(self) -> float:
        """The contrast: 1 says that neighbours are no nearer than anything else."""
        return self.random / self.tenth if self.tenth else math.inf


@dataclass(frozen=True, eq=False)
class Simulated:
    """A simulated collection, vectors held out from it as queries, and what it came to."""

    vectors: StoredVectors  # [n, dim], of length 1 but for rounding
    queries: Vectors  # [q, dim], of length 1
    spread: float
    contrast: Contrast


def unit(vectors: Vectors) -> Vectors:
    """Return vectors scaled to length 1, float32 [n, dim]; a zero stays one."""
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.asarray(vectors / np.maximum(lengths, np.finfo(np.float32).tiny), dtype=np.float32)


def reduce_dimensions(real: Vectors, dim: int) -> Vectors:
    """Return vectors in `dim` dimensions, of length 1: float32 [m, d] to [m, dim].

    The projection is on the first right singular vectors, not centred, which keeps inner products best (Eckart, Young,
    1936). Vectors of `dim` components stay as they are.

    Raises:
        SimulationError: `dim` is more than they have.
    """
    if not 1 <= dim <= real.shape[1]:
        raise SimulationError(f"dim is {dim}, expected 1 to {real.shape[1]}, which the real vectors have")
    if dim == real.shape[1]:
        return unit(real)
    moments = np.zeros((real.shape[1], real.shape[1]))
    for start in range(0, len(real), _BLOCK):
        block = real[start : start + _BLOCK].astype(np.float64)
        moments += block.T @ block
    axes = np.linalg.eigh(moments)[1][:, ::-1][:, :dim].astype(np.float32)
    return unit(real @ axes)


def measure_contrast(vectors: StoredVectors, *, seed: int = 0) -> Contrast:
    """Return the contrast of vectors, [n, dim], n ≥ 2, from a sample of pairs and of vectors; in bounded memory."""
    rng = np.random.default_rng([seed, len(vectors)])
    left = rng.integers(len(vectors), size=_PAIRS)
    right = (left + rng.integers(1, len(vectors), size=_PAIRS)) % len(vectors)
    random = np.concatenate(
        [
            np.linalg.norm(_single(vectors[left[start : start + 4096]]) - vectors[right[start : start + 4096]], axis=1)
            for start in range(0, _PAIRS, 4096)
        ]
    )
    probes = min(len(vectors), max(_PROBES, _COMPARED // len(vectors)))
    rows = np.sort(rng.choice(len(vectors), probes, replace=False))
    rank = min(RANK, len(vectors) - 1)
    # The vector itself comes first, at a distance that rounding leaves about 0.
    tenth = _nearest_distances(vectors, _single(vectors[rows]), rank + 1)[:, rank]
    return Contrast(float(np.median(random)), float(np.median(tenth)))


def simulate(
    real: Vectors,
    count: int,
    queries: int,
    *,
    contrast: float | None = None,
    seed: int = 0,
    into: StoredVectors | None = None,
) -> Simulated:
    """Return a collection that is like a real one, and queries that are like it too.

    Args:
        real: float32 [m, dim], m ≥ 2, of length 1.
        count: Vectors of the collection, n.
        queries: Vectors held out.
        contrast: What the contrast of the collection is to be, at most and nearly; None keeps that of the real
            vectors: min(n, m) simulated ones have the contrast of as many real ones.
        seed: Of all that is drawn: the same seed gives the same vectors, and the same queries whatever their number.
        into: Where the collection is written, [n, dim], such as a mapped file; None: into memory, as float32.

    Returns:
        The collection. Beside it, memory is taken for a few blocks of some 10 MB.

    Raises:
        SimulationError: There are too few real vectors, or no spread gives the contrast asked for.
    """
    if len(real) < 2 or count < 2 or queries < 1:
        raise SimulationError(f"{len(real)} real vectors, {count} wanted, {queries} queries: expected 2, 2, 1 or more")
    neighbours = nearest_rows(real, min(NEIGHBOURS, len(real) - 1))
    drawn = np.empty((count, real.shape[1]), dtype=np.float32) if into is None else into
    if contrast is None:
        sample = real[np.random.default_rng([seed, 1]).permutation(len(real))[:count]]
        kept = measure_contrast(sample, seed=seed).ratio
        spread, _ = _find_spread(real, neighbours, kept, KEPT_SPREADS, np.empty_like(sample), seed)
        draw(real, neighbours, spread, seed=seed, into=drawn)
    else:
        spread, missed = _find_spread(real, neighbours, contrast, SPREADS, drawn, seed)
        if missed:
            nearest = measure_contrast(drawn, seed=seed).ratio
            raise SimulationError(
                f"{count} vectors have a contrast of {nearest:.3f} at the nearest, "
                f"expected {contrast:g}: ask for one nearer to it"
            )
    held_out = np.empty((queries, real.shape[1]), dtype=np.float32)
    draw(real, neighbours, spread, seed=seed, into=held_out, kind=_OF_QUERIES)
    return Simulated(drawn, held_out, spread, measure_contrast(drawn, seed=seed))


def _find_spread(
    real: Vectors, neighbours: Rows, contrast: float, spreads: tuple[float, float], into: StoredVectors, seed: int
) -> tuple[float, bool]:
    """Return the spread whose draws have a contrast, and whether it is missed; `into` has the draws then."""
    low, high = (math.log(spread) for spread in spreads)
    excess_low = excess_high = math.nan  # of log contrast over that asked for, where the spread is least and largest
    log_spread = 0.0
    for _ in range(_TRIALS):
        draw(real, neighbours, math.exp(log_spread), seed=seed, into=into)
        ratio = measure_contrast(into, seed=seed).ratio
        if contrast * _UNDER[0] <= ratio <= contrast * _UNDER[1]:
            return math.exp(log_spread), False
        excess = math.log(ratio / (contrast * sum(_UNDER) / 2))
        if excess > 0:
            low, excess_low = log_spread, excess
        else:
            high, excess_high = log_spread, excess
        # By the chord if both ends are known and it leads well inside, else by half.
        share = excess_low / (excess_low - excess_high)
        log_spread = low + (high - low) * (share if 0.02 < share < 0.98 else 0.5)
    return math.exp(log_spread), True


def draw(
    real: Vectors, neighbours: Rows, spread: float, *, seed: int, into: StoredVectors, kind: int = _OF_VECTORS
) -> None:
    """Fill `into`, [n, dim], with draws around real vectors, [m, dim], whose neighbours are rows [m, k].

    What is drawn at random does not depend on the spread, so that the vectors move smoothly with it, nor on n: fewer
    vectors are the first of more.
    """
    rank = neighbours.shape[1]
    for number, start in enumerate(range(0, len(into), _DRAWN)):
        size = min(_DRAWN, len(into) - start)
        rng = np.random.default_rng([seed, kind, number])
        owners = rng.integers(len(real), size=_DRAWN)[:size]
        noise = rng.standard_normal((_DRAWN, rank), dtype=np.float32)[:size]
        noise *= np.float32(spread / math.sqrt(rank))
        for first in range(0, size, _TOGETHER):
            part = slice(first, first + _TOGETHER)
            # a + Σ gⱼ (bⱼ - a), for each vector by itself, so that it does not depend on how many there are.
            points = np.matmul(noise[part, None], real[neighbours[owners[part]]])[:, 0]
            points += (1 - noise[part].sum(axis=1, keepdims=True)) * real[owners[part]]
            into[start + first : start + first + len(points)] = unit(points)


def nearest_rows(vectors: Vectors, count: int) -> Rows:
    """Return the `count` nearest others of each vector, nearest first: float32 [m, dim] to int64 [m, count]."""
    rows = np.empty((len(vectors), count), dtype=np.int64)
    squares = np.einsum("ij,ij->i", vectors, vectors)
    for start in range(0, len(vectors), 1024):
        block = vectors[start : start + 1024]
        distances = squares - 2 * block @ vectors.T
        distances[np.arange(len(block)), np.arange(start, start + len(block))] = np.inf
        nearest = np.argpartition(distances, count - 1, axis=1)[:, :count]
        order = np.argsort(np.take_along_axis(distances, nearest, axis=1), axis=1, kind="stable")
        rows[start : start + 1024] = np.take_along_axis(nearest, order, axis=1)
    return rows


def _nearest_distances(vectors: StoredVectors, probes: Vectors, count: int) -> npt.NDArray[np.float32]:
    """Return the distances of probes to their `count` nearest vectors, rising: float32 [p, count]."""
    best = np.full((len(probes), count), np.inf, dtype=np.float32)
    lengths = np.einsum("ij,ij->i", probes, probes)[:, None]
    for block in blocks(vectors, _BLOCK):
        squares = probes @ block.T
        squares *= -2
        squares += lengths
        squares += np.einsum("ij,ij->i", block, block)
        keep_least(best, squares)
    return np.sqrt(np.maximum(np.sort(best, axis=1), 0))


def blocks(vectors: StoredVectors, size: int) -> Iterator[Vectors]:
    """Yield vectors as float32, so many at a time."""
    for start in range(0, len(vectors), size):
        yield _single(vectors[start : start + size])


def _single(vectors: StoredVectors) -> Vectors:
    return vectors.astype(np.float32, copy=False)
