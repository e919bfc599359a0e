"""Proof: whether two images of a collection show the same."""

from flask.typing import ResponseReturnValue

from services.web.access import of_path
from services.web.api.inputs import CollectionPath, ImageId, Input, checked
from services.web.api.openapi import Answer, Body, flat_schema
from services.web.api.operations import api, json_body, reply
from services.web.clients import web_clients
from shared.schemas.proof import ProofAnswer, proof_answer


class Pair(Input):
    """Two images of the collection."""

    a: ImageId
    b: ImageId


@api.operation(
    "POST",
    "/collections/{name}/proof",
    rule=of_path("look"),
    path_model=CollectionPath,
    bodies={"application/json": Body(flat_schema(Pair))},
    answers={200: Answer("What was found.", ProofAnswer)},
    problems=(400, 404, 413, 415, 422, 503),
)
def prove(path: CollectionPath) -> ResponseReturnValue:
    """Tell whether two images show the same: `b` is compared with `a` by local features, upright and mirrored."""
    pair = checked(Pair, json_body(), "body", texts=False)
    return reply(proof_answer(web_clients().prover.compare(path.name, pair.a, pair.b)))
