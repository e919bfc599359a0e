"""What changes the index of a collection: a new segment, a deletion, a better fit, a rebuild.

Every method may run twice or die anywhere. The order of writes sees to it: object store first, then buckets and ledger,
then the announcement, then the report.
"""

import logging
from collections import Counter
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from shared import hashing, layout, segments
from shared.catalog import Catalog, Collection, CurrentIndex
from shared.errors import NotFound, ObjectNotFound, Unavailable
from shared.generations import Generation, collection_prefix
from shared.index import BucketStore, Change, Changes, IndexState, Jobs, Ledger, Rejection
from shared.index.jobs import Outcome
from shared.queue import Queue
from shared.store import ObjectStore

_log = logging.getLogger(__name__)

# Fitting costs seconds, so it waits for the end of a job; in the middle of one it is done where searches by the index
# begin to pay, and again whenever the collection is many times what the index was fitted to.
_FIT_UNDERWAY = 10_000
_OUTGROWN_UNDERWAY = 8
_OUTGROWN = 2
_FIT_SAMPLE = 8_192  # embeddings: 42 MB of 1280 dimensions
_LOCK_S = 15.0

Rows = tuple[str, npt.NDArray[np.int64], npt.NDArray[np.float32]]


class Indexer:
    """Keeps buckets and ledger in step with the object store. `new_seed` gives the seed of a new generation."""

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
    ) -> None:
        self._store, self._buckets, self._ledger = store, buckets, ledger
        self._jobs, self._changes, self._queue = jobs, changes, queue
        self._catalog = Catalog(store)
        self._new_seed = new_seed
        self._generations: dict[tuple[str, int], Generation] = {}

    # A new segment

    def index(self, *, collection: str, segment: str, job: str, batch: int, outcome: Outcome) -> None:
        """Put a segment's images into their buckets, settle it, report its batch."""
        try:
            manifest = self._catalog.get(collection)
            state = self._known(manifest)
            rows = segments.unpack(self._store.get(layout.segment_key(collection, segment)))
        except NotFound:
            self._report_dropped(job, batch, collection, outcome)
            return
        ids, vectors = segments.ids_of(rows), segments.vectors_of(rows)
        mine, taken = self._claims(manifest, segment, ids)
        for number in state.generations:
            self._fill(self._generation(manifest, number), ids[mine], vectors[mine])
        self._ledger.settle(collection, segment)
        self._changes.announce(Change(collection, "segment", segment))
        done = self._jobs.report(job, batch, _without(outcome, [segments.entry_of(rows, row).label for row in taken]))
        size = self._ledger.size(collection)
        due = done or size >= max(_FIT_UNDERWAY, _OUTGROWN_UNDERWAY * state.trained_on)
        if due and _outgrown(state, size):
            self._queue.tend(collection=collection)

    def _report_dropped(self, job: str, batch: int, collection: str, outcome: Outcome) -> None:
        """Report a segment that is gone: only dropping its collection removes one."""
        reason = f"the collection {collection!r} was dropped while this was added"
        lost = tuple(Rejection("", "dropped", reason) for _ in range(sum(outcome.added.values())))
        self._jobs.report(job, batch, Outcome({}, outcome.duplicates, outcome.rejected + lost))

    def _claims(
        self, collection: Collection, segment: str, ids: npt.NDArray[np.int64]
    ) -> tuple[npt.NDArray[np.bool_], list[int]]:
        """Return which rows the segment holds by the ledger, bool [n], and those that another one does, now buried."""
        holders = self._ledger.holders(collection.name, ids.tolist())
        taken = [row for row, holder in enumerate(holders) if holder not in {None, segment}]
        self._catalog.bury(collection.name, ((segment, image) for image in ids[taken].tolist()))
        return np.array([holder == segment for holder in holders], dtype=np.bool_), taken

    def _fill(self, generation: Generation, ids: npt.NDArray[np.int64], vectors: npt.NDArray[np.float32]) -> None:
        names = generation.buckets(vectors)
        self._buckets.add(names, np.repeat(ids, generation.family.tables).tolist())

    # Deletion

    def delete(self, *, job: str, collection: str, ids: Sequence[int]) -> None:
        """Remove images from results, buckets, ledger and store; those that are not there are passed over."""
        try:
            manifest = self._catalog.get(collection)
        except NotFound:
            self._jobs.report(job, 0, Outcome())
            return
        state = self._known(manifest)
        ids = list(dict.fromkeys(ids))
        holders = self._ledger.holders(collection, ids)
        removed: list[tuple[str, int]] = []
        digests = []
        for image, segment in zip(ids, holders, strict=True):
            if segment is None:
                continue
            try:
                rows = self._rows(manifest, segment)
            except ObjectNotFound:
                self._ledger.release(collection, segment, [image])
                continue
            (row,) = np.flatnonzero(segments.ids_of(rows) == image)[:1].tolist() or (None,)
            if row is None:
                continue
            self._catalog.bury(collection, [(segment, image)])
            vector = segments.vectors_of(rows)[row : row + 1]
            for number in state.generations:
                generation = self._generation(manifest, number)
                self._buckets.remove(generation.buckets(vector), [image] * generation.family.tables)
            self._changes.announce(Change(collection, "deleted", f"{segment}/{image}"))
            digests.append(segments.entry_of(rows, row).digest)
            removed.append((segment, image))
        self._delete_originals(digests, leaving=collection)
        # Last, since the claim is how a second run finds what is to be deleted.
        for segment, image in removed:
            self._ledger.release(collection, segment, [image])
        self._jobs.report(job, 0, Outcome(affected=len(removed)))

    def _delete_originals(self, digests: Sequence[str], *, leaving: str) -> None:
        """Delete originals that no collection but `leaving` holds."""
        ids = [layout.image_id(digest) for digest in digests]
        held: set[int] = set()
        for name in self._catalog.names() if ids else ():
            if name != leaving:
                if self._ledger.state(name) is None:  # lost: what it holds, only the object store knows
                    self._known(self._catalog.get(name))
                held |= {image for image, holder in zip(ids, self._ledger.holders(name, ids), strict=True) if holder}
        self._store.delete(
            [layout.original_key(digest) for digest, image in zip(digests, ids, strict=True) if image not in held]
        )

    def drop(self, *, job: str, collection: str) -> None:
        """Remove a collection: manifest, segments, index and the originals that no other collection holds."""
        try:
            manifest = self._catalog.get(collection)
        except NotFound:
            self._changes.announce(Change(collection, "dropped"))
            self._jobs.report(job, 0, Outcome())
            return
        digests: set[str] = set()
        live: set[int] = set()
        dead = self._catalog.dead_rows(collection)
        for segment in self._catalog.segments(collection):
            rows = self._rows(manifest, segment)
            digests |= {digest.as_py().hex() for digest in rows.column("digest")}
            live |= {image for image in segments.ids_of(rows).tolist() if (segment, image) not in dead}
        self._ledger.forget(collection)
        self._delete_originals(sorted(digests), leaving=collection)
        self._buckets.drop(collection_prefix(manifest))  # before the manifest, which alone knows their names
        self._catalog.drop(collection)
        self._changes.announce(Change(collection, "dropped"))
        self._jobs.report(job, 0, Outcome(affected=len(live)))

    # Fitting

    def tend(self, *, collection: str, job: str | None = None) -> None:
        """Fit the index if the collection has none yet or has outgrown it; no collection needs nothing."""
        try:
            manifest = self._catalog.get(collection)
        except NotFound:
            manifest = None
        if manifest is not None:
            state = self._known(manifest)
            if _outgrown(state, self._ledger.size(collection)):
                self._refit(manifest, state, always=False)
        if job:
            self._jobs.report(job, 0, Outcome())

    def _refit(self, collection: Collection, state: IndexState, *, always: bool) -> None:
        """Fill a new generation beside the one in use, switch to it, drop the old one.

        Unless `always` is set, nothing is done if another indexer has just done it.
        """
        # Who holds the lock may have died, perhaps at this very task: then it is free soon.
        with self._ledger.holding(f"fit:{collection.name}", seconds=_LOCK_S, wait_s=_LOCK_S + 1) as held:
            if not held:
                return  # another indexer is at it
            state = self._ledger.state(collection.name) or state
            if not always and not _outgrown(state, self._ledger.size(collection.name)):
                return
            sample = self._sample(collection)
            if not len(sample):
                return
            fresh = self._train(collection, sample, size=self._ledger.size(collection.name))
            # From here on, new segments go into both; those written before are in the listing that `_fill_all` reads.
            building = IndexState(state.active, fresh.number, state.trained_on)
            self._ledger.set_state(collection.name, building)
            count = self._fill_all(fresh)
            self._switch(fresh, count)
            _log.info("%s: generation %d, fitted to %d of %d images", collection.name, fresh.number, len(sample), count)

    def _train(self, collection: Collection, sample: npt.NDArray[np.float32], *, size: int) -> Generation:
        family = hashing.fit(sample, seed=self._new_seed(), size=max(size, len(sample)))
        generation = Generation(collection, self._catalog.next_generation(collection.name), family)
        generation.save(self._store)
        return generation

    def _switch(self, generation: Generation, trained_on: int) -> None:
        """Have a filled generation used, and drop all others."""
        collection = generation.collection
        self._catalog.set_current_index(collection.name, CurrentIndex(generation.number, trained_on))
        self._changes.announce(Change(collection.name, "index"))
        self._buckets.drop(collection_prefix(collection), keep=generation.prefix)
        # Last, so that who dies before this fits once more, and leaves no buckets of another generation behind.
        self._ledger.set_state(collection.name, IndexState(generation.number, 0, trained_on))

    def _fill_all(self, generation: Generation) -> int:
        """Put every live image of the collection into a generation's buckets; returns how many there are."""
        count = 0
        for _, ids, vectors in self._live_rows(generation.collection):
            self._fill(generation, ids, vectors)
            count += len(ids)
        return count

    # Rebuilding

    def rebuild(self, *, collection: str, job: str | None = None, fit: bool = False) -> None:
        """Restore buckets and ledger of a collection from the object store alone; `fit` makes a new generation.

        Without a job, it was a worker that found the index lost; others may have found so too, and been served.
        """
        done = self._jobs.reported(job, 0) if job else not fit and self._ledger.state(collection) is not None
        if done:
            return
        try:
            manifest = self._catalog.get(collection)
        except NotFound:
            if job:
                self._jobs.report(job, 0, Outcome())
            return
        with self._ledger.holding(f"rebuild:{collection}", seconds=_LOCK_S) as held:
            if not held:
                raise Unavailable(f"another worker is rebuilding the index of {collection!r}")
            self._restore(manifest, fit=fit)
        if job:
            self._jobs.report(job, 0, Outcome(affected=self._ledger.size(collection)))

    def _restore(self, collection: Collection, *, fit: bool) -> None:
        current = self._catalog.current_index(collection.name)
        counts: Counter[int] = Counter()
        for segment, ids, _ in self._live_rows(collection):
            holders = self._ledger.claim(collection.name, segment, ids.tolist())
            twice = [image for image, holder in zip(ids.tolist(), holders, strict=True) if holder != segment]
            self._catalog.bury(collection.name, ((segment, image) for image in twice))
            counts.update(ids.tolist())
            self._ledger.settle(collection.name, segment)
        if current is not None and not fit:
            generation = self._generation(collection, current.generation)
            self._fill_all(generation)
            self._ledger.set_state(collection.name, IndexState(current.generation, 0, current.trained_on))
            self._buckets.drop(collection_prefix(collection), keep=generation.prefix)
        elif counts:
            self._refit(collection, IndexState(current.generation if current else 0), always=True)
        else:
            self._ledger.set_state(collection.name, IndexState())
        self._changes.announce(Change(collection.name, "rebuilt"))
        _log.info("%s: rebuilt the index of %d images", collection.name, len(counts))

    # What the object store has

    def _known(self, collection: Collection) -> IndexState:
        state = self._ledger.state(collection.name)
        if state is None:
            self._restore(collection, fit=False)
            state = self._ledger.state(collection.name) or IndexState()
        return state

    def _rows(self, collection: Collection, segment: str) -> pa.RecordBatch:
        return segments.unpack(self._store.get(layout.segment_key(collection.name, segment)))

    def _live(
        self, collection: Collection, segment: str, dead: set[tuple[str, int]]
    ) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]:
        """Return the live rows of a segment: ids int64 [n], embeddings float32 [n, dim]."""
        rows = self._rows(collection, segment)
        ids = segments.ids_of(rows)
        live = np.array([(segment, image) not in dead for image in ids.tolist()], dtype=np.bool_)
        return ids[live], segments.vectors_of(rows)[live]

    def _live_rows(self, collection: Collection) -> Iterator[Rows]:
        """Yield the live rows of every segment that has some: its name, ids int64 [n], embeddings float32 [n, dim]."""
        dead = self._catalog.dead_rows(collection.name)
        for segment in self._catalog.segments(collection.name):
            ids, vectors = self._live(collection, segment, dead)
            if len(ids):
                yield segment, ids, vectors

    def _sample(self, collection: Collection) -> npt.NDArray[np.float32]:
        """Return embeddings to fit to, float32 [n, dim]: all, or those of some segments where there are many."""
        names = self._catalog.segments(collection.name)
        dead = self._catalog.dead_rows(collection.name)
        sample = np.empty((min(self._ledger.size(collection.name), _FIT_SAMPLE), collection.dim), dtype=np.float32)
        count = 0
        for place in np.random.default_rng(0).permutation(len(names)):
            _, vectors = self._live(collection, names[place], dead)
            taken = vectors[: len(sample) - count]
            sample[count : count + len(taken)] = taken
            count += len(taken)
            if count == len(sample):
                break
        return sample[:count]

    def _generation(self, collection: Collection, number: int) -> Generation:
        key = (collection.tag, number)
        if key not in self._generations:
            if len(self._generations) > 32:
                self._generations.clear()
            self._generations[key] = Generation.load(self._store, collection, number)
        return self._generations[key]


def _without(outcome: Outcome, labels: Sequence[str | None]) -> Outcome:
    """Return an outcome in which images with these labels are duplicates instead of added."""
    added = Counter(outcome.added) - Counter(label or "" for label in labels)
    return Outcome(dict(added), outcome.duplicates + len(labels), outcome.rejected)


def _outgrown(state: IndexState, size: int) -> bool:
    return size > 0 and (not state.active or size >= _OUTGROWN * state.trained_on)
