"""One embed task: claims a batch of originals, embeds them, writes their segment, hands it to the indexer.

The task may run twice, at the same time, or die anywhere. The claims in the state see to it that an image gets into
one segment; the segment's name follows from job and batch, so that a second run finds what the first one wrote.
"""

import logging
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from services.embedder.decoded import Decoded
from services.embedder.document_pages import DocumentPages, FoundDocument
from services.embedder.image_decoding import ImageDecoding
from services.embedder.image_embedding import NOTHING, EmbeddedImages, ImageEmbedding
from services.embedder.window_embedding import WindowEmbedding
from shared.errors import IndexLost, Invalid, NotFound, ObjectNotFound, Unavailable
from shared.images import Decoder
from shared.index.originals import Originals
from shared.messaging.deliveries import Delivery
from shared.messaging.lost_index import ensure_known
from shared.messaging.messages import BatchImage
from shared.messaging.worker import WorkerClients
from shared.records.record_store import RecordStore
from shared.rpc.serving import ModelNotFound, ServingClient
from shared.state import Change, Rejection, job_ids
from shared.state.attempts import Attempt
from shared.state.locks import creation_lock
from shared.state.outcomes import CANCELLED, Outcome
from shared.storage import layout, segments
from shared.storage.catalog import EmbeddingSet

_log = logging.getLogger(__name__)

_FAILURES = 3  # times a batch may fail for a reason that waiting does not mend
_SMALL = 32  # pixels: decoding to find out whether an image can be decoded
_WAIT_S = 5.0


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
    attempt: Attempt

    def outcome(
        self,
        added: dict[str, int] | None = None,
        duplicates: int = 0,
        rejected: tuple[Rejection, ...] = (),
        damaged: tuple[str, ...] = (),
    ) -> Outcome:
        """Return what became of all of the batch."""
        duplicates += self.before.duplicates
        return Outcome(added or {}, duplicates, self.before.rejected + rejected, damaged=damaged)


@dataclass(frozen=True)
class Options:
    """How to embed: the model (name and version) of new collections, what decodes images, how embeddings are stored.

    `program` is the version of this program, which an image that kills its decoder is set aside for.
    """

    model: tuple[str, int | None]
    decoder: Decoder
    program: str
    vector_type: Literal["float32", "float16"] = "float32"


