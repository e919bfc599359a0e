"""The index of a collection's regions: what it costs, how far it is, and its switch."""

from flask.typing import ResponseReturnValue

from services.web.access import of_path
from services.web.api.inputs import CollectionPath, RegionsSwitch, checked
from services.web.api.openapi import Answer, Body, flat_schema
from services.web.api.operations import api, deletion_reply, json_body, reply
from services.web.clients import web_clients
from services.web.regions import switch_regions
from shared.schemas.images import DeletionAnswer
from shared.schemas.regions import RegionsAnswer, regions_answer


@api.operation(
    "GET",
    "/collections/{name}/regions",
    rule=of_path("inspect"),
    path_model=CollectionPath,
    answers={200: Answer("The regions, and what they cost.", RegionsAnswer)},
    problems=(404, 503),
)
def get_regions(path: CollectionPath) -> ResponseReturnValue:
    """Tell whether regions of a collection's images are indexed, how many are, and what the missing ones cost."""
    clients = web_clients()
    return reply(regions_answer(clients.query.collection(path.name), clients.settings))


@api.operation(
    "PUT",
    "/collections/{name}/regions",
    rule=of_path("change"),
    path_model=CollectionPath,
    bodies={"application/json": Body(flat_schema(RegionsSwitch))},
    answers={202: Answer("It is on its way.", DeletionAnswer, headers={"Location": "The job."})},
    problems=(400, 404, 413, 415, 503),
)
def put_regions(path: CollectionPath) -> ResponseReturnValue:
    """Have the regions of a collection's images indexed, or their index removed but for that of long pictures.

    Searches use what there is meanwhile. Switching on once more indexes what is missing.
    """
    wanted = checked(RegionsSwitch, json_body(), "body", texts=False)
    return deletion_reply(switch_regions(web_clients(), path.name, on=wanted.regions))
