"""Indexes the regions of collections: has the windows embedded of the images that have none, and removes all others.

Those of long pictures are always indexed, since a model sees but the middle of one; those of the others where a
collection's regions are switched on.

The work is done in turns, so that other tasks get theirs. A turn may die anywhere: what is missing follows from the
claims. The windows of an image get into one segment, so the first of them stands for all.
"""

import logging
import time
from collections.abc import Iterator, Set
from dataclasses import replace
from functools import partial

from services.maintenance.dropping import Dropper
from services.maintenance.embedding_batches import EmbeddingBatches, index_written
from services.maintenance.rebuilding import IndexRebuilder
from shared.errors import Invalid, NotFound, ObjectNotFound, Unavailable
from shared.index.batch_images import batch_image
from shared.index.deletion import ImageDeleter
from shared.index.segment_reader import SegmentReader
from shared.messaging.job_submission import submit
from shared.messaging.messages import BatchImage
from shared.messaging.task_queue import EMBED
from shared.messaging.worker import WorkerClients
from shared.state import Change, IndexState, Rejection
from shared.state.locks import LEASE_S, creation_lock, regions_lock
from shared.state.outcomes import REFUSED, Outcome
from shared.storage import layout, segments
from shared.storage.catalog import EmbeddingSet, WindowsOf
from shared.windows import MOST_WINDOWS, is_long, windows

_log = logging.getLogger(__name__)

_TURN_S = 10.0
_LAST_S = 60.0  # as long as batches that were sent are waited for
_WAITING = 64  # batches of other jobs, before which none is sent for a job that somebody waits for
_FEW = 2  # of them, before which none is sent otherwise: new images go first
_BATCH = 4  # images, of which each has dozens of windows
_OUTSTANDING = 4  # batches: an upload that comes meanwhile waits behind them
_CHECKED_S = 24 * 3600.0  # between two looks at everything


class RegionDuty:
    """Asks for the windows that are missing: of images whose message was lost, or whose windows were."""

    name, every_s = "regions", 600.0
    looked_s = 24 * 3600.0  # between two looks for long pictures in a collection whose regions are not indexed

    def __init__(self, clients: WorkerClients) -> None:
        self._catalog, self._jobs, self._queue = clients.catalog, clients.state.jobs, clients.queue
        self._locks = clients.state.locks

    def run(self) -> None:
        """Ask, for each collection whose regions are indexed; or have them follow a collection that was renamed.

        Once a day, ask for each of the others too: it may have long pictures from before their windows were indexed.

        Raises:
            Unavailable: A server is away.
        """
        stored = self._catalog.stored_names()
        for name in stored:
            if not layout.is_regions(name):
                if layout.regions_of(name) not in stored and self._locks.once(f"long:{name}", seconds=self.looked_s):
                    self._queue.make_regions(collection=name)
                continue
            collection = layout.collection_with(name)
            current = self._catalog.current_name(collection)
            if current == collection:
                self._queue.make_regions(collection=collection)
            elif self._catalog.renames.taking(layout.regions_of(current)) is None:
                submit(self._jobs, "rename", collection, partial(self._rename, name, layout.regions_of(current)))

    def _rename(self, old: str, new: str, job: str) -> None:
        self._queue.rename(job=job, collection=old, new=new)


