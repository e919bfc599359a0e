"""Judges a collection: asks the running system labelled queries, and writes how good the answers are.

The task may run twice, or die anywhere: each run that is done is kept as a part, and the evaluation is written whole at
the end. One that is cancelled leaves nothing behind.
"""

import logging
import time
from contextlib import suppress
from typing import Any

import pyarrow as pa

from services.evaluator import copies, grid, run_queries, scores
from services.evaluator.checkpoints import Parts
from services.evaluator.copies import CopyFinder
from services.evaluator.grid import Grid
from services.evaluator.queries import Queries, QuerySource
from services.evaluator.run_results import Answers, Run, runs_of
from services.evaluator.scratch import Scratch
from services.evaluator.snapshot import Snapshot
from shared.errors import ArtseekError, Invalid, NotFound, Unavailable
from shared.evaluation import retrieval_metrics
from shared.evaluation.index_setting import IndexSetting
from shared.evaluation.query_sets import QuerySets
from shared.evaluation.reports import Evaluations
from shared.evaluation.rows import parquet
from shared.index.generations import Generation
from shared.messaging.messages import EvaluationRequest
from shared.rpc.query import Collection, QueryClient
from shared.state import BucketStore, Jobs, Rejection, State
from shared.state.jobs import Outcome
from shared.state.locks import LEASE_S, evaluation_lock
from shared.storage.catalog import Catalog
from shared.storage.object_store import ObjectStore
from shared.timestamps import rfc3339

_log = logging.getLogger(__name__)

_DEATHS = 4  # attempts that may die before the evaluation is given up


class Cancelled(Exception):
    """Somebody asked the job to end."""


class Progress:
    """Counts the steps of a job, and ends it where that is asked for."""

    def __init__(self, jobs: Jobs, job: str) -> None:
        self._jobs, self._job = jobs, job
        self._steps, self._total = 0, 0

    def begin(self, total: int) -> None:
        """Note how many steps there are."""
        self._steps, self._total = 0, total
        self._jobs.advance(self._job, steps=0, total=total)

    def check(self) -> None:
        """Raise `Cancelled` where somebody asked for it."""
        if self._jobs.cancelled(self._job):
            raise Cancelled

    def step(self, count: int = 1) -> None:
        """Count steps."""
        self.check()
        self._steps = min(self._total, self._steps + count)
        self._jobs.advance(self._job, steps=self._steps, total=self._total)


