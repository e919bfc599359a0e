"""The whole path: vectors in through segments and the indexer, searches out through the query service by gRPC.

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

from benchmarks.families import digest, image_ids, rows_of
from benchmarks.runner import Data, K, Point, anonymous_bytes
from benchmarks.servers import Servers
from benchmarks.simulation import Rows, Vectors
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
from shared.rpc.serving import ServingClient
from shared.state import IndexState, Jobs, State, connect
from shared.state.jobs import Outcome
from shared.storage import layout, segments
from shared.storage.catalog import Catalog, EmbeddingSet
from shared.storage.object_store import ObjectStore
from shared.storage.segments import Entry
from shared.tuning.report import TrialAnswer

COLLECTION = "bench"
_BULK = 4096  # rows of a segment of what is there first, as of segments that were merged
_LARGE = 1024  # rows of a segment of what is added, half of it; the other half comes as the embedder writes it
_INSERTED = 100_000  # vectors that are added to the index in use, at most
_DELETED = 1000
_EXACT = 20  # searches that scan everything
_CLIENTS = (1, 4)
_THROUGHPUT_S = 4.0
_PATIENCE_S = 300.0


@dataclass(frozen=True)
class Whole:
    """The product on one set of vectors: a search, and figures by their names, in the units of `UNITS`."""

    vectors: str
    count: int
    dim: int
    target: float
    point: Point
    index: TrialAnswer
    figures: dict[str, float] = field(default_factory=dict)

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> "Whole":
        """Return what `dataclasses.asdict` gave."""
        return cls(**{**value, "point": Point(**value["point"])})


class _System:
    """The parts that fill a collection, as indexer and embedder have them."""

    def __init__(self, servers: Servers, *, seed: int) -> None:
        settings = servers.settings
        self.servers = servers
        self.redis = connect(settings.index_url.get_secret_value())
        self.store = ObjectStore.from_settings(settings, connections=16)
        self.catalog = Catalog(self.store)
        self.state, self.jobs = State.of(self.redis), Jobs(self.redis)
        self.queue = TaskQueue(make_app(settings, name="bench"))
        clients = WorkerClients(
            connect_model=lambda model, version: ServingClient("", model, version=version),  # which nothing here asks
            store=self.store,
            state=self.state,
            queue=self.queue,
        )
        self.indexer, self.maintenance = Indexer.of(clients), Maintenance.of(clients, new_seed=lambda: seed)

    def collection(self, dim: int) -> EmbeddingSet:
        self.state.index_states.set(COLLECTION, IndexState())
        return self.catalog.create(COLLECTION, model="bench", version=1, dim=dim)

    def write(self, embedding_set: EmbeddingSet, prefix: str, vectors: Vectors, rows: range, size: int) -> list[str]:
        """Write the rows as segments of `size`, claimed, as the embedder does; returns their names."""
        parts = _parts(rows, size)
        names = [f"{prefix}-{part.start:08d}" for part in parts]
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(lambda name, part: self._write(embedding_set, name, vectors, part), names, parts))
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
        for batch, (name, part) in enumerate(zip(names, _parts(rows, size), strict=True)):
            outcome = Outcome({"": len(part)})
            self.indexer.segments.index(
                set_name=embedding_set.name, segment=name, job=job, batch=batch, outcome=outcome
            )
        return time.perf_counter() - started

    def memory(self) -> int:
        return int(self.redis.info("memory")["used_memory"])


def measure(data: Data, folder: Path, *, seed: int, target: float, clients: Sequence[int] = _CLIENTS) -> Whole:
    """Fill a collection, search it, restart what can be restarted, delete; all on servers of its own in `folder`."""
    count, dim = data.vectors.shape
    figures: dict[str, float] = {}
    with Servers(folder, models=folder / "models") as servers:
        servers.start("valkey-index", "valkey-broker", "objects")
        system = _System(servers, seed=seed)
        index = _fill(system, data.vectors, target, figures)
        search = _Searches(servers.settings.query_target, data.queries, image_ids(count))
        figures["first_copy_s"] = servers.start("query") + _timed(lambda: search.until_answered("lsh"))
        servers.stop("query")
        figures["query_restart_s"] = servers.start("query") + _timed(lambda: search.until_answered("lsh"))
        point = _measure_search(search, data, clients, figures)
        figures["query_memory_mb"] = anonymous_bytes(servers.pid("query")) / 2**20
        servers.stop("valkey-index")
        figures["valkey_restart_s"] = servers.start("valkey-index") + _timed(lambda: search.until_answered("lsh"))
        segment_bytes = sum(item.size for item in system.store.list(layout.segments_prefix(COLLECTION)))
        figures["segments_bytes_per_image"] = segment_bytes / count
        figures["aof_bytes_per_image"] = _bytes_under(servers.folder / "valkey-index") / count
        figures["objects_bytes_per_image"] = _bytes_under(servers.folder / "objects") / count
        figures["copy_bytes_per_image"] = _bytes_under(servers.settings.query_copy) / count
        gone = np.random.default_rng(seed).choice(count, min(_DELETED, count // 10), replace=False)
        ids = [layout.image_id(digest(row)) for row in gone.tolist()]
        system.jobs.create("delete", COLLECTION, kind="delete")
        seconds = _timed(lambda: system.indexer.deletion.delete(job="delete", collection=COLLECTION, image_ids=ids))
        figures["deletes_per_second"] = len(ids) / seconds
    return Whole(data.name, count, dim, target, point, index, figures)


def _fill(system: _System, vectors: Vectors, target: float, figures: dict[str, float]) -> TrialAnswer:
    """Add most of the vectors, tune and fill the index, add the rest to it, merge the segments.

    Returns:
        What the tuner chose.
    """
    count, dim = vectors.shape
    added = min(_INSERTED, count // 4)
    collection = system.collection(dim)
    first, large = range(count - added), range(count - added, count - added // 2)
    names = system.write(collection, "first", vectors, first, _BULK)
    figures["indexed_without_index_per_second"] = len(first) / system.index(collection, names, first, _BULK)
    without = system.memory()
    system.jobs.create("tune", COLLECTION, kind="tune")
    request = TuningRequest(recall=target)
    system.maintenance.tuner.tune(collection=COLLECTION, job="tune", request=request, apply=True)
    report = system.catalog.current_report(COLLECTION)
    if report is None:
        raise RuntimeError("no index was built")
    tuning = report.tuning
    figures |= {"survey_s": tuning.survey_s, "tuning_s": tuning.tuning_s, "fill_s": report.fill_s}
    figures["predicted_recall"] = tuning.chosen.recall
    figures["buckets_bytes_per_image"] = (system.memory() - without) / len(first)

    figures["inserted"] = added
    names = system.write(collection, "large", vectors, large, _LARGE)
    figures["inserts_per_second_large"] = len(large) / system.index(collection, names, large, _LARGE)
    small, size = range(large.stop, count), system.servers.settings.batch_size
    started = time.perf_counter()
    names = system.write(collection, "small", vectors, small, size)
    figures["written_per_second"] = len(small) / (time.perf_counter() - started)
    figures["inserts_per_second_small"] = len(small) / system.index(collection, names, small, size)
    figures["valkey_bytes_per_image"] = system.memory() / count

    figures["segments_before"] = len(system.catalog.segments(COLLECTION))
    figures["merge_s"] = _timed(lambda: system.maintenance.compactor.compact(collection=COLLECTION))
    figures["segments_after"] = len(system.catalog.segments(COLLECTION))
    return tuning.chosen.to_json()


class _Searches:
    """Searches of the collection by vector, through the query service."""

    def __init__(self, target: str, queries: Vectors, ids: Rows) -> None:
        self.target, self.queries = target, queries
        self._order = np.argsort(ids, kind="stable")
        self._known = ids[self._order]

    def one(self, client: QueryClient, query: Vectors, mode: Mode) -> messages.SearchResponse:
        """Return the answer to one query."""
        request = messages.SearchRequest(
            collection=COLLECTION, vector=messages.Vector(values=query), k=K, mode=MODES[mode]
        )
        return client.search(request)

    def rows(self, answer: messages.SearchResponse) -> Rows:
        """Return the rows of the images in an answer, int64 [10], -1 where there are fewer."""
        found = np.full(K, -1, dtype=np.int64)
        ids = np.array([hit.image.id for hit in answer.hits], dtype=np.int64)
        found[: len(ids)] = rows_of(ids, self._known, self._order)
        return found

    def until_answered(self, mode: Mode) -> None:
        """Search until there is an answer."""
        until = time.monotonic() + _PATIENCE_S
        with QueryClient(self.target) as client:
            while True:
                try:
                    self.one(client, self.queries[0], mode)
                except Unavailable:
                    if time.monotonic() > until:
                        raise
                    time.sleep(0.005)
                else:
                    return

    def per_second(self, clients: int) -> float:
        """Return the answers a second that so many clients get, each asking again once it has its answer."""
        until = time.perf_counter() + _THROUGHPUT_S

        def ask(number: int) -> int:
            done = 0
            with QueryClient(self.target) as client:
                while time.perf_counter() < until:
                    self.one(client, self.queries[(number + done * clients) % len(self.queries)], "lsh")
                    done += 1
            return done

        started = time.perf_counter()
        with ThreadPoolExecutor(clients) as pool:
            answers = sum(pool.map(ask, range(clients)))
        return answers / (time.perf_counter() - started)


def _measure_search(search: _Searches, data: Data, clients: Sequence[int], figures: dict[str, float]) -> Point:
    """Search by every query in turn, exactly by some, and by several clients at once."""
    with QueryClient(search.target) as client:
        for query in search.queries[:20]:
            search.one(client, query, "lsh")
        times, answers = [], []
        for query in search.queries:
            started = time.perf_counter()
            answers.append(search.one(client, query, "lsh"))
            times.append(time.perf_counter() - started)
        figures["exact_ms"] = (
            1e3
            / min(_EXACT, len(search.queries))
            * _timed(lambda: [search.one(client, query, "exact") for query in search.queries[:_EXACT]])
        )
    for stage in sorted(answers[0].timings_ms):
        figures[f"stage_{stage}_ms"] = float(np.median([answer.timings_ms[stage] for answer in answers]))
    rates = {number: search.per_second(number) for number in clients}
    figures.update({f"searches_per_second_{number}": rate for number, rate in rates.items()})
    return Point(
        effort=0,
        recall=data.recall(np.stack([search.rows(answer) for answer in answers])),
        median_ms=float(np.median(times)) * 1e3,
        p95_ms=float(np.percentile(times, 95)) * 1e3,
        per_second=max(rates.values()),
        share=float(np.mean([answer.candidates / answer.collection_size for answer in answers])),
        lookups=float(np.mean([answer.probed_buckets for answer in answers])),
        chosen=True,
    )


def _entry(row: int) -> Entry:
    name = digest(row)
    return Entry(
        id=layout.image_id(name),
        digest=name,
        name=f"{row:08d}.jpg",
        label=None,
        size=100_000,
        media_type="image/jpeg",
        width=640,
        height=480,
        added=1_700_000_000.0 + row,
    )


def _parts(rows: range, size: int) -> list[range]:
    """Return the rows of each segment of `size`."""
    return [rows[start : start + size] for start in range(0, len(rows), size)]


def _timed(call: Callable[[], object]) -> float:
    started = time.perf_counter()
    call()
    return time.perf_counter() - started


def _bytes_under(folder: Path) -> int:
    """Return the bytes that the files under a folder take on disk."""
    return sum(path.stat().st_blocks * 512 for path in folder.rglob("*") if path.is_file())
