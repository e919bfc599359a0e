"""Deletes images from an embedding set: from results, buckets and claims, by the rows in the object store.

The rows alone say what there is. The claims tell which task is about to write a row, and which rows are in a segment
that cannot be read.
"""

import logging
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from collections.abc import Collection as Container
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from shared.clients import Clients
from shared.errors import Closed, Invalid, ObjectNotFound
from shared.index.generations import Generation, GenerationCache
from shared.index.row_lookup import RowLookup
from shared.index.segment_ids import SegmentIds
from shared.state import IndexState, deletions
from shared.state.locks import claims_lock
from shared.storage import layout
from shared.storage.catalog import EmbeddingSet
from shared.storage.segments import Entry
from shared.storage.trash import Trash, TrashEntry
from shared.windows import MOST_WINDOWS

_log = logging.getLogger(__name__)

_WAIT_S = 5.0  # for a merge
_IMAGES_AT_ONCE = 2048  # whose windows are deleted: for each step, the ids of all windows are gone through
_IDS_A_READ, _BUCKETS_A_READ = 10_000, 500  # in buckets, in the time that a request to the object store takes
_READS = 2  # segments at a time: each may have 64 MB

Place = tuple[str, int]
"""Segment and image id of a row."""


@dataclass(frozen=True)
class _Found:
    """The rows of images, the rows among them that are deleted, and the rows in segments that cannot be read.

    `entries` are what the rows say; none of windows, of which nobody asks it.
    """

    rows: set[Place]
    entries: dict[Place, Entry]
    deleted: set[Place]
    unreadable: set[Place]
    holders: dict[int, str]  # image to the segment that holds its claim, where that segment was written

    def present(self) -> set[int]:
        """Return the images that were there: with a live row, or a claim that an earlier attempt has left."""
        live = {image_id for segment, image_id in self.rows if (segment, image_id) not in self.deleted}
        return live | self.holders.keys()


def windows_of(digests: Iterable[str]) -> list[int]:
    """Return the ids of all windows that images may have, whatever their sizes."""
    return [layout.window_id(digest, number) for digest in digests for number in range(MOST_WINDOWS)]


