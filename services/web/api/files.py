"""The files of an image: the original as it came, and its thumbnail. Both follow from the content and never change."""

from urllib.parse import quote

from flask import Response, request
from flask.typing import ResponseReturnValue

from services.web.api.inputs import ImagePath
from services.web.api.openapi import Answer
from services.web.api.operations import api
from services.web.clients import WebClients, web_clients
from services.web.file_names import clean_name
from services.web.thumbnails import MEDIA_TYPE
from shared.images import MEDIA_TYPES
from shared.storage import layout

_HEADERS = {
    "Cache-Control": "private, max-age=31536000, immutable",
    "Content-Security-Policy": "default-src 'none'; sandbox",
}
_TAG = {"ETag": "Follows from the content.", "Cache-Control": "The content never changes."}
_TYPES = frozenset(MEDIA_TYPES.values())


@api.operation(
    "GET",
    "/collections/{name}/images/{id}/original",
    path_model=ImagePath,
    answers={
        200: Answer("The file.", bytes, tuple(sorted(_TYPES)), _TAG),
        304: Answer("As you have it.", headers=_TAG),
    },
    problems=(404, 503),
)
def get_original(path: ImagePath) -> ResponseReturnValue:
    """Return the file that an image came as."""
    clients = web_clients()
    entry = clients.query.image(path.name, path.id)
    if request.if_none_match.contains(entry.digest):
        return _tagged(Response(status=304), entry.digest)
    taken = clients.memory.acquire(entry.size)
    try:
        data = clients.store.get(layout.original_key(entry.digest))
    except BaseException:
        clients.memory.release(taken)
        raise
    kind = entry.media_type if entry.media_type in _TYPES else "application/octet-stream"
    response = Response(data, content_type=kind)
    response.call_on_close(lambda: clients.memory.release(taken))
    response.headers["Content-Disposition"] = _disposition(clean_name(entry.name))
    return _tagged(response, entry.digest)


@api.operation(
    "GET",
    "/collections/{name}/images/{id}/thumbnail",
    path_model=ImagePath,
    answers={
        200: Answer("A JPEG of at most 256 by 256 pixels.", bytes, (MEDIA_TYPE,), _TAG),
        304: Answer("As you have it.", headers=_TAG),
    },
    problems=(404, 503),
)
def get_thumbnail(path: ImagePath) -> ResponseReturnValue:
    """Return a small picture of an image."""
    clients = web_clients()
    entry = clients.query.image(path.name, path.id)
    tag = f"{entry.digest}-thumbnail"
    if request.if_none_match.contains(tag):
        return _tagged(Response(status=304), tag)
    data = clients.thumbnails.get(entry.digest) or _made(clients, entry.digest, entry.size)
    return _tagged(Response(data, content_type=MEDIA_TYPE), tag)


def _made(clients: WebClients, digest: str, size: int) -> bytes:
    with clients.memory.holding(size):
        return clients.thumbnails.make(digest)


def _tagged(response: Response, tag: str) -> Response:
    response.set_etag(tag)
    response.headers.update(_HEADERS)
    return response


def _disposition(name: str) -> str:
    """Return how a browser is to show and name a file (RFC 6266)."""
    plain = "".join(character if character.isalnum() or character in " .-_()" else "_" for character in _ascii(name))
    return f"inline; filename=\"{plain}\"; filename*=UTF-8''{quote(name, safe='')}"


def _ascii(text: str) -> str:
    return text.encode("ascii", "replace").decode()
