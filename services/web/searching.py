"""One search: from what was asked to the query service's answer."""

from services.web import measures
from services.web.inputs import SearchOptions
from services.web.parts import Parts
from services.web.problems import Problem
from shared.query import METRICS, MODES, SearchRequest, SearchResponse

_COPIES = 3  # of an image's bytes while it is sent: as read, in the message, on the wire


def search(
    parts: Parts, collection: str, options: SearchOptions, *, image: bytes | None = None, image_id: int = 0
) -> SearchResponse:
    """Return the images most similar to an image's bytes, or to an image of the collection.

    Raises:
        NotFound: There is no such collection or image.
        QueryRefused: The image cannot be decoded, or an option does not fit.
        Unavailable: The query service or a part that it needs does not answer.
    """
    request = SearchRequest(
        collection=collection,
        k=options.k,
        mode=MODES[options.mode],
        metric=METRICS[options.metric],
        probes=options.probes,
    )
    if image is None:
        request.id = image_id
    else:
        request.image = image
    with parts.memory.holding(_COPIES * len(image or b"")):
        found = parts.query.search(request)
    measures.searched(found)
    return found


def check_size(parts: Parts, size: int) -> None:
    """Refuse a query image that has too many bytes, before it is read.

    Raises:
        Problem: It has.
    """
    limit = parts.limits.max_bytes
    if size > limit:
        raise Problem(
            413,
            "too-large",
            f"the image has {size:,} bytes, at most {limit:,} are taken: save it smaller or compressed",
        )