class Evaluator:
    """Evaluates. Its servers are passed in; `program` is the version of this program."""

    def __init__(
        self,
        *,
        store: ObjectStore,
        buckets: BucketStore,
        state: State,
        jobs: Jobs,
        scratch: Scratch,
        query: QueryClient,
        source: QuerySource,
        copies: CopyFinder,
        program: str,
    ) -> None:
        self._store, self._buckets, self._state, self._jobs, self._scratch = store, buckets, state, jobs, scratch
        self._query, self._source, self._copies = query, source, copies
        self._catalog, self._sets = Catalog(store), QuerySets(store, state)
        self._evaluations = Evaluations(store)
        self._program = program

    def evaluate(self, *, job: str, collection: str, trial: EvaluationRequest) -> None:
        """Judge a collection and write the evaluation, whose id is the job's.

        Raises:
            Unavailable: A server is away, or another worker is at it; the same call may be made again.
            ArtseekError: It cannot be done; `give_up` is to be called.
        """
        if self._jobs.reported(job, 0):
            return
        # The worker that holds the lock may have died, perhaps at this very task: then the lock is free soon.
        with self._state.locks.hold(evaluation_lock(job), wait_s=LEASE_S + 1):
            if self._jobs.reported(job, 0):
                return
            begun, _ = self._state.attempts.begin(_task_of(job))
            self._scratch.end(job)
            if begun > _DEATHS:
                raise Invalid(f"its worker died {_DEATHS} times at it: is there enough memory? See the evaluator's log")
            try:
                self._evaluate(job, collection, trial, Progress(self._jobs, job))
            except Cancelled:
                _log.info("the evaluation %s of %s was cancelled", job, collection)
                self._leave_nothing(job, collection, trial)
            except Unavailable:
                self._state.attempts.pause(_task_of(job))
                raise
            finally:
                with suppress(Unavailable):  # whoever comes next removes them
                    self._scratch.end(job)
            self._jobs.report(job, 0, Outcome())
            self._state.attempts.end(_task_of(job))

    def give_up(self, error: Exception, *, job: str, collection: str, trial: EvaluationRequest) -> None:
        """Report that an evaluation failed, and remove what was done of it."""
        with self._state.locks.hold(evaluation_lock(job), wait_s=LEASE_S + 1):
            self._leave_nothing(job, collection, trial)
            self._jobs.report(job, 0, failure(error, collection))
            self._state.attempts.end(_task_of(job))

    def _leave_nothing(self, job: str, collection: str, trial: EvaluationRequest) -> None:
        self._scratch.end(job)
        self._evaluations.delete(collection, job)
        Parts(self._store, job).clear()
        if trial.query_set is not None:
            self._sets.release(trial.query_set, job)

    def _evaluate(self, job: str, name: str, trial: EvaluationRequest, progress: Progress) -> None:
        parts = Parts(self._store, job)
        if self._is_written(name, job):  # by an attempt that died before it could say so
            parts.clear()
            return
        progress.check()
        collection = self._query.collection(name)
        if not collection.classes:
            raise Invalid(f"the collection {name!r} has no labelled image: add some with --labels-from-folders")
        parts.begin({"collection": _state(collection)})
        started = self._started(job)
        queries = self._queries(collection, trial, progress)
        runs = [*runs_of("exact"), *(runs_of("lsh") if collection.generation else ())]
        progress.begin(
            len(runs) * run_queries.steps_of(len(queries))
            + len(copies.parts_of(len(queries)))
            + grid.steps_of(len(trial.grid))
        )
        index = self._index_in_use(collection)
        answers = {
            run: self._kept(parts, run, progress, queries=queries, collection=collection, k=trial.k) for run in runs
        }
        copied, unchecked = self._copied(parts, progress, queries, answers[runs[0]], name, trial)
        clean = copies.without_copies(queries, copied)
        told, tables = [], []
        for run in runs:
            exact = answers[Run("exact", run.metric, run.distractors)]
            made, rows = scores.of_run(
                run,
                answers[run],
                exact,
                queries,
                None if run.search == "exact" else index,
                clean=clean,
                seed=trial.seed,
            )
            told.append(made)
            tables.append(rows)
            progress.check()
        settings, more = self._grid(job, collection, trial, queries, clean, parts, progress) if trial.grid else ([], [])
        after = self._query.collection(name)
        report = {
            "id": job,
            "created": rfc3339(started),
            "seconds": round(time.time() - started, 3),
            "program": self._program,
            "k": trial.k,
            "queries": len(queries),
            "confidence": retrieval_metrics.CONFIDENCE,
            "collection": _told(collection),
            "changed": _state(after) != _state(collection),
            "query_set": _told_of(queries, trial) | {"copies": copied, "unchecked": unchecked},
            "runs": told,
            "grid": settings,
        }
        progress.check()
        self._evaluations.put(name, job, report, parquet(pa.concat_tables([*tables, *more])))
        parts.clear()

    def _is_written(self, collection: str, job: str) -> bool:
        try:
            self._evaluations.get(collection, job)
        except NotFound:
            return False
        return True

    def _started(self, job: str) -> float:
        try:
            return self._jobs.get(job).created
        except NotFound:  # its record was lost with the index
            return time.time()

    def _queries(self, collection: Collection, trial: EvaluationRequest, progress: Progress) -> Queries:
        if trial.query_set is None:
            return self._source.sample(collection, trial.sample, seed=trial.seed)
        return self._source.of_set(self._sets.get(trial.query_set), collection, step=progress.check)

    def _index_in_use(self, collection: Collection) -> dict[str, Any] | None:
        if not collection.generation:
            return None
        manifest = self._catalog.get(collection.name)
        return grid.index_of(
            Generation.load(self._store, manifest, collection.generation).family, collection.generation
        )

    def _kept(
        self, parts: Parts, run: Run, progress: Progress, *, queries: Queries, collection: Collection, k: int
    ) -> Answers:
        """Return the answers that an earlier attempt kept, or ask for them and keep them."""
        table = parts.table(run.id)
        if table is not None:
            progress.step(run_queries.steps_of(len(queries)))
            return Answers.from_table(table)
        made = run_queries.ask(self._query, run, queries, collection, k=k, step=progress.step)
        parts.put_table(run.id, made.to_table())
        return made

    def _copied(
        self,
        parts: Parts,
        progress: Progress,
        queries: Queries,
        nearest: Answers,
        collection: str,
        trial: EvaluationRequest,
    ) -> tuple[list[dict[str, Any]], int]:
        """Return the copies of the queries in the collection, and how many queries could not be compared."""
        found: list[dict[str, Any]] = []
        unchecked = 0
        for some in copies.parts_of(len(queries)):
            name = f"copies{some.start}.json"
            part = parts.value(name)
            if part is None:
                part = self._copies.find(collection, queries, nearest, some, sample=trial.query_set is None)
                parts.put_value(name, part)
            found += part["copies"]
            unchecked += part["unchecked"]
            progress.step()
        return found, unchecked

    # Grids

    def _grid(
        self,
        job: str,
        collection: Collection,
        trial: EvaluationRequest,
        queries: Queries,
        clean: retrieval_metrics.Bools,
        parts: Parts,
        progress: Progress,
    ) -> tuple[list[dict[str, Any]], list[pa.Table]]:
        """Return what is known of each setting of a grid with its figures, and the rows."""
        manifest = self._catalog.get(collection.name)
        snapshot = Snapshot.take(manifest, store=self._store, state=self._state)
        made: Grid | None = None
        try:
            made = Grid(job, manifest, snapshot, queries, buckets=self._buckets, k=trial.k, seed=trial.seed)
            exact = made.exact()
            found, tables = [], []
            for number, setting in enumerate(trial.grid):
                told, answers = self._setting(job, made, number, setting, parts, progress)
                figured = []
                for run in runs_of(f"grid{number}"):
                    truth = exact[Run("exact", run.metric, run.distractors).id]
                    its, rows = scores.of_run(
                        run, answers[run.id], truth, queries, told["index"], clean=clean, seed=trial.seed
                    )
                    figured.append(its)
                    tables.append(rows)
                    progress.check()
                found.append(told | {"runs": figured})
            return found, tables
        finally:
            if made is not None:
                made.close()
            snapshot.close()

    def _setting(
        self, job: str, made: Grid, number: int, setting: IndexSetting, parts: Parts, progress: Progress
    ) -> tuple[dict[str, Any], dict[str, Answers]]:
        """Return what an earlier attempt found of a setting, or judge it and keep that."""
        names = [run.id for run in runs_of(f"grid{number}")]
        told = parts.value(f"grid{number}.json")
        if told is not None:
            progress.step(grid.steps_of(1))
            return told, {name: Answers.from_table(parts.table(name)) for name in names}
        self._scratch.begin(job)
        told, answers = made.judge(number, setting, step=progress.step, check=progress.check)
        for name, one in answers.items():
            parts.put_table(name, one.to_table())
        parts.put_value(f"grid{number}.json", told)  # last, which says that all of it is there
        return told, answers


