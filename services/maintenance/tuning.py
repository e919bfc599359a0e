"""Tending: surveys a collection, tunes its index, builds a generation beside the one in use, checks it, switches to it.

And restores what Redis has lost. All of it holds the lock `tend:`, reads segments in bounded memory, and may die at any
point: a generation that was being filled is cleared away by whoever comes next.
"""

import logging
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import numpy as np

from services.maintenance import cost_measurement
from shared.errors import IndexLost, Invalid, NotFound, Unavailable
from shared.index.contents import Contents
from shared.index.generations import Generation, collection_prefix, generation_prefix
from shared.index.row_lookup import Lookup
from shared.messaging.task_queue import Wish
from shared.state import BucketStore, Change, Changes, IndexState, Jobs, Ledger
from shared.state.jobs import Outcome
from shared.storage.catalog import Catalog, Collection, CurrentIndex
from shared.storage.object_store import ObjectStore
from shared.tuning import Goal, Sample, Tuning, survey, tune
from shared.tuning.report import IndexReport, MeasuredIndex, TuningReport

_log = logging.getLogger(__name__)

_GROWN_SMALL, _GROWN = 2, 4  # times what the index was tuned to, below the exact-scan size and above it
_LOCK_S = 15.0
_CHECKED = 200  # queries
_SLACK = 0.05  # by how much the recall measured may be under what was predicted: fewer queries tell it
_SURE = 50  # queries that a verdict takes


