"""Evaluates a collection: searches the running system for labelled queries, and reports how good the results are.

The task may run twice, or die anywhere: each finished run is kept as a checkpoint, and the report is written whole at
the end. An evaluation that is cancelled leaves nothing behind.
"""

import logging
import time
from contextlib import suppress

import pyarrow as pa

from services.evaluator import copies, grid
from services.evaluator.checkpoints import Checkpoints, CollectionState
from services.evaluator.class_field import ClassField
from services.evaluator.copies import CopiesFound, CopyFinder, queries_without_copies
from services.evaluator.evaluation import Evaluation
from services.evaluator.grid_evaluation import GridEvaluator
from services.evaluator.job_attempts import attempt_at, check_deaths
from services.evaluator.progress import Cancelled, Progress
from services.evaluator.queries import Queries, QuerySource
from services.evaluator.run_queries import request_count, run_queries
from services.evaluator.run_results import Run, RunResults, runs_of
from services.evaluator.scores import score_run
from services.evaluator.scratch import Scratch
from services.evaluator.starting_over import until_unchanged
from shared.errors import ArtseekError, NotFound, Unavailable
from shared.evaluation.evaluations import Evaluations
from shared.evaluation.query_sets import QuerySets
from shared.evaluation.redaction import EvaluationRedactor
from shared.evaluation.report import EvaluatedCollection, EvaluationReport, QuerySetReport
from shared.evaluation.retrieval_metrics import CONFIDENCE, Bools
from shared.evaluation.rows import parquet
from shared.evaluation.run_scores import EvaluatedIndex, RunScores
from shared.images import Decoder
from shared.index.generations import Generation
from shared.messaging.messages import EvaluationRequest
from shared.messaging.worker import WorkerClients
from shared.rpc.query import Collection, QueryClient
from shared.state import Rejection
from shared.state.attempts import Attempt
from shared.state.locks import LEASE_S, evaluation_lock
from shared.state.outcomes import Outcome
from shared.timestamps import rfc3339

_log = logging.getLogger(__name__)


