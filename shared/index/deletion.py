"""Deletes images from an embedding set: from results, buckets, claims and object store."""

import logging
from collections import defaultdict
from collections.abc import Iterable, Sequence

import numpy as np

from shared.clients import Clients
from shared.errors import Invalid, ObjectNotFound
from shared.index.generations import GenerationCache
from shared.index.row_lookup import RowLookup, StoredRow
from shared.messaging.lost_index import ensure_known
from shared.messaging.task_queue import TaskQueue
from shared.state import Change, IndexState
from shared.storage import layout
from shared.storage.catalog import EmbeddingSet

_log = logging.getLogger(__name__)


class ImageDeleter:
    """Deletes images; every call may run twice. The caller holds the lock on the collection's claims."""

    def __init__(self, clients: Clients, queue: TaskQueue, generations: GenerationCache) -> None:
        self._store, self._state, self._catalog = clients.store, clients.state, clients.catalog
        self._queue, self._generations = queue, generations
        self._lookup = RowLookup(clients.store)

    def delete(self, embedding_set: EmbeddingSet, image_ids: Sequence[int], *, originals: bool = True) -> int:
        """Delete images from an embedding set, and their originals; returns how many images there were."""
        set_name = embedding_set.name
        rows = self._find(embedding_set, image_ids)
        self._catalog.add_tombstones(set_name, rows)
        found = {image_id: row for (_, image_id), row in rows.items() if row is not None}
        # Read after the tombstones: a generation that begins to be filled later is filled without these rows.
        state = self._state.index_states.get(set_name) or IndexState()
        for number in state.generations if found else ():
            vectors = np.stack([row.vector for row in found.values()])
            generation = self._generations.get(embedding_set, number)
            generation.remove(self._state.buckets, np.array(list(found)), vectors)
        for segment, image_id in rows:
            self._state.changes.announce(Change(set_name, "deleted", f"{segment}/{image_id}"))
        if originals:
            digests = {
                image_id: [row.digest] if row else self._digests(image_id) for (_, image_id), row in rows.items()
            }
            self.delete_originals(
                [digest for found_digests in digests.values() for digest in found_digests],
                leaving=embedding_set.collection,
            )
        # Last, since the claim is how a second run finds what is to be deleted.
        for segment, segment_ids in _by_segment(rows).items():
            self._state.claims.release(set_name, segment, segment_ids)
        return len(rows)

    def ensure_others_known(self, leaving: str) -> None:
        """Make sure that Redis knows what all collections but `leaving` hold.

        Raises:
            IndexLost: Redis has lost a collection; a rebuild was asked for.
        """
        for name in self._catalog.names():
            if name != leaving:
                ensure_known(name, catalog=self._catalog, state=self._state, queue=self._queue)

    def delete_originals(self, digests: Sequence[str], *, leaving: str) -> None:
        """Delete originals that no collection but `leaving` holds.

        Raises:
            IndexLost: Redis has lost another collection, so that only the object store knows what it holds.
        """
        image_ids = [layout.image_id(digest) for digest in digests]
        if not image_ids:
            return
        self.ensure_others_known(leaving)
        held: set[int] = set()
        for name in self._catalog.names():
            if name != leaving:
                other = self._catalog.get(name)
                holders = self._state.claims.holders(other.name, image_ids)
                held |= {image_id for image_id, holder in zip(image_ids, holders, strict=True) if holder}
        self._store.delete(
            [
                layout.original_key(digest)
                for digest, image_id in zip(digests, image_ids, strict=True)
                if image_id not in held
            ]
        )

    def _find(self, embedding_set: EmbeddingSet, image_ids: Sequence[int]) -> dict[tuple[str, int], StoredRow | None]:
        """Return the rows of images by segment and id; None for a row that is in a damaged or missing segment."""
        set_name = embedding_set.name
        holders = self._state.claims.holders(set_name, image_ids)
        found: dict[tuple[str, int], StoredRow | None] = {}
        for segment, segment_ids in _by_segment(zip(holders, image_ids, strict=True)).items():
            try:
                rows = self._lookup.rows(set_name, segment, segment_ids)
            except (ObjectNotFound, Invalid) as error:
                never_written = isinstance(error, ObjectNotFound) and not self._state.indexed_segments.contains(
                    set_name, segment
                )
                if never_written:
                    self._state.claims.release(set_name, segment, segment_ids)
                    continue
                _log.error("%s: images of a segment that cannot be read are deleted: %s", set_name, error)
                found.update(((segment, image_id), None) for image_id in segment_ids)
            else:
                found.update(((segment, image_id), row) for image_id, row in rows.items())
        return found

    def _digests(self, image_id: int) -> list[str]:
        """Return the digests of the originals with this id."""
        keys = (stored.key for stored in self._store.list(layout.originals_prefix(image_id)))
        digests = (key.rpartition("/")[2] for key in keys)
        return [digest for digest in digests if layout.image_id(digest) == image_id]


def _by_segment(pairs: Iterable[tuple[str | None, int]]) -> dict[str, list[int]]:
    """Return image ids by the segment that holds them; those that no segment holds are left out."""
    found: defaultdict[str, list[int]] = defaultdict(list)
    for segment, image_id in pairs:
        if segment is not None:
            found[segment].append(image_id)
    return found
