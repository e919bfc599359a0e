"""One embed task: claims a batch of originals, embeds them, writes their segment, hands it to the indexer.

The task may run twice, at the same time, or die anywhere. The claims in the state see to it that an image gets into
one segment; the segment's name follows from job and batch, so that a second run finds what the first one wrote.
"""

import json
import logging
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from shared.errors import IndexLost, Invalid, NotFound, ObjectNotFound, Unavailable
from shared.images import ImageInfo, ImageRefused, Limits, decode
from shared.messaging.lost_index import ensure_known
from shared.messaging.messages import BatchImage
from shared.messaging.worker import WorkerClients
from shared.rpc.serving import ModelNotFound, ServingClient
from shared.state import Change, Rejection
from shared.state.jobs import Outcome
from shared.state.locks import creation_lock
from shared.storage import layout, segments
from shared.storage.catalog import EmbeddingSet
from shared.storage.segments import Entry

_log = logging.getLogger(__name__)

_STRIKES = 2  # times a task may die while an image is at work
_FAILURES = 3  # times a batch may fail for a reason that waiting does not mend
_SMALL = 32  # pixels: decoding to find out whether an image can be decoded
_WAIT_S = 5.0
_THREADS = 2  # fetching waits for the store, and Pillow decodes without the interpreter's lock


@dataclass(frozen=True)
class Decoded:
    """An image ready for the model: its item, pixels uint8 [size, size, 3], and what its header says."""

    item: BatchImage
    pixels: npt.NDArray[np.uint8]
    info: ImageInfo


