"""``artseek evaluate``: sends labelled queries to the evaluator, waits, and shows the scores."""

import math
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import click

from cli.clients import System
from cli.command import RemoteSystem, command_anywhere
from cli.job_ends import check_end
from cli.options import SOME_REJECTED, as_json_option, in_collection
from cli.printing.console import err, out, print_json
from cli.printing.evaluation import print_evaluation
from cli.printing.progress import job_bar
from cli.remote.evaluate import evaluate as evaluate_remotely
from cli.remote.jobs import wait_for_job
from services.producer.ingest import reader
from shared.errors import Invalid, NotFound, Unavailable
from shared.evaluation.evaluations import Evaluations
from shared.evaluation.grids import parse_grid
from shared.evaluation.query_sets import LabelledQuery, QuerySet, QuerySets
from shared.evaluation.removal import is_under_way, remove_evaluation
from shared.evaluation.report import EvaluationReport
from shared.folders import Source, walk
from shared.messaging.job_submission import submit, wait_for_end
from shared.messaging.messages import MOST_REJECTED, EvaluationRequest
from shared.records.model import field_name
from shared.rpc.query import MAX_K
from shared.schemas.jobs import read_job_answer
from shared.state import Rejection
from shared.state.job_ids import new_job_id
from shared.storage import evaluation_layout, layout

_THREADS = 8
_CANCEL_S = 60.0  # for the evaluator to end what was cancelled


@click.command("evaluate")
@click.argument(
    "queries_dir",
    required=False,
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    metavar="[QUERIES_DIR]",
)
@in_collection
@click.option("-k", default=10, show_default=True, type=click.IntRange(1, MAX_K - 1), help="Hits that count.")
@click.option(
    "--sample",
    type=click.IntRange(1),
    help="Judge by so many labelled images of the collection, each left out in turn.",
)
@click.option("--queries", "kept", help="Judge by the queries that were kept under this name.")
@click.option("--keep", help="Keep the queries of QUERIES_DIR under this name.")
@click.option(
    "--grid",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="JSON file of index settings to judge beside the index in use.",
)
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Of sample, intervals and grid.")
@click.option(
    "--field", default="label", show_default=True, help="Field whose values are the classes, such as creator."
)
@click.option("--delete", "unwanted", metavar="ID", help="Delete this evaluation instead, or cancel it.")
@as_json_option
@command_anywhere
def evaluate(  # noqa: PLR0913 -- its options
    system: System | RemoteSystem,
    *,
    queries_dir: Path | None,
    collection: str,
    k: int,
    sample: int | None,
    kept: str | None,
    keep: str | None,
    grid: Path | None,
    seed: int,
    field: str,
    unwanted: str | None,
    as_json: bool,
) -> int:
    """Judge the answers of a collection by labelled queries: a folder with a subfolder of images for each class.

    Ctrl-C cancels it, and nothing is left behind. Exit status 3: evaluated, but some files are no queries.
    """
    sources = sum(source is not None for source in (queries_dir, sample, kept))
    if unwanted is not None:
        if sources:
            raise click.UsageError("--delete goes without QUERIES_DIR, --sample and --queries")
        if isinstance(system, RemoteSystem):
            return _delete_remotely(system, unwanted, as_json=as_json)
        return _delete(system, unwanted, as_json=as_json)
    if sources != 1:
        raise click.UsageError("give QUERIES_DIR, --sample or --queries, one of the three")
    if keep is not None and queries_dir is None:
        raise click.UsageError("--keep goes with QUERIES_DIR")
    if keep is not None:
        layout.collection_name(keep)
    request = EvaluationRequest(
        k=k,
        query_set=None,
        kept=kept or keep,
        sample=sample or 0,
        seed=seed,
        grid=parse_grid(grid.read_bytes()) if grid is not None else (),
        field="label" if field == "labels" else field_name(field),
    )
    try:
        if isinstance(system, RemoteSystem):
            report = _evaluate_remotely(system, collection, request, queries_dir)
        else:
            report = _evaluate(system, collection, request, queries_dir, keep)
    except KeyboardInterrupt:
        err.print("\nartseek: cancelled")
        return 130
    if as_json:
        print_json(report.to_json())
    else:
        print_evaluation(report)
    return SOME_REJECTED if report.query_set.rejected else 0


def _evaluate_remotely(
    system: RemoteSystem, collection: str, request: EvaluationRequest, folder: Path | None
) -> EvaluationReport:
    with job_bar(f"evaluating {collection}") as on_progress:
        return evaluate_remotely(
            system.api,
            collection,
            request,
            folder=folder,
            max_bytes=system.settings.max_query_bytes,
            on_progress=lambda job: on_progress(job["finished"], job["total"]),
        )


