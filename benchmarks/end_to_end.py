"""Artseek end to end: vectors in through segments and the indexer, searches out through the query service by gRPC.

Everything runs as in the product: Valkey with its append-only file, the object store, the query service in a process of
its own. The indexer is called in this process, task after task, as its single worker does.
"""

import os
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.dataset import Dataset
from benchmarks.image_ids import ImageIds, digest_of
from benchmarks.memory_watch import memory_of
from benchmarks.runner import Point
from benchmarks.searcher import COLLECTION, Searcher, measure_search, seconds
from benchmarks.servers import Servers
from benchmarks.simulation import StoredVectors
from benchmarks.stages import Log, Stages
from benchmarks.valkey_memory import data_bytes
from services.indexer.indexer import Indexer
from services.maintenance.maintenance import Maintenance
from shared.messaging.celery_app import make_app
from shared.messaging.messages import TuningRequest
from shared.messaging.task_queue import TaskQueue
from shared.messaging.worker import WorkerClients
from shared.rpc.serving import ServingClient
from shared.state import IndexState, Jobs, State, connect
from shared.state.outcomes import Outcome
from shared.storage import layout, segments
from shared.storage.catalog import Catalog, EmbeddingSet
from shared.storage.object_store import ObjectStore
from shared.storage.segments import Entry
from shared.tuning.report import TrialReport

