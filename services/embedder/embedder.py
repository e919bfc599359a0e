"""One embed task: claims a batch of originals, embeds them, writes their segment, hands it to the indexer.

The task may run twice, at the same time, or die anywhere. The claims in the ledger see to it that an image gets into
one segment; the segment's name follows from job and batch, so that a second run finds what the first one wrote.
"""

import json
import logging
import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from shared.errors import IndexLost, Invalid, NotFound, ObjectNotFound, Unavailable
from shared.images import ImageInfo, ImageRefused, Limits, decode
from shared.messaging.intake import ensure_known
from shared.messaging.task_queue import Item, Queue
from shared.rpc.serving import ModelNotFound, ServingClient
from shared.state import Changes, Jobs, Ledger, Rejection
from shared.state.changes import Change
from shared.state.jobs import Outcome
from shared.storage import layout, segments
from shared.storage.catalog import Catalog, Collection
from shared.storage.object_store import ObjectStore
from shared.storage.segments import Entry

_log = logging.getLogger(__name__)

_STRIKES = 2  # times an image may be what its task died at
_FAILURES = 3  # times a batch may fail for a reason that waiting does not mend
_SMALL = 32  # pixels: decoding to find out whether an image can be decoded
_LOCK_S = 30.0
_WAIT_S = 5.0
_THREADS = 2  # fetching waits for the store, and Pillow decodes without the interpreter's lock


@dataclass(frozen=True)
class Decoded:
    """An image ready for the model: its item, pixels uint8 [size, size, 3], and what its header says."""

    item: Item
    pixels: npt.NDArray[np.uint8]
    info: ImageInfo


@dataclass(frozen=True)
class _Task:
    """A batch of a job, the segment that it is to become, and what became of its other images.

    `moving`: the images are in the collection already, and are embedded for another space of it.
    """

    job: str
    batch: int
    segment: str
    before: Outcome
    moving: bool

    def outcome(
        self, added: dict[str, int] | None = None, duplicates: int = 0, rejected: tuple[Rejection, ...] = ()
    ) -> Outcome:
        """Return what became of all of the batch."""
        return Outcome(added or {}, self.before.duplicates + duplicates, self.before.rejected + rejected)


@dataclass(frozen=True)
class Options:
    """How to embed: the model (name and version) of new collections, limits of images, and how embeddings are stored.

    `program` is the version of this program, which an image that kills its worker is set aside for.
    """

    model: tuple[str, int | None]
    limits: Limits
    program: str
    vector_type: Literal["float32", "float16"] = "float32"


