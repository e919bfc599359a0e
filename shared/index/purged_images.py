"""Which of the images that a purge names are its collection's, fixed before anything of them is removed.

A purge names images by their ids, which anybody may write down. What other collections and query sets remember of an
image goes with it only if the collection had it. Once the rows are gone, nothing tells: so the list is in the message.
"""

from collections.abc import Sequence
from dataclasses import replace

from shared.clients import Clients
from shared.errors import NotFound, Renamed
from shared.index.segment_ids import SegmentIds
from shared.storage import layout
from shared.storage.trash import Trash


class PurgedImages:
    """Tells which images a collection has to purge."""

    def __init__(self, clients: Clients, segment_ids: SegmentIds) -> None:
        self._state, self._catalog = clients.state, clients.catalog
        self._segment_ids, self._trash = segment_ids, Trash(clients.store)

    def fix(self, *, job: str, collection: str, image_ids: Sequence[int], had: Sequence[int] | None) -> list[int]:
        """Return which images the collection had when the purge began.

        `had` is what the message says of it. Without that, an earlier attempt has noted it in the job's message, or
        this is the first, which does so.

        Raises:
            Invalid: The trash cannot be read: it may hold any of them.
            Unavailable: A server is away.
        """
        if had is not None:
            return list(had)
        sent = self._state.jobs.sent.get(job, 0)
        if sent is not None and (noted := sent.arguments.get("had")) is not None:
            return [int(image_id) for image_id in noted]
        found = sorted(self._among(collection, image_ids))
        if sent is not None:
            self._state.jobs.sent.note(job, 0, replace(sent, arguments=sent.arguments | {"had": found}))
        return found

    def _among(self, collection: str, image_ids: Sequence[int]) -> set[int]:
        """Return which images a collection has: claims, rows, deleted or not, and entries in its trash."""
        wanted = set(image_ids)
        had = {layout.image_id(digest) for digest in self._trash.digests(collection)} & wanted
        for set_name in self._sets(collection):
            holders = self._state.claims.holders(set_name, image_ids)
            had |= {image_id for image_id, holder in zip(image_ids, holders, strict=True) if holder is not None}
            had.update(*self._segment_ids.find(set_name, image_ids).by_segment.values())
        return had

    def _sets(self, collection: str) -> list[str]:
        try:
            active = self._catalog.get(collection)
        except Renamed:
            raise
        except NotFound:
            return []
        return [active.name, *(unused.name for unused in self._catalog.unused_embedding_sets(collection))]
