"""Inserts and deletions: images a second that the indexer puts into an index in use, and takes out of it.

Everything runs as in the product: Valkey with its append-only file, the object store, and the indexer, which is called
in this process, task after task, as its single worker does. Vectors are simulated around some centres. Before the
deletions, segments are merged, as those of more than a batch are.

It also prints the processor time that each part takes for an image.

    python -m benchmarks.writes [--count 10000] [--dim 256] [--rounds 4]
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import psutil

from benchmarks.end_to_end import Workers
from benchmarks.image_ids import ImageIds
from benchmarks.searcher import COLLECTION
from benchmarks.servers import Servers
from benchmarks.simulation import Vectors, unit
from shared.messaging.messages import TuningRequest
from shared.storage.catalog import EmbeddingSet
from shared.tuning import RECALL_TARGET

_CENTRES, _SPREAD = 200, 0.7
_BULK_ROWS = 4096  # of a segment of what is there first, as of segments that were merged
_INSERTED, _SEGMENT_ROWS = 3200, 32  # of a round
_DELETED = 1000  # of a round, by one task
_PARTS = ("valkey-index", "objects")


@dataclass(frozen=True)
class Round:
    """A round: images a second, and processor time in ms of each part for an image."""

    rate: float
    spent: Mapping[str, float]


def main() -> None:
    """Print the rates of all rounds and their median."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=10_000, help="vectors that are there first")
    parser.add_argument("--dim", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=4, help=f"of {_INSERTED:,} inserts, then {_DELETED:,} deletions")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    count = options.count + options.rounds * _INSERTED
    vectors = clustered(count, options.dim, seed=options.seed)
    with (
        tempfile.TemporaryDirectory(prefix="artseek-bench-") as scratch,
        Servers(Path(scratch) / "servers", models=Path(scratch) / "models") as servers,
    ):
        servers.start("valkey-index", "valkey-broker", "objects")
        workers = Workers(servers, seed=options.seed)
        embedding_set = fill(workers, vectors[: options.count])
        starts = range(options.count, count, _INSERTED)
        inserts = [insert(workers, embedding_set, vectors, range(start, start + _INSERTED)) for start in starts]
        workers.jobs.create("compact", COLLECTION, kind="compact")
        workers.maintenance.compactor.compact(collection=COLLECTION, job="compact")
        order = np.random.default_rng(options.seed).permutation(count)[: options.rounds * _DELETED]
        image_ids = ImageIds(count).ids[order].reshape(options.rounds, -1).tolist()
        deletions = [delete(workers, f"delete{number}", ids) for number, ids in enumerate(image_ids)]
    _print(f"inserts in segments of {_SEGMENT_ROWS}", inserts)
    _print(f"deletions in batches of {_DELETED:,}", deletions)


def clustered(count: int, dim: int, *, seed: int) -> Vectors:
    """Return vectors around some centres, of length 1, float32 [count, dim]."""
    rng = np.random.default_rng(seed)
    centres = unit(rng.standard_normal((_CENTRES, dim), dtype=np.float32))
    noise = rng.standard_normal((count, dim), dtype=np.float32) * np.float32(_SPREAD / np.sqrt(dim))
    return unit(centres[rng.integers(0, _CENTRES, count)] + noise)


def fill(workers: Workers, vectors: Vectors) -> EmbeddingSet:
    """Fill a collection with vectors, and give it an index."""
    embedding_set = workers.create_collection(vectors.shape[1])
    rows = range(len(vectors))
    names = workers.write(embedding_set, "first", vectors, rows, _BULK_ROWS)
    workers.index(embedding_set, names, rows, _BULK_ROWS)
    workers.jobs.create("tune", COLLECTION, kind="tune")
    request = TuningRequest(recall=RECALL_TARGET)
    workers.maintenance.tuner.tune(collection=COLLECTION, job="tune", request=request, apply=True)
    return embedding_set


def insert(workers: Workers, embedding_set: EmbeddingSet, vectors: Vectors, rows: range) -> Round:
    """Write rows as segments, as the embedder does, and have these indexed; only the second counts."""
    names = workers.write(embedding_set, f"small{rows.start}", vectors, rows, _SEGMENT_ROWS)
    return _measured(workers, len(rows), lambda: workers.index(embedding_set, names, rows, _SEGMENT_ROWS))


def delete(workers: Workers, job: str, image_ids: list[int]) -> Round:
    """Delete images by one task."""
    workers.jobs.create(job, COLLECTION, kind="delete")
    deletion = workers.indexer.deletion
    return _measured(
        workers,
        len(image_ids),
        lambda: deletion.delete(job=job, collection=COLLECTION, image_ids=image_ids),
    )


def _measured(workers: Workers, images: int, work: Callable[[], object]) -> Round:
    before, started = _processor_seconds(workers), time.perf_counter()
    work()
    seconds = time.perf_counter() - started
    after = _processor_seconds(workers)
    return Round(images / seconds, {part: 1e3 * (after[part] - before[part]) / images for part in after})


def _processor_seconds(workers: Workers) -> dict[str, float]:
    spent = {"indexer": time.process_time()}
    for part in _PARTS:
        times = psutil.Process(workers.servers.pid(part)).cpu_times()
        spent[part] = times.user + times.system
    return spent


def _print(title: str, rounds: list[Round]) -> None:
    rates = [found.rate for found in rounds]
    print(f"{title}: {statistics.median(rates):,.0f} images/s ({', '.join(f'{rate:,.0f}' for rate in rates)})")
    for part in rounds[0].spent:
        print(f"  {statistics.median(found.spent[part] for found in rounds):6.3f} ms an image  {part}")


if __name__ == "__main__":
    main()
