"""Collections: which there are, and what is in them."""

from flask.typing import ResponseReturnValue

from services.web import renaming
from services.web.access import each, of_path, seen_collections
from services.web.api.inputs import CollectionChanges, CollectionPath, checked
from services.web.api.openapi import Answer, Body, flat_schema
from services.web.api.operations import api, deletion_reply, json_body, reply
from services.web.clients import web_clients
from services.web.removal import drop_collection
from shared.errors import NotFound
from shared.schemas.collections import CollectionAnswer, CollectionsAnswer, collection_answer, collections_answer
from shared.schemas.images import DeletionAnswer
from shared.schemas.index import IndexAnswer, index_answer


@api.operation(
    "GET",
    "/collections",
    rule=each("look"),
    answers={200: Answer("The collections.", CollectionsAnswer)},
    problems=(503,),
)
def list_collections() -> ResponseReturnValue:
    """List the collections by name."""
    return reply(collections_answer(seen_collections()))


@api.operation(
    "GET",
    "/collections/{name}",
    rule=of_path("look"),
    path_model=CollectionPath,
    answers={200: Answer("The collection.", CollectionAnswer)},
    problems=(404, 503),
)
def get_collection(path: CollectionPath) -> ResponseReturnValue:
    """Tell what is in a collection."""
    return reply(collection_answer(web_clients().query.collection(path.name)))


@api.operation(
    "DELETE",
    "/collections/{name}",
    rule=of_path("change"),
    path_model=CollectionPath,
    answers={
        202: Answer("It takes its time; the job tells.", DeletionAnswer, headers={"Location": "The job."}),
        204: Answer("The collection is gone from searches, index and store."),
    },
    problems=(404, 409, 503),
)
def delete_collection(path: CollectionPath) -> ResponseReturnValue:
    """Delete a collection with all its images, for good.

    Originals that another collection holds stay. 409 says what could not be removed, and why.
    """
    return deletion_reply(drop_collection(web_clients(), path.name))


@api.operation(
    "PATCH",
    "/collections/{name}",
    rule=of_path("change"),
    path_model=CollectionPath,
    bodies={"application/json": Body(flat_schema(CollectionChanges))},
    answers={
        200: Answer("The collection under its new name.", CollectionAnswer),
        202: Answer("It takes its time; the job tells.", DeletionAnswer, headers={"Location": "The job."}),
    },
    problems=(400, 404, 409, 413, 415, 503),
)
def rename_collection(path: CollectionPath) -> ResponseReturnValue:
    """Give a collection another name, with all its images, its trash and its evaluations.

    The new name takes the role `curator` in a collection of that name, or in all of them. The old name answers 404
    from then on, and says which the new one is, until another collection takes it. 409 says
    why the collection keeps its name.
    """
    changes = checked(CollectionChanges, json_body(), "body", texts=False)
    job = renaming.rename_collection(web_clients(), path.name, changes.name)
    if job is not None:
        return deletion_reply(job)
    return reply(collection_answer(web_clients().query.collection(changes.name)))


@api.operation(
    "GET",
    "/collections/{name}/index",
    rule=of_path("inspect"),
    path_model=CollectionPath,
    answers={200: Answer("The index.", IndexAnswer)},
    problems=(404, 503),
)
def get_index(path: CollectionPath) -> ResponseReturnValue:
    """Tell how well the index of a collection finds.

    An index is made when the first images have been added; until then, there is none to tell of.
    """
    report = web_clients().catalog.current_report(path.name)
    if report is None:
        raise NotFound(f"the collection {path.name!r} has no index yet, or one of an earlier version: `artseek tune`")
    return reply(index_answer(report))
