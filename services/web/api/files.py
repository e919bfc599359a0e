"""The files of an image: the original as it came, its preview, its tiles, and its thumbnail.

All follow from the content and never change. A browser asks all the same whether they are still there before it shows
what it has kept: of an image that was purged, nothing is shown.
"""

from urllib.parse import quote

from flask import Response, request
from flask.typing import ResponseReturnValue

from services.web import quotas
from services.web.access import of_path
from services.web.api.inputs import ImagePath, TilePath
from services.web.api.openapi import Answer
from services.web.api.operations import api
from services.web.clients import WebClients, web_clients
from services.web.thumbnails import MEDIA_TYPE, SIDE
from shared.file_names import clean_name
from shared.images import MEDIA_TYPES, tiles
from shared.index.derivatives import SHOWN_BY_BROWSERS, is_needed
from shared.storage.documents import fetched_page
from shared.storage.large_objects import LARGE
from shared.storage.original_files import OriginalFiles

_HEADERS = {
    "Cache-Control": "private, no-cache",
    "Content-Security-Policy": "default-src 'none'; sandbox",
}
TAG = {"ETag": "Follows from the content.", "Cache-Control": "To be asked for again before it is shown."}
_TYPES = frozenset(MEDIA_TYPES.values())


@api.operation(
    "GET",
    "/collections/{name}/images/{id}/original",
    rule=of_path("originals"),
    path_model=ImagePath,
    answers={
        200: Answer("The file.", bytes, tuple(sorted(_TYPES)), TAG),
        304: Answer("As you have it.", headers=TAG),
    },
    problems=(404, 503),
)
def get_original(path: ImagePath) -> ResponseReturnValue:
    """Return the file that an image came as; of a page of a document, the document."""
    clients = web_clients()
    entry = clients.query.image(path.name, path.id)
    if request.if_none_match.contains(entry.digest):
        return tagged(Response(status=304), entry.digest)
    kind = entry.media_type if entry.media_type in _TYPES else "application/octet-stream"
    digest, originals = entry.document.digest or entry.digest, OriginalFiles(clients.store)
    if entry.size >= LARGE:
        response = Response(originals.stream(digest), content_type=kind)
        response.content_length = entry.size
    else:
        taken = clients.memory.acquire(entry.size)
        try:
            data = originals.get(digest)
        except BaseException:
            clients.memory.release(taken)
            raise
        response = Response(data, content_type=kind)
        response.call_on_close(lambda: clients.memory.release(taken))
    response.headers["Content-Disposition"] = _disposition(clean_name(entry.name))
    return tagged(response, entry.digest)


@api.operation(
    "GET",
    "/collections/{name}/images/{id}/preview",
    rule=of_path("originals"),
    path_model=ImagePath,
    answers={
        200: Answer(
            "A picture that browsers show: a JPEG of at most 1600 by 1600 pixels, or the original if it is small.",
            bytes,
            tuple(sorted(SHOWN_BY_BROWSERS)),
            TAG,
        ),
        304: Answer("As you have it.", headers=TAG),
    },
    problems=(404, 503),
)
def get_preview(path: ImagePath) -> ResponseReturnValue:
    """Return a large picture of an image, whatever it came as."""
    clients = web_clients()
    entry = clients.query.image(path.name, path.id)
    tag = f"{entry.digest}-preview"
    if request.if_none_match.contains(tag):
        return tagged(Response(status=304), tag)
    with clients.memory.holding(min(entry.size, LARGE)):
        if is_needed(media_type=entry.media_type, width=entry.width, height=entry.height):
            data, kind = clients.derivatives.of_original(entry.digest, entry.size).data, MEDIA_TYPE
        else:
            data, kind = OriginalFiles(clients.store).get(entry.digest), entry.media_type
    return tagged(Response(data, content_type=kind), tag)


@api.operation(
    "GET",
    "/collections/{name}/images/{id}/tiles/{level}/{x}_{y}",
    rule=of_path("originals"),
    path_model=TilePath,
    answers={
        200: Answer(f"A JPEG of at most {tiles.SIDE} by {tiles.SIDE} pixels.", bytes, (MEDIA_TYPE,), TAG),
        304: Answer("As you have it.", headers=TAG),
    },
    problems=(404, 422, 503),
)
def get_tile(path: TilePath) -> ResponseReturnValue:
    """Return a tile of an image, upright and in sRGB, at a level of Deep Zoom: the last level has all pixels."""
    clients = web_clients()
    entry = clients.query.image(path.name, path.id)
    tag = f"{entry.digest}-tile-{path.level}-{path.x}-{path.y}"
    if request.if_none_match.contains(tag):
        return tagged(Response(status=304), tag)
    part, shrink = tiles.part_of(entry.width, entry.height, level=path.level, x=path.x, y=path.y)
    quotas.count_tile()
    with (
        clients.memory.holding(min(entry.size, LARGE)),
        fetched_page(clients.store, entry.digest, entry.size) as (original, page),
    ):
        data = clients.decoder.tile(original, part=part, shrink=shrink, page=page)
    return tagged(Response(data, content_type=MEDIA_TYPE), tag)


@api.operation(
    "GET",
    "/collections/{name}/images/{id}/thumbnail",
    rule=of_path("look"),
    path_model=ImagePath,
    answers={
        200: Answer(f"A JPEG of at most {SIDE} by {SIDE} pixels.", bytes, (MEDIA_TYPE,), TAG),
        304: Answer("As you have it.", headers=TAG),
    },
    problems=(404, 503),
)
def get_thumbnail(path: ImagePath) -> ResponseReturnValue:
    """Return a small picture of an image."""
    clients = web_clients()
    entry = clients.query.image(path.name, path.id)
    return thumbnail_of(clients, entry.digest, entry.size)


def thumbnail_of(clients: WebClients, digest: str, size: int, *, key: str | None = None) -> Response:
    """Return the thumbnail of an original, by its digest and its size in bytes, or that the browser has it.

    `key` is the key of the original in the object store, if it is not the usual one.
    """
    tag = f"{digest}-thumbnail-{SIDE}"
    if request.if_none_match.contains(tag):
        return tagged(Response(status=304), tag)
    data = clients.thumbnails.get(digest, key=key)
    if data is None:
        with clients.memory.holding(min(size, LARGE)):
            data = clients.thumbnails.make(digest, key=key, size=size)
    return tagged(Response(data, content_type=MEDIA_TYPE), tag)


def tagged(response: Response, tag: str) -> Response:
    """Give a response the headers of a file that is named by its content."""
    response.set_etag(tag)
    response.headers.update(_HEADERS)
    return response


def _disposition(name: str) -> str:
    """Return how a browser is to show and name a file (RFC 6266)."""
    plain = "".join(character if character.isalnum() or character in " .-_()" else "_" for character in _ascii(name))
    return f"inline; filename=\"{plain}\"; filename*=UTF-8''{quote(name, safe='')}"


def _ascii(text: str) -> str:
    return text.encode("ascii", "replace").decode()
