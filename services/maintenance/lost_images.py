"""Images whose segment the object store has lost: their originals must not count as held by nobody."""

import logging
import time
from collections.abc import Sequence

from shared.clients import Clients
from shared.errors import Invalid
from shared.storage.catalog import EmbeddingSet
from shared.storage.trash import Trash, TrashEntry

_log = logging.getLogger(__name__)


class LostImages:
    """Puts the originals of lost images into the trash of their collection, from where they can be restored.

    They are not added again at once: a Redis that has what was true a while ago may name images that were deleted
    since.
    """

    def __init__(self, clients: Clients) -> None:
        self._catalog = clients.catalog
        self._trash = Trash(clients.store)

    def put_into_trash(self, embedding_set: EmbeddingSet, image_ids: Sequence[int]) -> None:
        """Put those of some images into the trash whose originals are there; of each only the digest is known."""
        collection, now = embedding_set.collection, time.time()
        if self._catalog.get(collection).name != embedding_set.name:
            return  # a set that is being filled has no image of its own
        try:
            present = set(self._trash.digests(collection))
        except Invalid as error:  # what is there twice does no harm
            _log.error("the trash of %s is not read: %s", collection, error)
            present = set()
        digests = [
            digest
            for image_id in image_ids
            for digest in self._catalog.original_digests(image_id)
            if digest not in present
        ]
        self._trash.put(collection, [TrashEntry.unknown(digest, now) for digest in digests])
        if image_ids:
            _log.error(
                "%s: %d images were in segments that are gone; the originals of %d can be restored from the trash",
                collection,
                len(image_ids),
                len(digests),
            )