class Embedder:
    """Embeds batches. Its servers are passed in; `connect_model` gives a client for a model and version."""

    def __init__(
        self,
        *,
        store: ObjectStore,
        ledger: Ledger,
        jobs: Jobs,
        changes: Changes,
        queue: Queue,
        connect_model: Callable[[str, int | None], ServingClient],
        options: Options,
    ) -> None:
        self._store, self._ledger, self._jobs, self._changes, self._queue = store, ledger, jobs, changes, queue
        self._catalog = Catalog(store)
        self._connect_model = connect_model
        self._options = options
        self._models: dict[tuple[str, int | None], ServingClient] = {}
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="decode")

    def embed(
        self,
        *,
        job: str,
        batch: int,
        collection: str,
        items: Sequence[Item],
        space: str | None = None,
        before: Outcome | None = None,
    ) -> None:
        """Embed a batch and send its segment to the indexer, or report the batch where nothing is left to embed.

        Without `space`, the images are for the space that the collection uses. `before` is what became of the batch's
        other images.

        Raises:
            Unavailable: A server is away; the same call may be made again.
        """
        if self._jobs.reported(job, batch):
            return
        segment = f"{job}-{batch:06d}"
        task = _Task(job, batch, segment, before or Outcome(), moving=space is not None)
        manifest: Collection | None = None
        died, at = self._ledger.begin(segment)
        try:
            manifest = self._collection(collection) if space is None else self._space(space)
            if manifest is None:
                reason = f"the change of {collection!r} to another model was given up"
                rejected = tuple(Rejection(item.name, "dropped", reason) for item in items)
                self._jobs.report(job, batch, task.outcome(rejected=rejected))
            else:
                self._embed(task, manifest, items, careful=died > 1, died_at=at)
        except (Unavailable, ModelNotFound) as error:  # a model server that is starting has no models yet
            self._ledger.pause(segment)
            raise Unavailable(str(error)) from error
        except Exception as error:
            self._ledger.pause(segment)
            if self._ledger.strike(segment, "failure") < _FAILURES:
                raise Unavailable(f"{type(error).__name__}: {error}") from error
            _log.exception("batch %s is given up", segment)
            self._give_up(task, space or (manifest.space if manifest else collection), items, error)
        self._ledger.end(segment)

    def _give_up(self, task: "_Task", space: str, items: Sequence[Item], error: Exception) -> None:
        """Report a batch that fails again and again, so that its job can end; what it has written is indexed."""
        try:
            written = self._rows(space, task.segment)
        except (ObjectNotFound, Invalid):  # what cannot be read can be added again
            written = set()
        lost = [item for item in items if layout.image_id(item.digest) not in written]
        self._ledger.release(space, task.segment, [layout.image_id(item.digest) for item in lost])
        reason = f"the embedder failed at its batch: {type(error).__name__}: {error}"
        rejected = tuple(Rejection(item.name, "error", reason) for item in lost)
        added = dict(Counter(item.label or "" for item in items if item not in lost))
        self._hand_on(task, space, task.outcome(added, rejected=rejected))

    def _hand_on(self, task: "_Task", space: str, outcome: Outcome) -> None:
        """Have the indexer index the segment and report the batch; where no segment was written, report it."""
        if outcome.added:
            self._queue.index(space=space, segment=task.segment, job=task.job, batch=task.batch, outcome=outcome)
        else:
            self._jobs.report(task.job, task.batch, outcome)

    def _embed(
        self, task: "_Task", collection: Collection, items: Sequence[Item], *, careful: bool, died_at: str | None
    ) -> None:
        segment, space = task.segment, collection.space
        if died_at is not None:
            self._count_strike(segment, next((item for item in items if item.digest == died_at), None))
        rejected = self._set_aside_earlier(items)
        mine, duplicates, written = self._claim(space, segment, [item for item in items if item.digest not in rejected])
        if written:
            added, refused = self._sort_out(space, segment, mine)
        else:
            decoded, refused = self._decode(segment, mine, collection, careful=careful) if mine else ([], {})
            added = self._write(collection, segment, decoded) if decoded else []
            duplicates += len(decoded) - len(added)
        rejected |= refused
        labels = dict(Counter(item.label or "" for item in added))
        lost = [item for item in items if item.digest in rejected]
        self._ledger.release(space, segment, [layout.image_id(item.digest) for item in lost])
        if not task.moving:  # else the space in use holds them
            self._store.delete([layout.original_key(item.digest) for item in lost])
        self._hand_on(task, space, task.outcome(labels, duplicates, tuple(rejected.values())))

    # Images that kill their worker

    def _count_strike(self, segment: str, item: Item | None) -> None:
        """Count that the last attempt died at an image, and set it aside if that happened too often."""
        if item is None or self._ledger.strike(segment, item.digest) < _STRIKES:
            return
        _log.error("%s killed its worker %d times and is set aside", item.name, _STRIKES)
        report = {"name": item.name, "size": item.size, "program": self._options.program, "set_aside": time.time()}
        self._store.put(layout.set_aside_key(item.digest), json.dumps(report).encode(), "application/json")
        self._ledger.set_aside(self._options.program, item.digest)

    def _set_aside_earlier(self, items: Sequence[Item]) -> dict[str, Rejection]:
        flags = self._ledger.is_set_aside(self._options.program, [item.digest for item in items])
        reason = (
            f"decoding it stopped its worker {_STRIKES + 1} times, so artseek {self._options.program} will not try it "
            "again; save it anew with another program"
        )
        return {
            item.digest: Rejection(item.name, "set-aside", reason)
            for item, flag in zip(items, flags, strict=True)
            if flag
        }

    # Claims

    def _claim(self, space: str, segment: str, items: Sequence[Item]) -> tuple[list[Item], int, bool]:
        """Claim images: those that are this segment's, the number of duplicates, and whether the segment is written."""
        ids = [layout.image_id(item.digest) for item in items]
        before = self._ledger.holders(space, ids)
        after = self._ledger.claim(space, segment, ids)
        others = sorted({holder for holder in after if holder != segment})
        settled = dict(zip(others, self._ledger.settled(space, others), strict=True))
        # Who holds a claim but wrote nothing has died, or is at it right now; the ledger decides once more at the end.
        gone = {
            other for other in others if not settled[other] and not self._store.exists(layout.segment_key(space, other))
        }
        if gone:  # or it was merged since the claims were read: then it has handed them over
            after = self._ledger.claim(space, segment, ids)
        self._ledger.take_over(
            space, segment, (image for image, holder in zip(ids, after, strict=True) if holder in gone)
        )
        mine = [item for item, holder in zip(items, after, strict=True) if holder == segment or holder in gone]
        written = segment in before and self._store.exists(layout.segment_key(space, segment))
        return mine, len(items) - len(mine), written

    def _sort_out(self, space: str, segment: str, items: Sequence[Item]) -> tuple[list[Item], dict[str, Rejection]]:
        """Return which images are in the segment that an earlier attempt wrote, and why the others are not."""
        held = self._rows(space, segment)
        refused = {}
        for item in items:
            if layout.image_id(item.digest) not in held:
                outcome = self._decode_one(item, size=_SMALL)
                interrupted = Rejection(item.name, "interrupted", "the worker stopped while at it; add it again")
                refused[item.digest] = outcome if isinstance(outcome, Rejection) else interrupted
        # What was deleted since then was added all the same; its row is dead, so it must not be claimed again.
        self._ledger.release(space, segment, self._catalog.dead_ids(space, segment))
        return [item for item in items if item.digest not in refused], refused

    def _rows(self, space: str, segment: str) -> set[int]:
        """Return the ids of a segment's rows."""
        data = self._store.get(layout.segment_key(space, segment))
        return set(segments.ids_of(segments.unpack(data, verify=True)).tolist())

    # Pixels and embeddings

    def _decode(
        self, segment: str, items: Sequence[Item], collection: Collection, *, careful: bool
    ) -> tuple[list[Decoded], dict[str, Rejection]]:
        """Fetch and decode images; where an earlier attempt died, one by one with a note of which is at work."""
        size = self._model(collection.model, collection.version).signature().input_size
        if careful:
            outcomes = []
            for item in items:
                self._ledger.at(segment, item.digest)
                outcomes.append(self._decode_one(item, size=size))
        else:
            outcomes = list(self._threads.map(lambda item: self._decode_one(item, size=size), items))
        refused = {
            item.digest: outcome
            for item, outcome in zip(items, outcomes, strict=True)
            if isinstance(outcome, Rejection)
        }
        return [outcome for outcome in outcomes if isinstance(outcome, Decoded)], refused

    def _decode_one(self, item: Item, *, size: int) -> Decoded | Rejection:
        try:
            data = self._store.get(layout.original_key(item.digest))
        except ObjectNotFound:
            return Rejection(
                item.name, "original-missing", "its original is no longer in the object store; add it again"
            )
        try:
            pixels, info = decode(data, size=size, limits=self._options.limits)
        except ImageRefused as refusal:
            return Rejection(item.name, refusal.reason, str(refusal))
        return Decoded(item, pixels, info)

    def _write(self, collection: Collection, segment: str, decoded: Sequence[Decoded]) -> list[Item]:
        """Embed and write the segment; returns the images written: those that no other task took over meanwhile."""
        serving = self._model(collection.model, collection.version)
        vectors = serving.embed(np.stack([one.pixels for one in decoded]))
        ids = [layout.image_id(one.item.digest) for one in decoded]
        holders = self._ledger.holders(collection.space, ids)
        kept = [row for row, holder in enumerate(holders) if holder == segment]
        if kept:
            now = time.time()
            entries = [_entry(decoded[row], now) for row in kept]
            stored = vectors[kept].astype(self._options.vector_type)
            data = segments.pack(
                entries, stored, collection=collection.space, model=collection.model, version=collection.version
            )
            self._store.put(layout.segment_key(collection.space, segment), data)
        return [decoded[row].item for row in kept]

    # Collections and models

    def _collection(self, name: str) -> Collection:
        """Return a collection's manifest, written now if there is none, once its index is known to be there."""
        ensure_known(name, catalog=self._catalog, ledger=self._ledger, queue=self._queue)
        try:
            return self._catalog.get(name)
        except NotFound:
            return self._create(name)

    def _space(self, space: str) -> Collection | None:
        """Return the manifest of a space, once its index is known to be there; None if the space is gone."""
        try:
            manifest = self._catalog.space(space)
        except NotFound:
            return None
        if self._ledger.state(space) is None:
            raise IndexLost(f"the index of {space!r} was lost; it is restored from the object store")
        return manifest

    def _create(self, name: str) -> Collection:
        """Create a collection, one embedder at a time: two manifests would name its buckets differently."""
        with self._ledger.holding(f"create:{name}", seconds=_LOCK_S, wait_s=_WAIT_S) as held:
            if not held:
                raise Unavailable(f"another worker is creating the collection {name!r}")
            model, version = self._options.model
            signature = self._model(model, version).signature()
            made = self._catalog.create(name, model=model, version=signature.version, dim=signature.dim)
            self._changes.announce(Change(name, "collection"))
        return made

    def _model(self, model: str, version: int | None) -> ServingClient:
        key = (model, version)
        if key not in self._models:
            self._models[key] = self._connect_model(model, version)
        return self._models[key]


def _entry(decoded: Decoded, added: float) -> Entry:
    item, info = decoded.item, decoded.info
    return Entry(
        id=layout.image_id(item.digest),
        digest=item.digest,
        name=item.name,
        label=item.label or None,
        size=item.size,
        media_type=info.media_type,
        width=info.width,
        height=info.height,
        added=added if item.added is None else item.added,
    )