class Evaluator:
    """Evaluates collections; `program` is the version of this program."""

    def __init__(
        self, clients: WorkerClients, *, query: QueryClient, scratch: Scratch, decoder: Decoder, program: str
    ) -> None:
        self._clients, self._query, self._scratch = clients, query, scratch
        self._source = QuerySource(clients, query, decoder)
        self._copies = CopyFinder(clients.store, query, decoder)
        self._grid = GridEvaluator(clients, scratch)
        self._sets = QuerySets(clients.store, clients.state)
        self._evaluations = Evaluations(clients.store)
        self._redactor = EvaluationRedactor(clients)
        self._program = program

    def evaluate(self, *, job: str, collection: str, request: EvaluationRequest) -> None:
        """Evaluate a collection and write the report, whose id is the job's.

        Raises:
            Unavailable: A server is away, or another worker is at it; the same call may be made again.
            ArtseekError: It cannot be done; `give_up` is to be called.
        """
        with attempt_at(self._clients.state, job, task=_task_name(job)) as attempt:
            if attempt is not None:
                self._attempt(attempt, job, collection, request)

    def _attempt(self, attempt: Attempt, job: str, collection: str, request: EvaluationRequest) -> None:
        jobs = self._clients.state.jobs
        self._scratch.end(job)
        check_deaths(attempt)
        try:
            progress = Progress(jobs, job, attempt)
            until_unchanged(
                lambda: self._evaluate(job, self._current_name(collection), request, progress),
                lambda: self._state(collection),
            )
            attempt.check()
        except Cancelled:
            _log.info("the evaluation %s of %s was cancelled", job, collection)
            attempt.check()
            self._remove(job, collection, request)
        finally:
            with suppress(Unavailable):  # the next attempt removes them, or has begun and needs its own
                attempt.check()
                self._scratch.end(job)
        jobs.report(job, 0, Outcome())
        attempt.end()

    def give_up(self, error: Exception, *, job: str, collection: str, request: EvaluationRequest) -> None:
        """Report that an evaluation failed, and remove what was done of it."""
        state = self._clients.state
        with state.locks.hold(evaluation_lock(job), wait_s=LEASE_S + 1):
            self._remove(job, collection, request)
            state.jobs.report(job, 0, failure(error, collection))
            state.attempts.forget(_task_name(job))

    def _remove(self, job: str, collection: str, request: EvaluationRequest) -> None:
        """Remove all that was written of an evaluation that came to nothing."""
        self._scratch.end(job)
        for name in {collection, self._current_name(collection)}:
            self._evaluations.delete(name, job)
        Checkpoints(self._clients.store, job).clear()
        if request.query_set is not None:
            self._sets.release(request.query_set, job)

    def _evaluate(self, job: str, name: str, request: EvaluationRequest, progress: Progress) -> None:
        checkpoints = Checkpoints(self._clients.store, job)
        if self._is_written(name, job):  # by an attempt that died before it could report
            self._redactor.redact_new(name, job)
            checkpoints.clear()
            return
        self._scratch.end(job)
        progress.check()
        classes = ClassField(self._query, request.field)
        collection = classes.collection(name)
        state = CollectionState.of(collection)
        queries = self._queries(collection, classes, request, progress)
        checkpoints.begin(state, queries)
        started = self._started(job)
        evaluation = Evaluation(
            id=job,
            request=request,
            collection=collection,
            classes=classes,
            queries=queries,
            checkpoints=checkpoints,
            progress=progress,
        )
        runs = [*runs_of("exact"), *(runs_of("lsh") if collection.generation else ())]
        progress.begin(_step_count(evaluation, runs))
        index = self._index_in_use(collection)
        results = {run: self._run(evaluation, run) for run in runs}
        found = self._find_copies(evaluation, results[runs[0]])
        without_copies = queries_without_copies(evaluation.queries, found.copies)
        scores, tables = _score_runs(evaluation, results, index, without_copies)
        settings, grid_tables = (
            self._grid.evaluate(evaluation, without_copies=without_copies) if request.grid else ((), [])
        )
        report = EvaluationReport(
            id=job,
            created=rfc3339(started),
            seconds=round(time.time() - started, 3),
            program=self._program,
            k=request.k,
            field=request.field,
            queries=len(evaluation.queries),
            confidence=CONFIDENCE,
            collection=_describe_collection(collection),
            changed=CollectionState.of(classes.collection(name)) != state,
            query_set=_describe_queries(evaluation.queries, request, found),
            runs=tuple(scores),
            grid=settings,
        )
        progress.check()
        self._put(name, report, parquet(pa.concat_tables([*tables, *grid_tables])))
        checkpoints.clear()

    def _current_name(self, collection: str) -> str:
        """Return what a collection is called now: it may have been renamed since its evaluation was asked for."""
        return self._clients.catalog.current_name(collection)

    def _state(self, collection: str) -> tuple[str, CollectionState | None]:
        """Return what a collection is called now, and its state; None if there is none, or nobody tells."""
        name = self._current_name(collection)
        try:
            return name, CollectionState.of(self._query.collection(name))
        except (NotFound, Unavailable):
            return name, None

    def _put(self, name: str, report: EvaluationReport, rows: bytes) -> None:
        """Write an evaluation, again under the new name if the collection is renamed at this moment."""
        self._evaluations.put(name, report, rows)
        if (current := self._current_name(name)) != name:  # the rename may have moved the evaluations before
            self._evaluations.put(current, report, rows)
            self._evaluations.delete(name, report.id)
        # A purge looks at the evaluations that there are: it may have come just before.
        self._redactor.redact_new(current, report.id)

    def _is_written(self, collection: str, job: str) -> bool:
        try:
            self._evaluations.get(collection, job)
        except NotFound:
            return False
        return True

    def _started(self, job: str) -> float:
        try:
            return self._clients.state.jobs.get(job).created
        except NotFound:  # its record was lost with the index
            return time.time()

    def _queries(
        self, collection: Collection, classes: ClassField, request: EvaluationRequest, progress: Progress
    ) -> Queries:
        if request.query_set is None:
            return self._source.sample(collection, classes, request.sample, seed=request.seed)
        return self._source.of_set(self._sets.get(request.query_set), collection, classes, step=progress.check)

    def _index_in_use(self, collection: Collection) -> EvaluatedIndex | None:
        if not collection.generation:
            return None
        embedding_set = self._clients.catalog.get(collection.name)
        generation = Generation.load(self._clients.store, embedding_set, collection.generation)
        return grid.describe_index(generation.family, collection.generation)

    def _run(self, evaluation: Evaluation, run: Run) -> RunResults:
        """Return the results that an earlier attempt kept, or run the queries and keep the results."""
        queries, progress = evaluation.queries, evaluation.progress
        results = evaluation.checkpoints.results(run.id)
        if results is not None:
            progress.step(request_count(len(queries)))
            return results
        results = run_queries(
            self._query,
            run,
            queries,
            evaluation.collection,
            evaluation.classes,
            k=evaluation.request.k,
            step=progress.step,
        )
        evaluation.checkpoints.put_results(run.id, results)
        return results

    def _find_copies(self, evaluation: Evaluation, nearest: RunResults) -> CopiesFound:
        """Return the copies of the queries in the collection; `nearest` is of the exact scan by cosine."""
        queries, checkpoints = evaluation.queries, evaluation.checkpoints
        parts: list[CopiesFound] = []
        for part in copies.parts_of(len(queries)):
            found = checkpoints.copies(part)
            if found is None:
                sample = evaluation.request.query_set is None
                found = self._copies.find(evaluation.collection.name, queries, nearest, part, sample=sample)
                checkpoints.put_copies(part, found)
            parts.append(found)
            evaluation.progress.step()
        return CopiesFound.joined(parts)


