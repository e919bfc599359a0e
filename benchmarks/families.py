"""This project's hash families, measured through its own index: tuning, buckets in Valkey, candidates, re-rank."""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import numpy as np

from benchmarks.dataset import K
from benchmarks.image_ids import ImageIds
from benchmarks.simulation import Rows, Vectors
from benchmarks.valkey_memory import data_bytes
from services.maintenance import cost_measurement
from shared.index.generations import Generation
from shared.state import BucketStore, connect
from shared.storage.catalog import EmbeddingSet
from shared.tuning import Goal, survey, tune

MAX_LOOKUPS = 512
_BLOCK = 8192  # vectors surveyed, and put into their buckets, at a time


@dataclass(frozen=True)
class FoundRows:
    """The rows of the 10 nearest that an index finds, and how many candidates and look-ups that took."""

    rows: Rows
    candidates: int
    lookups: int


def search_generation(
    generation: Generation,
    buckets: BucketStore,
    vectors: Vectors,
    image_ids: ImageIds,
    query: Vectors,
    budget: int | None,
    *,
    probes: int | None = None,
) -> FoundRows:
    """Search by an index in this process: probe, fetch the candidates from Valkey, rank them by the vectors."""
    names = generation.probed(query, probes)
    ids = buckets.candidates(names).best(budget)
    rows = image_ids.rows(ids)
    scores = vectors[rows] @ query
    best = np.argpartition(scores, -K)[-K:] if len(scores) > K else np.arange(len(scores))
    return FoundRows(np.asarray(rows[best[np.argsort(-scores[best], kind="stable")]]), len(ids), len(names))


class Family:
    """The family that the tuner makes for the target; its buckets are in the Valkey at `url`, which is emptied first.

    `options` are the rest of the tuner's goal.
    """

    effort_name = "probes"

    def __init__(self, *, url: str, target: float, seed: int, options: dict[str, Any]) -> None:
        self._client = connect(url)
        self._buckets = BucketStore(self._client)
        self._goal = Goal(seed=seed, recall=target, **options)
        self._probes, self._threads = 1, 1
        self._counts: list[tuple[int, int]] = []  # candidates and look-ups of each query of the last `search_batch`

    def build(self, vectors: Vectors, threads: int) -> dict[str, Any]:  # noqa: ARG002 -- BLAS has them already
        self._client.execute_command("FLUSHALL", "SYNC")
        self._bytes_before = data_bytes(self._client)
        self._vectors, self._image_ids = vectors, ImageIds(len(vectors))

        def read() -> Iterator[tuple[Rows, Vectors]]:
            for start in range(0, len(vectors), _BLOCK):
                yield self._image_ids.ids[start : start + _BLOCK], vectors[start : start + _BLOCK]

        sample = survey(read, len(vectors), seed=self._goal.seed)
        tuning = tune(sample, self._goal, costs=cost_measurement.measure(self._buckets, vectors.shape[1]))
        embedding_set = EmbeddingSet("bench", "0" * 8, "bench", 1, vectors.shape[1], 0.0)
        self._generation = Generation(embedding_set, 1, tuning.family)
        self._budget = self._generation.budget(len(vectors))
        for ids, block in read():
            self._generation.add(self._buckets, ids, block)
        parameters = tuning.family.parameters()
        details = {name: value for name, value in parameters.items() if isinstance(value, int | float | str)}
        return {**details, "misses": list(tuning.misses), "chosen": parameters["probes"]}

    def efforts(self) -> Sequence[int]:
        chosen, tables = self._generation.family.parameters()["probes"], self._generation.family.tables
        if self._goal.probes is not None or self._budget is not None:  # a cut to a budget is no point of a curve
            return [chosen]
        return sorted({chosen, *(2**step for step in range(10) if 2**step * tables <= MAX_LOOKUPS)})

    def set_effort(self, effort: int, threads: int) -> None:
        self._probes, self._threads = effort, threads
        with suppress(ImportError):
            import_module("threadpoolctl").threadpool_limits(1)  # of BLAS: queries run side by side, not products

    def search(self, query: Vectors) -> Rows:
        found = search_generation(
            self._generation, self._buckets, self._vectors, self._image_ids, query, self._budget, probes=self._probes
        )
        self._counts.append((found.candidates, found.lookups))
        return found.rows

    def search_batch(self, queries: Vectors) -> Rows:
        self._counts.clear()
        rows = np.full((len(queries), K), -1, dtype=np.int64)
        with ThreadPoolExecutor(self._threads) as pool:
            for place, found in enumerate(pool.map(self.search, queries)):
                rows[place, : len(found)] = found
        return rows

    def mean_compared(self, queries: Vectors) -> float | None:  # noqa: ARG002 -- those of the last `search_batch`
        return float(np.mean([candidates for candidates, _ in self._counts]))

    def mean_lookups(self, queries: Vectors) -> float | None:  # noqa: ARG002
        return float(np.mean([lookups for _, lookups in self._counts]))

    def outside_bytes(self) -> int | None:
        return data_bytes(self._client) - self._bytes_before


FAMILIES: dict[str, dict[str, Any]] = {
    "p-stable": {"families": ("p-stable",), "probes": 1},
    "p-stable, multi-probe": {"families": ("p-stable",)},
    "p-stable, at most 3 %": {"families": ("p-stable",), "max_share": 0.03, "keep_share": True},
    "voronoi": {"families": ("voronoi",)},
}
"""The families by the names they are shown under, with what the tuner is given beside the target."""
