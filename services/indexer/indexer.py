"""What changes the contents of a collection's index: a new segment, a deletion, the drop of the collection.

Every method may run twice or die anywhere. The order of writes sees to it: object store first, then buckets and ledger,
then the announcement, then the report.
"""

import logging
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from services.maintenance.compaction import Compactor
from services.maintenance.model_change import Switcher, item_of
from services.maintenance.tuning import Tender
from shared.errors import Closed, Invalid, NotFound, ObjectNotFound, Unavailable
from shared.index.contents import Contents, float32
from shared.index.generations import collection_prefix
from shared.index.row_lookup import Lookup, Row
from shared.messaging.task_queue import Queue
from shared.rpc.serving import ServingClient
from shared.settings import EXACT_BELOW
from shared.state import BucketStore, Change, Changes, IndexState, Jobs, Ledger, Rejection
from shared.state.jobs import Outcome
from shared.storage import layout, segments
from shared.storage.catalog import Catalog, Collection
from shared.storage.object_store import ObjectStore

_log = logging.getLogger(__name__)

_LOCK_S = 15.0
_FRESH_S = 1.0  # a manifest is read again after
_WAIT_S = 5.0  # of a task that others wait behind
_TENDED_S = 30.0  # between two requests to tune a collection that goes on growing
_DELETED_AT_ONCE = 512  # images, while a merge may have to wait


