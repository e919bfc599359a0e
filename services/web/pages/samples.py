"""Sample images of a collection, for pages that show what the collection holds."""

from contextlib import suppress

from services.web.clients import web_clients
from shared.errors import NotFound
from shared.rpc.query import Collection, Image

_PLACES = 4  # places of the collection from which a sample is taken


def sample_images(collection: Collection, count: int) -> list[Image]:
    """Return up to `count` images, taken from evenly spaced places of the collection; none if it is gone by now."""
    if not collection.images:
        return []
    per_place = count // _PLACES
    last_offset = max(0, collection.images - per_place)
    offsets = sorted({place * last_offset // (_PLACES - 1) for place in range(_PLACES)})
    samples: dict[int, Image] = {}
    with suppress(NotFound):
        for offset in offsets:
            for image in web_clients().query.images(collection.name, limit=per_place, offset=offset).images:
                samples[image.id] = image
    return list(samples.values())
