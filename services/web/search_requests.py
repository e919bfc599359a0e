"""One search: from what was asked to the query service's answer."""

from collections.abc import Sequence

from services.web import metrics
from services.web.api.inputs import SearchBatch
from services.web.clients import WebClients
from services.web.problems import Problem
from shared.rpc.query import SearchBatchRequest, SearchOptions, SearchResponse

_COPIES = 3  # of an image's bytes while it is sent: as read, in the message, on the wire


def search(
    clients: WebClients,
    collection: str,
    options: SearchOptions,
    *,
    image: bytes | None = None,
    image_id: int = 0,
    vector: Sequence[float] = (),
) -> SearchResponse:
    """Return the images most similar to an image's bytes, to an image of the collection, or to an embedding.

    Raises:
        NotFound: There is no such collection or image.
        QueryRefused: The image cannot be decoded, or an option does not fit.
        Unavailable: The query service or a part that it needs does not answer.
    """
    request = options.to_request(collection)
    if image is not None:
        request.image = image
    elif vector:
        request.vector.values.extend(vector)
    elif image_id:
        request.id = image_id
    with clients.memory.holding(_COPIES * len(image or b"")):
        found = clients.query.search(request)
    metrics.count_search(found)
    return found


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


def check_size(clients: WebClients, size: int) -> None:
    """Refuse a query image that has too many bytes, before it is read.

    Raises:
        Problem: It has.
    """
    limit = clients.limits.max_bytes
    if size > limit:
        raise Problem(
            413,
            "too-large",
            f"the image has {size:,} bytes, at most {limit:,} are taken: save it smaller or compressed",
        )
