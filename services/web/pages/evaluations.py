"""The quality pages: a collection over time, all evaluations, an evaluation, two runs side by side; query pictures."""

from collections import OrderedDict
from collections.abc import Sequence
from contextlib import suppress
from typing import Annotated, Any, TypeVar

from flask import current_app, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue
from pydantic import BaseModel, Field

from services.web import removal
from services.web.access import (
    GuardedBlueprint,
    authorize_evaluation,
    each,
    of_path,
    of_view,
    open_collections,
    shown_queries,
    usable_names,
)
from services.web.api.files import thumbnail_of
from services.web.api.inputs import CollectionPath, EvaluationPath, Input, Page, checked, checked_texts
from services.web.clients import web_clients
from services.web.languages import told
from services.web.pages import charts, evaluation_views
from shared.errors import NotFound, ObjectNotFound, Unavailable
from shared.evaluation.evaluations import Evaluations, unknown_evaluation
from shared.evaluation.query_sets import QuerySets
from shared.evaluation.redaction import NO_DIGEST
from shared.evaluation.report import EvaluationReport
from shared.evaluation.rows import QueryRow, query_rows, rows_of
from shared.evaluation.run_scores import RunScores
from shared.records.model import LABEL, PROSE
from shared.rpc.query import MAX_K, Collection
from shared.schemas.recall import RecallAnswer, recall_answer
from shared.state.recall_log import hour_of
from shared.storage import evaluation_layout

_PAGE = 50  # evaluations of one page
_OTHERS = 20  # evaluations to compare with, to choose from
_QUERIES = 12  # queries of one page
_HITS = 24  # pictures of a query's hits
_TWINS = 24  # pictures of queries that the collection holds, and pairs of those that it nearly holds
_COPIES = 500  # rows of the table of copies
_DAYS = 90  # of live recall
_SAMPLE = 200  # queries of a sample, if the collection has as many
_KEPT = 32  # evaluations whose digests are kept
_DIGESTS = "artseek-digests"
_ORIGINAL_BYTES = 32 * 2**20  # what a query is taken to need while its thumbnail is made

blueprint = GuardedBlueprint("quality", __name__)
for filter_ in (evaluation_views.run_title, evaluation_views.queries_title, evaluation_views.index_title):
    blueprint.add_app_template_filter(filter_)
blueprint.add_app_template_filter(evaluation_views.shares_class)

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


@blueprint.get("/collections/<name>/quality", access=of_path("inspect"))
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
        sample=min(_SAMPLE, collection.labelled or collection.images) if collection else 0,
        fields=_fields_of(path.name) if collection else [],
        most_k=MAX_K - 1,
        kept=usable_names(QuerySets(clients.store, clients.state)),
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


def _fields_of(name: str) -> list[str]:
    """Return the fields of a collection whose values may be classes."""
    try:
        types = web_clients().query.facets(name, fields=[LABEL], limit=1).types
    except (NotFound, Unavailable):
        return []
    return sorted(field for field in types if field not in PROSE)


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


