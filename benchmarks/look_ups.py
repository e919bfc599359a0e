"""What the query service adds to a look-up: searches by gRPC beside the same hash family in this process, in turns.

In this process a search probes, fetches its buckets from Valkey, and ranks the candidates by one product. The query
service does the same exactly, knows of every change that was announced before, and describes the hits.

    python -m benchmarks.look_ups [--count 12000] [--dim 1280] [--vectors FILE.npy]
"""

import argparse
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from benchmarks.dataset import K
from benchmarks.end_to_end import Workers, fill_collection
from benchmarks.image_ids import ImageIds
from benchmarks.searcher import COLLECTION
from benchmarks.servers import Servers
from benchmarks.simulation import Rows, Vectors, unit
from shared.errors import Unavailable
from shared.index.generations import Generation
from shared.rpc.query import MAX_BATCH, MODES
from shared.rpc.query import query_pb2 as messages
from shared.rpc.query.client import QueryClient
from shared.rpc.query.connecting import connect_query
from shared.state import BucketStore, connect
from shared.tuning import RECALL_TARGET

_QUERIES: Final = 400
_BATCHES: Final = 16
_TURNS: Final = 3
_CLUSTERS, _RANK = 150, 24  # of the simulated vectors
_PATIENCE_S: Final = 120.0

Times = npt.NDArray[np.float64]


def main() -> None:
    """Fill a collection, search it both ways, print the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=12_000, help="number of simulated vectors")
    parser.add_argument("--dim", type=int, default=1280, help="their dimensions")
    parser.add_argument("--vectors", type=Path, help="vectors in place of simulated ones, float32 [n, dim]")
    options = parser.parse_args()
    if options.vectors:
        vectors = unit(np.load(options.vectors).astype(np.float32))
    else:
        vectors = _simulated(options.count + _QUERIES, options.dim)
    vectors, queries = vectors[:-_QUERIES], vectors[-_QUERIES:]
    with (
        tempfile.TemporaryDirectory(prefix="artseek-bench-") as scratch,
        Servers(Path(scratch), models=Path(scratch) / "models") as servers,
    ):
        servers.start("valkey-index", "valkey-broker", "objects")
        workers = Workers(servers, seed=0)
        fill_collection(workers, vectors, RECALL_TARGET, {})
        servers.start("query")
        family = _InProcess(workers, vectors)
        print(f"{len(vectors)} vectors of {vectors.shape[1]} dimensions: {family.parameters}")
        with connect_query(servers.settings) as client:
            _wait_for_index(client, queries[0])
            _measure(client, family, queries)


def _measure(client: QueryClient, family: "_InProcess", queries: Vectors) -> None:
    rng = np.random.default_rng(1)
    ids = family.image_ids.ids
    requests = [_request(vector=messages.Vector(values=query)) for query in queries]
    by_id = [_request(id=int(image_id)) for image_id in rng.choice(ids, _QUERIES)]
    batches = [
        messages.SearchBatchRequest(
            options=_request(),
            queries=[messages.BatchQuery(id=int(image_id)) for image_id in rng.choice(ids, MAX_BATCH)],
        )
        for _ in range(_BATCHES)
    ]
    answers = [client.search(request) for request in requests]
    print(
        f"candidates {np.mean([answer.candidates for answer in answers]):.0f}, "
        f"look-ups {np.mean([answer.probed_buckets for answer in answers]):.0f}"
    )
    for turn in range(1, _TURNS + 1):  # what other programs take is taken from all alike
        print(f"turn {turn}")
        in_process = float(np.median(_show("the family in process", _times(family.search, queries))))
        for name, some in (("by vector", requests), ("by id", by_id)):
            times = _show(f"the query service, {name}", _times(client.search, some))
            median = float(np.median(times))
            print(
                f"    {median / in_process:.2f} times the family; without a millisecond {(median - 1) / in_process:.2f}"
            )
        batch_ms = np.median(_show(f"a batch of {MAX_BATCH} ids", _times(client.search_batch, batches)))
        print(f"    {MAX_BATCH / batch_ms * 1e3:.0f} queries a second")


class _InProcess:
    """The index in use, searched in this process."""

    def __init__(self, workers: Workers, vectors: Vectors) -> None:
        embedding_set, current = workers.catalog.get(COLLECTION), workers.catalog.current_index(COLLECTION)
        if current is None:
            raise RuntimeError("no index was built")
        self._generation = Generation.load(workers.catalog.store, embedding_set, current.generation)
        self._buckets = BucketStore(connect(workers.servers.settings.index_url.get_secret_value()))
        self._vectors, self.image_ids = vectors, ImageIds(len(vectors))
        self._budget = self._generation.budget(len(vectors))
        values = self._generation.family.parameters()
        self.parameters = {name: values[name] for name in ("family", "tables", "cells", "probes") if name in values}

    def search(self, query: Vectors) -> Rows:
        """Return the rows of the nearest candidates, as `benchmarks.families` does."""
        ids = self._buckets.candidates(self._generation.probed(query)).best(self._budget)
        rows = self.image_ids.rows(ids)
        scores = self._vectors[rows] @ query
        best = np.argpartition(scores, -K)[-K:] if len(scores) > K else np.arange(len(scores))
        return np.asarray(rows[best[np.argsort(-scores[best], kind="stable")]])


def _request(**query: object) -> messages.SearchRequest:
    return messages.SearchRequest(collection=COLLECTION, k=K, mode=MODES["lsh"], **query)  # type: ignore[arg-type]


def _wait_for_index(client: QueryClient, query: Vectors) -> None:
    until = time.monotonic() + _PATIENCE_S
    while True:
        try:
            fault = client.search(_request(vector=messages.Vector(values=query))).index_fault
        except Unavailable as error:
            fault = str(error)
        if not fault:
            return
        if time.monotonic() > until:
            raise Unavailable(f"the query service does not ask the index: {fault}")
        time.sleep(0.05)


def _times(call: Callable[..., object], arguments: Sequence[object] | Vectors) -> Times:
    """Return the milliseconds of each call, after a few that do not count."""
    for argument in arguments[:10]:
        call(argument)
    times = []
    for argument in arguments:
        started = time.perf_counter()
        call(argument)
        times.append((time.perf_counter() - started) * 1e3)
    return np.array(times)


def _show(name: str, times: Times) -> Times:
    quick, median, slow = np.percentile(times, (10, 50, 95))
    print(f"  {name}: median {median:.2f} ms, p10 {quick:.2f}, p95 {slow:.2f}")
    return times


def _simulated(count: int, dim: int) -> Vectors:
    """Return vectors of length 1 in clusters, of few dimensions but for a little noise: float32 [count, dim]."""
    rng = np.random.default_rng(0)
    centres = rng.standard_normal((_CLUSTERS, _RANK))
    points = centres[rng.integers(0, _CLUSTERS, count)] + 0.55 * rng.standard_normal((count, _RANK))
    turn = np.linalg.qr(rng.standard_normal((dim, _RANK)))[0].T
    return unit((points @ turn + 0.02 * rng.standard_normal((count, dim)) + 0.05).astype(np.float32))


if __name__ == "__main__":
    main()
