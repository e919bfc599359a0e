"""One search: from what was asked to the query service's answer."""

import contextlib
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from typing import BinaryIO, cast

from werkzeug.datastructures import FileStorage

from services.web import metrics, quotas
from services.web.access import authorize, seen_collections
from services.web.api.search_inputs import SearchBatch
from services.web.clients import WebClients
from services.web.languages import marked, told
from services.web.problems import FieldError, Problem, invalid
from services.web.uploads import size_of
from shared.errors import NotFound
from shared.proof.findings import Proof
from shared.rpc.query import (
    SearchAcrossRequest,
    SearchAcrossResponse,
    SearchBatchRequest,
    SearchOptions,
    SearchRequest,
    SearchResponse,
    largest_first,
)
from shared.rpc.query.options import MAX_IMAGES

_IN_MEMORY = 2**20  # bytes of a file that is fetched; more lies on the disk until all of it has come
_COPIES = 3  # of an image's bytes while it is sent: as read, in the message, on the wire


def search(
    clients: WebClients,
    collection: str,
    options: SearchOptions,
    *,
    images: Sequence[bytes] = (),
    image_id: int = 0,
    vector: Sequence[float] = (),
    box: str = "",
) -> SearchResponse:
    """Return the images most similar to image files, to an image of the collection, or to an embedding.

    Several files are one query. `box` names a part of the image that is searched for in place of all of it.

    Raises:
        NotFound: There is no such collection or image.
        QueryRefused: The image cannot be decoded, or an option does not fit.
        Unavailable: The query service or a part that it needs does not answer, or too many images are waiting.
    """
    request = _request(options, collection, images=images, image_id=image_id, vector=vector, box=box)
    with _room(clients, request):
        found = clients.query.search(request)
    metrics.count_search(found)
    return found


def search_across(
    clients: WebClients,
    collections: Sequence[str],
    options: SearchOptions,
    *,
    images: Sequence[bytes] = (),
    image_id: int = 0,
    vector: Sequence[float] = (),
    box: str = "",
) -> SearchAcrossResponse:
    """Return the images of several collections most similar to one, ranked together; see `search`."""
    asked = _request(options, "", images=images, image_id=image_id, vector=vector, box=box)
    with _room(clients, asked):
        found = clients.query.search_across(SearchAcrossRequest(options=asked, collections=collections))
    for answer in found.answers:
        metrics.count_search(answer.found, with_stages=False)  # they are those of all collections
    return found


def chosen_collections(names: Sequence[str], first: str = "") -> list[str]:
    """Return collections to search in: those named, or without names all that the requester may look into.

    Of all, the largest is the first, or the one named as that. The model is that of the first.

    Raises:
        NotFound: There is one of the names that is no collection, or none that the requester may look into.
        Problem: There is no collection at all.
    """
    for name in names:
        authorize(name)
    if names:
        return list(names)
    seen = largest_first(seen_collections(), first)
    if not seen:
        raise NotFound(marked("there is no collection with images that you may look into"))
    return seen


def _request(
    options: SearchOptions,
    collection: str,
    *,
    images: Sequence[bytes],
    image_id: int,
    vector: Sequence[float],
    box: str,
) -> SearchRequest:
    request = options.to_request(collection)
    request.box = box
    if len(images) == 1:
        request.image = images[0]
    elif images:
        request.images.extend(images)
    elif vector:
        request.vector.values.extend(vector)
    elif image_id:
        request.id = image_id
    return request


@contextlib.contextmanager
def _room(clients: WebClients, request: SearchRequest) -> Iterator[None]:
    """Hold the memory of a search, and a place at the decoders if it needs one, during the block."""
    images = [*request.images, request.image]
    decodes = any(images) or request.WhichOneof("query") == "image" or request.box
    with (
        clients.memory.holding(_COPIES * sum(map(len, images))),
        clients.decoder.place() if decodes else contextlib.nullcontext(),
    ):
        yield


def prove(
    clients: WebClients,
    found: SearchResponse | SearchAcrossResponse,
    options: SearchOptions,
    *,
    collection: str = "",
    image: bytes | None = None,
    image_id: int = 0,
    box: str = "",
) -> Mapping[int, Proof]:
    """Compare the first hits of a search, of one collection or several, with its query; see `Prover.prove`."""
    with clients.memory.holding(_COPIES * len(image or b"")):
        return clients.prover.prove(found, options, collection=collection, image=image, image_id=image_id, box=box)


def search_batch(clients: WebClients, collection: str, batch: SearchBatch) -> list[SearchResponse]:
    """Return the answer to each query of a batch.

    Raises:
        NotFound: There is no such collection or image.
        QueryRefused: An option or vector does not fit.
        Unavailable: The query service does not answer.
    """
    request = SearchBatchRequest(options=batch.to_options().to_request(collection))
    for image_id in batch.ids:
        request.queries.add().id = image_id
    for vector in batch.vectors:
        request.queries.add().vector.values.extend(vector)
    answers = list(clients.query.search_batch(request).answers)
    for found in answers:
        metrics.count_search(found, with_stages=False)  # they are those of the whole batch
    return answers


@contextlib.contextmanager
def fetched(clients: WebClients, url: str) -> Iterator[bytes]:
    """Fetch the picture at an address; its bytes count as memory in use until the block ends.

    Raises:
        Problem: The requester had too many fetched.
        FetchRefused: The address, or what is there, is not taken.
        Unavailable: Too many pictures are fetched at the moment.
    """
    quotas.count_fetch()
    with tempfile.SpooledTemporaryFile(max_size=_IN_MEMORY) as file:
        size = clients.fetcher.fetch(url, cast("BinaryIO", file))
        with clients.memory.holding(size):
            file.seek(0)
            yield file.read()


def read_files(clients: WebClients, files: Sequence[FileStorage], *, box: str, proof: bool) -> list[bytes]:
    """Return the bytes of the files of a search, one or several that are one query.

    Raises:
        Problem: They are too many, or have too many bytes together; or the search is one that takes a single file.
    """
    if len(files) > MAX_IMAGES:
        message = f"has {len(files)} files, at most {MAX_IMAGES} are searched for as one"
        raise invalid([FieldError(field="body.image", message=message)])
    if len(files) > 1 and (box or proof):
        message = f"is for a single picture, and {len(files)} are given: leave one, or this out"
        raise invalid([FieldError(field="body.box" if box else "body.proof", message=message)])
    size, limit = sum(map(size_of, files)), clients.settings.max_query_bytes
    if size > limit:
        if len(files) == 1:
            detail = marked("the image has %(size)s bytes, at most %(most)s are taken: save it smaller or compressed")
        else:
            detail = marked(
                "the images have together %(size)s bytes, at most %(most)s are taken: save them smaller or compressed"
            )
        raise Problem(413, "too-large", told(detail, size=size, most=limit))
    return [file.stream.read() for file in files]
