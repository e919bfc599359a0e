"""Artseek end to end: vectors in through segments and the indexer, searches out through the query service by gRPC.

Everything runs as in the product: Valkey with its append-only file, the object store, the query service in a process of
its own. The indexer is called in this process, task after task, as its single worker does.
"""

import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.dataset import Dataset, K
from benchmarks.image_ids import ImageIds, digest_of
from benchmarks.runner import Point, anonymous_bytes
from benchmarks.servers import Servers
from benchmarks.simulation import Rows, Vectors
from benchmarks.valkey_memory import data_bytes
from services.indexer.indexer import Indexer
from services.maintenance.maintenance import Maintenance
from shared.errors import Unavailable
from shared.messaging.celery_app import make_app
from shared.messaging.messages import TuningRequest
from shared.messaging.task_queue import TaskQueue
from shared.messaging.worker import WorkerClients
from shared.rpc.query import MODES, Mode
from shared.rpc.query import query_pb2 as messages
from shared.rpc.query.client import QueryClient
from shared.rpc.query.connecting import connect_query
from shared.rpc.serving import ServingClient
from shared.settings import Settings
from shared.state import IndexState, Jobs, State, connect
from shared.state.outcomes import Outcome
from shared.storage import layout, segments
from shared.storage.catalog import Catalog, EmbeddingSet
from shared.storage.object_store import ObjectStore
from shared.storage.segments import Entry
from shared.tuning.report import TrialReport

COLLECTION = "bench"
_BULK_ROWS = 4096  # of a segment of what is there first, as of segments that were merged
_LARGE_ROWS = 1024  # of a segment of half of what is added; the other half comes as the embedder writes it
_MAX_INSERTED = 100_000  # vectors that are added to the index in use
_MAX_DELETED = 1000
_EXACT_SEARCHES = 20
_CLIENTS = (1, 4)
_THROUGHPUT_S = 4.0
_PATIENCE_S = 300.0


@dataclass(frozen=True)
class EndToEndResult:
    """What was measured of Artseek end to end on one dataset.

    Attributes:
        dataset: Name of the dataset.
        count: Vectors of the dataset.
        dim: Components of a vector.
        target: The recall that the index was tuned to.
        point: What a search does.
        chosen: What the tuner chose.
        measurements: More, by the names of `benchmarks.report.MEASUREMENTS`.
    """

    dataset: str
    count: int
    dim: int
    target: float
    point: Point
    chosen: TrialReport
    measurements: dict[str, float] = field(default_factory=dict)

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> "EndToEndResult":
        """Return what `dataclasses.asdict` gave."""
        return cls(**{**value, "point": Point(**value["point"]), "chosen": TrialReport(**value["chosen"])})


class Workers:
    """What fills a collection: the indexer, the maintenance worker, and the writing that the embedder does."""

    def __init__(self, servers: Servers, *, seed: int) -> None:
        settings = servers.settings
        self.servers = servers
        self.redis = connect(settings.index_url.get_secret_value())
        self.store = ObjectStore.from_settings(settings, connections=16)
        self.catalog = Catalog(self.store)
        self.state, self.jobs = State.of(self.redis), Jobs(self.redis)
        self.queue = TaskQueue(make_app(settings, name="bench"))
        clients = WorkerClients(
            connect_model=lambda model, version: ServingClient("", model, version=version),  # nothing is embedded
            store=self.store,
            state=self.state,
            queue=self.queue,
        )
        self.indexer, self.maintenance = Indexer.of(clients), Maintenance.of(clients, new_seed=lambda: seed)

    def create_collection(self, dim: int) -> EmbeddingSet:
        """Make the collection, without an index."""
        self.state.index_states.set(COLLECTION, IndexState())
        return self.catalog.create(COLLECTION, model="bench", version=1, dim=dim)

    def write(self, embedding_set: EmbeddingSet, prefix: str, vectors: Vectors, rows: range, size: int) -> list[str]:
        """Write the rows as segments of `size`, claimed, as the embedder does; returns their names."""
        ranges = _segment_rows(rows, size)
        names = [f"{prefix}-{segment_rows.start:08d}" for segment_rows in ranges]
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(lambda name, rows: self._write(embedding_set, name, vectors, rows), names, ranges))
        return names

    def _write(self, embedding_set: EmbeddingSet, name: str, vectors: Vectors, rows: range) -> None:
        entries = [_entry(row) for row in rows]
        self.state.claims.claim(embedding_set.collection, name, [entry.id for entry in entries])
        data = segments.pack(
            entries,
            np.asarray(vectors[rows.start : rows.stop]),
            collection=embedding_set.collection,
            model=embedding_set.model,
            version=embedding_set.version,
        )
        self.store.put(layout.segment_key(embedding_set.collection, name), data)

    def index(self, embedding_set: EmbeddingSet, names: Sequence[str], rows: range, size: int) -> float:
        """Have the segments that `write` wrote indexed, as one job; returns the seconds that it takes."""
        job = names[0]
        self.jobs.create(job, embedding_set.collection)
        self.jobs.extend(job, batches=len(names), total=len(rows), closed=True)
        started = time.perf_counter()
        for batch, (name, segment_rows) in enumerate(zip(names, _segment_rows(rows, size), strict=True)):
            outcome = Outcome({"": len(segment_rows)})
            self.indexer.segments.index(
                set_name=embedding_set.name, segment=name, job=job, batch=batch, outcome=outcome
            )
        return time.perf_counter() - started

    def memory(self) -> int:
        """Return the bytes that Valkey's data takes."""
        return data_bytes(self.redis)


