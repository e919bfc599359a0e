"""``artseek evaluate``: sends labelled queries to the evaluator, waits, and shows the scores."""

import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import click
from rich.box import SIMPLE_HEAD
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

from cli.command import System, as_json_option, command, err, in_collection, out, plain, print_json
from services.producer.ingest import reader
from shared.errors import ArtseekError, Invalid, NotFound, Unavailable
from shared.evaluation.grids import parse_grid
from shared.evaluation.index_setting import IndexSetting
from shared.evaluation.query_sets import LabelledQuery, QuerySet, QuerySets
from shared.evaluation.report import EvaluationReport
from shared.evaluation.reports import Evaluations
from shared.evaluation.run_scores import RunScores
from shared.folders import Source, walk
from shared.hashing.parameters import PARAMETERS
from shared.messaging.messages import EvaluationRequest
from shared.rpc.query import MAX_K
from shared.state import Rejection
from shared.state.jobs import new_job_id
from shared.storage import layout

_POLL_S = 0.2
_THREADS = 8
_REJECTED = 3


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
    system.jobs.create(job, collection, kind="evaluate")
    try:
        system.queue.evaluate(job=job, collection=collection, request=request)
        _wait(system, job, collection)
    except KeyboardInterrupt:
        with suppress(NotFound):
            system.jobs.cancel(job)
        err.print("\nartseek: cancelled")
        return 130
    report = Evaluations(system.store).get(collection, job).with_rejected(refused)
    if as_json:
        print_json(report.to_json())
    else:
        _show(report)
    return _REJECTED if report.query_set.rejected else 0


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
    with _bar(f"evaluating {collection}") as (progress, task):
        while True:
            with suppress(Unavailable):  # a server restarts; the job goes on when it is back
                state = system.jobs.get(job)
                progress.update(task, completed=state.steps, total=state.total or None)
                if state.done:
                    break
            time.sleep(_POLL_S)
    for failure in state.outcome.rejected:
        raise ArtseekError(failure.reason)
    if state.cancelled:
        raise ArtseekError(f"the evaluation {job} was cancelled")


@contextmanager
def _bar(what: str) -> Iterator[tuple[Progress, Any]]:
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=err, disable=not err.is_terminal, transient=True) as progress:
        yield progress, progress.add_task(what, total=None)


# Tables


def _show(report: EvaluationReport) -> None:
    k, collection = report.k, report.collection
    table = _table("search", "distractors", f"P@{k}", "95 %", f"AP@{k}", "recall", "candidates", "p50")
    for run in report.runs:
        table.add_row(*_cells(run))
    out.print(table)
    if report.grid:
        out.print(_grid_table(report))
    out.print(_class_table(report))
    for note in _notes(report):
        out.print(note, style="yellow", markup=False)
    out.print(
        f"{report.queries} queries over {collection.images} images, {collection.labelled} of them labelled; "
        f"{report.seconds:.1f} s; evaluation {report.id}",
        style="dim",
    )


def _table(*headings: str, title: str | None = None) -> Table:
    return Table(*headings, title=title, box=SIMPLE_HEAD, padding=(0, 0), title_justify="left")


def _cells(run: RunScores) -> Sequence[str]:
    low, high = run.interval["p_at_k"]
    return (
        f"{run.search} {run.metric}",
        "with" if run.distractors else "without",
        f"{run.p_at_k:.3f}",
        f"{low:.2f}–{high:.2f}",
        f"{run.ap_at_k:.3f}",
        f"{run.recall_at_k:.3f}",
        f"{100 * run.candidate_fraction:.2f} %",
        _number(run.latency_ms.p50, "{:.1f} ms"),
    )


def _class_table(report: EvaluationReport) -> Table:
    k = report.k
    table = _table(*("class", "queries", f"P@{k}", "95 %", f"AP@{k}", "images"), title="exact cosine, with distractors")
    for label, scores in report.runs[0].per_class.items():
        low, high = scores.interval["p_at_k"]
        table.add_row(
            plain(label),
            str(scores.queries),
            f"{scores.p_at_k:.3f}",
            f"{low:.2f}–{high:.2f}",
            f"{scores.ap_at_k:.3f}",
            str(scores.relevant),
        )
    return table


def _grid_table(report: EvaluationReport) -> Table:
    k = report.k
    table = _table(
        *("setting", f"P@{k}", "recall", "candidates", f"P@{k} without", "recall"),
        title="grid, cosine, with distractors and without (--json has the rest)",
    )
    for setting in report.grid:
        runs = {run.distractors: run for run in setting.runs if run.metric == "cosine"}
        with_all, labelled = runs[True], runs[False]
        table.add_row(
            _setting_title(setting.setting),
            f"{with_all.p_at_k:.3f}",
            f"{with_all.recall_at_k:.3f}",
            f"{100 * with_all.candidate_fraction:.2f} %",
            f"{labelled.p_at_k:.3f}",
            f"{labelled.recall_at_k:.3f}",
        )
    return table


def _number(value: float | None, form: str) -> str:
    return "–" if value is None else form.format(value)


def _setting_title(setting: IndexSetting) -> str:
    """Return a setting such as ``p-stable plain L=4 k=8 w=1.5``."""
    name = f"{setting.family} plain" if setting.space == "plain" else setting.family
    given = setting.given()
    values = (f"{parameter.symbol}={given[parameter.name]}" for parameter in PARAMETERS if parameter.name in given)
    return " ".join([name, *values])


def _notes(report: EvaluationReport) -> Iterator[str]:
    queries = report.query_set
    if queries.in_collection and queries.kind != "sample":
        yield f"{queries.in_collection} queries are in the collection too: they never count as hits of themselves."
    near = {copy.digest for copy in queries.copies or () if copy.kind == "near"}
    if near:
        yield f"{len(near)} queries have near copies in the collection, which count as hits: {_without_copies(report)}."
    if queries.without_relevant:
        yield f"{queries.without_relevant} queries have nothing of their class to find, and count as 0."
    for rejection in queries.rejected:
        yield f"left out: {plain(rejection.name)}: {rejection.reason}"
    if not report.collection.generation:
        yield "The collection has no index yet, so only the exact scan was judged."
    if report.changed:
        yield "Images came or went meanwhile: the figures are not of one state of the collection."


def _without_copies(report: EvaluationReport) -> str:
    """Return what the scores are without the queries that have copies."""
    best = report.runs[0]
    clean = best.without_copies
    if clean is None or clean.p_at_k is None:
        return "every query has one"
    return f"without the queries that have copies, P@{report.k} is {clean.p_at_k:.3f} instead of {best.p_at_k:.3f}"
