"""`artseek search`: prints the images of a collection that look most like one, or like examples."""

from pathlib import Path
from typing import Any

import click

from cli.command import System, as_json_option, command, in_collection
from cli.printing.console import print_json
from cli.printing.search import print_hits
from shared.rpc.query import METRICS, MODE_NAMES, MODES, STAGES, Metric, Mode, SearchRequest, SearchResponse
from shared.storage.layout import ID_BITS

_IMAGE_ID = click.IntRange(1, 2**ID_BITS - 1)


@click.command()
@click.argument("image", required=False, type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--id", "image_id", type=_IMAGE_ID, help="Search for an image of the collection instead of a file.")
@in_collection
@click.option("-k", default=10, show_default=True, type=click.IntRange(1, 1000), help="Number of hits.")
@click.option("--mode", type=click.Choice(list(MODES)), default="auto", show_default=True)
@click.option("--metric", type=click.Choice(list(METRICS)), default="cosine", show_default=True)
@click.option("--label", "labels", multiple=True, help="Only images of this class; repeatable.")
@click.option("--like", multiple=True, type=_IMAGE_ID, help="Id of an image that hits should be like; repeatable.")
@click.option("--unlike", multiple=True, type=_IMAGE_ID, help="Id of one that they should be unlike; repeatable.")
@click.option("--min-score", type=float, help="Only hits with at least this score.")
@click.option("--budget", type=click.IntRange(1, 2**31 - 1), help="Candidates of the index that are ranked at most.")
@as_json_option
@command
def search(  # noqa: PLR0913 -- its options
    system: System,
    *,
    image: Path | None,
    image_id: int | None,
    collection: str,
    k: int,
    mode: Mode,
    metric: Metric,
    labels: tuple[str, ...],
    like: tuple[int, ...],
    unlike: tuple[int, ...],
    min_score: float | None,
    budget: int | None,
    as_json: bool,
) -> None:
    """Print the images of a collection that look most like IMAGE, or like the examples given."""
    if image is not None and image_id is not None:
        raise click.UsageError("give an IMAGE file or --id, one of the two")
    if image is None and image_id is None and not like and not unlike:
        raise click.UsageError("give an IMAGE file, --id, or examples by --like and --unlike")
    request = SearchRequest(
        collection=collection,
        k=k,
        mode=MODES[mode],
        metric=METRICS[metric],
        labels=labels,
        like=like,
        unlike=unlike,
        min_score=min_score,
        budget=budget or 0,
    )
    if image is not None:
        request.image = image.read_bytes()
    elif image_id is not None:
        request.id = image_id
    with system.query() as query:
        answer = query.search(request)
    if as_json:
        print_json(_search_json(answer, metric))
    else:
        print_hits(answer)


def _search_json(answer: SearchResponse, metric: str) -> dict[str, Any]:
    return {
        "hits": [
            {
                "id": hit.image.id,
                "score": hit.score,
                "distance": hit.distance,
                "label": hit.image.label or None,
                "name": hit.image.name,
            }
            for hit in answer.hits
        ],
        "mode": MODE_NAMES[answer.mode],
        "metric": metric,
        "candidates": answer.candidates,
        "collection_size": answer.collection_size,
        "generation": answer.generation,
        "probed_buckets": answer.probed_buckets,
        "truncated_buckets": answer.truncated_buckets,
        "seen": answer.seen,
        "timings_ms": {stage: answer.timings_ms[stage] for stage in STAGES if stage in answer.timings_ms},
    }
