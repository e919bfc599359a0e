"""Whether tuning disturbs searches: their times while an index is tuned and built, beside those before and after.

A collection of simulated vectors is searched by its index without a pause, while the maintenance worker tunes and
builds another generation, in a process of its own as in the product.

    python -m benchmarks.tuning [--count 100000] [--seconds 20]
"""

import argparse
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from benchmarks.end_to_end import Workers
from benchmarks.image_ids import ImageIds
from benchmarks.search_layers import fill, simulated_vectors
from benchmarks.searcher import COLLECTION, Searcher
from benchmarks.servers import Servers
from shared.messaging.job_submission import submit, wait_for_end
from shared.messaging.messages import TuningRequest
from shared.rpc.query.connecting import connect_query

_PATIENCE_S = 3600.0


def main() -> None:
    """Fill a collection, search it before, while and after it is tuned; print the times."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=100_000, help="vectors")
    parser.add_argument("--seconds", type=float, default=20.0, help="of searches before and after")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="artseek-bench-") as scratch:
        _measure(Path(scratch), options.count, options.seconds)


def _measure(folder: Path, count: int, seconds: float) -> None:
    vectors, queries = simulated_vectors(count)
    with Servers(folder, models=folder / "models") as servers:
        servers.start("valkey-index", "valkey-broker", "objects", "query")
        workers = Workers(servers, seed=0)
        fill(workers, vectors)
        workers.jobs.create("tune", COLLECTION, kind="tune")
        workers.maintenance.tuner.tune(collection=COLLECTION, job="tune", request=TuningRequest(), apply=True)
        servers.start("maintenance")
        searcher = Searcher(servers.settings, queries, ImageIds(count))
        searcher.wait_for_answer("lsh")
        searcher.wait_for_index()
        before = _times(searcher, _for_seconds(seconds))
        with ThreadPoolExecutor(1) as pool:
            tuning = pool.submit(_tune, workers)
            during = _times(searcher, lambda: not tuning.done())
        after = _times(searcher, _for_seconds(seconds))
    for name, times in (("before", before), ("while tuning", during), ("after", after)):
        print(f"{name:14} {len(times):7} searches   {_described(times)}")
    quiet = [*before, *after]
    ratios = [np.percentile(during, share) / np.percentile(quiet, share) for share in (50, 95, 99)]
    print(f"{'ratio':14} median {ratios[0]:.2f}   p95 {ratios[1]:.2f}   p99 {ratios[2]:.2f}")
    print(f"tuning took {tuning.result():.1f} s beside the searches")


def _tune(workers: Workers) -> float:
    """Have the maintenance worker tune the collection; returns the seconds that it takes."""
    started = time.monotonic()
    queue = workers.queue
    job = submit(
        workers.jobs,
        "tune",
        COLLECTION,
        lambda job: queue.tune(collection=COLLECTION, job=job, request=TuningRequest(), apply=True),
    )
    ended = wait_for_end(workers.jobs, job, deadline_s=_PATIENCE_S, poll_s=0.05)
    if ended is None or ended.counts.rejected:
        raise RuntimeError(f"the index was not tuned: {ended}")
    return time.monotonic() - started


def _for_seconds(seconds: float) -> Callable[[], bool]:
    until = time.monotonic() + seconds
    return lambda: time.monotonic() < until


def _times(searcher: Searcher, goes_on: Callable[[], bool]) -> list[float]:
    """Return the seconds of each search of one client, as long as that goes on."""
    times: list[float] = []
    with connect_query(searcher.settings) as client:
        while goes_on():
            query = searcher.queries[len(times) % len(searcher.queries)]
            started = time.perf_counter()
            searcher.search(client, query, "lsh")
            times.append(time.perf_counter() - started)
    return times


def _described(times: Sequence[float]) -> str:
    median, high, higher = (1e3 * np.percentile(times, share) for share in (50, 95, 99))
    return f"median {median:.2f} ms   p95 {high:.2f} ms   p99 {higher:.2f} ms"


if __name__ == "__main__":
    main()