def failure(error: Exception, collection: str) -> Outcome:
    """Return the outcome of an evaluation that failed."""
    reason = (
        str(error) if isinstance(error, ArtseekError) else f"{type(error).__name__}: {error}; see the evaluator's log"
    )
    return Outcome(rejected=(Rejection(collection, "failed", reason),))


def _task_name(job: str) -> str:
    """Return the name that attempts at an evaluation are counted under."""
    return f"evaluate:{job}"


def _step_count(evaluation: Evaluation, runs: list[Run]) -> int:
    queries = len(evaluation.queries)
    parts = len(copies.parts_of(queries))
    return len(runs) * request_count(queries) + parts + grid.step_count(len(evaluation.request.grid))


def _score_runs(
    evaluation: Evaluation, results: dict[Run, RunResults], index: EvaluatedIndex | None, without_copies: Bools
) -> tuple[list[RunScores], list[pa.Table]]:
    """Return the scores of all runs by the query service, and their rows."""
    scores, tables = [], []
    for run, run_results in results.items():
        run_scores, rows = score_run(
            run,
            run_results,
            results[Run("exact", run.metric, run.distractors)],
            evaluation.queries,
            None if run.search == "exact" else index,
            without_copies=without_copies,
            seed=evaluation.request.seed,
        )
        scores.append(run_scores)
        tables.append(rows)
        evaluation.progress.check()
    return scores, tables


def _describe_collection(collection: Collection) -> EvaluatedCollection:
    return EvaluatedCollection(
        name=collection.name,
        images=collection.images,
        labelled=collection.labelled,
        classes=dict(sorted(collection.classes.items())),
        model=collection.model,
        model_version=collection.model_version,
        dim=collection.dim,
        generation=collection.generation,
    )


def _describe_queries(queries: Queries, request: EvaluationRequest, found: CopiesFound) -> QuerySetReport:
    sample = request.query_set is None
    return QuerySetReport(
        kind="sample" if sample else "folder" if request.kept is None else "kept",
        name=request.kept,
        digest=queries.digest,
        seed=request.seed if sample else None,
        in_collection=int(queries.in_collection.sum()),
        without_relevant=int((queries.relevant == 0).sum()),
        rejected=(*request.rejected, *queries.rejected),
        copies=found.copies,
        unchecked=found.unchecked,
    )
