"""Sample images of a collection, for pages that show what the collection holds."""

from services.web.clients import web_clients
from shared.errors import NotFound
from shared.rpc.query import Collection, Image

_PLACES = 4  # places of the collection from which a sample is taken


def sample_images(collection: Collection, count: int) -> list[Image]:
    """Return up to `count` images, taken from evenly spaced places of the collection; none if it is gone by now."""
    if not collection.images:
        return []
    try:
        return list(web_clients().query.sample(collection.name, count=count, places=_PLACES).images)
    except NotFound:
        return []
