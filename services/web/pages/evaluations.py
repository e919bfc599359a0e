"""The pages of quality: a collection over time, all evaluations, one of them, two runs side by side; query pictures."""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Annotated, Any, Literal, TypeVar

from flask import Blueprint, Response, render_template, request, url_for
from flask.typing import ResponseReturnValue
from pydantic import BaseModel, Field

from services.web.api.inputs import CollectionPath, EvaluationPath, Input, Page, checked, checked_texts
from services.web.api.recall_schemas import recall_answer
from services.web.clients import parts
from services.web.pages import charts, evaluation_views
from services.web.thumbnails import MEDIA_TYPE
from shared.errors import NotFound, ObjectNotFound, Unavailable
from shared.evaluation.query_sets import QuerySets
from shared.evaluation.reports import Evaluations
from shared.evaluation.rows import rows_of
from shared.rpc.query import MAX_K, Collection
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
Model = TypeVar("Model", bound=BaseModel)
RunId = Annotated[str, Field(pattern=r"^[a-z0-9-]{0,64}$")]


class HistoryView(Input):
    """Which evaluations of a collection are shown: those judged by the same, and which of their runs."""

    run: RunId = ""
    by: Annotated[str, Field(pattern=r"^[a-z0-9_-]{0,160}$")] = ""
    page: Page = 1


class ListView(Input):
    """Which page of the evaluations of all collections is shown."""

    page: Page = 1


