"""Gives a collection another name: copies what is stored under the old one, and removes that after the change.

Every step may run twice or die anywhere. The new name counts from one write on, that of the manifest under it: a
manifest that says it is moving there does not count any more. Before, the collection is closed for a moment, as for a
change to another model, while the last changes are copied; what was embedded for it and comes later is handed over by
the indexer. The buckets stay where they are: their names go by the tag of the embedding set, which it keeps.
"""

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

from services.maintenance.dropping import Dropper
from services.maintenance.exclusive_access import ExclusiveAccess
from services.maintenance.moved_objects import MovedObjects
from services.maintenance.rebuilding import IndexRebuilder
from shared.access import AccessStore
from shared.clients import Clients
from shared.errors import ArtseekError, Locked, NotFound, Unavailable
from shared.messaging.job_submission import submit
from shared.messaging.worker import WorkerClients
from shared.state import Change, IndexState, Rejection
from shared.state.locks import LEASE_S, claims_lock, creation_lock, regions_lock, segments_lock
from shared.state.outcomes import REFUSED, Outcome
from shared.storage import layout
from shared.storage.catalog import EmbeddingSet
from shared.storage.renames import Rename

_log = logging.getLogger(__name__)


class RenameDuty:
    """Has renames finished whose job was lost."""

    name, every_s = "renames", 600.0

    def __init__(self, clients: WorkerClients) -> None:
        self._catalog, self._jobs, self._queue = clients.catalog, clients.state.jobs, clients.queue

    def run(self) -> None:
        """Ask for the end of each rename that no job is at.

        Raises:
            Unavailable: A server is away.
        """
        for rename in self._catalog.renames.under_way():
            if not self._is_under_way(rename.job):
                _log.warning("the rename of %s to %s goes on", rename.old, rename.new)
                collection = layout.collection_with(rename.old)
                submit(self._jobs, "rename", collection, lambda job, rename=rename: self._send(job, rename))  # type: ignore[misc]

    def _send(self, job: str, rename: Rename) -> None:
        self._queue.rename(job=job, collection=rename.old, new=rename.new)

    def _is_under_way(self, job: str) -> bool:
        try:
            return not self._jobs.get(job).done
        except NotFound:
            return False