def _task_of(job: str) -> str:
    """Return the name that attempts at an evaluation are counted under."""
    return f"evaluate:{job}"


def failure(error: Exception, collection: str) -> Outcome:
    """Return the outcome of an evaluation that failed."""
    said = (
        str(error) if isinstance(error, ArtseekError) else f"{type(error).__name__}: {error}; see the evaluator's log"
    )
    return Outcome(rejected=(Rejection(collection, "failed", said),))


def _state(collection: Collection) -> list[Any]:
    """Return what must not change while parts of an evaluation are made."""
    return [
        collection.images,
        collection.labelled,
        collection.model,
        collection.model_version,
        collection.generation,
        collection.created,
    ]


def _told(collection: Collection) -> dict[str, Any]:
    return {
        "name": collection.name,
        "images": collection.images,
        "labelled": collection.labelled,
        "classes": dict(sorted(collection.classes.items())),
        "model": collection.model,
        "model_version": collection.model_version,
        "dim": collection.dim,
        "generation": collection.generation,
    }


def _told_of(queries: Queries, trial: EvaluationRequest) -> dict[str, Any]:
    kind = "sample" if trial.query_set is None else "folder" if trial.kept is None else "kept"
    return {
        "kind": kind,
        "name": trial.kept,
        "digest": queries.digest,
        "seed": trial.seed if kind == "sample" else None,
        "in_collection": int(queries.in_collection.sum()),
        "without_relevant": int((queries.relevant == 0).sum()),
        "rejected": [{"name": one.name, "code": one.code, "reason": one.reason} for one in queries.rejected],
    }