def measure_end_to_end(
    dataset: Dataset, folder: Path, *, seed: int, target: float, clients: Sequence[int] = _CLIENTS
) -> EndToEndResult:
    """Fill a collection, search it, restart what can be restarted, delete; all on servers of its own in `folder`."""
    count, dim = dataset.vectors.shape
    image_ids = ImageIds(count)
    measurements: dict[str, float] = {}
    with Servers(folder, models=folder / "models") as servers:
        servers.start("valkey-index", "valkey-broker", "objects")
        workers = Workers(servers, seed=seed)
        chosen = fill_collection(workers, dataset.vectors, target, measurements)
        searcher = Searcher(servers.settings, dataset.queries, image_ids)
        measurements["first_copy_s"] = servers.start("query") + _seconds(lambda: searcher.wait_for_answer("lsh"))
        servers.stop("query")
        measurements["query_restart_s"] = servers.start("query") + _seconds(lambda: searcher.wait_for_answer("lsh"))
        searcher.wait_for_index()
        point = _measure_search(searcher, dataset, clients, measurements)
        measurements["query_memory_mb"] = sum(map(anonymous_bytes, servers.pids("query"))) / 2**20
        servers.stop("valkey-index")
        measurements["valkey_restart_s"] = servers.start("valkey-index") + _seconds(
            lambda: searcher.wait_for_answer("lsh")
        )
        segment_bytes = sum(item.size for item in workers.store.list(layout.segments_prefix(COLLECTION)))
        measurements["segments_bytes_per_image"] = segment_bytes / count
        measurements["aof_bytes_per_image"] = _bytes_under(servers.folder / "valkey-index") / count
        measurements["objects_bytes_per_image"] = _bytes_under(servers.folder / "objects") / count
        measurements["copy_bytes_per_image"] = _bytes_under(servers.settings.query_copy) / count
        rows = np.random.default_rng(seed).choice(count, min(_MAX_DELETED, count // 10), replace=False)
        measurements["deletes_per_second"] = _deletes_per_second(workers, image_ids.ids[rows].tolist())
    return EndToEndResult(dataset.name, count, dim, target, point, chosen, measurements)


def _deletes_per_second(workers: Workers, ids: Sequence[int]) -> float:
    workers.jobs.create("delete", COLLECTION, kind="delete")
    deletion = workers.indexer.deletion
    return len(ids) / _seconds(lambda: deletion.delete(job="delete", collection=COLLECTION, image_ids=ids))


def fill_collection(workers: Workers, vectors: Vectors, target: float, measurements: dict[str, float]) -> TrialReport:
    """Add most of the vectors, tune and fill the index, add the rest to it, merge the segments.

    Returns:
        What the tuner chose.
    """
    count, dim = vectors.shape
    added = min(_MAX_INSERTED, count // 4)
    embedding_set = workers.create_collection(dim)
    first, large = range(count - added), range(count - added, count - added // 2)
    names = workers.write(embedding_set, "first", vectors, first, _BULK_ROWS)
    seconds = workers.index(embedding_set, names, first, _BULK_ROWS)
    measurements["indexed_without_index_per_second"] = len(first) / seconds
    memory_without_index = workers.memory()
    workers.jobs.create("tune", COLLECTION, kind="tune")
    request = TuningRequest(recall=target)
    workers.maintenance.tuner.tune(collection=COLLECTION, job="tune", request=request, apply=True)
    report = workers.catalog.current_report(COLLECTION)
    if report is None:
        raise RuntimeError("no index was built")
    tuning = report.tuning
    measurements |= {"survey_s": tuning.survey_s, "tuning_s": tuning.tuning_s, "fill_s": report.fill_s}
    measurements["predicted_recall"] = tuning.chosen.recall
    measurements["buckets_bytes_per_image"] = (workers.memory() - memory_without_index) / len(first)

    measurements["inserted"] = added
    names = workers.write(embedding_set, "large", vectors, large, _LARGE_ROWS)
    measurements["inserts_per_second_large"] = len(large) / workers.index(embedding_set, names, large, _LARGE_ROWS)
    small, size = range(large.stop, count), workers.servers.settings.batch_size
    started = time.perf_counter()
    names = workers.write(embedding_set, "small", vectors, small, size)
    measurements["written_per_second"] = len(small) / (time.perf_counter() - started)
    measurements["inserts_per_second_small"] = len(small) / workers.index(embedding_set, names, small, size)
    measurements["valkey_bytes_per_image"] = workers.memory() / count

    measurements["segments_before"] = len(workers.catalog.segments(COLLECTION))
    measurements["merge_s"] = _seconds(lambda: workers.maintenance.compactor.compact(collection=COLLECTION))
    measurements["segments_after"] = len(workers.catalog.segments(COLLECTION))
    return tuning.chosen


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


def _measure_search(
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
        exact = searcher.queries[:_EXACT_SEARCHES]
        exact_s = _seconds(lambda: [searcher.search(client, query, "exact") for query in exact])
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


def _entry(row: int) -> Entry:
    digest = digest_of(row)
    return Entry(
        id=layout.image_id(digest),
        digest=digest,
        name=f"{row:08d}.jpg",
        label=None,
        size=100_000,
        media_type="image/jpeg",
        width=640,
        height=480,
        added=1_700_000_000.0 + row,
    )


def _segment_rows(rows: range, size: int) -> list[range]:
    """Return the rows of each segment of `size`."""
    return [rows[start : start + size] for start in range(0, len(rows), size)]


def _seconds(call: Callable[[], object]) -> float:
    started = time.perf_counter()
    call()
    return time.perf_counter() - started


def _bytes_under(folder: Path) -> int:
    """Return the bytes that the files under a folder take on disk."""
    return sum(path.stat().st_blocks * 512 for path in folder.rglob("*") if path.is_file())