@blueprint.get("/evaluations", access=each("inspect", signed_in=True))
def evaluations_page() -> ResponseReturnValue:
    """List the evaluations of all collections, the newest first."""
    view = _texts(ListView)
    evaluations = Evaluations(web_clients().store)
    seen = open_collections("inspect")
    known = [found for found in evaluations.ids() if seen is None or found[0] in seen]
    reports = _outlines(evaluations, known[(view.page - 1) * _PAGE : view.page * _PAGE])
    return render_template(
        "evaluations.html",
        listed=[(report, report.run(_default_run(report)), _address(report)) for report in reports],
        total=len(known),
        page=view.page,
        pages=max(1, -(-len(known) // _PAGE)),
    )


# An evaluation


@blueprint.get("/evaluations/<collection>/<evaluation>", access=of_path("inspect", "collection"))
def evaluation_page(collection: str, evaluation: str) -> ResponseReturnValue:
    """Show an evaluation."""
    name = checked(CollectionPath, {"name": collection}, "collection").name
    path = checked(EvaluationPath, {"id": evaluation}, "evaluation")
    view = _texts(EvaluationView)
    clients = web_clients()
    evaluations = Evaluations(clients.store)
    report = evaluations.get(name, path.id)
    run = _run(report, view.run)
    shown = shown_queries(report)
    rows, seen = shown.rows(rows_of(clients.store, name, path.id, run=run.id)), shown.report(report)
    first = (view.page - 1) * _QUERIES
    others = [(other_name, other) for other_name, other in evaluations.ids(name) if other != path.id][:_OTHERS]
    return render_template(
        "evaluation.html",
        name=name,
        report=seen,
        run=run,
        view=view,
        here_link=lambda **changes: _address(report, **_given(view, run=run.id) | changes),
        compared_runs=list(evaluation_views.compared_runs(report, run)),
        maps=evaluation_views.grid_maps(report, run, view.measure),
        measures=evaluation_views.MEASURES,
        stages=[*evaluation_views.stages(report), "total"],
        confusion=evaluation_views.confusion_table(run),
        worst=evaluation_views.worst(rows, limit=_QUERIES, offset=first),
        pages=max(1, -(-len(rows) // _QUERIES)),
        first=first,
        twins=evaluation_views.twins(rows) if report.query_set.kind != "sample" else [],
        leakage=evaluation_views.leakage(report, seen),
        rows_by_digest={row["digest"]: row for row in query_rows(rows)},
        most_twins=_TWINS,
        most_copies=_COPIES,
        most_hits=_HITS,
        others=_outlines(evaluations, others),
        charts=charts,
        query_picture=_query_picture,
    )


@blueprint.post("/evaluations/<collection>/<evaluation>/delete", access=of_path("change", "collection"))
def delete_evaluation(collection: str, evaluation: str) -> ResponseReturnValue:
    """Delete an evaluation, and show what evaluations there are."""
    name = checked(CollectionPath, {"name": collection}, "collection").name
    path = checked(EvaluationPath, {"id": evaluation}, "evaluation")
    if Evaluations(web_clients().store).find(path.id) != name:
        raise unknown_evaluation(path.id)
    removal.delete_evaluation(web_clients(), path.id)
    return redirect(url_for("quality.evaluations_page"), 303)


def _run(report: EvaluationReport, run_id: str) -> RunScores:
    """Return a run; if none is named, the default one."""
    run = report.run(run_id or _default_run(report))
    if run is None:
        raise NotFound(told("the evaluation %(id)s has no run %(run)s", id=repr(report.id), run=repr(run_id)))
    return run


def _address(report: EvaluationReport, **query: Any) -> str:
    return url_for("quality.evaluation_page", collection=report.collection.name, evaluation=report.id, **query)


def _given(view: BaseModel, **more: object) -> dict[str, Any]:
    """Return what the address of a view has to say: what is not the default."""
    return view.model_dump(exclude_defaults=True) | more


def _digests(collection: str, evaluation: str) -> frozenset[str]:
    """Return the digests of the queries of an evaluation; those of the latest ones are kept."""
    kept: OrderedDict[tuple[str, str], frozenset[str]] = current_app.extensions.setdefault(_DIGESTS, OrderedDict())
    found = kept.get((collection, evaluation))
    if found is None:
        rows = rows_of(web_clients().store, collection, evaluation)
        found = frozenset(rows.column("digest").unique().to_pylist())
        kept[collection, evaluation] = found
        while len(kept) > _KEPT:
            kept.popitem(last=False)
    return found


def _query_picture(collection: str, evaluation: str, row: QueryRow) -> str:
    """Return the address of a query's picture: that of the collection's image if the collection holds it.

    It is empty for a query that was purged, or that the requester may not see.
    """
    if row["digest"] == NO_DIGEST:
        return ""
    if row["in_collection"]:
        return url_for("api.get_thumbnail", name=collection, id=row["id"])
    return url_for("quality.query_thumbnail", collection=collection, evaluation=evaluation, digest=row["digest"])


@blueprint.get(
    "/evaluations/<collection>/<evaluation>/queries/<digest>/thumbnail", access=of_path("inspect", "collection")
)
def query_thumbnail(collection: str, evaluation: str, digest: str) -> ResponseReturnValue:
    """Return a small picture of a query of an evaluation."""
    name = checked(CollectionPath, {"name": collection}, "collection").name
    evaluated = checked(EvaluationPath, {"id": evaluation}, "evaluation").id
    path = checked(QueryPath, {"digest": digest}, "query")
    clients = web_clients()
    shown = shown_queries(Evaluations(clients.store).get(name, evaluated))
    if path.digest not in shown or path.digest not in _digests(name, evaluated):
        raise NotFound(told("there is no query %(digest)s", digest=f"{path.digest[:16]}…"))
    # Asked for every time: of a query that was purged, nothing is shown.
    key = evaluation_layout.query_key(path.digest)
    if not clients.store.exists(key):
        key = evaluation_layout.query_key(_stored(name, evaluated, path.digest))
    if not clients.store.exists(key):
        raise NotFound(told("there is no query %(digest)s", digest=f"{path.digest[:16]}…"))
    try:
        return thumbnail_of(clients, path.digest, _ORIGINAL_BYTES, key=key)
    except ObjectNotFound:
        raise NotFound(told("there is no query %(digest)s", digest=f"{path.digest[:16]}…")) from None


def _stored(collection: str, evaluation: str, digest: str) -> str:
    """Return the digest of what is stored of a query of an evaluation: of a page, that of its picture."""
    clients = web_clients()
    report = Evaluations(clients.store).get(collection, evaluation)
    with suppress(NotFound):  # a set is gone once nothing refers to it
        queries = QuerySets(clients.store, clients.state).get(report.query_set.digest).queries
        return next((query.stored for query in queries if query.digest == digest), digest)
    return digest


# Two runs


@blueprint.get("/evaluations/compare", access=of_view("inspect", signed_in=True))
def comparison_page() -> ResponseReturnValue:
    """Show two runs side by side, with the queries that they answer differently."""
    view = _texts(ComparisonView)
    clients = web_clients()
    evaluations = Evaluations(clients.store)
    reports = [evaluations.get(authorize_evaluation(evaluation), evaluation) for evaluation in (view.a, view.b)]
    runs = [_run(report, run_id) for report, run_id in zip(reports, (view.run_a, view.run_b), strict=True)]
    names = [report.collection.name for report in reports]
    tables = [
        rows_of(clients.store, report.collection.name, report.id, run=run.id)
        for report, run in zip(reports, runs, strict=True)
    ]
    comparison = evaluation_views.compare(*tables)
    first = (view.page - 1) * _QUERIES
    shown_a, shown_b = map(shown_queries, reports)
    pairs = comparison.changed[first : first + _QUERIES]
    return render_template(
        "comparison.html",
        view=view,
        reports=reports,
        runs=runs,
        names=names,
        comparison=comparison,
        pairs=[evaluation_views.Pair(shown_a.row(pair.a), shown_b.row(pair.b)) for pair in pairs],
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
