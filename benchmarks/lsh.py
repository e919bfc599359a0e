"""Recall of the hash index against the share of the collection it looks at, and its speed against the exact scan.

Everything is measured in one run on one collection: given as .npy files of float32 [n, dim], or made of clusters.
Speeds are ratios, exact scan over index, of what a query costs in this process: bucket keys, union of the buckets and
scan of the candidates on one side, scan of all on the other. What fetching buckets from a server costs is not in it.

    python -m benchmarks.lsh --vectors train.npy distractor.npy --queries validation.npy --tables 8 16 32
"""

import argparse
import time
from collections import defaultdict
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt

from shared.hashing import RECALL_TARGET, TABLES, BucketKeys, FloatArray, HashFamily, fit

K = 10


class Buckets:
    """A family's buckets of a collection, in memory."""

    def __init__(self, family: HashFamily, vectors: FloatArray) -> None:
        rows: defaultdict[tuple[int, int], list[int]] = defaultdict(list)
        for row, keys in enumerate(family.keys(vectors).tolist()):
            for place in enumerate(keys):
                rows[place].append(row)
        self._rows = {place: np.array(members) for place, members in rows.items()}
        self.occupancy = len(vectors) * family.tables / len(rows)

    def candidates(self, probes: BucketKeys) -> npt.NDArray[np.intp]:
        """Return the distinct rows in the buckets, uint64 [tables, probes] to int [n]."""
        places = ((table, key) for table, keys in enumerate(probes.tolist()) for key in keys)
        found = [self._rows[place] for place in places if place in self._rows]
        return np.unique(np.concatenate(found)) if found else np.empty(0, dtype=np.intp)


def nearest(vectors: FloatArray, query: FloatArray) -> npt.NDArray[np.intp]:
    """Return the rows of the 10 most similar, in no order: float32 [n, dim], [dim] to int [10]."""
    scores = vectors @ query
    return np.argpartition(scores, -K)[-K:] if len(scores) > K else np.arange(len(scores))


def search(
    vectors: FloatArray, family: HashFamily, buckets: Buckets, probes: int, query: FloatArray
) -> npt.NDArray[np.intp]:
    """Return the rows of the 10 most similar among the candidates."""
    rows = buckets.candidates(family.probes(query, probes))
    return rows[nearest(vectors[rows], query)]


def milliseconds(call: Callable[[FloatArray], object], queries: FloatArray) -> float:
    """Return the median time of a call over the queries."""
    times = []
    for query in queries:
        start = time.perf_counter()
        call(query)
        times.append(time.perf_counter() - start)
    return float(np.median(times)) * 1e3


def clustered(n: int, dim: int, seed: int) -> FloatArray:
    """Return n vectors of length 1, of 200 clusters of unlike size and density, with a falling spectrum."""
    rng = np.random.default_rng(seed)
    spectrum = np.arange(1, dim + 1) ** -0.6
    centres = rng.standard_normal((200, dim)) * spectrum
    cluster = rng.choice(200, n, p=rng.dirichlet(np.ones(200)))
    spread = rng.uniform(0.4, 1.0, 200)[cluster, None]
    vectors = (centres[cluster] + spread * rng.standard_normal((n, dim)) * spectrum).astype(np.float32)
    return np.asarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True))


def compare(
    vectors: FloatArray, queries: FloatArray, tables: int, probes: list[int], recall_target: float, seed: int
) -> None:
    """Fit a family, and print a line for the probes it settled on and one for each number asked for."""
    start = time.perf_counter()
    family = fit(vectors, seed=seed, tables=tables, recall_target=recall_target)
    seconds = time.perf_counter() - start
    buckets = Buckets(family, vectors)
    parameters = family.parameters()
    truth = [set(nearest(vectors, query).tolist()) for query in queries]
    exact = milliseconds(partial(nearest, vectors), queries)
    print(
        f"\n{tables} tables, fitted in {seconds:.1f} s: {parameters['hashes']} hashes, "
        f"w {parameters['width_factor']:.1f} neighbour distances, {buckets.occupancy:.1f} members per bucket; "
        f"exact scan {exact:.2f} ms"
    )
    print(f"{'probes':>8} {'recall@10':>10} {'candidates':>11} {'probing':>9} {'exact / LSH':>12}")
    for count in sorted({parameters["probes"], *probes}):
        found = [buckets.candidates(family.probes(query, count)) for query in queries]
        recall = np.mean([len(known & set(rows.tolist())) / K for known, rows in zip(truth, found, strict=True)])
        share = np.mean([len(rows) for rows in found]) / len(vectors)
        probing = milliseconds(partial(family.probes, probes=count), queries)
        whole = milliseconds(partial(search, vectors, family, buckets, count), queries)
        fitted = " (fitted)" if count == parameters["probes"] else ""
        print(f"{count:>8} {recall:>10.3f} {share:>10.1%} {probing:>6.2f} ms {exact / whole:>11.2f}x{fitted}")


def main() -> None:
    """Read the arguments and measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--vectors", type=Path, nargs="+", help="the collection, .npy files of float32 [n, dim]")
    parser.add_argument("--queries", type=Path, help=".npy of queries; without it, some of the collection are held out")
    parser.add_argument("--images", type=int, default=12_000, help="vectors to make if none are given")
    parser.add_argument("--dim", type=int, default=256, help="their dimensions")
    parser.add_argument("--tables", type=int, nargs="+", default=[TABLES])
    parser.add_argument("--probes", type=int, nargs="+", default=[1, 2, 4, 8, 16, 32, 64])
    parser.add_argument("--recall-target", type=float, default=RECALL_TARGET)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    if arguments.vectors:
        vectors = np.concatenate([np.load(path).astype(np.float32, copy=False) for path in arguments.vectors])
    else:
        vectors = clustered(arguments.images, arguments.dim, arguments.seed)
    if arguments.queries:
        queries = np.load(arguments.queries).astype(np.float32, copy=False)
    else:
        order = np.random.default_rng(arguments.seed).permutation(len(vectors))
        queries, vectors = vectors[order[:250]], vectors[order[250:]]
    print(f"{len(vectors)} vectors of {vectors.shape[1]} dimensions, {len(queries)} queries")
    for tables in arguments.tables:
        compare(vectors, queries, tables, arguments.probes, arguments.recall_target, arguments.seed)


if __name__ == "__main__":
    main()