class ImageDeleter:
    """Deletes images; every call may run twice. The caller holds the lock on the collection's claims."""

    def __init__(self, clients: Clients, generations: GenerationCache) -> None:
        self._store, self._state, self._catalog = clients.store, clients.state, clients.catalog
        self._generations = generations
        self._lookup, self.segment_ids = RowLookup(clients.store), SegmentIds(clients.store)
        self._trash = Trash(clients.store)

    def delete(
        self,
        embedding_set: EmbeddingSet,
        image_ids: Sequence[int],
        *,
        into_trash: bool = False,
        noted: Callable[[int], int] = int,
    ) -> int:
        """Delete images from an embedding set, with every row of them; returns how many there were.

        Their originals stay. With `into_trash`, the collection's trash gets them before anything else happens.
        Their windows go last: until its image is gone, a window may be on its way.

        `noted` notes how many there were, before nothing tells that any more, and returns what was noted first: an
        attempt that comes after that finds none.
        """
        set_name = embedding_set.name
        found = self._find(embedding_set, image_ids)
        present = found.present()
        if into_trash and present:
            rows = (f"{segment}/{image_id}" for segment, image_id in found.rows if image_id in present)
            origin = " ".join([set_name, *sorted(rows)])
            self._trash.put(embedding_set.collection, self._trash_entries(found, present), origin=origin)
        self._catalog.add_tombstones(set_name, (found.rows | found.unreadable) - found.deleted)
        self._remove_from_buckets(embedding_set, found.rows)
        gone = [place for place in found.rows | found.unreadable if place[1] in present]
        if gone:
            self._state.changes.announce(*deletions(set_name, gone))
        count = noted(len(present))
        # After a worker that died, a claim says that an image was deleted and not reported.
        self._state.claims.release_held(set_name, found.holders)
        if not layout.is_regions(set_name):
            self.delete_windows(embedding_set.collection, sorted({row.digest for row in found.entries.values()}))
        return count

    def delete_windows(self, collection: str, digests: Sequence[str]) -> None:
        """Delete the windows of images, where the collection's regions are indexed.

        Raises:
            Unavailable: A merge or another deletion goes on in the regions, or they are being renamed.
        """
        name = layout.regions_of(collection)
        if not digests or not self._catalog.is_there(name):
            return
        with self._state.locks.hold(claims_lock(name), wait_s=_WAIT_S):
            regions = self._catalog.get(name)
            if self._state.indexed_segments.is_closed(regions.name):
                raise Closed(f"{name!r} is about to change its name")
            for start in range(0, len(digests), _IMAGES_AT_ONCE):
                self.delete(regions, windows_of(digests[start : start + _IMAGES_AT_ONCE]))

    def _remove_from_buckets(self, embedding_set: EmbeddingSet, rows: Container[Place]) -> None:
        """Take images out of the buckets of all generations.

        Where the embeddings of the rows say which buckets these are, reading the embeddings may take longer than
        reading all buckets.
        """
        # Read after the tombstones: a generation that begins to be filled later is filled without these rows.
        state = self._state.index_states.get(embedding_set.name) or IndexState()
        by_segment: defaultdict[str, list[int]] = defaultdict(list)
        for segment, image_id in rows:
            by_segment[segment].append(image_id)
        for number in state.generations if rows else ():
            generation = self._generations.get(embedding_set, number)
            names = generation.every_bucket()
            if names is not None and self._are_buckets_cheaper(embedding_set, generation, len(names), by_segment):
                self._state.buckets.remove_from_all(names, sorted({image_id for _, image_id in rows}))
                continue
            for segment, image_ids in by_segment.items():
                try:
                    vectors = self._lookup.vectors(embedding_set.name, segment, image_ids)
                except (ObjectNotFound, Invalid) as error:  # searches know no such row; a verification names the bucket
                    _log.error("%s: images of %s stay in their buckets: %s", embedding_set.name, segment, error)
                    continue
                if vectors:
                    generation.remove(self._state.buckets, np.array(list(vectors)), np.stack(list(vectors.values())))

    def _are_buckets_cheaper(
        self, embedding_set: EmbeddingSet, generation: Generation, buckets: int, rows: Mapping[str, Sequence[int]]
    ) -> bool:
        """Return whether it takes less time to read all of so many buckets than the embeddings of rows."""
        set_name = embedding_set.name
        ids = self._state.claims.count(set_name) * generation.family.tables
        reads = sum(self._lookup.reads_of_vectors(set_name, segment, image_ids) for segment, image_ids in rows.items())
        return ids / _IDS_A_READ + buckets / _BUCKETS_A_READ < reads

    def _find(self, embedding_set: EmbeddingSet, image_ids: Sequence[int]) -> _Found:
        set_name = embedding_set.name
        claims = dict(zip(image_ids, self._state.claims.holders(set_name, image_ids), strict=True))
        found = self.segment_ids.find(set_name, image_ids)
        rows, deleted = set[Place](), set[Place]()
        entries: dict[Place, Entry] = {}

        def read(segment: str) -> tuple[Mapping[int, Entry | None], set[int]] | Invalid | None:
            wanted = found.by_segment[segment]
            stored: Mapping[int, Entry | None]
            try:
                if layout.is_regions(set_name):
                    stored = dict.fromkeys(wanted)
                else:
                    stored = self._lookup.entries(set_name, segment, wanted)
            except ObjectNotFound:  # merged since: what it was merged into is among the segments too
                return None
            except Invalid as error:
                return error
            return stored, self._catalog.tombstones_of(set_name, segment)

        with ThreadPoolExecutor(_READS, thread_name_prefix="segments") as pool:
            for segment, answer in zip(found.by_segment, pool.map(read, found.by_segment), strict=True):
                if isinstance(answer, Invalid):
                    found.unreadable[segment] = str(answer)
                elif answer is not None:
                    rows |= {(segment, image_id) for image_id in answer[0]}
                    entries |= {(segment, image_id): row for image_id, row in answer[0].items() if row is not None}
                    deleted |= {(segment, image_id) for image_id in answer[1]}
        holders = {image_id: segment for image_id, segment in claims.items() if segment is not None}
        never_written = self._never_written(set_name, set(holders.values()) - found.by_segment.keys())
        for image_id, segment in list(holders.items()):
            if segment in never_written:
                self._state.claims.release(set_name, segment, [image_id])
                del holders[image_id]
        if any(self._store.exists(layout.segment_key(set_name, segment)) for segment in never_written):
            # Written before the claims were released, so that its writer does not know: its rows are found now.
            return self._find(embedding_set, image_ids)
        unreadable = {(segment, image_id) for image_id, segment in holders.items() if (segment, image_id) not in rows}
        # A segment that cannot be read may have a row of any image whose row is nowhere else.
        missing = set(image_ids) - {image_id for _, image_id in rows}
        unreadable |= {(segment, image_id) for segment in found.unreadable for image_id in missing}
        for segment, reason in found.unreadable.items():
            _log.error("%s: a deletion cannot read the segment %s: %s", set_name, segment, reason)
        return _Found(rows, entries, deleted & rows, unreadable, holders)

    def _never_written(self, set_name: str, names: Container[str]) -> set[str]:
        """Return the segments of which there is nothing: a task is about to write them, or has died."""
        indexed = self._state.indexed_segments.among(set_name, sorted(names))
        return {
            segment
            for segment in names
            if segment not in indexed and not self._store.exists(layout.segment_key(set_name, segment))
        }

    def _trash_entries(self, found: _Found, present: set[int]) -> list[TrashEntry]:
        """Return the trash entries of images: what the row says that was live, or that an earlier attempt deleted."""
        now, chosen = time.time(), dict[int, Entry]()
        for place, entry in sorted(found.entries.items(), key=lambda item: item[0] not in found.deleted):
            chosen[place[1]] = entry
        entries = []
        for image_id in sorted(present):
            if image_id in chosen:
                entries.append(TrashEntry.of(chosen[image_id], now))
            else:
                entries += [TrashEntry.unknown(digest, now) for digest in self._catalog.original_digests(image_id)]
        return entries