class Tender:
    """Builds and restores indexes. Its servers are passed in.

    `recover` finishes the merges of segments that somebody left; `new_seed` gives the seed of a new generation.
    """

    def __init__(
        self,
        *,
        store: ObjectStore,
        buckets: BucketStore,
        ledger: Ledger,
        jobs: Jobs,
        changes: Changes,
        contents: Contents,
        recover: Callable[[str], None],
        new_seed: Callable[[], int],
        exact_below: int,
    ) -> None:
        self._store, self._buckets, self._ledger, self._jobs, self._changes = store, buckets, ledger, jobs, changes
        self.contents, self._recover = contents, recover
        self._catalog, self._lookup = Catalog(store), Lookup(store)
        self._new_seed = new_seed
        self._exact_below = exact_below

    # When

    def due(self, state: IndexState, size: int, *, underway: bool = False) -> bool:
        """Return whether a collection of this size is to be tuned; `underway`: more images are about to come.

        That is when it first passes the size up to which searches scan exactly, and each time it has grown fourfold.
        A smaller one has an index too, for who asks for it, which costs seconds at the end of a job.
        """
        if size < self._exact_below:
            return size > 0 and not underway and (not state.active or size >= _GROWN_SMALL * state.trained_on)
        return not state.active or state.trained_on < self._exact_below or size >= _GROWN * state.trained_on

    def tend(self, *, collection: str, job: str | None = None) -> None:
        """Tune the index if that is due; no collection needs nothing."""
        manifest = self._manifest(collection)
        if manifest is not None and self._due_now(manifest):
            with self._holding(manifest):
                if self._due_now(manifest):  # or another worker has just done it
                    self.build(manifest, Wish())
        if job:
            self._jobs.report(job, 0, Outcome())

    def _due_now(self, collection: Collection) -> bool:
        return self.due(self.known(collection), self._ledger.size(collection.space))

    # Tuning

    def tune(self, *, collection: str, job: str, wish: Wish, apply: bool) -> None:
        """Tune the index to a wish whether that is due or not; without `apply`, only tell what would be chosen.

        The job's result is the report.
        """
        if self._jobs.reported(job, 0):
            return
        manifest = self._catalog.get(collection)
        self.known(manifest)
        with self._holding(manifest):
            report = self.build(manifest, wish) if apply else self._predicted(manifest, wish)
        if report is None:
            raise Invalid(f"the collection {collection!r} has no image to tune an index to: add some first")
        self._jobs.set_result(job, report.to_json())
        self._jobs.report(job, 0, Outcome(affected=self._ledger.size(manifest.space)))

    def _predicted(self, collection: Collection, wish: Wish) -> TuningReport | None:
        """Return what would be chosen, and is not built; None where there is no image."""
        tuned = self._tuned(collection, wish)
        return None if tuned is None else tuned[2]

    def _tuned(self, collection: Collection, wish: Wish) -> tuple[Sample, Tuning, TuningReport] | None:
        """Return survey, tuning, and the report on them; None where there is no image."""
        size = self._ledger.size(collection.space)
        if not size or next(self._rows(collection), None) is None:
            return None
        started = time.monotonic()
        seed = self._new_seed()
        sample = survey(lambda: self._rows(collection), size, seed=seed, metric=wish.metric)
        surveyed = time.monotonic()
        model = cost_measurement.measure(self._buckets, collection.dim)
        tuning = tune(sample, _goal(wish, seed), costs=model)
        report = tuning.report(sample, costs=model, survey_s=surveyed - started, tuning_s=time.monotonic() - surveyed)
        return sample, tuning, report

    def _rows(self, collection: Collection) -> Iterator[tuple[Any, Any]]:
        return ((ids, vectors) for _, ids, vectors in self.contents.live_rows(collection))

    # Building

    def build(self, collection: Collection, wish: Wish) -> IndexReport | None:
        """Tune, fill a generation beside the one in use, check it, switch to it; the caller holds the lock.

        Returns:
            The report; None where there is no image.
        """
        self._clear_away(collection)
        tuned = self._tuned(collection, wish)
        if tuned is None:
            return None
        sample, tuning, tuning_report = tuned
        started = time.monotonic()
        number = self._catalog.next_generation(collection.space)
        generation = Generation(collection, number, tuning.family)
        generation.save(self._store)
        state = self._ledger.state(collection.space) or IndexState()
        # From here on, new segments go into both; those written before are in the listing that is read to fill it.
        self._ledger.set_state(collection.space, IndexState(state.active, number, state.trained_on))
        try:
            count = self._fill(generation)
            report = IndexReport(
                tuning=tuning_report,
                measured=self._check(generation, sample, tuning),
                generation=number,
                images=count,
                fill_s=round(time.monotonic() - started, 2),
                built=time.time(),
            )
            self._catalog.set_index_report(collection.space, report)
            self._switch(generation, count)
        except Exception:
            with suppress(Unavailable):  # whoever comes next clears it away
                self._clear_away(collection)
            raise
        _log.info("%s: generation %d, tuned to %d images: %s", collection.space, number, count, tuning_report.chosen)
        return report

    def _clear_away(self, collection: Collection) -> None:
        """Remove the buckets of a generation whose building was given up, or whose builder died."""
        state = self._ledger.state(collection.space)
        if state is not None and state.building:
            self._buckets.drop(generation_prefix(collection, state.building))
            self._ledger.set_state(collection.space, IndexState(state.active, 0, state.trained_on))

    def _fill(self, generation: Generation) -> int:
        """Put every live image of the collection into a generation's buckets; returns how many there are."""
        collection = generation.collection
        dead = self._catalog.dead_rows(collection.space)
        count = 0
        for _, ids, vectors in self.contents.live_rows(collection):
            generation.add(self._buckets, ids, vectors)
            count += len(ids)
        # Who deleted an image meanwhile may have taken it out of the buckets before it was put in.
        gone = self._catalog.dead_rows(collection.space) - dead
        for segment in {segment for segment, _ in gone}:
            rows = self._lookup.rows(collection.space, segment, [image for other, image in gone if other == segment])
            if rows:
                vectors = np.stack([row.vector for row in rows.values()])
                generation.remove(self._buckets, np.array(list(rows)), vectors)
            count -= len(rows)
        return count

    def _check(self, generation: Generation, sample: Sample, tuning: Tuning) -> MeasuredIndex:
        """Search the generation as filled for neighbours that the exact scan found; returns what was measured.

        Raises:
            Invalid: It finds far fewer than was predicted.
        """
        dead = {image for _, image in self._catalog.dead_rows(generation.collection.space)}
        found, shares = [], []
        for query, neighbours in zip(sample.query_vectors[:_CHECKED], sample.neighbour_ids, strict=False):
            wanted = [image for image in neighbours.tolist() if image not in dead]
            if wanted:
                candidates = self._buckets.candidates(generation.probed(query)).best(generation.budget(sample.size))
                found.append(float(np.isin(wanted, candidates).mean()))
                shares.append(len(candidates) / sample.size)
        if len(found) >= _SURE and float(np.mean(found)) < tuning.chosen.recall - _SLACK:
            raise Invalid(
                f"generation {generation.number} of {generation.collection.name!r} finds {np.mean(found):.3f} of the "
                f"neighbours instead of {tuning.chosen.recall:.3f}, so it is not taken into use: the one before goes on"
            )
        return MeasuredIndex(
            recall=round(float(np.mean(found)), 4) if found else None,
            candidate_share=round(float(np.mean(shares)), 6) if shares else None,
            queries=len(found),
        )

    def _switch(self, generation: Generation, trained_on: int) -> None:
        """Have a filled generation used, and drop all others."""
        collection = generation.collection
        state = self._ledger.state(collection.space)
        if state is None or state.building != generation.number:
            raise IndexLost(
                f"the index of {collection.name!r} was lost while generation {generation.number} was filled"
            )
        self._catalog.set_current_index(collection.space, CurrentIndex(generation.number, trained_on))
        self._changes.announce(Change(collection.space, "index"))
        self._buckets.drop(collection_prefix(collection), keep=generation.prefix)
        # After the buckets: who dies before this fits once more, and leaves no buckets of another generation behind.
        self._ledger.set_state(collection.space, IndexState(generation.number, 0, trained_on))
        self._catalog.remove_generations(collection.space, before=state.active)

    # Restoring

    def rebuild(self, *, collection: str, job: str | None = None, fit: bool = False) -> None:
        """Restore buckets and ledger of a collection from the object store alone; `fit` makes a new generation.

        Without a job, it was a worker that found the index lost; others may have found so too, and been served.
        """
        manifest = self._manifest(collection)
        if job:
            done = self._jobs.reported(job, 0)
        else:
            done = not fit and manifest is not None and self._ledger.state(manifest.space) is not None
        if done:
            return
        if manifest is not None:
            with self._holding(manifest):
                self._restore(manifest, fit=fit)
        if job:
            self._jobs.report(job, 0, Outcome(affected=self._ledger.size(manifest.space) if manifest else 0))

    def known(self, collection: Collection) -> IndexState:
        """Return the state of a collection's index, restored first if it was lost."""
        state = self._ledger.state(collection.space)
        if state is None:
            with self._holding(collection):
                if self._ledger.state(collection.space) is None:
                    self._restore(collection, fit=False)
            state = self._ledger.state(collection.space) or IndexState()
        return state

    def _restore(self, collection: Collection, *, fit: bool) -> None:
        current = self._catalog.current_index(collection.space)
        counts: Counter[int] = Counter()
        for segment, ids, _ in self.contents.live_rows(collection):
            holders = self._ledger.claim(collection.space, segment, ids.tolist())
            twice = [image for image, holder in zip(ids.tolist(), holders, strict=True) if holder != segment]
            self._catalog.bury(collection.space, ((segment, image) for image in twice))
            counts.update(ids.tolist())
            self._ledger.settle(collection.space, segment)
        if current is not None and not fit:
            generation = self.contents.generation(collection, current.generation)
            self._fill(generation)
            self._ledger.set_state(collection.space, IndexState(current.generation, 0, current.trained_on))
            self._buckets.drop(collection_prefix(collection), keep=generation.prefix)
        else:
            state = self._ledger.state(collection.space)
            self._ledger.set_state(collection.space, state or IndexState(current.generation if current else 0))
            if counts:
                self.build(collection, Wish())
        self._changes.announce(Change(collection.space, "rebuilt"))
        _log.info("%s: rebuilt the index of %d images", collection.space, len(counts))

    # Of both

    def _manifest(self, collection: str) -> Collection | None:
        try:
            return self._catalog.get(collection)
        except NotFound:
            return None

    @contextmanager
    def _holding(self, collection: Collection) -> Iterator[None]:
        # Who holds the lock may have died, perhaps at this very task: then it is free soon.
        with self._ledger.holding(f"tend:{collection.name}", seconds=_LOCK_S, wait_s=_LOCK_S + 1) as held:
            if not held:
                raise Unavailable(f"another worker is at the segments of {collection.name!r}")
            self._recover(collection.space)  # so that no row is there twice
            yield


def _goal(wish: Wish, seed: int) -> Goal:
    """Return the tuner's goal. A share of candidates that somebody asked for is kept to."""
    given: dict[str, Any] = {}
    if wish.recall is not None:
        given["recall"] = wish.recall
    if wish.max_lookups is not None:
        given["max_lookups"] = wish.max_lookups
    if wish.max_candidates is not None:
        given |= {"max_share": wish.max_candidates, "keep_share": True}
    if wish.families:
        given["families"] = tuple(wish.families)
    return Goal(seed=seed, **given)
