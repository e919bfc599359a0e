"""Live recall: how much of the exact answer the index gave to those who searched, hour by hour."""

from flask.typing import ResponseReturnValue

from services.web.access import of_path
from services.web.api.inputs import CollectionPath, RecallListing
from services.web.api.openapi import Answer
from services.web.api.operations import api, reply
from services.web.clients import web_clients
from shared.schemas.recall import RecallAnswer, recall_answer
from shared.state.recall_log import hour_of


@api.operation(
    "GET",
    "/collections/{name}/recall",
    rule=of_path("inspect"),
    path_model=CollectionPath,
    query_model=RecallListing,
    answers={200: Answer("The recall.", RecallAnswer)},
    problems=(404, 503),
)
def get_recall(path: CollectionPath, query: RecallListing) -> ResponseReturnValue:
    """Tell how much of the exact answer the index gave to live searches.

    A share of them, `ARTSEEK_RECALL_SAMPLE`, is searched again exactly in the background.
    """
    clients = web_clients()
    made = hour_of(clients.query.collection(path.name).created)  # before, another one had the name
    hours = clients.state.recall_log.read(path.name, days=query.days)
    return reply(recall_answer(path.name, [hour for hour in hours if hour.hour >= made]))