_BULK_ROWS = 4096  # of a segment of what is there first, as of segments that were merged
_MANY = 1_000_000  # vectors beyond which such segments are as large as merged ones get, so that few are merged again
_FULL_BYTES, _ENTRY_BYTES = 48 * 2**20, 104  # of such a segment, and of a row without its embedding, about
_LARGE_ROWS = 1024  # of a segment of half of what is added; the other half comes as the embedder writes it
_MAX_INSERTED = 100_000  # vectors that are added to the index in use
_DELETED = {"deletes_per_second": 1000, "bulk_deletes_per_second": 16_384}  # of a task, a tenth of all at most
_CLIENTS = (1, 4)
_WORKERS = "workers"  # what this process is shown as, which does the work of indexer and maintenance worker


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

    def write(
        self, embedding_set: EmbeddingSet, prefix: str, vectors: StoredVectors, rows: range, size: int
    ) -> list[str]:
        """Write the rows as segments of `size`, claimed, as the embedder does; returns their names.

        Large ones are written as compaction does.
        """
        ranges = _segment_rows(rows, size)
        names = [
            f"{prefix}-{segment_rows.start:08d}" if size <= _BULK_ROWS else layout.new_merged_segment()
            for segment_rows in ranges
        ]
        with ThreadPoolExecutor(4 if size <= _BULK_ROWS else 1) as pool:  # entries of a large one take 100 MB
            list(pool.map(lambda name, rows: self._write(embedding_set, name, vectors, rows), names, ranges))
        return names

    def _write(self, embedding_set: EmbeddingSet, name: str, vectors: StoredVectors, rows: range) -> None:
        entries = [_entry(row) for row in rows]
        self.state.claims.claim(embedding_set.collection, name, [entry.id for entry in entries])
        data = segments.pack(
            entries,
            vectors[rows.start : rows.stop],
            collection=embedding_set.collection,
            model=embedding_set.model,
            version=embedding_set.version,
        )
        if layout.is_merged(name):
            data = segments.merge([(f"first-{rows.start:08d}", segments.unpack(data), frozenset())]) or data
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
    dataset: Dataset,
    folder: Path,
    *,
    seed: int,
    target: float,
    clients: Sequence[int] = _CLIENTS,
    log: Log = lambda _: None,
) -> EndToEndResult:
    """Fill a collection, search it, restart what can be restarted, delete; all on servers of its own in `folder`."""
    count, dim = dataset.stored.shape
    image_ids = ImageIds(count)
    measurements: dict[str, float] = {}
    with Servers(folder, models=folder / "models") as servers:
        servers.start("valkey-index", "valkey-broker", "objects")
        before = memory_of([os.getpid()]).anonymous
        with Stages(log, lambda: {_WORKERS: [os.getpid()], **servers.running()}) as stages:
            workers = Workers(servers, seed=seed)
            chosen = fill_collection(workers, dataset.stored, target, measurements, stages)
            with stages.stage("rebuilding the index from the segments"):
                workers.jobs.create("rebuild", COLLECTION, kind="rebuild")
                rebuilder = workers.maintenance.rebuilder
                measurements["rebuild_s"] = seconds(lambda: rebuilder.rebuild(collection=COLLECTION, job="rebuild"))
            measurements["workers_peak_mb"] = max(1, stages.peaks[_WORKERS] - before) / 2**20
            searcher = Searcher(servers.settings, dataset.queries, image_ids)
            with stages.stage("first copy of the query service"):
                measurements["first_copy_s"] = _seconds_to_answer(servers, "query", searcher)
            servers.stop("query")
            with stages.stage("restart of the query service"):
                measurements["query_restart_s"] = _seconds_to_answer(servers, "query", searcher)
                searcher.wait_for_index()
            with stages.stage("searches"):
                point = measure_search(searcher, dataset, clients, measurements)
            measurements |= _memory(stages)
            servers.stop("valkey-index")
            with stages.stage("restart of the index"):
                measurements["valkey_restart_s"] = _seconds_to_answer(servers, "valkey-index", searcher)
            measurements |= _disk(servers, workers, count)
            order = np.random.default_rng(seed).permutation(count)[: count // 5]
            with stages.stage("deletions"):
                measurements |= _deletes_per_second(workers, image_ids.ids[order])
    return EndToEndResult(dataset.name, count, dim, target, point, chosen, measurements)


def _seconds_to_answer(servers: Servers, name: str, searcher: Searcher) -> float:
    """Start a server, and return the seconds until a search is answered."""
    return servers.start(name) + seconds(lambda: searcher.wait_for_answer("lsh"))


def _memory(stages: Stages) -> dict[str, float]:
    """Return the memory of each server after the searches, and the most of the query service, in megabytes."""
    found = {}
    for name, memory in stages.memory().items():
        if name != _WORKERS:
            found[f"{name}_memory_mb"] = memory.anonymous / 2**20
            found[f"{name}_mapped_mb"] = memory.mapped / 2**20
    return found | {"query_peak_mb": stages.peaks["query"] / 2**20}


def _disk(servers: Servers, workers: Workers, count: int) -> dict[str, float]:
    """Return what lies on disk, in bytes an image."""
    segment_bytes = sum(item.size for item in workers.store.list(layout.segments_prefix(COLLECTION)))
    return {
        "segments_bytes_per_image": segment_bytes / count,
        "aof_bytes_per_image": _bytes_under(servers.folder / "valkey-index") / count,
        "objects_bytes_per_image": _bytes_under(servers.folder / "objects") / count,
        "copy_bytes_per_image": _bytes_under(servers.settings.query_copy) / count,
    }


def _deletes_per_second(workers: Workers, ids: npt.NDArray[np.int64]) -> dict[str, float]:
    """Return how many of these images a second go, by a task that deletes few and one that deletes many of them."""
    found, gone = {}, 0
    for job, wanted in _DELETED.items():
        count = min(wanted, len(ids) // 2)
        workers.jobs.create(job, COLLECTION, kind="delete")
        some = ids[gone : gone + count].tolist()
        task = partial(workers.indexer.deletion.delete, job=job, collection=COLLECTION, image_ids=some)
        found[job] = count / seconds(task)
        gone += count
    return found


def fill_collection(
    workers: Workers,
    vectors: StoredVectors,
    target: float,
    measurements: dict[str, float],
    stages: Stages | None = None,
) -> TrialReport:
    """Add most of the vectors, tune and fill the index, add the rest to it, merge the segments.

    Returns:
        What the tuner chose.
    """
    stages = stages or Stages(lambda _: None, dict)
    count, dim = vectors.shape
    added = min(_MAX_INSERTED, count // 4)
    embedding_set = workers.create_collection(dim)
    first = range(count - added)
    bulk = _BULK_ROWS if count <= _MANY else _FULL_BYTES // (vectors.itemsize * dim + _ENTRY_BYTES)
    with stages.stage("writing segments"):
        names = workers.write(embedding_set, "first", vectors, first, bulk)
    with stages.stage("indexing them without an index"):
        measurements["indexed_without_index_per_second"] = len(first) / workers.index(embedding_set, names, first, bulk)
    memory_without_index = workers.memory()
    with stages.stage("tuning and filling the index"):
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
    with stages.stage("inserting"):
        _insert(workers, embedding_set, vectors, range(first.stop, count), measurements)
    measurements["valkey_bytes_per_image"] = workers.memory() / count
    measurements["segments_before"] = len(workers.catalog.segments(COLLECTION))
    with stages.stage("merging segments"):
        measurements["merge_s"] = seconds(lambda: workers.maintenance.compactor.compact(collection=COLLECTION))
    measurements["segments_after"] = len(workers.catalog.segments(COLLECTION))
    return tuning.chosen


def _insert(
    workers: Workers,
    embedding_set: EmbeddingSet,
    vectors: StoredVectors,
    rows: range,
    measurements: dict[str, float],
) -> None:
    """Add vectors to the index in use: half of them in large segments, half as the embedder writes them."""
    measurements["inserted"] = len(rows)
    large, small = rows[: -(len(rows) // 2)], rows[-(len(rows) // 2) :]
    names = workers.write(embedding_set, "large", vectors, large, _LARGE_ROWS)
    measurements["inserts_per_second_large"] = len(large) / workers.index(embedding_set, names, large, _LARGE_ROWS)
    size = workers.servers.settings.batch_size
    started = time.perf_counter()
    names = workers.write(embedding_set, "small", vectors, small, size)
    measurements["written_per_second"] = len(small) / (time.perf_counter() - started)
    measurements["inserts_per_second_small"] = len(small) / workers.index(embedding_set, names, small, size)


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


def _bytes_under(folder: Path) -> int:
    """Return the bytes that the files under a folder take on disk."""
    return sum(path.stat().st_blocks * 512 for path in folder.rglob("*") if path.is_file())
