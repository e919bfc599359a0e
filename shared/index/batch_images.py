"""Images of a segment as images of a batch: to be embedded again, for another embedding set."""

from shared.messaging.messages import BatchImage
from shared.storage.segments import Entry


def batch_image(entry: Entry) -> BatchImage:
    """Return the image of a segment's row as an image of a batch that is to be embedded."""
    page = entry.document.page if entry.document else 1
    return BatchImage(entry.digest, entry.name, entry.label, entry.size, entry.added, page)
