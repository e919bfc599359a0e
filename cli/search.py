"""`artseek search`: prints the images of a collection that look most like one, or like examples."""

from pathlib import Path

import click

from cli.command import System, as_json_option, command, in_collection
from cli.printing.console import print_json
from cli.printing.search import print_hits
from shared.rpc.query import METRICS, MODES, Metric, Mode, SearchOptions
from shared.rpc.query.options import DEFAULTS, OPTIONS
from shared.schemas.search import search_answer
from shared.storage.layout import ID_BITS

_IMAGE_ID = click.IntRange(1, 2**ID_BITS - 1)


def _help(name: str) -> str:
    """Return what the help says of a search option."""
    option = OPTIONS[name]
    return f"{option.of_value}; repeatable." if option.of_value else f"{option.description}."


def _limits(name: str) -> click.IntRange:
    return click.IntRange(OPTIONS[name].least, OPTIONS[name].most)


@click.command()
@click.argument("image", required=False, type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--id", "image_id", type=_IMAGE_ID, help="Search for an image of the collection instead of a file.")
@in_collection
@click.option("-k", default=DEFAULTS.k, show_default=True, type=_limits("k"), help=_help("k"))
@click.option("--mode", type=click.Choice(list(MODES)), default=DEFAULTS.mode, show_default=True)
@click.option("--metric", type=click.Choice(list(METRICS)), default=DEFAULTS.metric, show_default=True)
@click.option("--label", "labels", multiple=True, help=_help("labels"))
@click.option("--like", multiple=True, type=_IMAGE_ID, help=_help("like"))
@click.option("--unlike", multiple=True, type=_IMAGE_ID, help=_help("unlike"))
@click.option("--min-score", type=float, help=_help("min_score"))
@click.option("--budget", type=_limits("budget"), help=_help("budget"))
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
    options = SearchOptions(
        k=k, mode=mode, metric=metric, labels=labels, like=like, unlike=unlike, min_score=min_score, budget=budget
    )
    request = options.to_request(collection)
    if image is not None:
        request.image = image.read_bytes()
    elif image_id is not None:
        request.id = image_id
    with system.query() as query:
        answer = query.search(request)
    if as_json:
        print_json(search_answer(collection, answer))
    else:
        print_hits(answer)
