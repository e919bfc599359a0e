"""The quality pages: a collection over time, all evaluations, an evaluation, two runs side by side; query pictures."""

from collections.abc import Sequence
from contextlib import suppress
from typing import Annotated, Any, TypeVar

from flask import Blueprint, Response, render_template, request, url_for
from flask.typing import ResponseReturnValue
from pydantic import BaseModel, Field

from services.web.api.inputs import CollectionPath, EvaluationPath, Input, Page, checked, checked_texts
from services.web.clients import web_clients
from services.web.pages import charts, evaluation_views
from services.web.thumbnails import MEDIA_TYPE
from shared.errors import NotFound, ObjectNotFound, Unavailable
from shared.evaluation.query_sets import QuerySets
from shared.evaluation.report import EvaluationReport
from shared.evaluation.reports import Evaluations
from shared.evaluation.rows import QueryRow, query_rows, rows_of
from shared.evaluation.run_scores import RunScores
from shared.rpc.query import MAX_K, Collection
from shared.schemas.recall import RecallAnswer, recall_answer
from shared.state.recall_log import hour_of
from shared.storage import layout

_PAGE = 50  # evaluations of one page
_OTHERS = 20  # evaluations to compare with, to choose from
_QUERIES = 12  # queries of one page
_HITS = 24  # pictures of a query's hits
_TWINS = 24  # pictures of queries that the collection holds, and pairs of those that it nearly holds
_COPIES = 500  # rows of the table of copies
_DAYS = 90  # of live recall
_SAMPLE = 200  # queries of a sample, if the collection has as many
_ORIGINAL_BYTES = 32 * 2**20  # what a query is taken to need while its thumbnail is made
_FOREVER = {"Cache-Control": "private, max-age=31536000, immutable"}

blueprint = Blueprint("quality", __name__)
for filter_ in (evaluation_views.run_title, evaluation_views.queries_title, evaluation_views.index_title):
    blueprint.add_app_template_filter(filter_)

Model = TypeVar("Model", bound=BaseModel)
RunId = Annotated[str, Field(pattern=r"^[a-z0-9-]{0,64}$")]


class HistoryView(Input):
    """Which evaluations of a collection are shown: those by the same queries, and which of their runs."""

    run: RunId = ""
    by: Annotated[str, Field(pattern=r"^[a-z0-9_-]{0,160}$")] = ""
    page: Page = 1


class ListView(Input):
    """Which page of the evaluations of all collections is shown."""

    page: Page = 1


class EvaluationView(Input):
    """Which run of an evaluation is looked into, what its grid shows, and which page of its queries."""

    run: RunId = ""
    measure: evaluation_views.Measure = "recall_at_k"
    page: Page = 1


class ComparisonView(Input):
    """Which runs of which evaluations are compared."""

    a: Annotated[str, Field(pattern=r"^[a-z0-9-]{1,64}$")]
    b: Annotated[str, Field(pattern=r"^[a-z0-9-]{1,64}$")]
    run_a: RunId = ""
    run_b: RunId = ""
    page: Page = 1


class QueryPath(Input):
    """Path of a query."""

    digest: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


# A collection