class RegionMaker:
    """Switches the index of regions on and off, and completes it."""

    def __init__(
        self, clients: WorkerClients, *, rebuilder: IndexRebuilder, deleter: ImageDeleter, dropper: Dropper
    ) -> None:
        self._catalog, self._state, self._queue = clients.catalog, clients.state, clients.queue
        self._rebuilder, self._deleter, self._dropper = rebuilder, deleter, dropper
        self._segments = SegmentReader(clients.store)

    def switch(self, *, job: str, collection: str, on: bool) -> None:
        """Have the regions of a collection indexed from now on, or not any more; the job ends when it is done.

        Where they are not, the windows of long pictures still are: they are made anew when the others are gone.
        The job counts windows. Its rejections say of which images there are none, and why.

        Raises:
            Unavailable: A server is away, or another worker is at the regions.
        """
        if self._state.jobs.reported(job, 0):
            return
        with self._state.locks.hold(regions_lock(collection), wait_s=LEASE_S + 1):
            if on:
                try:
                    regions = self._begun(self._catalog.get(collection), "all")
                except NotFound as error:
                    self._refuse(job, str(error))
                    return
                self._look_again(regions)
            else:
                self._state.jobs.report(job, 0, Outcome(affected=self._dropper.drop_regions(collection)))
        self._queue.make_regions(collection=collection, job=job if on else None)

    def make(self, *, collection: str, job: str | None = None) -> None:
        """Take a turn at embedding what windows are missing, and ask for another turn unless none are.

        Raises:
            Unavailable: A server is away, or another worker is at the regions.
        """
        if job and self._state.jobs.reported(job, 0):
            return
        if not job and self._state.locks.is_held(regions_lock(collection)):
            return  # by a worker whose turns go on until nothing is missing
        with self._state.locks.hold(regions_lock(collection), wait_s=LEASE_S + 1):
            try:
                active = self._catalog.get(collection)
                if job and not self._indexes_all(collection):
                    self._refuse(job, f"the index of the regions of {collection!r} was removed meanwhile")
                    return
                if not self._catalog.is_there(layout.regions_of(collection)) and not self._has_long(active):
                    return
            except NotFound as error:
                if job:
                    self._refuse(job, str(error))
                return
            regions = self._begun(active)
            done = self._turn(active, regions, job)
            if done and job:
                self._end(active, regions, job)
        if not done:
            self._queue.make_regions(collection=collection, job=job)

    def _refuse(self, job: str, reason: str) -> None:
        self._state.jobs.report(job, 0, Outcome(rejected=(Rejection("", REFUSED, reason),)))

    def _end(self, active: EmbeddingSet, regions: EmbeddingSet, job: str) -> None:
        images = self._state.claims.count(active.name)
        self._state.jobs.advance(job, steps=images, total=images)
        failed = tuple(self._state.model_changes.failed(regions.name).values())
        self._state.jobs.report(job, 0, Outcome(affected=self._state.claims.count(regions.name), rejected=failed))

    def _indexes_all(self, collection: str) -> bool:
        """Return whether the regions of a collection's images are indexed, not those of long ones alone."""
        try:
            return self._catalog.get(layout.regions_of(collection)).windows_of == "all"
        except NotFound:
            return False

    def _has_long(self, active: EmbeddingSet) -> bool:
        """Return whether a collection has a long picture; a segment that has none is noted."""
        self._rebuilder.ensure_restored(active)
        seen = self._state.region_coverage.all(active.name)
        for segment, entries in self._unseen(active, seen):
            if any(is_long(entry.width, entry.height) for entry in entries):
                return True
            self._state.region_coverage.add(active.name, segment)
        return False

    def _begun(self, active: EmbeddingSet, windows_of: WindowsOf | None = None) -> EmbeddingSet:
        """Return the embedding set of a collection's regions, made anew if there is none of the collection's model.

        It has windows of what is asked for; None: of what it had before, of long pictures if there was none.
        """
        name, number = layout.regions_of(active.collection), int(time.time())
        try:
            regions = self._catalog.get(name)
        except NotFound:
            pass
        else:
            windows_of = windows_of or regions.windows_of
            if (regions.model, regions.version) == (active.model, active.version):
                self._rebuilder.ensure_restored(regions)
                if regions.windows_of == windows_of:
                    return regions
                wider = replace(regions, windows_of=windows_of)
                self._catalog.put_manifest(wider)
                self._state.changes.announce(Change(wider.name, "collection"))
                return wider
            self._dropper.drop_regions(active.collection)
            number = max(number, regions.number + 1)
        with self._state.locks.hold(creation_lock(name), wait_s=LEASE_S):
            # A number that was never used: what is on its way into an earlier set finds that it is gone.
            made = self._catalog.create(
                name,
                model=active.model,
                version=active.version,
                dim=active.dim,
                number=number,
                windows_of=windows_of or "long",
            )
            self._state.index_states.set(made.name, IndexState())
        self._state.changes.announce(Change(made.name, "collection"))
        return made

    # A turn

    def _turn(self, active: EmbeddingSet, regions: EmbeddingSet, job: str | None) -> bool:
        """Send what is missing, and wait for it; returns whether nothing was, or new images go first.

        Then the end of their job asks for the windows again, or else the duty does.
        """
        until, waiting = time.monotonic() + _TURN_S, self._queue.waiting()[EMBED]
        if job is None and waiting > _FEW:
            return True
        if waiting > _WAITING:
            raise Unavailable("the embedder is far behind")
        self._rebuilder.ensure_restored(active)
        if self._state.locks.once(f"regions-checked:{regions.name}", seconds=_CHECKED_S):
            self._look_again(regions)
            self._remove_stray(active, regions)
        index_written(regions, self._catalog, self._state, self._queue)
        batches = self._batches(active, regions, job)
        for items in self._missing(active, regions):
            if time.monotonic() > until:
                break
            batches.send(items, until + _LAST_S)
        return batches.wait(until + _LAST_S) and not batches.sent

    def _look_again(self, regions: EmbeddingSet) -> None:
        """Forget which images cannot have windows, and where none are missing."""
        self._state.model_changes.forget_failed(regions.name)
        self._state.region_coverage.forget(regions.name)

    def _batches(self, active: EmbeddingSet, regions: EmbeddingSet, job: str | None) -> EmbeddingBatches:
        def on_progress() -> None:
            if job:
                total = self._state.claims.count(active.name)
                made = self._state.claims.count(regions.name) // MOST_WINDOWS
                self._state.jobs.advance(job, steps=min(total, made), total=total)

        return EmbeddingBatches(self._state, self._queue, regions, on_progress, outstanding=_OUTSTANDING)

    def _missing(self, active: EmbeddingSet, regions: EmbeddingSet) -> Iterator[list[BatchImage]]:
        """Yield the images without windows, a batch at a time; a segment that has none is noted."""
        covered = self._state.region_coverage.all(regions.name)
        failed = self._state.model_changes.failed(regions.name)
        has_windows = is_long if regions.windows_of == "long" else windows
        for segment, entries in self._unseen(active, covered):
            wanted = [entry for entry in entries if entry.id not in failed and has_windows(entry.width, entry.height)]
            missing = self._without_windows(regions, wanted)
            if not missing:
                self._state.region_coverage.add(regions.name, segment)
            for start in range(0, len(missing), _BATCH):
                yield [batch_image(entry) for entry in missing[start : start + _BATCH]]

    def _unseen(self, active: EmbeddingSet, seen: Set[str]) -> Iterator[tuple[str, list[segments.Entry]]]:
        """Yield each indexed segment of a collection that was not seen, with its images."""
        for segment in self._catalog.segments(active.name):
            if segment in seen or not self._state.indexed_segments.contains(active.name, segment):
                continue
            try:
                rows = self._segments.read(active, segment)
            except (Invalid, ObjectNotFound) as error:
                _log.warning("%s: the images of the segment %s get no windows: %s", active.name, segment, error)
                continue
            holders = self._state.claims.holders(active.name, segments.ids_of(rows).tolist())
            yield (
                segment,
                [segments.entry_of(rows, row) for row, holder in enumerate(holders) if holder == segment],
            )

    def _without_windows(self, regions: EmbeddingSet, entries: list[segments.Entry]) -> list[segments.Entry]:
        """Return the images whose first window is in no segment that is indexed."""
        first = [layout.window_id(entry.digest, 0) for entry in entries]
        holders = self._state.claims.holders(regions.name, first)
        indexed = self._state.indexed_segments.among(regions.name, sorted({holder for holder in holders if holder}))
        return [entry for entry, holder in zip(entries, holders, strict=True) if holder not in indexed]

    def _remove_stray(self, active: EmbeddingSet, regions: EmbeddingSet) -> None:
        """Delete the windows of images that the collection does not have: a deletion may have died before them."""
        deleted = self._catalog.tombstones_by_segment(regions.name)
        for segment in self._catalog.segments(regions.name):
            try:
                rows = self._segments.read(regions, segment)
            except (Invalid, ObjectNotFound):  # merged since; or damaged, which a verification tells
                continue
            found = zip(segments.ids_of(rows).tolist(), rows.column("digest").to_pylist(), strict=True)
            digests = sorted({digest.hex() for window, digest in found if window not in deleted[segment]})
            holders = self._state.claims.holders(active.name, [layout.image_id(digest) for digest in digests])
            stray = [digest for digest, holder in zip(digests, holders, strict=True) if holder is None]
            self._deleter.delete_windows(active.collection, stray)
