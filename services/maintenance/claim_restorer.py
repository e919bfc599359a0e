"""Restores the claims and the indexed segments of an embedding set from its rows in the object store.

Redis may hold nothing, or a part of what it held, or what it held a while ago. Only the rows tell what is there: a
claim that names another segment than the one with the image's live row is corrected, and a claim without a row goes.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from services.maintenance.lost_images import LostImages
from shared.clients import Clients
from shared.index.segment_reader import SegmentReader
from shared.index.unreported_segments import unreported_segments
from shared.sorted_numbers import places_among
from shared.state.locks import segments_lock
from shared.state.pieces import pieces
from shared.storage import layout
from shared.storage.catalog import EmbeddingSet


@dataclass(frozen=True, eq=False)
class _Rows:
    """The live rows of all segments that can be read: the image of each, int64 [n], and its segment, int32 [n].

    The rows are in the order of their images. `segments` are the names, with those that have no live row.
    """

    segments: list[str]
    ids: npt.NDArray[np.int64]
    places: npt.NDArray[np.int32]

    def has(self, image_ids: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
        """Return for each image whether it has a live row."""
        return places_among(self.ids, image_ids) >= 0

    def without(self, deleted: set[tuple[str, int]]) -> "_Rows":
        """Return the rows that are not deleted: segment and image."""
        number = {segment: place for place, segment in enumerate(self.segments)}
        gone = np.zeros(len(self.ids), dtype=np.bool_)
        for segment, image_id in deleted:
            first, end = np.searchsorted(self.ids, [image_id, image_id + 1]).tolist()
            gone[first:end] |= self.places[first:end] == number.get(segment, -1)
        return _Rows(self.segments, self.ids[~gone], self.places[~gone])


class ClaimRestorer:
    """Restores claims. The caller holds the lock on the segments; images may be added and deleted meanwhile."""

    def __init__(self, clients: Clients) -> None:
        self._catalog, self._state = clients.catalog, clients.state
        self._reader = SegmentReader(clients.store)
        self._lost_images = LostImages(clients)

    def restore(self, embedding_set: EmbeddingSet) -> int:
        """Make claims and indexed segments what the rows say; returns the number of images."""
        set_name = embedding_set.name
        deleted_before = self._catalog.tombstones(set_name)
        gone = self._gone_segments(set_name)
        rows = self._read(embedding_set)
        # What was deleted meanwhile may be back by now: the claim is that of another segment then.
        rows = rows.without(self._catalog.tombstones(set_name) - deleted_before)
        if gone and not layout.is_regions(set_name):  # windows are embedded again
            self._lost_images.put_into_trash(embedding_set, self._claimed_for(set_name, gone, rows))
        self._state.indexed_segments.remove(set_name, sorted(gone))
        images = self._assign(set_name, rows)
        for segment in rows.segments:
            self._state.indexed_segments.add(set_name, segment)
        self._check_lock(set_name)
        self._release_deleted(set_name, deleted_before)
        self._release_without_row(set_name, rows)
        return images

    def _check_lock(self, set_name: str) -> None:
        """Make sure that the caller has not lost its lock on the segments."""
        self._state.locks.check(segments_lock(layout.collection_of(set_name)))

    def _gone_segments(self, set_name: str) -> set[str]:
        """Return the indexed segments that the store lacks: an image that is claimed for one would count as added."""
        return self._state.indexed_segments.all(set_name) - set(self._catalog.segments(set_name))

    def _claimed_for(self, set_name: str, gone: set[str], rows: _Rows) -> list[int]:
        """Return the images that segments which are gone have claimed, and that no other segment has."""
        found: list[int] = []
        for claims in self._state.claims.scan(set_name):
            image_ids = np.array([image_id for image_id, holder in claims.items() if holder in gone], np.int64)
            found += image_ids[~rows.has(image_ids)].tolist()
        return sorted(set(found))

    def _read(self, embedding_set: EmbeddingSet) -> _Rows:
        names: list[str] = []
        ids, places = [np.empty(0, np.int64)], [np.empty(0, np.int32)]
        for segment, segment_ids, _ in self._reader.live_rows(embedding_set, with_empty=True):
            ids.append(segment_ids)
            places.append(np.full(len(segment_ids), len(names), np.int32))
            names.append(segment)
        all_ids, all_places = np.concatenate(ids), np.concatenate(places)
        order = np.argsort(all_ids, kind="stable")
        return _Rows(names, all_ids[order], all_places[order])

    def _assign(self, set_name: str, rows: _Rows) -> int:
        """Have each image claimed for a segment that has its row, and delete its other rows; returns how many it is."""
        starts = np.flatnonzero(np.diff(rows.ids, prepend=-1))
        ends = np.append(starts[1:], len(rows.ids))[: len(starts)]
        for piece in pieces(range(len(starts))):
            firsts = starts[piece[0] : piece[-1] + 1]
            image_ids = rows.ids[firsts].tolist()
            holders = self._state.claims.holders(set_name, image_ids)
            corrected: dict[int, str] = {}
            for image_id, holder, start, end in zip(
                image_ids, holders, firsts.tolist(), ends[piece[0] : piece[-1] + 1].tolist(), strict=True
            ):
                segments = [rows.segments[number] for number in rows.places[start:end].tolist()]
                kept = holder if holder is not None and holder in segments else segments[0]
                if holder != kept:
                    corrected[image_id] = kept
                if len(segments) > 1:
                    others = [(segment, image_id) for segment in segments if segment != kept]
                    self._catalog.add_tombstones(set_name, others)
            for image_id in self._added_again(set_name, rows, corrected, zip(image_ids, holders, strict=True)):
                del corrected[image_id]
            self._check_lock(set_name)
            self._state.claims.assign(set_name, corrected)
        return len(starts)

    def _added_again(
        self, set_name: str, rows: _Rows, corrected: Mapping[int, str], holders: Iterable[tuple[int, str | None]]
    ) -> list[int]:
        """Return the images whose rows were deleted a moment ago, and that a segment has claimed since."""
        others = {image_id: holder for image_id, holder in holders if holder is not None and image_id in corrected}
        there = self._there(set_name, set(others.values()) - set(rows.segments))
        again = [image_id for image_id, holder in others.items() if holder in there]
        left = {corrected[image_id] for image_id in again}
        deleted = {segment: self._catalog.tombstones_of(set_name, segment) for segment in left}
        return [image_id for image_id in again if image_id in deleted[corrected[image_id]]]

    def _there(self, set_name: str, segments: set[str]) -> set[str]:
        """Return those of some segments that are written, or are still to be written."""
        if not segments:
            return set()
        # Before the listing: a segment whose batch is reported by then is among those that are listed.
        coming = unreported_segments(self._state.jobs, segments)
        return coming | segments & set(self._catalog.segments(set_name))

    def _release_deleted(self, set_name: str, deleted_before: set[tuple[str, int]]) -> None:
        """Release the claims of images that were deleted while their rows were read."""
        deleted: defaultdict[str, list[int]] = defaultdict(list)
        for segment, image_id in self._catalog.tombstones(set_name) - deleted_before:
            deleted[segment].append(image_id)
        for segment, image_ids in deleted.items():
            self._state.claims.release(set_name, segment, image_ids)

    def _release_without_row(self, set_name: str, rows: _Rows) -> None:
        """Release claims for segments that do not have the image, unless the segment is still to be written."""
        read = set(rows.segments)
        for claims in self._state.claims.scan(set_name):
            image_ids = np.fromiter(claims, np.int64, len(claims))
            without_row = image_ids[~rows.has(image_ids)].tolist()
            if not without_row:
                continue
            # A segment that is listed and was not read is damaged, or was written since.
            there = self._there(set_name, {claims[image_id] for image_id in without_row} - read)
            by_segment: defaultdict[str, list[int]] = defaultdict(list)
            for image_id in without_row:
                segment = claims[image_id]
                if segment not in there:
                    by_segment[segment].append(image_id)
            self._check_lock(set_name)
            for segment, lost in by_segment.items():
                self._state.claims.release(set_name, segment, lost)