class EvaluationView(Input):
    """Which run of an evaluation is looked into, what its grid shows, and which page of its queries."""

    run: RunId = ""
    measure: Literal["recall_at_k", "p_at_k", "ap_at_k", "candidate_fraction"] = "recall_at_k"
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
    here = parts()
    evaluations = Evaluations(here.store)
    known = evaluations.ids(path.name)
    collection = _collection(path.name, known)
    reports = _reports(evaluations, known[(view.page - 1) * _PAGE : view.page * _PAGE])
    groups = {
        evaluation_views.judged_by(report): evaluation_views.queries_title(report) for report in reversed(reports)
    }
    by = view.by if view.by in groups else evaluation_views.judged_by(reports[0]) if reports else ""
    shown = [report for report in reports if evaluation_views.judged_by(report) == by]
    runs = {run["id"]: evaluation_views.title(run) for report in reversed(shown) for run in report["runs"]}
    run = view.run if view.run in runs else _default_run(shown[0]) if shown else ""
    links = {report["id"]: _address(report) for report in reports}
    latest = next(((one, its) for one in shown if (its := evaluation_views.run_of(one, run)) is not None), None)
    return render_template(
        "quality.html",
        name=path.name,
        collection=collection,
        sample=min(_SAMPLE, collection.labelled) if collection else 0,
        most_k=MAX_K - 1,
        kept=QuerySets(here.store, here.state).names(),
        reports=reports,
        total=len(known),
        page=view.page,
        pages=max(1, -(-len(known) // _PAGE)),
        groups=groups,
        by=by,
        shown=shown,
        runs=runs,
        run=run,
        links=links,
        latest=latest,
        before=_before(shown, run),
        classes=_class_history(shown, run),
        live=_live(collection),
        views=evaluation_views,
        charts=charts,
    )


def _collection(name: str, known: Sequence[object]) -> Collection | None:
    """Return a collection, None if it is gone but its evaluations are there."""
    try:
        return parts().query.collection(name)
    except NotFound:
        if not known:
            raise
        return None


def _reports(evaluations: Evaluations, ids: Sequence[tuple[str, str]]) -> list[dict[str, Any]]:
    found = []
    for collection, evaluation in ids:
        with suppress(NotFound):  # it went since it was listed
            found.append(_light(evaluations.get(collection, evaluation)))
    return found


def _light(report: dict[str, Any]) -> dict[str, Any]:
    """Return an evaluation without what only its own page shows, so that many take little memory."""
    runs = [{name: value for name, value in run.items() if name != "confusion"} for run in report["runs"]]
    queries = {name: value for name, value in report["query_set"].items() if name != "copies"}
    return report | {"runs": runs, "grid": [{"runs": []}] * len(report["grid"]), "query_set": queries}


def _default_run(report: Mapping[str, Any]) -> str:
    """Return the run that says how good searches are: by the live index if there is one, among all images."""
    ids = [str(run["id"]) for run in report["runs"]]
    return "lsh-cosine-all" if "lsh-cosine-all" in ids else ids[0]


def _before(reports: Sequence[Mapping[str, Any]], run: str) -> dict[str, Any] | None:
    """Return the run of the evaluation before the latest."""
    found = [its for report in reports if (its := evaluation_views.run_of(report, run)) is not None]
    return found[1] if len(found) > 1 else None


def _class_history(reports: Sequence[Mapping[str, Any]], run: str) -> evaluation_views.Table | None:
    table = evaluation_views.class_history(reports, run, "p_at_k")
    return table if len(table.columns) > 1 else None


def _live(collection: Collection | None) -> Mapping[str, Any] | None:
    """Return the recall of live searches; None if none was checked, or the index that has it is away."""
    if collection is None:
        return None
    try:
        read = parts().recall.read(collection.name, days=_DAYS)
    except Unavailable:
        return None
    made = hour_of(collection.created)  # before, another one had the name
    hours = [hour for hour in read if hour.hour >= made]
    found = recall_answer(collection.name, hours)
    return found if found["sampled"] else None


# All collections


@blueprint.get("/evaluations")
def evaluations_page() -> ResponseReturnValue:
    """List the evaluations of all collections, the newest first."""
    view = _texts(ListView)
    evaluations = Evaluations(parts().store)
    known = evaluations.ids()
    reports = _reports(evaluations, known[(view.page - 1) * _PAGE : view.page * _PAGE])
    return render_template(
        "evaluations.html",
        listed=[
            (report, evaluation_views.run_of(report, _default_run(report)), _address(report)) for report in reports
        ],
        total=len(known),
        page=view.page,
        pages=max(1, -(-len(known) // _PAGE)),
        views=evaluation_views,
    )


# An evaluation


@blueprint.get("/evaluations/<collection>/<evaluation>")
def evaluation_page(collection: str, evaluation: str) -> ResponseReturnValue:
    """Show an evaluation."""
    name = checked(CollectionPath, {"name": collection}, "collection").name
    path = checked(EvaluationPath, {"id": evaluation}, "evaluation")
    view = _texts(EvaluationView)
    here = parts()
    evaluations = Evaluations(here.store)
    report = evaluations.get(name, path.id)
    run = _run(report, view.run)
    rows = rows_of(here.store, name, path.id, run=run["id"])
    queries = report["query_set"]
    others = [one for one in evaluations.ids(name) if one[1] != path.id][:_OTHERS]
    return render_template(
        "evaluation.html",
        name=name,
        report=report,
        run=run,
        view=view,
        here_link=lambda **changes: _address(report, **_given(view, run=run["id"]) | changes),
        rivals=list(evaluation_views.rivals(report, run)),
        maps=evaluation_views.grid_maps(report, run, view.measure),
        confusion=evaluation_views.confusion(run, run["per_class"]),
        worst=evaluation_views.worst(rows, limit=_QUERIES, offset=(view.page - 1) * _QUERIES),
        pages=max(1, -(-len(rows) // _QUERIES)),
        first=(view.page - 1) * _QUERIES,
        twins=evaluation_views.twins(rows) if queries["kind"] != "sample" else [],
        leakage=evaluation_views.leakage(report),
        asked_rows={row["digest"]: row for row in rows.select(["digest", "id", "in_collection"]).to_pylist()},
        most_twins=_TWINS,
        most_copies=_COPIES,
        most_hits=_HITS,
        others=_reports(evaluations, others),
        views=evaluation_views,
        charts=charts,
        query_picture=_query_picture,
    )


def _run(report: Mapping[str, Any], run: str) -> dict[str, Any]:
    found = evaluation_views.run_of(report, run or _default_run(report))
    if found is None:
        raise NotFound(f"the evaluation {report['id']!r} has no run {run!r}")
    return found


def _address(report: Mapping[str, Any], **query: Any) -> str:
    return url_for("quality.evaluation_page", collection=report["collection"]["name"], evaluation=report["id"], **query)


def _given(view: BaseModel, **more: object) -> dict[str, Any]:
    """Return what an address says of a view, without what goes without saying."""
    return view.model_dump(exclude_defaults=True) | more


def _query_picture(collection: str, row: Mapping[str, Any]) -> str:
    """Return the address of a query's picture; what the collection holds comes from there."""
    if row["in_collection"]:
        return url_for("api.get_thumbnail", name=collection, id=row["id"])
    return url_for("quality.query_thumbnail", digest=row["digest"])


@blueprint.get("/queries/<digest>/thumbnail")
def query_thumbnail(digest: str) -> ResponseReturnValue:
    """Return a small picture of a query that some evaluation asked."""
    path = checked(QueryPath, {"digest": digest}, "query")
    here = parts()
    try:
        data = here.thumbnails.get(path.digest)
        if data is None:
            with here.memory.holding(_ORIGINAL_BYTES):
                data = here.thumbnails.make(path.digest, key=layout.query_key(path.digest))
    except ObjectNotFound:
        raise NotFound(f"there is no query {path.digest[:16]}…") from None
    return Response(data, content_type=MEDIA_TYPE, headers=_FOREVER)


# Two runs


@blueprint.get("/evaluations/compare")
def comparison_page() -> ResponseReturnValue:
    """Show two runs side by side, with the queries that they answer differently."""
    view = _texts(ComparisonView)
    here = parts()
    evaluations = Evaluations(here.store)
    reports = [evaluations.get(evaluations.find(one), one) for one in (view.a, view.b)]
    runs = [_run(report, run) for report, run in zip(reports, (view.run_a, view.run_b), strict=True)]
    names = [str(report["collection"]["name"]) for report in reports]
    tables = [
        rows_of(here.store, name, report["id"], run=run["id"])
        for name, report, run in zip(names, reports, runs, strict=True)
    ]
    found = evaluation_views.compare(*tables)
    first = (view.page - 1) * _QUERIES
    return render_template(
        "comparison.html",
        view=view,
        reports=reports,
        runs=runs,
        names=names,
        found=found,
        pairs=found.changed[first : first + _QUERIES],
        first=first,
        pages=max(1, -(-len(found.changed) // _QUERIES)),
        others=[_choices(evaluations, report) for report in reports],
        most_hits=_HITS,
        views=evaluation_views,
        titles=charts.names(reports[0]["k"]),
        address=_address,
        query_picture=_query_picture,
        page_link=lambda page: url_for("quality.comparison_page", **_given(view, page=page)),
    )


def _choices(evaluations: Evaluations, report: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the evaluations of a collection to choose from, one of which is chosen."""
    name = report["collection"]["name"]
    found = _reports(evaluations, evaluations.ids(name)[:_OTHERS])
    return found if report["id"] in {one["id"] for one in found} else [*found, _light(dict(report))]


def _texts(model: type[Model]) -> Model:
    """Return what is known of a page's address; a link may carry more, and leave fields empty."""
    texts = request.args.to_dict(flat=False)
    known = {name: values for name, values in texts.items() if name in model.model_fields and values != [""]}
    return checked_texts(model, known, "page")