class Indexer:
    """Keeps buckets and ledger in step with the object store.

    `new_seed` gives the seed of a new generation, `connect_model` a client for a model and version.
    """

    def __init__(
        self,
        *,
        store: ObjectStore,
        buckets: BucketStore,
        ledger: Ledger,
        jobs: Jobs,
        changes: Changes,
        queue: Queue,
        new_seed: Callable[[], int],
        connect_model: Callable[[str, int | None], ServingClient],
        exact_below: int = EXACT_BELOW,
    ) -> None:
        self._store, self._buckets, self._ledger = store, buckets, ledger
        self._jobs, self._changes, self._queue = jobs, changes, queue
        self._catalog, self._lookup = Catalog(store), Lookup(store)
        self._manifests: dict[str, tuple[float, Collection]] = {}  # the last one, and when it was read
        self.compactor = Compactor(store=store, ledger=ledger, jobs=jobs, changes=changes, queue=queue)
        self._contents = Contents(store)
        self.tender = Tender(
            store=store,
            buckets=buckets,
            ledger=ledger,
            jobs=jobs,
            changes=changes,
            contents=self._contents,
            recover=self.compactor.recover,
            new_seed=new_seed,
            exact_below=exact_below,
        )
        self.switcher = Switcher(
            store=store,
            ledger=ledger,
            jobs=jobs,
            changes=changes,
            queue=queue,
            tender=self.tender,
            compactor=self.compactor,
            spaces=self,
            connect_model=connect_model,
        )

    # A new segment

    def index(self, *, collection: str, segment: str, job: str, batch: int, outcome: Outcome) -> None:
        """Put the images of a segment of a space, `collection`, into their buckets, settle it, report its batch.

        What was embedded for a space that its collection has left is embedded again for the one in use.
        """
        space, name = collection, layout.collection_of(collection)
        try:
            manifest, state = self._known(space)
        except _Left as left:
            self._send_back(left.used, space, segment, job, batch, outcome)
            return
        except NotFound:
            self._report_dropped(job, batch, name, outcome)
            return
        settled = size = 0
        if self._jobs.reported(job, batch):
            self._clear_away(space, segment)
        else:
            try:
                rows = self._contents.segment(manifest, segment)
            except ObjectNotFound:
                self._report_dropped(job, batch, name, outcome)
                return
            try:
                outcome, settled, size = self._add(manifest, state, segment, rows, outcome)
            except Closed:
                self._reopen(manifest)
                raise
        done = self._jobs.report(job, batch, outcome)
        if self._used(name).space != space:
            return  # whoever fills it also tends it
        self.compactor.segments_added(name, settled)
        if self.tender.due(state, size or self._ledger.size(space), underway=not done) and (
            done or self._ledger.once(f"tend:{name}", seconds=_TENDED_S)
        ):
            self._queue.tend(collection=name)

    def _reopen(self, collection: Collection) -> None:
        """Open a space that is closed if whoever closed it has died, so that what waits can go on."""
        self._manifests.clear()
        if not self._ledger.is_held(f"tend:{collection.name}") and self._catalog.get(collection.name) == collection:
            self._ledger.open(collection.space)

    def _send_back(self, used: Collection, space: str, segment: str, job: str, batch: int, outcome: Outcome) -> None:
        """Have the images of a segment that was not settled when its space was left embedded for the one in use."""
        if not self._jobs.reported(job, batch):
            if self._ledger.settled(space, [segment])[0]:  # it was moved with the others
                self._jobs.report(job, batch, outcome)
                return
            try:
                rows = segments.unpack(self._store.get(layout.segment_key(space, segment)), verify=True)
            except ObjectNotFound:
                return  # an earlier attempt has sent them
            dead = self._catalog.dead_ids(space, segment)
            items = [item_of(segments.entry_of(rows, row)) for row in range(len(rows))]
            items = [item for item in items if layout.image_id(item.digest) not in dead]
            before = Outcome({}, outcome.duplicates, outcome.rejected)
            self._queue.embed(job=job, batch=batch, collection=used.name, items=items, before=before)
        self._catalog.remove_segments(space, [segment])
        try:
            self._catalog.space(space)
        except NotFound:
            self._ledger.forget(space)  # who embedded it has claimed its images in a space that was gone

    def _add(
        self, collection: Collection, state: IndexState, segment: str, rows: pa.RecordBatch, outcome: Outcome
    ) -> tuple[Outcome, int, int]:
        """Index a segment; returns the outcome without the images that another one holds, and what `settle` does."""
        ids, vectors = segments.ids_of(rows), float32(rows)
        mine, taken = self._claims(collection, segment, ids)
        for number in state.generations:
            self._contents.generation(collection, number).add(self._buckets, ids[mine], vectors[mine])
        settled, size = self._ledger.settle(collection.space, segment)
        self._changes.announce(Change(collection.space, "segment", segment))
        return _without(outcome, [segments.entry_of(rows, row).label for row in taken]), settled, size

    def _known(self, space: str) -> tuple[Collection, IndexState]:
        """Return the manifest of a space that is in use or being filled, and the state of its index.

        A manifest that was read a moment ago will do: of a collection that was dropped there is no state, one that
        was made anew since has no generation yet, whose buckets it would name, and in a space that was left nothing
        settles.

        Raises:
            NotFound: There is no such collection, or the space is not being filled any more.
            _Left: The collection uses another space since.
        """
        name, number = layout.collection_of(space), layout.number_of(space)
        state = self._ledger.state(space)
        used = self._used(name) if state is not None else self._used(name, fresh=True)
        if number < used.number:
            raise _Left(used)
        if used.space != space:
            used = self._catalog.space(space)
        return used, state or self.tender.known(used)

    def _used(self, name: str, *, fresh: bool = False) -> Collection:
        """Return the manifest of the space that a collection uses, as it was a moment ago."""
        read, manifest = self._manifests.get(name, (0.0, None))
        if fresh or manifest is None or time.monotonic() - read > _FRESH_S:
            read, manifest = time.monotonic(), self._catalog.get(name)
            self._manifests = {name: (read, manifest)}
        return manifest

    def _report_dropped(self, job: str, batch: int, collection: str, outcome: Outcome) -> None:
        """Report a segment that is gone: as long as its batch is not reported, only a drop removes it."""
        reason = f"the collection {collection!r} was dropped, or changed to another model, while this was added"
        lost = tuple(Rejection("", "dropped", reason) for _ in range(sum(outcome.added.values())))
        self._jobs.report(job, batch, Outcome({}, outcome.duplicates, outcome.rejected + lost))

    def _clear_away(self, space: str, segment: str) -> None:
        """Delete the segment of a reported batch if it is one that was merged, and written once more by who hung."""
        if self._ledger.settled(space, [segment])[0]:
            return
        try:
            rows = segments.unpack(self._store.get(layout.segment_key(space, segment)))
        except ObjectNotFound:
            return
        holders = set(self._ledger.holders(space, segments.ids_of(rows).tolist()))
        if segment not in holders and holders - {None}:
            self._catalog.remove_segments(space, [segment])

    def _claims(
        self, collection: Collection, segment: str, ids: npt.NDArray[np.int64]
    ) -> tuple[npt.NDArray[np.bool_], list[int]]:
        """Return which rows the segment holds by the ledger, bool [n], and those that another one does, now buried."""
        holders = self._ledger.holders(collection.space, ids.tolist())
        taken = [row for row, holder in enumerate(holders) if holder not in {None, segment}]
        self._catalog.bury(collection.space, ((segment, image) for image in ids[taken].tolist()))
        return np.array([holder == segment for holder in holders], dtype=np.bool_), taken

    def give_up(
        self,
        error: Exception,
        *,
        job: str | None = None,
        batch: int = 0,
        outcome: dict[str, Any] | None = None,
        **_: object,
    ) -> None:
        """Report a task that failed for a reason that waiting does not mend; what it was given says whose it is."""
        if job:
            known = Outcome.from_json(outcome) if outcome else Outcome()
            failure = Rejection("", "error", f"the indexer failed: {error}")
            lost = (failure,) * (sum(known.added.values()) if outcome else 1)
            self._jobs.report(job, batch, Outcome({}, known.duplicates, known.rejected + lost))

    # Deletion

    def delete(self, *, job: str, collection: str, ids: Sequence[int]) -> None:
        """Remove images from results, buckets, ledger and store; those that are not there are passed over."""
        try:
            manifest = self._catalog.get(collection)
        except NotFound:
            self._jobs.report(job, 0, Outcome())
            return
        self.tender.known(manifest)
        ids = list(dict.fromkeys(ids))
        removed = 0
        for start in range(0, len(ids), _DELETED_AT_ONCE):
            some = ids[start : start + _DELETED_AT_ONCE]
            # A merge may not hand over the claims by which the rows are found.
            with self._ledger.holding(f"claims:{collection}", seconds=_LOCK_S, wait_s=_WAIT_S) as held:
                if not held:
                    raise Unavailable(f"a merge or another deletion goes on in {collection!r}")
                manifest = self._catalog.get(collection)
                if self._ledger.is_closed(manifest.space):
                    self._reopen(manifest)
                    raise Unavailable(f"{collection!r} is about to change to another model")
                filling = self._catalog.filling(manifest)
                if filling is not None:
                    self._ledger.note_gone(filling.space, some)
                removed += self.delete_rows(manifest, some)
        if removed:
            self.compactor.rows_deleted(manifest, removed)
        self._jobs.report(job, 0, Outcome(affected=removed))

    def delete_rows(self, collection: Collection, ids: Sequence[int], *, originals: bool = True) -> int:
        """Remove images from a space, and their originals; returns how many there were.

        The caller holds the lock on the claims.
        """
        space = collection.space
        rows = self._find(collection, ids)
        self._catalog.bury(space, rows)
        found = {image: row for (_, image), row in rows.items() if row is not None}
        # Read after the marks were written: a generation that begins to be filled later is filled without these rows.
        state = self._ledger.state(space) or IndexState()
        for number in state.generations if found else ():
            vectors = np.stack([row.vector for row in found.values()])
            self._contents.generation(collection, number).remove(self._buckets, np.array(list(found)), vectors)
        for segment, image in rows:
            self._changes.announce(Change(space, "deleted", f"{segment}/{image}"))
        if originals:
            digests = {image: [row.digest] if row else self._digests(image) for (_, image), row in rows.items()}
            self._delete_originals([digest for some in digests.values() for digest in some], leaving=collection.name)
        # Last, since the claim is how a second run finds what is to be deleted.
        for segment, images in _by_segment(rows).items():
            self._ledger.release(space, segment, images)
        return len(rows)

    def _find(self, collection: Collection, ids: Sequence[int]) -> dict[tuple[str, int], Row | None]:
        """Return the rows of images by segment and id; None for a row that is in a damaged or missing segment."""
        space = collection.space
        holders = self._ledger.holders(space, ids)
        found: dict[tuple[str, int], Row | None] = {}
        for segment, images in _by_segment((holder, image) for holder, image in zip(holders, ids, strict=True)).items():
            try:
                rows = self._lookup.rows(space, segment, images)
            except (ObjectNotFound, Invalid) as error:
                if isinstance(error, ObjectNotFound) and not self._ledger.settled(space, [segment])[0]:
                    self._ledger.release(space, segment, images)  # it is not written yet, or never was
                    continue
                _log.error("%s: images of a segment that cannot be read are deleted: %s", space, error)
                found.update(((segment, image), None) for image in images)
            else:
                found.update(((segment, image), row) for image, row in rows.items())
        return found

    def _digests(self, image: int) -> list[str]:
        """Return the digests of the originals with this id."""
        keys = (item.key for item in self._store.list(layout.originals_prefix(image)))
        digests = (key.rpartition("/")[2] for key in keys)
        return [digest for digest in digests if layout.image_id(digest) == image]

    def _delete_originals(self, digests: Sequence[str], *, leaving: str) -> None:
        """Delete originals that no collection but `leaving` holds."""
        ids = [layout.image_id(digest) for digest in digests]
        held: set[int] = set()
        for name in self._catalog.names() if ids else ():
            if name != leaving:
                other = self._catalog.get(name)
                self.tender.known(other)  # if it was lost, only the object store knows what the collection holds
                holders = self._ledger.holders(other.space, ids)
                held |= {image for image, holder in zip(ids, holders, strict=True) if holder}
        self._store.delete(
            [layout.original_key(digest) for digest, image in zip(digests, ids, strict=True) if image not in held]
        )

    def drop(self, *, job: str, collection: str) -> None:
        """Remove a collection: manifest, segments, index and the originals that no other collection holds."""
        try:
            self._catalog.get(collection)
        except NotFound:
            self._changes.announce(Change(collection, "dropped"))
            self._changes.announce(Change(collection, "collection"))  # which is gone, with whatever space it used
            self._jobs.report(job, 0, Outcome())
            return
        with self._ledger.holding(f"tend:{collection}", seconds=_LOCK_S, wait_s=_WAIT_S) as held:
            if not held:
                raise Unavailable(f"another worker is at the segments of {collection!r}")
            manifest = self._catalog.get(collection)
            for unused in self._catalog.unused_spaces(collection):
                self.drop_space(unused)
            removed = self._drop(manifest)
        self._jobs.report(job, 0, Outcome(affected=removed))

    def _drop(self, collection: Collection) -> int:
        digests: set[str] = set()
        live: set[int] = set()
        dead = self._catalog.dead_rows(collection.space)
        for segment in self._catalog.segments(collection.space):
            try:
                rows = self._contents.segment(collection, segment)
            except Invalid as error:
                _log.error("%s: the originals of a damaged segment, %s, stay: %s", collection.name, segment, error)
                continue
            digests |= {digest.as_py().hex() for digest in rows.column("digest")}
            live |= {image for image in segments.ids_of(rows).tolist() if (segment, image) not in dead}
        self._ledger.forget(collection.space)
        self._delete_originals(sorted(digests), leaving=collection.name)
        self.drop_space(collection)
        return len(live)

    def drop_space(self, collection: Collection) -> None:
        """Remove a space: index, segments, manifest. The caller holds the lock on its segments."""
        self._ledger.forget(collection.space)
        self._buckets.drop(collection_prefix(collection))  # before the manifest, which alone knows their names
        self._catalog.drop(collection)
        self._changes.announce(Change(collection.space, "dropped"))


class _Left(Exception):
    def __init__(self, used: Collection) -> None:
        super().__init__(used.space)
        self.used = used


def _by_segment(pairs: Iterable[tuple[str | None, int]]) -> dict[str, list[int]]:
    """Return images by the segment that holds them; those that none holds are left out."""
    found: defaultdict[str, list[int]] = defaultdict(list)
    for segment, image in pairs:
        if segment is not None:
            found[segment].append(image)
    return found


def _without(outcome: Outcome, labels: Sequence[str | None]) -> Outcome:
    """Return an outcome in which images with these labels are duplicates instead of added."""
    added = Counter(outcome.added) - Counter(label or "" for label in labels)
    return Outcome(dict(added), outcome.duplicates + len(labels), outcome.rejected)
