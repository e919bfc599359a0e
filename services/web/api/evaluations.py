"""Evaluations: how good the answers of collections were found to be, and evaluating a collection now."""

from flask import request
from flask.typing import ResponseReturnValue

from services.web import quotas, removal
from services.web.access import (
    authorize,
    each,
    of_evaluation,
    of_view,
    open_collections,
    require_use,
    shown_queries,
    shown_report,
)
from services.web.api.evaluation_schemas import (
    EvaluationsAnswer,
    EvaluationStartedAnswer,
    JudgedQueriesAnswer,
    evaluation_url,
    queries_answer,
    summary_answer,
)
from services.web.api.inputs import (
    MAX_JSON,
    EvaluationListing,
    EvaluationPath,
    EvaluationQueriesListing,
    NewEvaluation,
    checked,
    read_json,
)
from services.web.api.openapi import Answer, Body, Schema, flat_schema
from services.web.api.operations import api, deletion_reply, reply
from services.web.clients import web_clients
from services.web.problems import FieldError, Problem, invalid
from shared.errors import Invalid, NotFound
from shared.evaluation.evaluations import Evaluations
from shared.evaluation.grids import grid_settings
from shared.evaluation.index_setting import IndexSetting
from shared.evaluation.query_sets import QuerySets
from shared.evaluation.report_json import EvaluationAnswer
from shared.evaluation.rows import rows_of
from shared.messaging.job_submission import submit
from shared.messaging.messages import EvaluationRequest
from shared.schemas.images import DeletionAnswer
from shared.schemas.urls import job_url
from shared.state import Rejection
from shared.state.job_ids import new_job_id


def _body() -> Schema:
    """Return the schema of a body that names a sample or a kept set, one of the two."""
    schema = flat_schema(NewEvaluation)
    for name in ("sample", "queries", "grid"):
        del schema["properties"][name]["default"]  # which means that there is none
    both = {"required": ["sample", "queries"]}
    return {**schema, "anyOf": [{"required": ["sample"]}, {"required": ["queries"]}], "not": both}


@api.operation(
    "GET",
    "/evaluations",
    rule=each("inspect", signed_in=True),
    query_model=EvaluationListing,
    answers={200: Answer("A part of the evaluations.", EvaluationsAnswer)},
    problems=(503,),
)
def list_evaluations(query: EvaluationListing) -> ResponseReturnValue:
    """List the evaluations, the newest first."""
    evaluations = Evaluations(web_clients().store)
    seen = open_collections("inspect")
    ids = [found for found in evaluations.ids(query.collection or None) if seen is None or found[0] in seen]
    page = ids[query.offset : query.offset + query.limit]
    reports = (evaluations.get(collection, evaluation) for collection, evaluation in page)
    summaries = [summary_answer(report, query_set=shown_report(report).query_set.summary()) for report in reports]
    return reply(EvaluationsAnswer(evaluations=summaries, total=len(ids), limit=query.limit, offset=query.offset))


@api.operation(
    "GET",
    "/evaluations/{id}",
    rule=of_evaluation("inspect"),
    path_model=EvaluationPath,
    answers={200: Answer("The evaluation.", EvaluationAnswer)},
    problems=(404, 503),
)
def get_evaluation(path: EvaluationPath) -> ResponseReturnValue:
    """Tell what an evaluation found.

    Copies of queries, and names of refused ones, are told to who may look at the collections that these come from.
    """
    evaluations = Evaluations(web_clients().store)
    return reply(shown_report(evaluations.get(evaluations.find(path.id), path.id)).to_json())


@api.operation(
    "DELETE",
    "/evaluations/{id}",
    rule=of_evaluation("change"),
    path_model=EvaluationPath,
    answers={
        202: Answer("It is under way, and ends at its next step.", DeletionAnswer, headers={"Location": "The job."}),
        204: Answer("The evaluation is gone, and its queries if nothing else uses them."),
    },
    problems=(404, 503),
)
def delete_evaluation(path: EvaluationPath) -> ResponseReturnValue:
    """Delete an evaluation; one that is under way is cancelled first."""
    return deletion_reply(removal.delete_evaluation(web_clients(), path.id))


@api.operation(
    "GET",
    "/evaluations/{id}/queries",
    rule=of_evaluation("inspect"),
    path_model=EvaluationPath,
    query_model=EvaluationQueriesListing,
    answers={200: Answer("A part of the queries.", JudgedQueriesAnswer)},
    problems=(404, 503),
)
def list_evaluated_queries(path: EvaluationPath, query: EvaluationQueriesListing) -> ResponseReturnValue:
    """List what each query of a run of an evaluation found.

    Queries from collections that one may not look at have neither name nor id, and a digest of zeros.
    """
    store = web_clients().store
    evaluations = Evaluations(store)
    collection = evaluations.find(path.id)
    report = evaluations.get(collection, path.id)
    run = query.run or report.runs[0].id
    rows = shown_queries(report).rows(rows_of(store, collection, path.id, run=run))
    if not len(rows):
        raise NotFound(f"the evaluation {path.id!r} has no run {run!r}")
    return reply(queries_answer(rows, run=run, worst=query.order == "worst", limit=query.limit, offset=query.offset))


@api.operation(
    "POST",
    "/evaluations",
    rule=of_view("change", signed_in=True),
    bodies={"application/json": Body(_body())},
    answers={202: Answer("It is on its way.", EvaluationStartedAnswer, headers={"Location": "The job."})},
    problems=(400, 404, 413, 415, 503),
)
def judge_collection() -> ResponseReturnValue:
    """Evaluate a collection, by a sample of its labelled images or by a kept query set, and settings of an index."""
    if request.mimetype != "application/json":
        raise Problem(415, "unsupported-media-type", f"{request.mimetype[:80]!r} is not taken: send JSON")
    request.max_content_length = MAX_JSON
    body = checked(NewEvaluation, read_json(request.get_data()), "body", texts=False)
    if bool(body.sample) == bool(body.queries):
        raise invalid([FieldError(field="body.sample", message="or body.queries has to be given, one of the two")])
    authorize(body.collection)
    clients = web_clients()
    clients.query.collection(body.collection)
    grid = _grid(body)
    sets, job = QuerySets(clients.store, clients.state), new_job_id()
    with quotas.room_for("evaluate") as room:
        digest = sets.kept(body.queries) if body.queries else None
        if digest is not None:
            require_use(sets, body.queries)
            sets.use(digest, job)
        evaluation_request = EvaluationRequest(
            k=body.k,
            query_set=digest,
            kept=body.queries or None,
            sample=body.sample,
            seed=body.seed,
            grid=grid,
            field=body.field,
            rejected=tuple(Rejection(rejection.name, rejection.code, rejection.reason) for rejection in body.rejected),
        )
        submit(
            clients.state.jobs,
            "evaluate",
            body.collection,
            lambda job: clients.queue.evaluate(job=job, collection=body.collection, request=evaluation_request),
            job_id=job,
        )
        room.use(job)
    response = reply(EvaluationStartedAnswer(job=job, url=job_url(job), evaluation=evaluation_url(job)), 202)
    response.headers["Location"] = job_url(job)
    return response


def _grid(body: NewEvaluation) -> tuple[IndexSetting, ...]:
    """Return the settings that are to be evaluated; none if no grid is given."""
    if "grid" not in body.model_fields_set:
        return ()
    try:
        return grid_settings(body.grid)
    except Invalid as error:
        raise invalid([FieldError(field="body.grid", message=str(error))]) from None