class Renamer:
    """Renames collections."""

    def __init__(
        self,
        clients: Clients,
        *,
        access: ExclusiveAccess,
        rebuilder: IndexRebuilder,
        dropper: Dropper,
    ) -> None:
        self._store, self._catalog, self._state = clients.store, clients.catalog, clients.state
        self._renames = clients.catalog.renames
        self._exclusive, self._rebuilder, self._dropper = access, rebuilder, dropper
        self._access = AccessStore(clients.store, clients.state)
        self._objects = MovedObjects(clients)

    def rename(self, *, job: str, collection: str, new: str) -> None:
        """Give a collection another name; the job's rejection says why it has the old one.

        Raises:
            Unavailable: A server is away, or another worker is at the collection's segments.
        """
        if self._state.jobs.reported(job, 0):
            return
        try:
            images = 0
            if not layout.is_regions(collection):
                images = self._rename(job, collection, new)
                collection, new = layout.regions_of(collection), layout.regions_of(new)
            self._rename_regions(job, collection, new)
        except _Refused as refusal:
            _log.warning("%s is not renamed to %s: %s", collection, new, refusal)
            self._state.jobs.report(job, 0, Outcome(rejected=(Rejection("", REFUSED, str(refusal)),)))
        else:
            self._state.jobs.report(job, 0, Outcome(affected=images))

    def _rename_regions(self, job: str, old: str, new: str) -> None:
        """Have the index of the regions follow its collection, whose name has changed by now."""
        if self._catalog.stored_manifest(old) is None and self._renames.taking(new) is None:
            return
        # Whoever has windows embedded goes on under the new name.
        with self._state.locks.hold(regions_lock(layout.collection_with(old)), wait_s=LEASE_S + 1):
            try:
                self._rename(job, old, new)
            except _Refused as refusal:  # they were switched on under the new name already
                _log.warning("%s is removed: %s", old, refusal)
                self._dropper.drop_regions(layout.collection_with(old))

    def _rename(self, job: str, old: str, new: str) -> int:
        """Rename a collection; returns how many images it has."""
        stored = self._catalog.stored_manifest(old)
        if stored is not None and not self._catalog.has_moved(stored):
            self._rebuilder.ensure_restored(stored)
        with self._locks(old, new):
            rename = self._begin(job, old, new)
            if rename is not None:
                stored = self._catalog.stored_manifest(old)
                if stored is not None and stored.number > rename.number and self._catalog.is_there(new):
                    # An earlier version let a collection be made under the name before all that was left had gone.
                    self._renames.end(rename)
                    return self._images(new)
                if stored is not None and not self._catalog.has_moved(stored):
                    self._exclusive.recover(stored)
                    self._move(stored, rename)
                self._finish(rename)
        return self._images(new)

    def _images(self, collection: str) -> int:
        return self._state.claims.count(self._catalog.get(collection).name)

    @contextmanager
    def _locks(self, old: str, new: str) -> Iterator[None]:
        """Hold the locks on the segments under both names, and on the creation of a collection of the new name."""
        locks, wait_s = self._state.locks, LEASE_S + 1
        with (
            locks.hold(segments_lock(old), wait_s=wait_s),
            locks.hold(creation_lock(new), wait_s=wait_s),
            locks.hold(segments_lock(new), wait_s=wait_s),
        ):
            yield

    def _check(self, rename: Rename) -> None:
        """Make sure that this worker has lost none of its locks."""
        for lock in (segments_lock(rename.old), segments_lock(rename.new), creation_lock(rename.new)):
            self._state.locks.check(lock)

    # Beginning

    def _begin(self, job: str, old: str, new: str) -> Rename | None:
        """Note that the rename is under way, or return what an earlier attempt noted; None if one has done it all.

        Raises:
            _Refused: It cannot be made.
        """
        begun, stored = self._renames.taking(new), self._catalog.stored_manifest(old)
        if begun is not None and begun.old != old:
            raise _Refused(f"the collection {begun.old!r} is just being renamed to {new!r}")
        if begun is not None and stored is None and not self._catalog.is_there(new):  # it was deleted meanwhile
            self._withdraw(begun)
        if begun is None and self._is_done(job, old, new):  # whoever has taken the old name since
            return None
        if stored is None and not (begun is not None and self._catalog.is_there(new)):
            raise _Refused(str(self._catalog.missing(old)))
        if begun is None and stored is not None:
            self._check_possible(stored, new)
            rename = Rename(
                old=old,
                new=new,
                number=stored.number,
                new_number=self._free_number(new),
                job=job,
                renamed=time.time(),
            )
        elif begun is not None:
            rename = replace(begun, job=job)
        if begun != rename:
            self._check(rename)
            self._renames.begin(rename)
        return rename

    def _is_done(self, job: str, old: str, new: str) -> bool:
        """Return whether an earlier attempt died before it could report."""
        earlier = self._renames.of(old)
        return earlier is not None and (earlier.job, earlier.new) == (job, new) and self._catalog.is_there(new)

    def _check_possible(self, active: EmbeddingSet, new: str) -> None:
        old = active.collection
        if self._store.exists(layout.RESTORING):
            raise Unavailable("a backup is being restored: run `artseek restore` again if it was interrupted")
        if self._renames.taking(old) is not None:
            raise Locked(f"the rename to {old!r} has not ended")
        if active.moving_to is not None and self._renames.taking(active.moving_to) is not None:
            raise _Refused(f"the collection {old!r} is just being renamed to {active.moving_to!r}")
        if self._catalog.stored_manifest(new) is not None:
            raise _Refused(f"there is a collection {new!r} already: choose another name")
        if any(layout.collection_of(set_name) == new for set_name in self._catalog.sets_without_manifest()):
            raise _Refused(f"there are segments of a collection {new!r} whose manifest is lost: run `artseek verify`")
        if self._state.model_changes.get(old) is not None:
            raise _Refused(f"the collection {old!r} changes to another model: wait for the end of it, or cancel it")
        for unused in self._catalog.unused_embedding_sets(old):  # of a change of model that was given up
            self._dropper.drop_embedding_set(unused)

    def _free_number(self, new: str) -> int:
        """Return a number for the embedding set under a name that no other had there."""
        used = [
            layout.number_of(set_name)
            for set_name in self._store.folders(layout.VECTORS)
            if layout.collection_of(set_name) == new and self._catalog.segments(set_name)
        ]
        return max(layout.number_of(self._catalog.first_set_name(new)), 1 + max(used, default=-1))

    def _withdraw(self, rename: Rename) -> None:
        """Remove what was copied for a rename that has become impossible."""
        self._check(rename)
        self._objects.remove_copies(rename)
        self._state.forget(rename.new_set)
        self._renames.forget(rename.old)
        self._renames.end(rename)

    # Moving

    def _move(self, active: EmbeddingSet, rename: Rename) -> None:
        """Copy all that is stored, with little to do at the end, while the collection is closed; have the name count.

        Raises:
            Unavailable: A server is away.
        """
        indexed_segments, old_set = self._state.indexed_segments, rename.old_set
        self._check(rename)
        self._catalog.put_manifest(replace(active, moving_to=rename.new))
        indexed_segments.open(old_set)  # the worker that closed it has died
        self._objects.copy_set(rename)
        with self._state.locks.hold(claims_lock(rename.old), wait_s=LEASE_S):
            self._check(rename)
            indexed_segments.close(old_set)
        try:
            self._objects.copy_set(rename)
            self._objects.copy_records(rename)
            self._copy_state(rename)
            if not indexed_segments.is_closed(old_set) or self._state.index_states.get(old_set) is None:
                raise Unavailable(f"the index of {rename.old!r} was lost")
            self._check(rename)
            self._renames.begin(replace(rename, renamed=time.time()))
            self._check(rename)
            self._catalog.put_manifest(replace(active, collection=rename.new, number=rename.new_number, moving_to=None))
        except Exception:
            self._check(rename)  # else it is the next worker's
            if self._catalog.is_there(rename.old):
                indexed_segments.open(old_set)
            raise

    def _copy_state(self, rename: Rename) -> None:
        """Have Redis know of the new set what it knows of the old one, which is closed."""
        old_set, new_set, state = rename.old_set, rename.new_set, self._state
        state.forget(new_set)
        indexed = state.indexed_segments.all(old_set)
        known = indexed | set(self._catalog.segments(new_set))
        for claims in state.claims.scan(old_set):
            # What is embedded for the old set at this moment is claimed for the new one when it is handed over.
            state.claims.assign(new_set, {image: segment for image, segment in claims.items() if segment in known})
        for segment in sorted(indexed):
            state.indexed_segments.add(new_set, segment)
        if state.suspects.contains(old_set):
            state.suspects.add(new_set, "it was so before the collection was renamed")
        state.index_states.set(new_set, state.index_states.get(old_set) or IndexState())

    # Finishing

    def _finish(self, rename: Rename) -> None:
        """Remove what is left under the old name."""
        self._state.changes.announce(Change(rename.new_set, "collection"))
        if not layout.is_regions(rename.new):
            self._move_what_people_made(rename)
        self._check(rename)
        self._retire(rename.old_set)
        self._objects.remove_originals_of_copies(rename)
        self._check(rename)
        self._store.delete([layout.manifest_key(rename.old)])
        self._state.changes.announce(Change(rename.old_set, "dropped"))
        if not layout.is_regions(rename.old):
            self._state.record_changes.announce(Change(rename.old, "records"))
        self._renames.end(rename)
        _log.info("%s: renamed to %s", rename.old, rename.new)

    def _move_what_people_made(self, rename: Rename) -> None:
        """Have roles, records, evaluations and the like follow the collection."""
        self._access.rename_collection(rename.old, rename.new)
        self._objects.copy_late_records(rename)
        self._state.record_changes.announce(Change(rename.new, "records"))
        self._objects.move_evaluations(rename)
        self._objects.move_duplicates(rename)
        self._objects.move_kept_queries(rename)
        self._state.recall_log.move(rename.old, rename.new)

    def _retire(self, set_name: str) -> None:
        """Forget the old set, but that nothing is to be indexed in it."""
        state = self._state
        state.index_states.forget(set_name)
        state.suspects.remove(set_name)
        state.claims.forget(set_name)
        state.indexed_segments.retire(set_name)
        state.since_compaction.reset(set_name)
        state.model_changes.forget_set(set_name)
        state.region_coverage.forget(set_name)


class _Refused(ArtseekError):
    """The collection keeps its name."""
