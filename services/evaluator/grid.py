"""A grid: settings of an index, each built beside the one in use and searched with the same code for candidates."""

import time
from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from services.evaluator.queries import Queries
from services.evaluator.run_results import Run, RunResults, runs_of
from services.evaluator.scratch import ScratchGeneration
from services.evaluator.snapshot import Distances, Snapshot
from shared.errors import Invalid, Unavailable
from shared.evaluation.grids import tuning_goal
from shared.evaluation.index_setting import IndexSetting
from shared.evaluation.report import PredictedScores, SettingReport
from shared.evaluation.run_scores import EvaluatedIndex
from shared.hashing import HashFamily
from shared.hashing.families import REGISTRY
from shared.hashing.space import fit_space
from shared.index.generations import Generation
from shared.rpc.query import METRICS
from shared.state import BucketStore
from shared.storage.catalog import EmbeddingSet
from shared.tuning import Sample, survey, tune

_SPACE_SAMPLE = 8192  # vectors that the plain space's scale and mean are found from
_FILLS, _SEARCHES = 1, 4  # steps of a setting, as progress counts them


def step_count(settings: int) -> int:
    """Return how many steps a grid of so many settings takes."""
    return settings * (_FILLS + _SEARCHES)


class Grid:
    """Evaluates settings on a snapshot of a collection. `close` frees what it takes on disk."""

    def __init__(
        self,
        evaluation: str,
        embedding_set: EmbeddingSet,
        snapshot: Snapshot,
        queries: Queries,
        *,
        buckets: BucketStore,
        k: int,
        seed: int,
    ) -> None:
        self._evaluation, self._embedding_set = evaluation, embedding_set
        self._snapshot, self._queries = snapshot, queries
        self._buckets = buckets
        self._k, self._seed = k, seed
        self._vectors = _vectors(snapshot, queries, embedding_set.dim)
        self._distances = {metric: Distances(snapshot, self._vectors, metric) for metric in METRICS}
        self._sample: Sample | None = None

    def close(self) -> None:
        """Free the files."""
        for distances in self._distances.values():
            distances.close()

    def exact(self) -> dict[str, RunResults]:
        """Return what an exact scan of the snapshot finds, by the ids of the runs of "exact"."""
        everything = np.arange(len(self._snapshot))
        return self._ranked("exact", [everything] * len(self._queries), np.zeros(len(self._queries), np.int64), {})

    def evaluate(
        self, number: int, setting: IndexSetting, *, step: Callable[[], None], check: Callable[[], None]
    ) -> tuple[SettingReport, dict[str, RunResults]]:
        """Build an index and search it; returns what is known of it, and the results by the ids of the runs.

        `step` is called a few times, at most as often as `step_count` says, and `check` more often; both may raise.
        The buckets are then still there, for the caller to remove.

        Raises:
            Invalid: The setting makes no hash family.
        """
        started = time.monotonic()
        family, predicted = self._family(setting)
        generation = ScratchGeneration(self._embedding_set, number, family, self._evaluation)
        for ids, vectors in self._snapshot.blocks():
            generation.add(self._buckets, ids, vectors)
            check()
        step()
        build_s = time.monotonic() - started
        results = self._search(number, generation, step)
        report = SettingReport(
            setting=setting,
            index=describe_index(family, 0),
            images=len(self._snapshot),
            build_s=round(build_s, 3),
            buckets=self._buckets.drop(generation.prefix),
            predicted=predicted,
        )
        return report, results

    def _search(self, number: int, generation: Generation, step: Callable[[], None]) -> dict[str, RunResults]:
        """Search an index for all queries; returns the results by the ids of the runs."""
        candidates: list[npt.NDArray[np.int64]] = []
        probe_ms, fetch_ms = np.empty(len(self._queries)), np.empty(len(self._queries))
        quarter = -(-len(self._vectors) // _SEARCHES)  # no more of them than there are steps
        for query, vector in enumerate(self._vectors):
            begun = time.perf_counter()
            names = generation.probed(vector)
            probed = time.perf_counter()
            found = self._buckets.candidates(names)
            fetched = time.perf_counter()
            probe_ms[query], fetch_ms[query] = 1000 * (probed - begun), 1000 * (fetched - probed)
            places = self._snapshot.places(found.ids)
            candidates.append(places[places >= 0])
            if (query + 1) % quarter == 0 or query + 1 == len(self._vectors):
                step()
        seen = np.array([len(places) for places in candidates], dtype=np.int64)
        return self._ranked(f"grid{number}", candidates, seen, {"probe": probe_ms, "fetch": fetch_ms})

    def _family(self, setting: IndexSetting) -> tuple[HashFamily, PredictedScores | None]:
        if setting.space == "plain":
            return self._drawn_in_plain_space(setting), None
        if self._sample is None:
            self._sample = survey(self._snapshot.blocks, len(self._snapshot), seed=self._seed)
        tuning = tune(self._sample, tuning_goal(setting, seed=self._seed))
        predicted = PredictedScores(recall=tuning.chosen.recall, candidate_share=tuning.chosen.candidate_share)
        return tuning.family, predicted

    def _drawn_in_plain_space(self, setting: IndexSetting) -> HashFamily:
        draw = REGISTRY[setting.family].draw_in_plain_space
        if draw is None:
            raise Invalid(f"the {setting.family} family is not drawn in the plain space: give another space or family")
        places = np.unique(np.linspace(0, len(self._snapshot) - 1, min(_SPACE_SAMPLE, len(self._snapshot))).astype(int))
        space = fit_space(self._snapshot.vectors(places), None, scaling="none")
        return draw(space, setting, seed=self._seed)

    def _ranked(
        self,
        search: str,
        candidates: Sequence[npt.NDArray[np.int64]],
        seen: npt.NDArray[np.int64],
        stages: dict[str, npt.NDArray[np.float64]],
    ) -> dict[str, RunResults]:
        """Return the best of each query's candidates, given by their places in the snapshot, by run."""
        return {run.id: self._ranked_run(run, candidates, seen, stages) for run in runs_of(search)}

    def _ranked_run(
        self,
        run: Run,
        candidates: Sequence[npt.NDArray[np.int64]],
        seen: npt.NDArray[np.int64],
        stages: dict[str, npt.NDArray[np.float64]],
    ) -> RunResults:
        snapshot, count, k = self._snapshot, len(self._queries), self._k
        ids = np.full((count, k), -1, dtype=np.int64)
        distances, scores = np.full((count, k), np.inf), np.full((count, k), np.nan)
        labels: list[list[str]] = []
        ranked, itself = np.empty(count, dtype=np.int64), np.zeros(count, dtype=np.int64)
        own = snapshot.places(self._queries.ids)
        labelled = int((snapshot.labels >= 0).sum())
        searchable = np.full(count, len(snapshot) if run.distractors else labelled, dtype=np.int64)
        for query, places in enumerate(candidates):
            itself[query] = bool((places == own[query]).any())
            others = places[places != own[query]]
            if not run.distractors:
                others = others[snapshot.labels[others] >= 0]
            ranked[query] = len(others)
            if own[query] >= 0 and (run.distractors or snapshot.labels[own[query]] >= 0):
                searchable[query] -= 1
            best, best_distances, best_scores = self._distances[run.metric].best(query, others, k)
            ids[query, : len(best)] = snapshot.ids[best]
            distances[query, : len(best)], scores[query, : len(best)] = best_distances, best_scores
            labels.append([_label(snapshot, place) for place in best.tolist()])
        return RunResults(
            ids=ids,
            labels=labels,
            distances=distances,
            scores=scores,
            candidates=ranked,
            seen=np.maximum(0, seen - itself),
            searchable=searchable,
            stages=stages,
        )


def describe_index(family: HashFamily, generation: int) -> EvaluatedIndex:
    """Return the parameters of an index that a report tells."""
    parameters = family.parameters()
    return EvaluatedIndex(
        generation=generation,
        family=family.family,
        tables=family.tables,
        hashes=parameters.get("hashes"),
        width=parameters.get("width"),
        cells=parameters.get("cells"),
        probes=parameters["probes"],
        budget_share=parameters.get("budget_share"),
    )


def _label(snapshot: Snapshot, place: int) -> str:
    number = int(snapshot.labels[place])
    return snapshot.classes[number] if number >= 0 else ""


def _vectors(snapshot: Snapshot, queries: Queries, dim: int) -> npt.NDArray[np.float32]:
    """Return the embeddings of all queries, float32 [q, dim]."""
    vectors = np.empty((len(queries), dim), dtype=np.float32)
    places = snapshot.places(queries.ids)
    for query in range(len(queries)):
        vector = queries.vectors.get(query)
        if vector is None and places[query] < 0:
            raise Unavailable(f"the query {queries.names[query]!r} has just been deleted from the collection")
        vectors[query] = snapshot.vectors(places[query : query + 1])[0] if vector is None else vector
    return vectors
