"""`artseek compare`: tells whether two images of a collection show the same."""

from typing import cast

import click

from cli.command import QueriedSystem, RemoteSystem, query_command
from cli.local_proof import local_prover
from cli.options import as_json_option, in_collection
from cli.printing.console import out, print_json
from shared.schemas.proof import ProofAnswer, proof_answer
from shared.storage.layout import ID_BITS

_IMAGE_ID = click.IntRange(1, 2**ID_BITS - 1)
_DIFFERENT = 1


@click.command()
@click.argument("first", type=_IMAGE_ID, metavar="A")
@click.argument("second", type=_IMAGE_ID, metavar="B")
@in_collection
@as_json_option
@query_command
def compare(
    system: QueriedSystem | RemoteSystem, *, first: int, second: int, collection: str, as_json: bool
) -> int | None:
    """Tell whether the images A and B of a collection, by their ids, show the same.

    Ends with status 1 if they do not.
    """
    if isinstance(system, RemoteSystem):
        answer = cast("ProofAnswer", system.api.post(f"/collections/{collection}/proof", {"a": first, "b": second}))
    else:
        with system.query() as client, local_prover(system.settings, client) as prover:
            answer = proof_answer(prover.compare(collection, first, second))
    if as_json:
        print_json(answer)
    else:
        _print(answer)
    return None if answer["same"] else _DIFFERENT


def _print(answer: ProofAnswer) -> None:
    if not answer["same"]:
        out.print(f"not the same: {answer['reason']} ({answer['inliers']} inliers)", markup=False)
        return
    mirrored = ", mirrored" if answer["mirrored"] else ""
    boxes = [",".join(map(str, box or ())) for box in (answer["query_box"], answer["box"])]
    out.print(f"the same{mirrored}: {answer['inliers']} inliers", markup=False)
    out.print(f"in A {boxes[0]}; in B {boxes[1]} (x,y,width,height in pixels)", markup=False)
