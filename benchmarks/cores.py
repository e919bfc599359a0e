"""Throughput by cores: searches a second of one client and of several, with one process of the query service and more.

All is measured in one run on one collection of simulated vectors, in turns, so that what other programs take is taken
from all alike. Clients are processes of their own, each with one connection, and ask again once they have an answer.
They share the cores with the service, so they send requests that were made before, and do not read the answers.

    python -m benchmarks.cores [--count 12000] [--dim 256] [--clients 4] [--processes 1 2] [--vectors FILE.npy]
"""

import argparse
import multiprocessing
import os
import statistics
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import psutil

from benchmarks.end_to_end import Workers, fill_collection
from benchmarks.image_ids import ImageIds
from benchmarks.searcher import COLLECTION
from benchmarks.servers import Servers
from benchmarks.simulation import Vectors, measure_contrast, unit
from shared.rpc.query import MODES, Mode
from shared.rpc.query import query_pb2 as messages
from shared.rpc.query.client import DEADLINE_S, QueryClient
from shared.rpc.query.connecting import connect_query
from shared.rpc.tls import grpc_tls, open_channel
from shared.settings import Settings
from shared.tuning import RECALL_TARGET
from shared.usable_cores import usable_cores

if TYPE_CHECKING:
    from multiprocessing.queues import SimpleQueue


_K = 10
_IDS = 2000  # images that are asked for
_CLUSTERS, _RANK = 60, 24  # of the simulated vectors
_PATIENCE_S = 120.0


@dataclass(frozen=True)
class Rate:
    """What some clients got in one turn.

    Attributes:
        per_second: Answers a second, of all clients together.
        median_ms: Median time until an answer was there.
        p95_ms: The time within which 95 of 100 answers were there.
        cpu_ms: Processor time of the query service for an answer.
        client_ms: Processor time of the client for an answer.
    """

    per_second: float
    median_ms: float
    p95_ms: float
    cpu_ms: float
    client_ms: float


def main() -> None:
    """Fill a collection, measure in turns, print the medians."""
    options = _options()
    if options.vectors:
        vectors = unit(np.load(options.vectors).astype(np.float32))
    else:
        vectors = _simulated(options.count, options.dim)
    options.count, options.dim = vectors.shape
    contrast = measure_contrast(vectors).ratio
    print(f"{options.count} vectors of {options.dim} dimensions, contrast {contrast:.2f}; {usable_cores()} cores")
    rates: defaultdict[tuple[int, int], list[Rate]] = defaultdict(list)
    with tempfile.TemporaryDirectory(prefix="artseek-bench-") as folder:
        scratch = Path(folder)
        with Servers(scratch, models=scratch / "models") as servers:
            servers.start("valkey-index", "valkey-broker", "objects")
            fill_collection(Workers(servers, seed=0), vectors, RECALL_TARGET, {})
            for turn in range(options.turns):
                for processes in options.processes[:: 1 if turn % 2 else -1]:
                    for clients, rate in _measure(servers, processes, options):
                        rates[processes, clients].append(rate)
    alone = rates[options.processes[0], 1]
    for processes in options.processes:
        _show(processes, {clients: rates[processes, clients] for clients in (1, options.clients)}, alone)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=12_000, help="vectors of the collection")
    parser.add_argument("--dim", type=int, default=256)
    parser.add_argument("--vectors", type=Path, help="vectors in place of simulated ones, float32 [n, dim]")
    parser.add_argument("--clients", type=int, default=4, help="clients at a time, beside one")
    parser.add_argument("--processes", type=int, nargs="+", default=[1, 2], help="processes of the query service")
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=4.0, help="of a turn for each number of clients")
    parser.add_argument("--mode", choices=tuple(MODES), default="lsh")
    return parser.parse_args()


def _simulated(count: int, dim: int) -> Vectors:
    """Return vectors of clusters of unlike size, of length 1: float32 [count, dim]."""
    rng = np.random.default_rng(0)
    rank = min(_RANK, dim)
    centres, shares = rng.standard_normal((_CLUSTERS, rank)), rng.dirichlet(np.ones(_CLUSTERS))
    points = centres[rng.choice(_CLUSTERS, count, p=shares)] + 0.6 * rng.standard_normal((count, rank))
    turned = points @ np.linalg.qr(rng.standard_normal((dim, rank)))[0].T
    return unit((turned + 0.05 * rng.standard_normal((count, dim))).astype(np.float32))