def _evaluate(
    system: System, collection: str, request: EvaluationRequest, folder: Path | None, keep: str | None
) -> EvaluationReport:
    """Send the request to the evaluator and wait for its end; Ctrl-C cancels it.

    Raises:
        ArtseekError: It failed.
    """
    system.catalog.get(collection)
    system.note_change("evaluate", collection)
    sets, job = QuerySets(system.store, system.state), new_job_id()
    refused: list[Rejection] = []
    if folder is not None:
        digest, refused = _send(system, sets, folder, job, keep)
        request = replace(request, query_set=digest, rejected=tuple(refused[:MOST_REJECTED]))
    elif request.kept is not None:
        request = replace(request, query_set=sets.kept(request.kept))
        sets.use(request.query_set or "", job)
    try:
        submit(
            system.state.jobs,
            "evaluate",
            collection,
            lambda job: system.queue.evaluate(job=job, collection=collection, request=request),
            job_id=job,
        )
        _wait(system, job, collection)
    except KeyboardInterrupt:
        with suppress(NotFound):
            system.state.jobs.cancel(job)
        raise
    return Evaluations(system.store).get(collection, job).with_rejected(refused[MOST_REJECTED:])


def _delete(system: System, evaluation: str, *, as_json: bool) -> int:
    """Remove an evaluation; one that is under way is cancelled, and leaves nothing."""
    with suppress(NotFound):  # told below, unless it is under way
        system.note_change("delete_evaluation", Evaluations(system.store).find(evaluation))
    was_under_way = is_under_way(system.state, evaluation)
    if was_under_way:
        system.state.jobs.cancel(evaluation)
        if wait_for_end(system.state.jobs, evaluation, deadline_s=_CANCEL_S) is None:
            raise Unavailable(f"the evaluation {evaluation} is cancelled, but its evaluator has not ended it yet")
    try:
        remove_evaluation(system.store, system.state, evaluation)
    except NotFound:
        if not was_under_way:
            raise
    return _print_deleted(evaluation, as_json=as_json)


def _delete_remotely(system: RemoteSystem, evaluation: str, *, as_json: bool) -> int:
    answer = system.api.delete(f"/evaluations/{evaluation}")
    if answer is not None:  # it is at its next step
        wait_for_job(system.api, answer["job"])
    return _print_deleted(evaluation, as_json=as_json)


def _print_deleted(evaluation: str, *, as_json: bool) -> int:
    if as_json:
        print_json({"evaluation": evaluation, "deleted": 1})
    else:
        out.print(f"the evaluation {evaluation} is deleted")
    return 0


def _send(system: System, sets: QuerySets, folder: Path, job: str, keep: str | None) -> tuple[str, list[Rejection]]:
    """Store the images of a folder as a query set; returns its digest, and which files are no queries."""
    system.store.ensure_bucket()
    sources = list(walk([folder], labels_from_folders=True, list_unreadable=True))

    def read(source: Source) -> tuple[LabelledQuery, bytes] | Rejection:
        if source.label is None and source.problem is None:
            return Rejection(source.name, "no-label", "it is in no class folder; move it into a folder of its class")
        data = reader(source, max_bytes=system.settings.max_query_bytes)()
        if isinstance(data, Rejection):
            return data
        return LabelledQuery(layout.digest_of(data), source.name, source.label or "", len(data)), data

    def store(source: Source) -> LabelledQuery | Rejection:
        outcome = read(source)
        if isinstance(outcome, Rejection):
            return outcome
        query, data = outcome
        system.store.put(evaluation_layout.query_key(query.digest), data)
        return query

    with sets.changing(), ThreadPoolExecutor(_THREADS, thread_name_prefix="queries") as pool:
        outcomes = list(pool.map(store, sources))
        refused = [outcome for outcome in outcomes if isinstance(outcome, Rejection)]
        stored = [outcome for outcome in outcomes if isinstance(outcome, LabelledQuery)]
        try:
            queries = QuerySet.of(stored)
        except Invalid as error:
            sets.forget(query.stored for query in stored)
            raise Invalid(f"{str(folder)!r}: {error}") from None
        sets.add(queries, user=job, name=keep)
    return queries.digest, refused


def _wait(system: System, job: str, collection: str) -> None:
    """Wait for the end of an evaluation, with a bar on a terminal.

    Raises:
        ArtseekError: It failed, or was cancelled by somebody else.
    """
    with job_bar(f"evaluating {collection}") as on_progress:
        ended = wait_for_end(
            system.state.jobs, job, deadline_s=math.inf, on_progress=lambda job: on_progress(job.steps, job.total)
        )
    if ended is not None:
        check_end(read_job_answer(system.state.jobs, job), "the evaluation")
