"""``artseek evaluate``: sends labelled queries to the evaluator, waits, and shows the scores."""

import math
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import click

from cli.command import SOME_LEFT_OUT, System, as_json_option, command, in_collection
from cli.printing.console import err, print_json
from cli.printing.evaluation import print_evaluation
from cli.printing.progress import job_bar
from services.producer.ingest import reader
from shared.errors import ArtseekError, Invalid, NotFound
from shared.evaluation.grids import parse_grid
from shared.evaluation.query_sets import LabelledQuery, QuerySet, QuerySets
from shared.evaluation.reports import Evaluations
from shared.folders import Source, walk
from shared.messaging.job_submission import submit, wait_for_end
from shared.messaging.messages import EvaluationRequest
from shared.rpc.query import MAX_K
from shared.state import Rejection
from shared.state.jobs import new_job_id
from shared.storage import layout

_THREADS = 8


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
@as_json_option
@command
def evaluate(  # noqa: PLR0913 -- its options
    system: System,
    *,
    queries_dir: Path | None,
    collection: str,
    k: int,
    sample: int | None,
    kept: str | None,
    keep: str | None,
    grid: Path | None,
    seed: int,
    as_json: bool,
) -> int:
    """Judge the answers of a collection by labelled queries: a folder with a subfolder of images for each class.

    Ctrl-C cancels it, and nothing is left behind. Exit status 3: judged, but some files are no queries.
    """
    if sum(source is not None for source in (queries_dir, sample, kept)) != 1:
        raise click.UsageError("give QUERIES_DIR, --sample or --queries, one of the three")
    if keep is not None and queries_dir is None:
        raise click.UsageError("--keep goes with QUERIES_DIR")
    if keep is not None:
        layout.collection_name(keep)
    settings = parse_grid(grid.read_bytes()) if grid is not None else ()
    system.catalog.get(collection)
    sets, job = QuerySets(system.store, system.state), new_job_id()
    refused: list[Rejection] = []
    digest: str | None = None
    if kept is not None:
        digest = sets.kept(kept)
        sets.use(digest, job)
    elif queries_dir is not None:
        digest, refused = _send(system, sets, queries_dir, job, keep)
    request = EvaluationRequest(k=k, query_set=digest, kept=kept or keep, sample=sample or 0, seed=seed, grid=settings)
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
        err.print("\nartseek: cancelled")
        return 130
    report = Evaluations(system.store).get(collection, job).with_rejected(refused)
    if as_json:
        print_json(report.to_json())
    else:
        print_evaluation(report)
    return SOME_LEFT_OUT if report.query_set.rejected else 0


def _send(system: System, sets: QuerySets, folder: Path, job: str, keep: str | None) -> tuple[str, list[Rejection]]:
    """Store the images of a folder as a query set; returns its digest, and which files are no queries."""
    system.store.ensure_bucket()
    sources = list(walk([folder], labels_from_folders=True))

    def read(source: Source) -> tuple[LabelledQuery, bytes] | Rejection:
        if source.label is None:
            return Rejection(source.name, "no-label", "it is in no class folder; move it into a folder of its class")
        data = reader(source, max_bytes=system.settings.max_file_bytes)()
        if isinstance(data, Rejection):
            return data
        return LabelledQuery(layout.digest_of(data), source.name, source.label, len(data)), data

    def store(source: Source) -> LabelledQuery | Rejection:
        outcome = read(source)
        if isinstance(outcome, Rejection):
            return outcome
        query, data = outcome
        system.store.put(layout.query_key(query.digest), data)
        return query

    with sets.changing(), ThreadPoolExecutor(_THREADS, thread_name_prefix="queries") as pool:
        outcomes = list(pool.map(store, sources))
        refused = [outcome for outcome in outcomes if isinstance(outcome, Rejection)]
        stored = [outcome for outcome in outcomes if isinstance(outcome, LabelledQuery)]
        try:
            queries = QuerySet.of(stored)
        except Invalid as error:
            sets.forget(query.digest for query in stored)
            raise Invalid(f"{str(folder)!r}: {error}") from None
        sets.add(queries, user=job, name=keep)
    return queries.digest, refused


def _wait(system: System, job: str, collection: str) -> None:
    """Wait for the end of an evaluation, with a bar on a terminal.

    Raises:
        ArtseekError: It failed, or was cancelled by somebody else.
    """
    with job_bar(f"evaluating {collection}") as on_progress:
        ended = wait_for_end(system.state.jobs, job, deadline_s=math.inf, on_progress=on_progress)
    for failure in ended.outcome.rejected if ended else ():
        raise ArtseekError(failure.reason)
    if ended and ended.cancelled:
        raise ArtseekError(f"the evaluation {job} was cancelled")