@blueprint.get("/collections/<name>/quality")
def quality_page(name: str) -> ResponseReturnValue:
    """Show how good the answers of a collection were found to be, over time."""
    path = checked(CollectionPath, {"name": name}, "collection")
    view = _texts(HistoryView)
    clients = web_clients()
    evaluations = Evaluations(clients.store)
    known = evaluations.ids(path.name)
    collection = _collection(path.name, known)
    reports = _outlines(evaluations, known[(view.page - 1) * _PAGE : view.page * _PAGE])
    groups = {
        evaluation_views.comparison_key(report): evaluation_views.queries_title(report) for report in reversed(reports)
    }
    by = view.by if view.by in groups else evaluation_views.comparison_key(reports[0]) if reports else ""
    shown = [report for report in reports if evaluation_views.comparison_key(report) == by]
    runs = {run.id: evaluation_views.run_title(run) for report in reversed(shown) for run in report.runs}
    run_id = view.run if view.run in runs else _default_run(shown[0]) if shown else ""
    latest = [(report, run) for report in shown if (run := report.run(run_id)) is not None][:2]
    return render_template(
        "quality.html",
        name=path.name,
        collection=collection,
        sample=min(_SAMPLE, collection.labelled) if collection else 0,
        most_k=MAX_K - 1,
        kept=QuerySets(clients.store, clients.state).names(),
        reports=reports,
        total=len(known),
        page=view.page,
        pages=max(1, -(-len(known) // _PAGE)),
        groups=groups,
        by=by,
        shown=shown,
        runs=runs,
        run_id=run_id,
        links={report.id: _address(report) for report in reports},
        latest=latest[0] if latest else None,
        run_before=latest[1][1] if len(latest) > 1 else None,
        classes=_class_history(shown, run_id),
        live=_live(collection),
        charts=charts,
    )


def _collection(name: str, known: Sequence[object]) -> Collection | None:
    """Return a collection, None if it is gone but its evaluations are there."""
    try:
        return web_clients().query.collection(name)
    except NotFound:
        if not known:
            raise
        return None


def _outlines(evaluations: Evaluations, ids: Sequence[tuple[str, str]]) -> list[EvaluationReport]:
    """Return evaluations without what only their own pages show, so that many take little memory."""
    outlines = []
    for collection, evaluation in ids:
        with suppress(NotFound):  # removed since it was listed
            outlines.append(evaluations.get(collection, evaluation).outline())
    return outlines


def _default_run(report: EvaluationReport) -> str:
    """Return the run that says how good searches are: by the live index if there is one, among all images."""
    ids = [run.id for run in report.runs]
    return "lsh-cosine-all" if "lsh-cosine-all" in ids else ids[0]


def _class_history(reports: Sequence[EvaluationReport], run_id: str) -> evaluation_views.Table | None:
    table = evaluation_views.class_history(reports, run_id, "p_at_k")
    return table if len(table.columns) > 1 else None


def _live(collection: Collection | None) -> RecallAnswer | None:
    """Return the recall of live searches; None if none was checked, or the index that has it is away."""
    if collection is None:
        return None
    try:
        kept = web_clients().state.recall_log.read(collection.name, days=_DAYS)
    except Unavailable:
        return None
    created = hour_of(collection.created)  # before, another collection had the name
    recall = recall_answer(collection.name, [hour for hour in kept if hour.hour >= created])
    return recall if recall["sampled"] else None


# All collections


@blueprint.get("/evaluations")
def evaluations_page() -> ResponseReturnValue:
    """List the evaluations of all collections, the newest first."""
    view = _texts(ListView)
    evaluations = Evaluations(web_clients().store)
    known = evaluations.ids()
    reports = _outlines(evaluations, known[(view.page - 1) * _PAGE : view.page * _PAGE])
    return render_template(
        "evaluations.html",
        listed=[(report, report.run(_default_run(report)), _address(report)) for report in reports],
        total=len(known),
        page=view.page,
        pages=max(1, -(-len(known) // _PAGE)),
    )


# An evaluation


@blueprint.get("/evaluations/<collection>/<evaluation>")
def evaluation_page(collection: str, evaluation: str) -> ResponseReturnValue:
    """Show an evaluation."""
    name = checked(CollectionPath, {"name": collection}, "collection").name
    path = checked(EvaluationPath, {"id": evaluation}, "evaluation")
    view = _texts(EvaluationView)
    clients = web_clients()
    evaluations = Evaluations(clients.store)
    report = evaluations.get(name, path.id)
    run = _run(report, view.run)
    rows = rows_of(clients.store, name, path.id, run=run.id)
    first = (view.page - 1) * _QUERIES
    others = [(other_name, other) for other_name, other in evaluations.ids(name) if other != path.id][:_OTHERS]
    return render_template(
        "evaluation.html",
        name=name,
        report=report,
        run=run,
        view=view,
        here_link=lambda **changes: _address(report, **_given(view, run=run.id) | changes),
        rivals=list(evaluation_views.rivals(report, run)),
        maps=evaluation_views.grid_maps(report, run, view.measure),
        measures=evaluation_views.MEASURES,
        stages=[*evaluation_views.stages(report), "total"],
        confusion=evaluation_views.confusion_table(run),
        worst=evaluation_views.worst(rows, limit=_QUERIES, offset=first),
        pages=max(1, -(-len(rows) // _QUERIES)),
        first=first,
        twins=evaluation_views.twins(rows) if report.query_set.kind != "sample" else [],
        leakage=evaluation_views.leakage(report),
        rows_by_digest={row["digest"]: row for row in query_rows(rows)},
        most_twins=_TWINS,
        most_copies=_COPIES,
        most_hits=_HITS,
        others=_outlines(evaluations, others),
        charts=charts,
        query_picture=_query_picture,
    )


def _run(report: EvaluationReport, run_id: str) -> RunScores:
    """Return a run; if none is named, the default one."""
    run = report.run(run_id or _default_run(report))
    if run is None:
        raise NotFound(f"the evaluation {report.id!r} has no run {run_id!r}")
    return run


def _address(report: EvaluationReport, **query: Any) -> str:
    return url_for("quality.evaluation_page", collection=report.collection.name, evaluation=report.id, **query)


def _given(view: BaseModel, **more: object) -> dict[str, Any]:
    """Return what the address of a view has to say: what is not the default."""
    return view.model_dump(exclude_defaults=True) | more


def _query_picture(collection: str, row: QueryRow) -> str:
    """Return the address of a query's picture: that of the collection's image if the collection holds it."""
    if row["in_collection"]:
        return url_for("api.get_thumbnail", name=collection, id=row["id"])
    return url_for("quality.query_thumbnail", digest=row["digest"])


@blueprint.get("/queries/<digest>/thumbnail")
def query_thumbnail(digest: str) -> ResponseReturnValue:
    """Return a small picture of a query of an evaluation."""
    path = checked(QueryPath, {"digest": digest}, "query")
    clients = web_clients()
    try:
        data = clients.thumbnails.get(path.digest)
        if data is None:
            with clients.memory.holding(_ORIGINAL_BYTES):
                data = clients.thumbnails.make(path.digest, key=layout.query_key(path.digest))
    except ObjectNotFound:
        raise NotFound(f"there is no query {path.digest[:16]}…") from None
    return Response(data, content_type=MEDIA_TYPE, headers=_FOREVER)


# Two runs


@blueprint.get("/evaluations/compare")
def comparison_page() -> ResponseReturnValue:
    """Show two runs side by side, with the queries that they answer differently."""
    view = _texts(ComparisonView)
    clients = web_clients()
    evaluations = Evaluations(clients.store)
    reports = [evaluations.get(evaluations.find(evaluation), evaluation) for evaluation in (view.a, view.b)]
    runs = [_run(report, run_id) for report, run_id in zip(reports, (view.run_a, view.run_b), strict=True)]
    names = [report.collection.name for report in reports]
    tables = [
        rows_of(clients.store, report.collection.name, report.id, run=run.id)
        for report, run in zip(reports, runs, strict=True)
    ]
    comparison = evaluation_views.compare(*tables)
    first = (view.page - 1) * _QUERIES
    return render_template(
        "comparison.html",
        view=view,
        reports=reports,
        runs=runs,
        names=names,
        comparison=comparison,
        pairs=comparison.changed[first : first + _QUERIES],
        first=first,
        pages=max(1, -(-len(comparison.changed) // _QUERIES)),
        others=[_choices(evaluations, report) for report in reports],
        most_hits=_HITS,
        titles=charts.score_titles(reports[0].k),
        address=_address,
        query_picture=_query_picture,
        page_link=lambda page: url_for("quality.comparison_page", **_given(view, page=page)),
    )


def _choices(evaluations: Evaluations, chosen: EvaluationReport) -> list[EvaluationReport]:
    """Return the evaluations of a collection to choose from, one of which is chosen."""
    outlines = _outlines(evaluations, evaluations.ids(chosen.collection.name)[:_OTHERS])
    return outlines if chosen.id in {report.id for report in outlines} else [*outlines, chosen.outline()]


def _texts(model: type[Model]) -> Model:
    """Return what is known of a page's address; a link may carry more, and leave fields empty."""
    texts = request.args.to_dict(flat=False)
    known = {name: values for name, values in texts.items() if name in model.model_fields and values != [""]}
    return checked_texts(model, known, "page")
