"""Searches a collection for duplicates: the neighbours of every image by the index, then the pictures of each pair.

The task may run twice, or die anywhere: the images, the candidates and each part of the comparisons are kept in the
store, and a later attempt goes on from there. The report is written whole at the end. A search that is cancelled
leaves nothing behind.
"""

import io
import logging
import time
from collections.abc import Iterator, Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from services.evaluator.duplicate_pairs import Candidate, ComparedPairs, PairComparer
from services.evaluator.evaluator import failure
from services.evaluator.job_attempts import attempt_at, check_deaths
from services.evaluator.progress import Cancelled, Progress
from services.evaluator.run_results import slices
from shared.duplicates.grouping import missing_pairs
from shared.duplicates.pairs import Pair, ordered
from shared.duplicates.report import DuplicateReport
from shared.duplicates.store import Duplicates
from shared.errors import NotFound, ObjectNotFound
from shared.messaging.worker import WorkerClients
from shared.records.editing import all_images
from shared.rpc.query import METRICS, MODES, QueryClient, SearchBatchRequest, SearchRequest
from shared.rpc.query import query_pb2 as messages
from shared.state.attempts import Attempt
from shared.state.locks import LEASE_S, evaluation_lock
from shared.state.outcomes import Outcome
from shared.storage import evaluation_layout
from shared.storage.object_store import ObjectStore
from shared.timestamps import rfc3339
from shared.versioned import StoredKind

_log = logging.getLogger(__name__)

NEIGHBOURS: Final = 10
"""Nearest images of each that it is compared with."""

LEAST_SCORE: Final = 0.5
"""Cosine similarity of a pair that is compared: what is less alike shows something else, or a small part."""

ROUNDS: Final = 3
"""Rounds of comparing images that have a duplicate in common."""

MOST_IN_COMMON: Final = 50
"""Duplicates of an image that are all compared with each other."""

_BATCH: Final = 64  # images of one request: short enough that other searches come in between
_SEARCHED: Final = 4096  # images whose neighbours are kept as one part
_COMPARED: Final = 128  # pairs that are compared and kept as one part

_PART: Final = StoredKind("part of a search for duplicates")
_CANDIDATES: Final = np.dtype([("a", np.int64), ("b", np.int64), ("score", np.float32)])

Ids = npt.NDArray[np.int64]


