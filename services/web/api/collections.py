"""Collections: which there are, and what is in them."""

from flask.typing import ResponseReturnValue

from services.web.answers import CollectionAnswer, CollectionsAnswer, collection_answer
from services.web.api.table import api, reply
from services.web.inputs import CollectionPath
from services.web.openapi import Answer
from services.web.parts import parts


@api.operation("GET", "/collections", answers={200: Answer("The collections.", CollectionsAnswer)}, problems=(503,))
def list_collections() -> ResponseReturnValue:
    """List the collections by name."""
    return reply(CollectionsAnswer(collections=[collection_answer(found) for found in parts().query.collections()]))


@api.operation(
    "GET",
    "/collections/{name}",
    path_model=CollectionPath,
    answers={200: Answer("The collection.", CollectionAnswer)},
    problems=(404, 503),
)
def get_collection(path: CollectionPath) -> ResponseReturnValue:
    """Tell what is in a collection."""
    return reply(collection_answer(parts().query.collection(path.name)))
