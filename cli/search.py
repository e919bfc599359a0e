"""`artseek search`: prints the images of a collection that look most like one, or like examples."""

import io
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TypedDict, Unpack, cast
from urllib.parse import urlencode

import click

from cli.command import QueriedSystem, RemoteSystem, query_command
from cli.local_proof import local_prover
from cli.options import DEFAULT_COLLECTION, SOME_REJECTED, as_json_option, checked_collection
from cli.printing.console import print_json
from cli.printing.search import print_across, print_hits, print_images
from cli.remote.search import Query
from cli.remote.search import search as search_remote
from cli.remote.search import search_across as search_across_remote
from shared.errors import NotFound
from shared.records.filters import filter_to_json, parse_filter
from shared.records.model import LABEL
from shared.rpc.query import (
    METRICS,
    MODES,
    Metric,
    Mode,
    SearchAcrossRequest,
    SearchOptions,
    SearchRequest,
    largest_first,
)
from shared.rpc.query.options import DEFAULTS, MAX_IMAGES, OPTIONS
from shared.schemas.across import AcrossAnswer, across_answer
from shared.schemas.images import ImagesAnswer, image_answer
from shared.schemas.search import SearchAnswer, search_answer
from shared.storage.layout import ID_BITS

_IMAGE_ID = click.IntRange(1, 2**ID_BITS - 1)


def _help(name: str) -> str:
    """Return what the help says of a search option."""
    option = OPTIONS[name]
    return f"{option.of_value}; repeatable." if option.of_value else f"{option.description}."


def _checked_collections(
    context: click.Context, parameter: click.Parameter, values: tuple[str, ...]
) -> tuple[str, ...]:
    return tuple(checked_collection(context, parameter, value) or "" for value in dict.fromkeys(values))


def _limits(name: str) -> click.IntRange:
    return click.IntRange(OPTIONS[name].least, OPTIONS[name].most)


class _Given(TypedDict):
    """What the command line says."""

    images: tuple[Path, ...]
    image_id: int | None
    url: str
    box: str
    proof: bool
    collections: tuple[str, ...]
    everywhere: bool
    k: int
    mode: Mode
    metric: Metric
    labels: tuple[str, ...]
    like: tuple[int, ...]
    unlike: tuple[int, ...]
    weight: float
    wanted: str
    text: str
    sort: str
    group: str
    fields: tuple[str, ...]
    min_score: float | None
    no_regions: bool
    budget: int | None