class DuplicateSearch:
    """Searches collections for duplicates; `program` is the version of this program."""

    def __init__(self, clients: WorkerClients, *, query: QueryClient, comparer: PairComparer, program: str) -> None:
        self._clients, self._query, self._comparer, self._program = clients, query, comparer, program
        self._duplicates = Duplicates(clients.store)

    def search(self, *, job: str, collection: str) -> None:
        """Search a collection and write the report, whose id is the job's.

        Raises:
            Unavailable: A server is away, or another worker is at it; the same call may be made again.
            ArtseekError: It cannot be done; `give_up` is to be called.
        """
        with attempt_at(self._clients.state, job, task=_task_name(job)) as attempt:
            if attempt is not None:
                self._attempt(attempt, job, collection)

    def _attempt(self, attempt: Attempt, job: str, collection: str) -> None:
        jobs = self._clients.state.jobs
        check_deaths(attempt)
        progress = Progress(jobs, job, attempt)
        found = 0
        try:
            found = self._search(job, self._current_name(collection), progress)
            attempt.check()
        except Cancelled:
            _log.info("the search for duplicates %s of %s was cancelled", job, collection)
            attempt.check()
            self._remove(job, collection)
        jobs.report(job, 0, Outcome(affected=found))
        attempt.end()

    def give_up(self, error: Exception, *, job: str, collection: str) -> None:
        """Report that a search failed, and remove what was done of it."""
        state = self._clients.state
        with state.locks.hold(evaluation_lock(job), wait_s=LEASE_S + 1):
            self._remove(job, collection)
            state.jobs.report(job, 0, failure(error, collection))
            state.attempts.forget(_task_name(job))

    def _remove(self, job: str, collection: str) -> None:
        for name in {collection, self._current_name(collection)}:
            self._duplicates.delete(name, job)
        _Parts(self._clients.store, job).clear()

    def _current_name(self, collection: str) -> str:
        """Return what a collection is called now: it may have been renamed since."""
        return self._clients.catalog.current_name(collection)

    def _search(self, job: str, name: str, progress: Progress) -> int:
        """Write the report of a collection; returns how many pairs it has."""
        parts = _Parts(self._clients.store, job)
        try:
            written = self._duplicates.get(name, job)  # by an attempt that died before it could report
        except NotFound:
            pass
        else:
            parts.clear()
            return len(written.pairs)
        progress.check()
        images = self._images(name, parts)
        candidates = self._candidates(name, images, parts, progress)
        found = ComparedPairs()
        known: set[tuple[int, int]] = set()
        for number in range(ROUNDS + 1):
            known.update((candidate.a, candidate.b) for candidate in candidates)
            self._compare(name, candidates, parts, progress, number, found)
            candidates = [Candidate(*ids) for ids in missing_pairs(found.pairs, known, most=MOST_IN_COMMON)]
            if not candidates:
                break
        started = self._started(job)
        report = DuplicateReport(
            id=job,
            created=rfc3339(started),
            seconds=round(time.time() - started, 3),
            program=self._program,
            images=len(images),
            compared=len(known),
            unreadable=len(found.unreadable),
            pairs=tuple(sorted(found.pairs, key=lambda pair: pair.ids)),
        )
        progress.check()
        self._duplicates.put(self._current_name(name), report)
        parts.clear()
        return len(report.pairs)

    def _images(self, name: str, parts: "_Parts") -> Ids:
        """Return the ids of the images that are looked at, int64 [n]."""
        images = parts.array("images")
        if images is None:
            found = (image.id for image in all_images(self._query, name, records=False))
            images = np.unique(np.fromiter(found, np.int64))
            parts.put_array("images", images)
        return images

    def _candidates(self, name: str, images: Ids, parts: "_Parts", progress: Progress) -> list[Candidate]:
        """Return the pairs of which one is among the nearest of the other, in the order of their ids."""
        ranges = list(slices(len(images), _SEARCHED))
        progress.begin(2 * len(images))
        found: list[npt.NDArray[Any]] = []
        for part in ranges:
            near = parts.array(f"near{part.start}")
            if near is None:
                near = np.array(list(self._near(name, images[part], progress)), _CANDIDATES)
                parts.put_array(f"near{part.start}", near)
            else:
                progress.step(len(images[part]))
            found.append(near)
        pairs = np.unique(np.concatenate(found)) if found else np.empty(0, _CANDIDATES)
        first = np.ones(len(pairs), bool)  # a pair that each found of the other is there twice at most, by its score
        first[1:] = (pairs["a"][1:] != pairs["a"][:-1]) | (pairs["b"][1:] != pairs["b"][:-1])
        return [Candidate(int(a), int(b), float(score)) for a, b, score in pairs[first].tolist()]

    def _near(self, name: str, images: Ids, progress: Progress) -> Iterator[tuple[int, int, float]]:
        """Yield the neighbours of images as pairs with their similarity."""
        options = SearchRequest(
            collection=name,
            k=NEIGHBOURS + 1,  # of which the image itself is one
            mode=MODES["auto"],
            metric=METRICS["cosine"],
            min_score=LEAST_SCORE,
            for_evaluation=True,
            regions=False,
        )
        for part in slices(len(images), _BATCH):
            ids = images[part].tolist()
            for image, answer in zip(ids, self._searched(options, ids), strict=True):
                for hit in answer.hits if answer is not None else ():
                    if hit.image.id != image:
                        yield *ordered(image, hit.image.id), hit.score
            progress.step(len(ids))

    def _searched(self, options: SearchRequest, ids: Sequence[int]) -> Sequence[messages.SearchResponse | None]:
        """Return what is found for each image; None for one that was deleted meanwhile."""
        queries = [messages.BatchQuery(id=image) for image in ids]
        try:
            return list(self._query.search_batch(SearchBatchRequest(options=options, queries=queries)).answers)
        except NotFound:
            self._query.collection(options.collection)  # raises if all of it is gone
            if len(ids) == 1:
                return [None]
            half = len(ids) // 2
            return [*self._searched(options, ids[:half]), *self._searched(options, ids[half:])]

    def _compare(
        self,
        name: str,
        candidates: Sequence[Candidate],
        parts: "_Parts",
        progress: Progress,
        number: int,
        found: ComparedPairs,
    ) -> None:
        """Add to `found` what comparing the candidates of a round finds."""
        progress.begin(len(candidates))
        for part in slices(len(candidates), _COMPARED):
            some = candidates[part]
            kept = parts.json(f"pairs{number}-{part.start}")
            if kept is None:
                compared = self._comparer.compare(name, some)
                kept = {
                    "pairs": [pair.to_json() for pair in compared.pairs],
                    "unreadable": sorted(compared.unreadable),
                }
                parts.put_json(f"pairs{number}-{part.start}", kept)
            found.pairs += [Pair.from_json(pair) for pair in kept["pairs"]]
            found.unreadable.update(kept["unreadable"])
            progress.step(len(some))

    def _started(self, job: str) -> float:
        try:
            return self._clients.state.jobs.get(job).created
        except NotFound:  # its record was lost with the index
            return time.time()


class _Parts:
    """The finished parts of one search, in the object store."""

    def __init__(self, store: ObjectStore, search: str) -> None:
        self._store = store
        self._prefix = evaluation_layout.duplicating_prefix(search)

    def array(self, name: str) -> npt.NDArray[Any] | None:
        """Return an array; None if it is not there."""
        try:
            data = self._store.get(f"{self._prefix}{name}.npy")
        except ObjectNotFound:
            return None
        found: npt.NDArray[Any] = np.load(io.BytesIO(data), allow_pickle=False)
        return found

    def put_array(self, name: str, array: npt.NDArray[Any]) -> None:
        """Write an array."""
        file = io.BytesIO()
        np.save(file, array, allow_pickle=False)
        self._store.put(f"{self._prefix}{name}.npy", file.getvalue())

    def json(self, name: str) -> dict[str, Any] | None:
        """Return a JSON object; None if it is not there."""
        key = f"{self._prefix}{name}.json"
        try:
            data = self._store.get(key)
        except ObjectNotFound:
            return None
        return _PART.loads(data, dict, place=key)

    def put_json(self, name: str, value: dict[str, Any]) -> None:
        """Write a JSON object."""
        self._store.put(f"{self._prefix}{name}.json", _PART.dumps(value), "application/json")

    def clear(self) -> None:
        """Remove all parts."""
        self._store.delete([item.key for item in self._store.list(self._prefix)])


def _task_name(job: str) -> str:
    """Return the name that attempts at a search are counted under."""
    return f"duplicates:{job}"
