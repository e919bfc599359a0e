"""Builds an index generation: surveys the collection, tunes, fills buckets beside those in use, checks, activates.

The caller holds the lock on the collection's segments. Segments are read in bounded memory. The worker may die at any
point: the next one clears away a generation that was being filled, or finishes taking it into use.
"""

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import numpy as np

from services.maintenance import cost_measurement
from shared.clients import Clients
from shared.errors import IndexLost, Invalid, Unavailable
from shared.index.generations import Generation, collection_prefix, generation_prefix
from shared.index.row_lookup import RowLookup
from shared.index.segment_reader import SegmentReader
from shared.messaging.messages import TuningRequest
from shared.state import Change, IndexState
from shared.state.locks import segments_lock
from shared.storage.catalog import CurrentIndex, EmbeddingSet
from shared.tuning import Goal, Sample, Tuning, survey, tune
from shared.tuning.report import IndexReport, MeasuredIndex, TuningReport

_log = logging.getLogger(__name__)

_CHECKED = 200  # queries
_SLACK = 0.05  # by how much the measured recall may be under the predicted one: fewer queries tell it
_SURE = 50  # queries that a verdict takes


class GenerationBuilder:
    """Builds generations. `new_seed` gives the seed of a new generation."""

    def __init__(self, clients: Clients, *, new_seed: Callable[[], int]) -> None:
        self._store, self._catalog, self._state = clients.store, clients.catalog, clients.state
        self._segments, self._lookup = SegmentReader(clients.store), RowLookup(clients.store)
        self._new_seed = new_seed

    def predict(self, embedding_set: EmbeddingSet, request: TuningRequest) -> TuningReport | None:
        """Return what would be chosen, and is not built; None where there is no image."""
        tuned = self._tune(embedding_set, request)
        return None if tuned is None else tuned[2]

    def _tune(self, embedding_set: EmbeddingSet, request: TuningRequest) -> tuple[Sample, Tuning, TuningReport] | None:
        """Return survey, tuning, and the report on them; None where there is no image."""
        size = self._state.claims.count(embedding_set.name)
        if not size or next(self._rows(embedding_set), None) is None:
            return None
        started = time.monotonic()
        seed = self._new_seed()
        sample = survey(lambda: self._rows(embedding_set), size, seed=seed, metric=request.metric)
        surveyed = time.monotonic()
        cost_model = cost_measurement.measure(self._state.buckets, embedding_set.dim)
        tuning = tune(sample, _goal(request, seed), costs=cost_model)
        report = tuning.report(
            sample, costs=cost_model, survey_s=surveyed - started, tuning_s=time.monotonic() - surveyed
        )
        return sample, tuning, report

    def _rows(self, embedding_set: EmbeddingSet) -> Iterator[tuple[Any, Any]]:
        return ((ids, vectors) for _, ids, vectors in self._segments.live_rows(embedding_set))

    def build(self, embedding_set: EmbeddingSet, request: TuningRequest) -> IndexReport | None:
        """Tune, fill a generation beside the one in use, check it, and activate it.

        Returns:
            The report; None where there is no image.
        """
        self._clear_away(embedding_set)
        tuned = self._tune(embedding_set, request)
        if tuned is None:
            return None
        sample, tuning, tuning_report = tuned
        self._check_lock(embedding_set)
        started = time.monotonic()
        number = self._catalog.next_generation(embedding_set.name)
        generation = Generation(embedding_set, number, tuning.family)
        generation.save(self._store)
        state = self._state.index_states.get(embedding_set.name) or IndexState()
        # From here on, new segments go into both; those written before are in the listing that is read to fill it.
        self._state.index_states.set(embedding_set.name, IndexState(state.active, number, state.trained_on))
        try:
            count = self.fill(generation)
            report = IndexReport(
                tuning=tuning_report,
                measured=self._check(generation, sample, tuning),
                generation=number,
                images=count,
                fill_s=round(time.monotonic() - started, 2),
                built=time.time(),
            )
            self._catalog.set_index_report(embedding_set.name, report)
            self._activate(generation, count)
        except Exception:
            with suppress(Unavailable):  # the next build clears it away
                self._clear_away(embedding_set)
            raise
        _log.info("%s: generation %d, tuned to %d images: %s", embedding_set.name, number, count, tuning_report.chosen)
        return report

    def _clear_away(self, embedding_set: EmbeddingSet) -> None:
        """Remove the buckets of a generation whose building was given up, or whose builder died.

        One that the object store has in use by then is taken into use to the end.
        """
        state = self._state.index_states.get(embedding_set.name)
        if state is not None and state.building:
            current = self._catalog.current_index(embedding_set.name)
            if current is not None and current.generation == state.building:
                self._finish_activating(embedding_set, current, before=state.active)
                return
            self._check_lock(embedding_set)
            self._state.buckets.drop(generation_prefix(embedding_set, state.building))
            self._state.index_states.set(embedding_set.name, IndexState(state.active, 0, state.trained_on))

    def fill(self, generation: Generation) -> int:
        """Put every live image of the embedding set into a generation's buckets; returns how many there are."""
        embedding_set, buckets = generation.embedding_set, self._state.buckets
        before = self._catalog.tombstones(embedding_set.name)
        count = 0
        for _, ids, vectors in self._segments.live_rows(embedding_set):
            self._check_lock(embedding_set)
            generation.add(buckets, ids, vectors)
            count += len(ids)
        # A deletion may have taken an image out of the buckets before the image was put in.
        deleted = self._catalog.tombstones(embedding_set.name) - before
        for segment in {segment for segment, _ in deleted}:
            image_ids = [image_id for other, image_id in deleted if other == segment]
            rows = self._lookup.vectors(embedding_set.name, segment, image_ids)
            if rows:
                generation.remove(buckets, np.array(list(rows)), np.stack(list(rows.values())))
            count -= len(rows)
        return count

    def _check(self, generation: Generation, sample: Sample, tuning: Tuning) -> MeasuredIndex:
        """Search the filled generation for neighbours that the exact scan found; returns what was measured.

        Raises:
            Invalid: The generation finds far fewer than was predicted.
        """
        embedding_set = generation.embedding_set
        deleted = {image_id for _, image_id in self._catalog.tombstones(embedding_set.name)}
        budget = generation.budget(sample.size)
        found, shares = [], []
        for query, neighbours in zip(sample.query_vectors[:_CHECKED], sample.neighbour_ids, strict=False):
            wanted = [image_id for image_id in neighbours.tolist() if image_id not in deleted]
            if wanted:
                candidates = self._state.buckets.candidates(generation.probed(query)).best(budget)
                found.append(float(np.isin(wanted, candidates).mean()))
                shares.append(len(candidates) / sample.size)
        if len(found) >= _SURE and float(np.mean(found)) < tuning.chosen.recall - _SLACK:
            raise Invalid(
                f"generation {generation.number} of {embedding_set.collection!r} finds {np.mean(found):.3f} of "
                f"the neighbours instead of {tuning.chosen.recall:.3f}, so it is not taken into use: the one before "
                "goes on"
            )
        return MeasuredIndex(
            recall=round(float(np.mean(found)), 4) if found else None,
            candidate_share=round(float(np.mean(shares)), 6) if shares else None,
            queries=len(found),
        )

    def _activate(self, generation: Generation, trained_on: int) -> None:
        """Have a filled generation used, and drop all others."""
        embedding_set = generation.embedding_set
        self._check_lock(embedding_set)
        state = self._state.index_states.get(embedding_set.name)
        if state is None or state.building != generation.number:
            raise IndexLost(
                f"the index of {embedding_set.collection!r} was lost while generation {generation.number} was filled"
            )
        current = CurrentIndex(generation.number, trained_on)
        self._catalog.set_current_index(embedding_set.name, current)
        self._finish_activating(embedding_set, current, before=state.active)

    def _finish_activating(self, embedding_set: EmbeddingSet, current: CurrentIndex, *, before: int) -> None:
        """Have the generation searched that the object store has in use, instead of the one before; may run twice."""
        set_name = embedding_set.name
        self._state.changes.announce(Change(set_name, "index"))
        self._check_lock(embedding_set)
        self._state.buckets.drop(
            collection_prefix(embedding_set), keep=generation_prefix(embedding_set, current.generation)
        )
        # After the buckets: a worker that dies before this leaves no buckets of another generation.
        self._state.index_states.set(set_name, IndexState(current.generation, 0, current.trained_on))
        self._check_lock(embedding_set)
        self._catalog.remove_generations(set_name, before=before)

    def _check_lock(self, embedding_set: EmbeddingSet) -> None:
        """Make sure that the caller has not lost its lock on the segments."""
        self._state.locks.check(segments_lock(embedding_set.collection))


def _goal(request: TuningRequest, seed: int) -> Goal:
    """Return the tuner's goal. A share of candidates that somebody asked for is kept to."""
    given: dict[str, Any] = {}
    if request.recall is not None:
        given["recall"] = request.recall
    if request.max_lookups is not None:
        given["max_lookups"] = request.max_lookups
    if request.max_candidates is not None:
        given |= {"max_share": request.max_candidates, "keep_share": True}
    if request.families:
        given["families"] = tuple(request.families)
    return Goal(seed=seed, **given)
