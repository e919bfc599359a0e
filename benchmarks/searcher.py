"""Searches of a benchmark's collection through the query service, and what is measured of them."""

import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from benchmarks.dataset import Dataset, K
from benchmarks.image_ids import ImageIds
from benchmarks.runner import Point
from benchmarks.simulation import Rows, Vectors
from shared.errors import Unavailable
from shared.rpc.query import MODES, Mode
from shared.rpc.query import query_pb2 as messages
from shared.rpc.query.client import QueryClient
from shared.rpc.query.connecting import connect_query
from shared.settings import Settings

COLLECTION = "bench"
_EXACT_SEARCHES, _EXACT_ROWS = 20, 20_000_000  # exact searches, and rows that they compare at most, but for three
_THROUGHPUT_S = 4.0
_PATIENCE_S = 300.0


class Searcher:
    """Searches of the collection by vector, through the query service."""

    def __init__(self, settings: Settings, queries: Vectors, image_ids: ImageIds) -> None:
        self.settings, self.queries, self._image_ids = settings, queries, image_ids

    def search(self, client: QueryClient, query: Vectors, mode: Mode) -> messages.SearchResponse:
        """Return the answer to one query."""
        request = messages.SearchRequest(
            collection=COLLECTION, vector=messages.Vector(values=query), k=K, mode=MODES[mode]
        )
        return client.search(request)

    def rows(self, answer: messages.SearchResponse) -> Rows:
        """Return the rows of the images in an answer, int64 [10], -1 where there are fewer."""
        rows = np.full(K, -1, dtype=np.int64)
        rows[: len(answer.hits)] = self._image_ids.rows(np.array([hit.image.id for hit in answer.hits], dtype=np.int64))
        return rows

    def wait_for_answer(self, mode: Mode) -> None:
        """Search until there is an answer."""
        until = time.monotonic() + _PATIENCE_S
        with connect_query(self.settings) as client:
            while True:
                try:
                    self.search(client, self.queries[0], mode)
                except Unavailable:
                    if time.monotonic() > until:
                        raise
                    time.sleep(0.005)
                else:
                    return

    def wait_for_index(self) -> None:
        """Search until the index is asked: a query service that was started scans exactly until it has checked it."""
        until = time.monotonic() + _PATIENCE_S
        with connect_query(self.settings) as client:
            while (fault := self.search(client, self.queries[0], "lsh").index_fault) and time.monotonic() < until:
                time.sleep(0.05)
        if fault:
            raise Unavailable(f"the query service does not ask the index: {fault}")

    def searches_per_second(self, clients: int) -> float:
        """Return the answers a second that so many clients get, each asking again once it has its answer."""
        until = time.perf_counter() + _THROUGHPUT_S

        def search_until_done(number: int) -> int:
            done = 0
            with connect_query(self.settings) as client:
                while time.perf_counter() < until:
                    self.search(client, self.queries[(number + done * clients) % len(self.queries)], "lsh")
                    done += 1
            return done

        started = time.perf_counter()
        with ThreadPoolExecutor(clients) as pool:
            answers = sum(pool.map(search_until_done, range(clients)))
        return answers / (time.perf_counter() - started)


def measure_search(
    searcher: Searcher, dataset: Dataset, clients: Sequence[int], measurements: dict[str, float]
) -> Point:
    """Search by every query in turn, exactly by some, and by several clients at once."""
    with connect_query(searcher.settings) as client:
        for query in searcher.queries[:20]:
            searcher.search(client, query, "lsh")
        times, answers = [], []
        for query in searcher.queries:
            started = time.perf_counter()
            answers.append(searcher.search(client, query, "lsh"))
            times.append(time.perf_counter() - started)
        exact = searcher.queries[: max(3, min(_EXACT_SEARCHES, _EXACT_ROWS // len(dataset.stored)))]
        exact_s = seconds(lambda: [searcher.search(client, query, "exact") for query in exact])
        measurements["exact_ms"] = 1e3 / len(exact) * exact_s
    for stage in sorted(answers[0].timings_ms):
        measurements[f"stage_{stage}_ms"] = float(np.median([answer.timings_ms[stage] for answer in answers]))
    rates = {number: searcher.searches_per_second(number) for number in clients}
    measurements.update({f"searches_per_second_{number}": rate for number, rate in rates.items()})
    return Point(
        effort=0,
        recall=dataset.recall(np.stack([searcher.rows(answer) for answer in answers])),
        median_ms=float(np.median(times)) * 1e3,
        p95_ms=float(np.percentile(times, 95)) * 1e3,
        queries_per_second=max(rates.values()),
        candidate_share=float(np.mean([answer.candidates / answer.collection_size for answer in answers])),
        lookups=float(np.mean([answer.probed_buckets for answer in answers])),
        chosen=True,
    )


def seconds(call: Callable[[], object]) -> float:
    """Return the seconds that a call takes."""
    started = time.perf_counter()
    call()
    return time.perf_counter() - started