def _measure(servers: Servers, processes: int, options: argparse.Namespace) -> Iterator[tuple[int, Rate]]:
    """Start the query service with so many processes, and yield what one client gets, and several."""
    os.environ["ARTSEEK_QUERY_PROCESSES"] = str(processes)
    servers.start("query")
    try:
        with connect_query(servers.settings) as client:
            _wait_for_index(client, servers.pid("query"), processes)
        ids = ImageIds(options.count).ids[:_IDS].tolist()
        for clients in (1, options.clients):
            yield clients, _rate(servers, ids, clients, options)
    finally:
        servers.stop("query")


def _wait_for_index(client: QueryClient, pid: int, processes: int) -> None:
    """Wait until every process takes requests, and the index is asked."""
    until = time.monotonic() + _PATIENCE_S
    request = messages.SearchRequest(collection=COLLECTION, id=int(ImageIds(1).ids[0]), mode=MODES["lsh"], k=1)
    while time.monotonic() < until:
        children = psutil.Process(pid).children()
        listening = [child for child in children if any(c.status == "LISTEN" for c in child.net_connections("tcp"))]
        if (processes == 1 or len(listening) == processes) and not client.search(request).index_fault:
            return
        time.sleep(0.2)
    raise SystemExit("the query service does not ask its index, or not all of its processes listen")


def _rate(servers: Servers, ids: list[int], clients: int, options: argparse.Namespace) -> Rate:
    """Return what so many clients get for some seconds."""
    context = multiprocessing.get_context("spawn")
    barrier, results = context.Barrier(clients + 1), context.SimpleQueue()
    running = [
        context.Process(
            target=_search,
            args=(servers.settings, ids[number::clients], options.mode, options.seconds, barrier, results),
        )
        for number in range(clients)
    ]
    for process in running:
        process.start()
    barrier.wait(_PATIENCE_S)
    before = _cpu_s(servers.pid("query"))
    found, client_s = zip(*(results.get() for _ in running), strict=True)
    used = _cpu_s(servers.pid("query")) - before
    for process in running:
        process.join()
    times = np.concatenate(found)
    return Rate(
        len(times) / options.seconds,
        float(np.median(times)) * 1e3,
        float(np.percentile(times, 95)) * 1e3,
        used / len(times) * 1e3,
        sum(client_s) / len(times) * 1e3,
    )


def _search(
    settings: Settings,
    ids: list[int],
    mode: Mode,
    seconds: float,
    barrier: Barrier,
    results: "SimpleQueue[tuple[list[float], float]]",
) -> None:
    """Search for some seconds, one search after the other; puts the seconds of each, and of a core, into `results`."""
    with open_channel(settings.query_target, grpc_tls(settings)) as channel:
        search = channel.unary_unary("/artseek.query.v1.Query/Search", None, None)
        requests = [
            messages.SearchRequest(collection=COLLECTION, id=image, mode=MODES[mode], k=_K).SerializeToString()
            for image in ids
        ]
        search(requests[0], timeout=DEADLINE_S)
        barrier.wait(_PATIENCE_S)
        times: list[float] = []
        used, until = time.process_time(), time.perf_counter() + seconds
        while (started := time.perf_counter()) < until:
            search(requests[len(times) % len(requests)], timeout=DEADLINE_S)
            times.append(time.perf_counter() - started)
        used = time.process_time() - used
    results.put((times, used))


def _cpu_s(pid: int) -> float:
    """Return the processor time that the processes of a service have taken, in seconds."""
    service = psutil.Process(pid)
    times = [process.cpu_times() for process in (service, *service.children(recursive=True))]
    return sum(each.user + each.system for each in times)


def _show(processes: int, rates: dict[int, list[Rate]], alone: list[Rate]) -> None:
    """Print the medians of the turns, and the ratio of each turn's rates to those in `alone`."""
    for clients, turns in rates.items():
        middle = {name: statistics.median(getattr(rate, name) for rate in turns) for name in Rate.__annotations__}
        print(
            f"{processes} processes, {clients} clients: {middle['per_second']:.0f} searches/s, "
            f"median {middle['median_ms']:.2f} ms, p95 {middle['p95_ms']:.2f} ms, "
            f"of a core for a search {middle['cpu_ms']:.2f} ms, and {middle['client_ms']:.2f} ms of its client"
        )
        ratios = [many.per_second / one.per_second for one, many in zip(alone, turns, strict=True)]
        print(f"  ratio {statistics.median(ratios):.2f} ({', '.join(f'{ratio:.2f}' for ratio in ratios)})")


if __name__ == "__main__":
    main()
