"""Collections: which there are, and what is in them."""

from flask.typing import ResponseReturnValue

from services.web.api.inputs import CollectionPath
from services.web.api.openapi import Answer
from services.web.api.operations import api, reply
from services.web.clients import web_clients
from shared.errors import NotFound
from shared.schemas.collections import CollectionAnswer, CollectionsAnswer, collection_answer, collections_answer
from shared.schemas.index import IndexAnswer, index_answer


@api.operation("GET", "/collections", answers={200: Answer("The collections.", CollectionsAnswer)}, problems=(503,))
def list_collections() -> ResponseReturnValue:
    """List the collections by name."""
    return reply(collections_answer(web_clients().query.collections()))


@api.operation(
    "GET",
    "/collections/{name}",
    path_model=CollectionPath,
    answers={200: Answer("The collection.", CollectionAnswer)},
    problems=(404, 503),
)
def get_collection(path: CollectionPath) -> ResponseReturnValue:
    """Tell what is in a collection."""
    return reply(collection_answer(web_clients().query.collection(path.name)))


@api.operation(
    "GET",
    "/collections/{name}/index",
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
