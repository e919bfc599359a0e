"""One search: from what was asked to the query service's answer."""

import contextlib
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from typing import BinaryIO, cast

from services.web import metrics, quotas
from services.web.api.search_inputs import SearchBatch
from services.web.clients import WebClients
from services.web.problems import Problem
from shared.proof.findings import Proof
from shared.rpc.query import SearchBatchRequest, SearchOptions, SearchResponse

_IN_MEMORY = 2**20  # bytes of a file that is fetched; more lies on the disk until all of it has come
_COPIES = 3  # of an image's bytes while it is sent: as read, in the message, on the wire


def search(
    clients: WebClients,
    collection: str,
    options: SearchOptions,
    *,
    image: bytes | None = None,
    image_id: int = 0,
    vector: Sequence[float] = (),
    box: str = "",
) -> SearchResponse:
    """Return the images most similar to an image's bytes, to an image of the collection, or to an embedding.

    `box` names a part of the image that is searched for in place of all of it.

    Raises:
        NotFound: There is no such collection or image.
        QueryRefused: The image cannot be decoded, or an option does not fit.
        Unavailable: The query service or a part that it needs does not answer, or too many images are waiting.
    """
    request = options.to_request(collection)
    request.box = box
    if image is not None:
        request.image = image
    elif vector:
        request.vector.values.extend(vector)
    elif image_id:
        request.id = image_id
    with (
        clients.memory.holding(_COPIES * len(image or b"")),
        clients.decoder.place() if image is not None or box else contextlib.nullcontext(),
    ):
        found = clients.query.search(request)
    metrics.count_search(found)
    return found


def prove(
    clients: WebClients,
    collection: str,
    found: SearchResponse,
    options: SearchOptions,
    *,
    image: bytes | None = None,
    image_id: int = 0,
    box: str = "",
) -> Mapping[int, Proof]:
    """Compare the first hits of a search with its query; see `Prover.prove`."""
    with clients.memory.holding(_COPIES * len(image or b"")):
        return clients.prover.prove(collection, found, options, image=image, image_id=image_id, box=box)


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


def check_size(clients: WebClients, size: int) -> None:
    """Refuse a query image that has too many bytes, before it is read.

    Raises:
        Problem: It has.
    """
    limit = clients.settings.max_query_bytes
    if size > limit:
        raise Problem(
            413,
            "too-large",
            f"the image has {size:,} bytes, at most {limit:,} are taken: save it smaller or compressed",
        )