@dataclass(frozen=True)
class _Task:
    """A batch of a job, the segment that it is to become, and what became of its other images.

    `moving`: the images are in the collection already, and are embedded for another embedding set of it.
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
    """Embeds batches."""

    def __init__(self, clients: WorkerClients, options: Options) -> None:
        self._store, self._state, self._catalog = clients.store, clients.state, clients.catalog
        self._queue, self._connect_model = clients.queue, clients.connect_model
        self._options = options
        self._models: dict[tuple[str, int | None], ServingClient] = {}
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="decode")

    def embed(
        self,
        *,
        job: str,
        batch: int,
        collection: str,
        items: Sequence[BatchImage],
        set_name: str | None = None,
        before: Outcome | None = None,
    ) -> None:
        """Embed a batch and send its segment to the indexer, or report the batch where nothing is left to embed.

        Without `set_name`, the images are for the embedding set that the collection uses. `before` is what became of
        the batch's other images.

        Raises:
            Unavailable: A server is away; the same call may be made again.
        """
        if self._state.jobs.reported(job, batch):
            return
        segment = f"{job}-{batch:06d}"
        task = _Task(job, batch, segment, before or Outcome(), moving=set_name is not None)
        embedding_set: EmbeddingSet | None = None
        died, at = self._state.attempts.begin(segment)
        try:
            embedding_set = self._collection(collection) if set_name is None else self._embedding_set(set_name)
            if embedding_set is None:
                reason = f"the change of {collection!r} to another model was given up"
                rejected = tuple(Rejection(item.name, "dropped", reason) for item in items)
                self._state.jobs.report(job, batch, task.outcome(rejected=rejected))
            else:
                self._embed(task, embedding_set, items, careful=died > 1, died_at=at)
        except (Unavailable, ModelNotFound) as error:  # a model server that is starting has no models yet
            self._state.attempts.pause(segment)
            raise Unavailable(str(error)) from error
        except Exception as error:
            self._state.attempts.pause(segment)
            if self._state.attempts.strike(segment, "failure") < _FAILURES:
                raise Unavailable(f"{type(error).__name__}: {error}") from error
            _log.exception("batch %s is given up", segment)
            self._give_up(task, set_name or (embedding_set.name if embedding_set else collection), items, error)
        self._state.attempts.end(segment)

    def _give_up(self, task: "_Task", set_name: str, items: Sequence[BatchImage], error: Exception) -> None:
        """Report a batch that fails again and again, so that its job can end; what it has written is indexed."""
        try:
            written = self._rows(set_name, task.segment)
        except (ObjectNotFound, Invalid):  # what cannot be read can be added again
            written = set()
        lost = [item for item in items if layout.image_id(item.digest) not in written]
        self._state.claims.release(set_name, task.segment, [layout.image_id(item.digest) for item in lost])
        reason = f"the embedder failed at its batch: {type(error).__name__}: {error}"
        rejected = tuple(Rejection(item.name, "error", reason) for item in lost)
        added = dict(Counter(item.label or "" for item in items if item not in lost))
        self._hand_on(task, set_name, task.outcome(added, rejected=rejected))

    def _hand_on(self, task: "_Task", set_name: str, outcome: Outcome) -> None:
        """Have the indexer index the segment and report the batch; where no segment was written, report it."""
        if outcome.added:
            self._queue.index(set_name=set_name, segment=task.segment, job=task.job, batch=task.batch, outcome=outcome)
        else:
            self._state.jobs.report(task.job, task.batch, outcome)

    def _embed(
        self,
        task: "_Task",
        embedding_set: EmbeddingSet,
        items: Sequence[BatchImage],
        *,
        careful: bool,
        died_at: str | None,
    ) -> None:
        segment, set_name = task.segment, embedding_set.name
        if died_at is not None:
            self._count_strike(segment, next((item for item in items if item.digest == died_at), None))
        rejected = self._set_aside_earlier(items)
        claimed, duplicates, written = self._claim(
            set_name, segment, [item for item in items if item.digest not in rejected]
        )
        if written:
            added, refused = self._sort_out(set_name, segment, claimed)
        else:
            decoded, refused = self._decode(segment, claimed, embedding_set, careful=careful) if claimed else ([], {})
            added = self._write(embedding_set, segment, decoded) if decoded else []
            duplicates += len(decoded) - len(added)
        rejected |= refused
        labels = dict(Counter(item.label or "" for item in added))
        lost = [item for item in items if item.digest in rejected]
        self._state.claims.release(set_name, segment, [layout.image_id(item.digest) for item in lost])
        if not task.moving:  # else the embedding set in use holds them
            self._store.delete([layout.original_key(item.digest) for item in lost])
        self._hand_on(task, set_name, task.outcome(labels, duplicates, tuple(rejected.values())))

    # Images that kill their worker

    def _count_strike(self, segment: str, item: BatchImage | None) -> None:
        """Count that the last attempt died at an image, and set it aside if that happened too often."""
        if item is None or self._state.attempts.strike(segment, item.digest) < _STRIKES:
            return
        _log.error("%s killed its worker %d times and is set aside", item.name, _STRIKES)
        report = {"name": item.name, "size": item.size, "program": self._options.program, "set_aside": time.time()}
        self._store.put(layout.set_aside_key(item.digest), json.dumps(report).encode(), "application/json")
        self._state.attempts.set_aside(self._options.program, item.digest)

    def _set_aside_earlier(self, items: Sequence[BatchImage]) -> dict[str, Rejection]:
        flags = self._state.attempts.are_set_aside(self._options.program, [item.digest for item in items])
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

    def _claim(self, set_name: str, segment: str, items: Sequence[BatchImage]) -> tuple[list[BatchImage], int, bool]:
        """Claim images; returns the claimed images, the number of duplicates, and whether the segment is written."""
        ids = [layout.image_id(item.digest) for item in items]
        before = self._state.claims.holders(set_name, ids)
        after = self._state.claims.claim(set_name, segment, ids)
        others = sorted({holder for holder in after if holder != segment})
        indexed = self._state.indexed_segments.among(set_name, others)
        # A task that holds a claim but wrote nothing has died, or is at work right now; claims decide again at the end.
        unwritten = {
            other
            for other in others
            if other not in indexed and not self._store.exists(layout.segment_key(set_name, other))
        }
        if unwritten:  # or the segment was merged since the claims were read: then it has handed them over
            after = self._state.claims.claim(set_name, segment, ids)
        self._state.claims.take_over(
            set_name, segment, (image for image, holder in zip(ids, after, strict=True) if holder in unwritten)
        )
        claimed = [item for item, holder in zip(items, after, strict=True) if holder == segment or holder in unwritten]
        written = segment in before and self._store.exists(layout.segment_key(set_name, segment))
        return claimed, len(items) - len(claimed), written

    def _sort_out(
        self, set_name: str, segment: str, items: Sequence[BatchImage]
    ) -> tuple[list[BatchImage], dict[str, Rejection]]:
        """Return which images are in the segment that an earlier attempt wrote, and why the others are not."""
        held = self._rows(set_name, segment)
        refused = {}
        for item in items:
            if layout.image_id(item.digest) not in held:
                outcome = self._decode_one(item, size=_SMALL)
                interrupted = Rejection(item.name, "interrupted", "the worker stopped while at it; add it again")
                refused[item.digest] = outcome if isinstance(outcome, Rejection) else interrupted
        # An image that was deleted since counts as added all the same; its row is deleted, so the claim must go.
        self._state.claims.release(set_name, segment, self._catalog.tombstones_of(set_name, segment))
        return [item for item in items if item.digest not in refused], refused

    def _rows(self, set_name: str, segment: str) -> set[int]:
        """Return the ids of a segment's rows."""
        data = self._store.get(layout.segment_key(set_name, segment))
        return set(segments.ids_of(segments.unpack(data, verify=True)).tolist())

    # Pixels and embeddings

    def _decode(
        self, segment: str, items: Sequence[BatchImage], embedding_set: EmbeddingSet, *, careful: bool
    ) -> tuple[list[Decoded], dict[str, Rejection]]:
        """Fetch and decode images; after an attempt that died, one by one, with a note of the image at work."""
        size = self._model(embedding_set.model, embedding_set.version).signature().input_size
        if careful:
            outcomes = []
            for item in items:
                self._state.attempts.note_item(segment, item.digest)
                outcomes.append(self._decode_one(item, size=size))
        else:
            outcomes = list(self._threads.map(lambda item: self._decode_one(item, size=size), items))
        refused = {
            item.digest: outcome
            for item, outcome in zip(items, outcomes, strict=True)
            if isinstance(outcome, Rejection)
        }
        return [outcome for outcome in outcomes if isinstance(outcome, Decoded)], refused

    def _decode_one(self, item: BatchImage, *, size: int) -> Decoded | Rejection:
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

    def _write(self, embedding_set: EmbeddingSet, segment: str, decoded: Sequence[Decoded]) -> list[BatchImage]:
        """Embed and write the segment; returns the images written: those that no other task took over meanwhile."""
        serving = self._model(embedding_set.model, embedding_set.version)
        vectors = serving.embed(np.stack([image.pixels for image in decoded]))
        ids = [layout.image_id(image.item.digest) for image in decoded]
        holders = self._state.claims.holders(embedding_set.name, ids)
        kept = [row for row, holder in enumerate(holders) if holder == segment]
        if kept:
            now = time.time()
            entries = [_entry(decoded[row], now) for row in kept]
            stored = vectors[kept].astype(self._options.vector_type)
            data = segments.pack(
                entries, stored, collection=embedding_set.name, model=embedding_set.model, version=embedding_set.version
            )
            self._store.put(layout.segment_key(embedding_set.name, segment), data)
        return [decoded[row].item for row in kept]

    # Collections and models

    def _collection(self, name: str) -> EmbeddingSet:
        """Return a collection's manifest, written now if there is none, once its index is known to be there."""
        ensure_known(name, catalog=self._catalog, state=self._state, queue=self._queue)
        try:
            return self._catalog.get(name)
        except NotFound:
            return self._create(name)

    def _embedding_set(self, set_name: str) -> EmbeddingSet | None:
        """Return an embedding set, once its index is known to be there; None if the set is gone."""
        try:
            embedding_set = self._catalog.embedding_set(set_name)
        except NotFound:
            return None
        if self._state.index_states.get(set_name) is None:
            raise IndexLost(f"the index of {set_name!r} was lost; it is restored from the object store")
        return embedding_set

    def _create(self, name: str) -> EmbeddingSet:
        """Create a collection, one embedder at a time: two manifests would name its buckets differently."""
        with self._state.locks.hold(creation_lock(name), wait_s=_WAIT_S):
            model, version = self._options.model
            signature = self._model(model, version).signature()
            made = self._catalog.create(name, model=model, version=signature.version, dim=signature.dim)
            self._state.changes.announce(Change(name, "collection"))
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