@click.command()
@click.argument("images", metavar="[IMAGE]...", nargs=-1, type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--id", "image_id", type=_IMAGE_ID, help="Search for an image of the collection instead of a file.")
@click.option("--url", default="", help="Search for the picture at an address, which the system fetches.")
@click.option("--box", default="", help="Search for a part of the picture: x,y,width,height in pixels, or pct:x,y,w,h.")
@click.option("--proof", is_flag=True, help="Check which of the first hits show the same; they come first.")
@click.option(
    "--collection",
    "collections",
    multiple=True,
    callback=_checked_collections,
    help="Name of the collection [default: default]; of several with the same model, their hits are ranked together.",
)
@click.option("--all", "everywhere", is_flag=True, help="Search all collections with the model of the largest.")
@click.option("-k", default=DEFAULTS.k, show_default=True, type=_limits("k"), help=_help("k"))
@click.option("--mode", type=click.Choice(list(MODES)), default=DEFAULTS.mode, show_default=True)
@click.option("--metric", type=click.Choice(list(METRICS)), default=DEFAULTS.metric, show_default=True)
@click.option("--label", "labels", multiple=True, help=_help("labels"))
@click.option("--like", multiple=True, type=_IMAGE_ID, help=_help("like"))
@click.option("--unlike", multiple=True, type=_IMAGE_ID, help=_help("unlike"))
@click.option("--weight", type=float, default=DEFAULTS.weight, show_default=True, help=_help("weight"))
@click.option("--filter", "wanted", default="", help=_help("filter"))
@click.option("--text", default="", help=_help("text"))
@click.option("--sort", default="", help=_help("sort"))
@click.option("--group", default="", help=_help("group"))
@click.option("--field", "fields", multiple=True, help=_help("fields"))
@click.option("--min-score", type=float, help=_help("min_score"))
@click.option("--no-regions", is_flag=True, help="Find whole images only, where their regions are indexed too.")
@click.option("--budget", type=_limits("budget"), help=_help("budget"))
@as_json_option
@query_command
def search(system: QueriedSystem | RemoteSystem, *, as_json: bool, **given: Unpack[_Given]) -> int | None:
    """Print the images of one or more collections that look most like IMAGE, or like the examples given.

    Several IMAGE files are one query: their embeddings are combined, as those of examples are.

    With --text or --filter alone, print the images with these records, the latest added first.
    """
    query = Query(
        images=given["images"],
        image_id=given["image_id"],
        url=given["url"],
        box=given["box"],
        proof=given["proof"],
    )
    _check(query)
    collections = given["collections"]
    alone = not query.number and not given["like"] and not given["unlike"]
    across = given["everywhere"] or len(collections) > 1
    _check_places(given, alone=alone, across=across)
    collection, options = next(iter(collections), DEFAULT_COLLECTION), _search_options(given)
    if alone:
        _print_list(_listed(system, collection, options), as_json=as_json)
        return None
    if across:
        return _print_across(_search_across(system, collections, options, query), as_json=as_json)
    if isinstance(system, RemoteSystem):
        answer = search_remote(system.api, collection, options, query)
    else:
        answer = _search(system, collection, options, query)
    if as_json:
        print_json(answer)
    else:
        print_hits(answer)
    return None


def _search_options(given: _Given) -> SearchOptions:
    return SearchOptions(
        k=given["k"],
        mode=given["mode"],
        metric=given["metric"],
        labels=given["labels"],
        like=given["like"],
        unlike=given["unlike"],
        weight=given["weight"],
        min_score=given["min_score"],
        budget=given["budget"],
        filter=given["wanted"],
        text=given["text"],
        sort=given["sort"],
        group=given["group"],
        fields=given["fields"],
        regions=not given["no_regions"],
    )


def _check_places(given: _Given, *, alone: bool, across: bool) -> None:
    """Make sure that there is something to search for, and where; `alone`: without a picture or an example.

    Raises:
        UsageError: There is not.
    """
    if alone and not (given["text"].strip() or given["wanted"]):
        raise click.UsageError("give an IMAGE file, --id, --url, examples (--like, --unlike), --text or --filter")
    if given["everywhere"] and given["collections"]:
        raise click.UsageError("give --collection or --all, one of them")
    if across and alone:
        raise click.UsageError(
            "records are listed of one collection: name one, or give an IMAGE file, --id, --url or examples"
        )


def _check(query: Query) -> None:
    """Make sure that what is given fits together.

    Raises:
        UsageError: It does not.
    """
    if len(query.images) > MAX_IMAGES:
        raise click.UsageError(
            f"{len(query.images)} files are given, and at most {MAX_IMAGES} are searched for as one query"
        )
    if len(query.images) > 1 and (query.box or query.proof):
        raise click.UsageError("--box and --proof are for a single picture: give one IMAGE file")
    if query.number > 1:
        raise click.UsageError("give an IMAGE file, --id or --url, one of them")
    if query.box and not query.number:
        raise click.UsageError("a --box is a part of a picture: give an IMAGE file, --id or --url")
    if query.proof and not query.number:
        raise click.UsageError("--proof compares pictures: give an IMAGE file, --id or --url")


def _search(system: QueriedSystem, collection: str, options: SearchOptions, query: Query) -> SearchAnswer:
    request = _request(system, collection, options, query)
    with system.query() as client:
        found = client.search(request)
        if not query.proof:
            return search_answer(collection, found)
        with local_prover(system.settings, client) as prover:
            image = request.image if request.WhichOneof("query") == "image" else None
            proofs = prover.prove(
                found, options, collection=collection, image=image, image_id=request.id, box=query.box
            )
        return search_answer(collection, found, proofs)


def _search_across(
    system: QueriedSystem | RemoteSystem, collections: Sequence[str], options: SearchOptions, query: Query
) -> AcrossAnswer:
    """Return what is most like a query in several collections; in all of them, if none is named."""
    if isinstance(system, RemoteSystem):
        return search_across_remote(system.api, collections, options, query)
    request = _request(system, "", options, query)
    with system.query() as client:
        names = collections or largest_first(client.collections())
        if not names:
            raise NotFound("there is no collection with images")
        found = client.search_across(SearchAcrossRequest(options=request, collections=names))
        if not query.proof:
            return across_answer(found)
        with local_prover(system.settings, client) as prover:
            image = request.image if request.WhichOneof("query") == "image" else None
            proofs = prover.prove(found, options, image=image, image_id=request.id, box=query.box)
        return across_answer(found, proofs)


def _request(system: QueriedSystem, collection: str, options: SearchOptions, query: Query) -> SearchRequest:
    request = options.to_request(collection)
    request.box = query.box
    files = [file.read_bytes() for file in query.images]
    if len(files) == 1:
        request.image = files[0]
    elif files:
        request.images.extend(files)
    elif query.url:
        request.image = _fetched(system, query.url)
    elif query.image_id is not None:
        request.id = query.image_id
    return request


def _fetched(system: QueriedSystem, url: str) -> bytes:
    """Return the picture at an address, within the limits of the system's settings."""
    from shared.fetching.fetcher import Fetcher  # noqa: PLC0415 -- which most searches do not need

    file = io.BytesIO()
    Fetcher.from_settings(system.settings).fetch(url, file)
    return file.getvalue()


def _listed(system: QueriedSystem | RemoteSystem, collection: str, options: SearchOptions) -> ImagesAnswer:
    """Return the images whose records are wanted, where no picture is searched for."""
    wanted = options.filter
    if options.labels:
        given = parse_filter(wanted)
        wanted = filter_to_json(replace(given, criteria={**given.criteria, LABEL: tuple(options.labels)}))
    if isinstance(system, RemoteSystem):
        values = {"limit": options.k, "filter": wanted, "text": options.text, "sort": options.sort}
        query = urlencode({**values, "fields": list(options.fields)}, doseq=True)
        return cast("ImagesAnswer", system.api.get(f"/collections/{collection}/images?{query}"))
    with system.query() as client:
        found = client.images(
            collection, limit=options.k, filter=wanted, text=options.text, sort=options.sort, fields=options.fields
        )
    images = [image_answer(collection, image) for image in found.images]
    return ImagesAnswer(images=images, total=found.total, limit=options.k, offset=0)


def _print_list(answer: ImagesAnswer, *, as_json: bool) -> None:
    if as_json:
        print_json(answer)
    else:
        print_images(answer)


def _print_across(answer: AcrossAnswer, *, as_json: bool) -> int | None:
    """Print the hits of several collections; returns the exit status, which tells whether one could not be searched."""
    if as_json:
        print_json(answer)
    else:
        print_across(answer)
    return SOME_REJECTED if any(collection["reason"] != "other-model" for collection in answer["left_out"]) else None
