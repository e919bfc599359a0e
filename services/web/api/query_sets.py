"""Query sets: labelled images, kept under names, that evaluations search for."""

from typing import Annotated

from flask import request
from flask.typing import ResponseReturnValue
from pydantic import Field

from services.web import quotas
from services.web.access import authorize_somewhere, of_view, require_use
from services.web.access.auditing import note_detail
from services.web.api.inputs import READ_FLAG, CollectionName, Input, Label, UploadFields, checked_texts
from services.web.api.openapi import Answer, Body, files_form
from services.web.api.operations import api, reply
from services.web.clients import WebClients, web_clients
from services.web.uploads import FILE_FIELDS, Upload, files_of, require_form, sort_out, uploads_of
from shared.evaluation.judging import keep_under
from shared.evaluation.query_sets import LabelledQuery, QuerySets
from shared.schemas.query_sets import KeptSetsAnswer, QueriesTakenAnswer, kept_set_answer
from shared.storage import evaluation_layout, layout


class QuerySetPath(Input):
    """Path of a query set."""

    name: CollectionName


class QuerySetFields(UploadFields):
    """What a form of queries says beside its files."""

    name: Annotated[CollectionName, Field(description="Name that the set is kept under.")]
    label: Annotated[Label, Field(min_length=1, description="The class of all files of the form.")]
    add: Annotated[
        bool,
        Field(description="Whether the files are added to the set of this name; otherwise they take its place."),
        READ_FLAG,
    ] = False


@api.operation(
    "GET",
    "/querysets",
    rule=of_view("change", signed_in=True),
    answers={200: Answer("The query sets, by name.", KeptSetsAnswer)},
    problems=(503,),
)
def list_query_sets() -> ResponseReturnValue:
    """List the query sets that are kept under names.

    Those are used, changed and dropped by who may change a collection and look at all that the pictures come from.
    """
    authorize_somewhere()
    sets = _sets(web_clients())
    return reply(KeptSetsAnswer(querysets=[kept_set_answer(name, sets.get(sets.kept(name))) for name in sets.names()]))


@api.operation(
    "POST",
    "/querysets",
    rule=of_view("change", signed_in=True),
    bodies={"multipart/form-data": Body(files_form(QuerySetFields), files=FILE_FIELDS)},
    answers={201: Answer("The set as it is now.", QueriesTakenAnswer)},
    problems=(400, 404, 413, 415, 422, 503, 507),
)
def keep_queries() -> ResponseReturnValue:
    """Keep labelled images as a query set under a name.

    A set of several classes is sent class by class, with `add` from the second one on.
    """
    authorize_somewhere()
    require_form()
    fields = checked_texts(QuerySetFields, request.form.to_dict(flat=False), "body")
    note_detail(f"query set {fields.name}")
    clients = web_clients()
    require_use(_sets(clients), fields.name)
    uploads = uploads_of(files_of(request.files, *FILE_FIELDS), fields.label, fields.names)
    quotas.check_room(sum(upload.size for upload in uploads))
    taken, rejected = sort_out(clients, uploads)
    sets = _sets(clients)
    if fields.add:
        sets.kept(fields.name)
    queries = keep_under(
        sets,
        fields.name,
        lambda: [_store(clients, upload, fields.label.strip()) for upload in taken],
        adds=fields.add,
    )
    return reply(QueriesTakenAnswer(**kept_set_answer(fields.name, queries), rejected=rejected), 201)


@api.operation(
    "DELETE",
    "/querysets/{name}",
    rule=of_view("change", signed_in=True),
    path_model=QuerySetPath,
    answers={204: Answer("The name is free; evaluations that used the set still have it.")},
    problems=(404, 503),
)
def drop_query_set(path: QuerySetPath) -> ResponseReturnValue:
    """Keep a query set under its name no longer."""
    authorize_somewhere(detail=f"query set {path.name}")
    sets = _sets(web_clients())
    require_use(sets, path.name)
    sets.drop(path.name)
    return "", 204


def _sets(clients: WebClients) -> QuerySets:
    return QuerySets(clients.store, clients.state)


def _store(clients: WebClients, upload: Upload, label: str) -> LabelledQuery:
    with clients.memory.holding(upload.size):
        data = upload.read()
        query = LabelledQuery(layout.digest_of(data), upload.name, label, len(data))
        clients.store.put(evaluation_layout.query_key(query.digest), data)
    return query