class Embedder:
    """Embeds batches."""

    def __init__(self, clients: WorkerClients, options: Options) -> None:
        self._store, self._state, self._catalog = clients.store, clients.state, clients.catalog
        self._queue, self._connect_model = clients.queue, clients.connect_model
        self._options = options
        self._originals = Originals(clients, clients.queue)
        self._records = RecordStore(clients.store, clients.state.record_changes)
        self._models: dict[tuple[str, int | None], ServingClient] = {}
        self._pages = DocumentPages(clients)
        self._decoding = ImageDecoding(clients, options.decoder, program=options.program, pages=self._pages)
        self._embedding = ImageEmbedding(self._decoding)
        self._windows = WindowEmbedding(clients, self._decoding, vector_type=options.vector_type)

    def embed(
        self,
        *,
        job: str,
        batch: int,
        collection: str,
        items: Sequence[BatchImage],
        set_name: str | None = None,
        before: Outcome | None = None,
        delivery: Delivery | None = None,
    ) -> None:
        """Embed a batch and send its segment to the indexer, or report the batch where nothing is left to embed.

        Without `set_name`, the images are for the embedding set that the collection uses. `before` is what became of
        the batch's other images, `delivery` the message's that this call is made for.

        Raises:
            Unavailable: A server is away, or another worker is at the batch; the same call may be made again.
            Fenced: Another worker has begun the batch anew.
        """
        if self._state.jobs.reported(job, batch):
            self._state.pins.unpin([item.digest for item in items], job)
            return
        segment, delivery = layout.batch_segment(job, batch), delivery or Delivery()
        with self._state.attempts.hold(segment, delivery=delivery.id, lost=delivery.lost) as attempt:
            task = _Task(job, batch, segment, before or Outcome(), moving=set_name is not None, attempt=attempt)
            self._attempt(task, collection, items, set_name)

    def _attempt(self, task: "_Task", collection: str, items: Sequence[BatchImage], set_name: str | None) -> None:
        attempt, segment = task.attempt, task.segment
        embedding_set: EmbeddingSet | None = None
        try:
            if set_name is None:
                collection = self._current_name(task, collection)
            embedding_set = self._collection(collection) if set_name is None else self._embedding_set(set_name)
            if embedding_set is None:
                reason = f"the embedding set {set_name!r} is not filled any more"
                rejected = tuple(Rejection(item.title, "dropped", reason) for item in items)
                self._report(task, task.outcome(rejected=rejected))
            elif not task.moving and self._is_cancelled(task, embedding_set):
                self._leave_out(task, embedding_set, items)
            elif layout.is_regions(embedding_set.name):
                self._embed_windows(task, embedding_set, items)
            else:
                self._embed(task, embedding_set, items)
        except Unavailable:
            attempt.pause()
            raise
        except ModelNotFound as error:  # a model server that is starting has no models yet
            attempt.pause()
            raise Unavailable(str(error)) from error
        except OSError as error:  # of this machine: no space, no more files; a picture's own are rejections
            attempt.pause()
            raise Unavailable(f"{type(error).__name__}: {error}") from error
        except Exception as error:
            attempt.check()
            if attempt.strike("failure") < _FAILURES:
                attempt.pause()
                raise Unavailable(f"{type(error).__name__}: {error}") from error
            _log.exception("batch %s is given up", segment)
            self._give_up(task, set_name or (embedding_set.name if embedding_set else collection), items, error)
        self._state.pins.unpin([item.digest for item in items], task.job)  # the claims hold what was added
        attempt.end()

    def _is_cancelled(self, task: "_Task", embedding_set: EmbeddingSet) -> bool:
        """Return whether somebody cancelled the job before this batch was written."""
        return self._state.jobs.cancelled(task.job) and not self._store.exists(
            layout.segment_key(embedding_set.name, task.segment)
        )

    def _leave_out(self, task: "_Task", embedding_set: EmbeddingSet, items: Sequence[BatchImage]) -> None:
        """Report the images of a cancelled job as not added, and delete the originals that came for it alone."""
        task.attempt.check()
        self._state.claims.release(embedding_set.name, task.segment, [layout.image_id(item.digest) for item in items])
        self._originals.delete_unheld([item.digest for item in items], job=task.job)
        reason = "the job was cancelled before it was added"
        self._report(task, task.outcome(rejected=tuple(Rejection(item.title, CANCELLED, reason) for item in items)))

    def _give_up(self, task: "_Task", set_name: str, items: Sequence[BatchImage], error: Exception) -> None:
        """Report a batch that fails again and again, so that its job can end; what it has written is indexed."""
        try:
            written = self._rows(set_name, task.segment)
        except (ObjectNotFound, Invalid):  # what cannot be read can be added again
            written = set()
        lost = [item for item in items if layout.image_id(item.digest) not in written]
        self._state.claims.release(set_name, task.segment, [layout.image_id(item.digest) for item in lost])
        reason = f"the embedder failed at its batch: {type(error).__name__}: {error}"
        rejected = tuple(Rejection(item.title, "error", reason) for item in lost)
        added = dict(Counter(item.label or "" for item in items if item not in lost))
        self._hand_on(task, set_name, task.outcome(added, rejected=rejected))

    def _hand_on(self, task: "_Task", set_name: str, outcome: Outcome) -> None:
        """Have the indexer index the segment and report the batch; where no segment was written, report it."""
        task.attempt.check()
        if outcome.added:
            self._queue.index(set_name=set_name, segment=task.segment, job=task.job, batch=task.batch, outcome=outcome)
        else:
            self._report(task, outcome)

    def _report(self, task: "_Task", outcome: Outcome) -> None:
        task.attempt.check()
        self._state.jobs.report(task.job, task.batch, outcome)

    def _embed(self, task: "_Task", embedding_set: EmbeddingSet, items: Sequence[BatchImage]) -> None:
        segment, set_name = task.segment, embedding_set.name
        self._decoding.count_strike(task.attempt, items)
        rejected = self._decoding.set_aside_earlier(items)
        claimed, duplicates, written = self._claim(
            set_name, segment, [item for item in items if item.digest not in rejected]
        )
        if written:
            added, refused = self._sort_out(task, set_name, claimed)
            damaged = self._damaged(set_name, segment)
        else:
            found = self._embedded(task, embedding_set, claimed) if claimed else NOTHING
            if not task.moving:
                self._send_pages(task, embedding_set.collection, items, found.images)
            added = self._write(task, embedding_set, found) if found.images else []
            damaged = {image.item.digest for image in found.images if "damaged" in image.info.flags}
            duplicates += len(found.images) - len(added)
            refused = found.refused
        rejected |= refused
        task.attempt.check()
        labels = dict(Counter(item.label or "" for item in added))
        lost = [item for item in items if item.digest in rejected]
        self._state.claims.release(set_name, segment, [layout.image_id(item.digest) for item in lost])
        if not task.moving:  # else the embedding set in use holds them
            self._originals.delete_unheld([item.digest for item in lost], job=task.job)
        names = () if task.moving else tuple(item.title for item in added if item.digest in damaged)
        self._hand_on(task, set_name, task.outcome(labels, duplicates, tuple(rejected.values()), names))

    def _embed_windows(self, task: "_Task", regions: EmbeddingSet, items: Sequence[BatchImage]) -> None:
        """Embed the windows of images that the collection has."""
        self._decoding.count_strike(task.attempt, items)
        refused = self._decoding.set_aside_earlier(items)
        wanted = [item for item in items if item.digest not in refused]
        serving = self._model(regions.model, regions.version)
        images, more = self._windows.write(task.attempt, task.segment, regions, wanted, serving)
        added = {"": images} if images else {}
        self._hand_on(task, regions.name, task.outcome(added, rejected=tuple((refused | more).values())))

    def _send_pages(
        self, task: "_Task", collection: str, items: Sequence[BatchImage], decoded: Sequence[Decoded]
    ) -> None:
        """Have the further pages of documents embedded, before the batch is written: then it is known that they are."""
        places = {item.digest: place for place, item in enumerate(items)}
        found = [
            FoundDocument(image.item, image.info.pages, places[image.item.digest])
            for image in decoded
            if image.info.pages > 1 and image.item.page == 1
        ]
        task.attempt.check()
        self._pages.send(job=task.job, batch=task.batch, collection=collection, found=found)

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
        self, task: "_Task", set_name: str, items: Sequence[BatchImage]
    ) -> tuple[list[BatchImage], dict[str, Rejection]]:
        """Return which images are in the segment that an earlier attempt wrote, and why the others are not."""
        segment = task.segment
        held = self._rows(set_name, segment)
        refused = {}
        for item in items:
            if layout.image_id(item.digest) not in held:
                outcome = self._decoding.decode_one(task.attempt, item, size=_SMALL, noted=True)
                interrupted = Rejection(item.title, "interrupted", "the worker stopped while at it; add it again")
                refused[item.digest] = outcome if isinstance(outcome, Rejection) else interrupted
        # An image that was deleted since counts as added all the same; its row is deleted, so the claim must go.
        self._state.claims.release(set_name, segment, self._catalog.tombstones_of(set_name, segment))
        return [item for item in items if item.digest not in refused], refused

    def _rows(self, set_name: str, segment: str) -> set[int]:
        """Return the ids of a segment's rows."""
        data = self._store.get(layout.segment_key(set_name, segment))
        return set(segments.ids_of(segments.unpack(data, verify=True)).tolist())

    def _damaged(self, set_name: str, segment: str) -> set[str]:
        """Return the digests of a segment's rows that are flagged as damaged."""
        rows = segments.unpack(self._store.get(layout.segment_key(set_name, segment)))
        flagged = zip(rows.column("digest").to_pylist(), segments.flags_of(rows), strict=True)
        return {digest.hex() for digest, flags in flagged if "damaged" in flags}

    # Pixels and embeddings

    def _embedded(self, task: "_Task", embedding_set: EmbeddingSet, items: Sequence[BatchImage]) -> EmbeddedImages:
        serving = self._model(embedding_set.model, embedding_set.version)
        return self._embedding.embed(task.attempt, items, serving, moving=task.moving)

    def _write(self, task: "_Task", embedding_set: EmbeddingSet, found: EmbeddedImages) -> list[BatchImage]:
        """Write the segment; returns the images written: those that no other task took over meanwhile."""
        segment, decoded = task.segment, found.images
        ids = [layout.image_id(image.item.digest) for image in decoded]
        holders = self._state.claims.holders(embedding_set.name, ids)
        kept = [row for row, holder in enumerate(holders) if holder == segment]
        if kept:
            now = time.time()
            entries = [decoded[row].entry(now) for row in kept]
            stored = found.vectors[kept].astype(self._options.vector_type)
            data = segments.pack(
                entries, stored, collection=embedding_set.name, model=embedding_set.model, version=embedding_set.version
            )
            task.attempt.check()
            if not task.moving:
                self._records.add([decoded[row].change(time.time_ns()) for row in kept], embedding_set.collection)
            self._store.put(layout.segment_key(embedding_set.name, segment), data)
            self._delete_released(task, embedding_set, [ids[row] for row in kept])
        return [decoded[row].item for row in kept]

    def _delete_released(self, task: "_Task", embedding_set: EmbeddingSet, image_ids: Sequence[int]) -> None:
        """Delete rows whose claims a deletion has released because it did not see the segment, which came just then."""
        holders = self._state.claims.holders(embedding_set.name, image_ids)
        released = [image_id for image_id, holder in zip(image_ids, holders, strict=True) if holder is None]
        if released:
            task.attempt.check()  # else Redis has lost the claims with all else
            self._catalog.add_tombstones(embedding_set.name, ((task.segment, image_id) for image_id in released))

    # Collections and models

    def _collection(self, name: str) -> EmbeddingSet:
        """Return a collection's manifest, written now if there is none, once its index is known to be there."""
        try:
            found = self._catalog.get(name)
        except NotFound:
            ensure_known(name, catalog=self._catalog, state=self._state, queue=self._queue)
            return self._create(name)
        if self._state.index_states.get(found.name) is None:
            ensure_known(name, catalog=self._catalog, state=self._state, queue=self._queue)
        return found

    def _current_name(self, task: "_Task", collection: str) -> str:
        """Return what the collection is called now that a batch was sent to."""
        began = job_ids.began(task.job)
        current = self._catalog.name_since(collection, time.time() if began is None else began)
        if current != collection and (rename := self._catalog.renames.of(collection)) is not None:
            self._store.delete([layout.segment_key(rename.old_set, task.segment)])  # of an attempt that died
        return current

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
