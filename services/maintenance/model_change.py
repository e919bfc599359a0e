"""Changes a collection to another model: fills an embedding set beside the one in use, and activates it in one write.

The work is done in turns, so that other tasks get theirs: each turn sends the task again. A turn holds the lock on the
collection's segments and may die anywhere: what the new set lacks follows from the claims, so the next turn goes on
from there. The set in use answers until the change. Before the change it is closed for a moment: nothing is indexed in
it and nothing is deleted from it, such tasks wait, while the last images are moved. What was embedded for it and
comes later is embedded again.
"""

import logging
import time
from dataclasses import replace

from services.maintenance.compaction import Compactor
from services.maintenance.dropping import Dropper
from services.maintenance.embedding_batches import BATCH_SIZE, EmbeddingBatches, index_written
from services.maintenance.generation_builder import GenerationBuilder
from services.maintenance.missing_images import MissingImages
from services.maintenance.rebuilding import IndexRebuilder
from shared.errors import ArtseekError, Invalid, NotFound, Unavailable
from shared.index.deletion import ImageDeleter
from shared.index.tuning_due import is_tuning_due
from shared.index.unreported_segments import unreported_segments
from shared.messaging.messages import TuningRequest
from shared.messaging.task_queue import EMBED
from shared.messaging.worker import WorkerClients
from shared.rpc.serving import ModelNotFound, ModelSignature
from shared.state import Change, IndexState, Rejection
from shared.state.locks import LEASE_S, claims_lock, segments_lock
from shared.state.model_changes import ModelChangeResult, ModelChangeState, ModelVersion
from shared.state.outcomes import CANCELLED, NOT_SERVED, REFUSED, Outcome
from shared.storage import layout
from shared.storage.catalog import EmbeddingSet

_log = logging.getLogger(__name__)

_TURN_S = 20.0
_LAST_S = 40.0  # as long as additions and deletions may have to wait
_POLL_S = 0.1
_WAITING = 64  # batches of other jobs, before which none is sent
_LITTLE = 1024  # images that may be missing when the set in use is closed
_FEW_FAILED, _FAILED_SHARE = 10, 0.01
_LATE_S = 300.0  # how long what was embedded for the previous set is waited for


class ModelChanger:
    """Changes collections to other models. Collections of fewer than `exact_below` images are scanned exactly."""

    def __init__(
        self,
        clients: WorkerClients,
        *,
        builder: GenerationBuilder,
        rebuilder: IndexRebuilder,
        compactor: Compactor,
        deleter: ImageDeleter,
        dropper: Dropper,
        exact_below: int,
    ) -> None:
        self._store, self._catalog, self._state = clients.store, clients.catalog, clients.state
        self._queue, self._connect_model = clients.queue, clients.connect_model
        self._builder, self._rebuilder, self._compactor = builder, rebuilder, compactor
        self._deleter, self._dropper = deleter, dropper
        self._missing = MissingImages(clients)
        self._exact_below = exact_below

    def change(self, *, collection: str, job: str, model: str, version: int | None) -> None:
        """Take a turn at changing a collection to a model, by default to its latest version, and ask for another turn.

        The job's result says what was done, its rejections which images could not be embedded, and why. If nothing is
        changed, the rejections say why not.

        Raises:
            Unavailable: A server is away, or another worker is at the collection's segments.
        """
        if self._state.jobs.reported(job, 0):
            self._clear_ended(collection, job)
            return
        try:
            done, version = self._turn(collection, job, model, version)
        except _Refused as refusal:
            _log.warning("%s is not changed to %s: %s", collection, model, refusal)
            self._state.jobs.report(job, 0, Outcome(rejected=(Rejection("", refusal.code, str(refusal)),)))
            return
        if not done:
            self._queue.change_model(collection=collection, job=job, model=model, version=version)

    def _turn(self, collection: str, job: str, model: str, version: int | None) -> tuple[bool, int]:
        """Work for a while; returns whether all is done, and the model's version."""
        try:
            active = self._catalog.get(collection)
        except NotFound as error:
            raise _Refused(REFUSED, str(error)) from error
        self._rebuilder.ensure_restored(active)
        target = self._signature(model, version)
        filling = self._catalog.filling(active)
        if filling is not None:
            self._rebuilder.ensure_restored(filling)
        with self._state.locks.hold(segments_lock(collection), wait_s=LEASE_S + 1):
            active = self._catalog.get(collection)
            self._compactor.recover(active.name)
            state = self._resume(collection, job, target)
            if not self._drop_previous(active, state):
                return False, target.version
            if (active.model, active.version) == (target.model, target.version):
                self._end(active, job)
                return True, target.version
            self._state.indexed_segments.open(active.name)  # the worker that closed it has died
            try:
                if self._state.jobs.cancelled(job):
                    raise _Refused(CANCELLED, "it was cancelled; the collection is as it was")
                self._move(active, self._filling(active, target), state)
            except _Refused:
                self._give_up(active)
                raise
        return False, target.version  # one more turn drops the previous set

    def _check_lock(self, collection: str) -> None:
        """Make sure that this worker has not lost its lock on the segments."""
        self._state.locks.check(segments_lock(collection))

    def _signature(self, model: str, version: int | None) -> ModelSignature:
        """Return what the model server says of a model."""
        with self._connect_model(model, version) as serving:
            try:
                return serving.signature()
            except ModelNotFound as error:
                wanted = f"{model} version {version}" if version else model
                raise _Refused(
                    NOT_SERVED, f"the model server does not serve {wanted}; `artseek models` lists what it serves"
                ) from error
            except Invalid as error:
                raise _Refused(NOT_SERVED, str(error)) from error

    def _resume(self, collection: str, job: str, target: ModelSignature) -> ModelChangeState:
        """Return the state that the last turn kept, or a new one if this is the first turn."""
        kept = self._state.model_changes.get(collection)
        if kept is None or (kept.model, kept.version) != (target.model, target.version):
            if kept is not None and not self._has_ended(kept.job):
                raise _Refused(
                    REFUSED,
                    f"the change of {collection!r} to {kept.model} version {kept.version} is under way, by the job "
                    f"{kept.job}",
                )
            kept = ModelChangeState(model=target.model, version=target.version, job=job)
        kept = replace(kept, job=job)
        self._state.model_changes.set(collection, kept)
        return kept

    def _has_ended(self, job: str) -> bool:
        try:
            return self._state.jobs.get(job).done
        except NotFound:
            return True

    def _filling(self, active: EmbeddingSet, target: ModelSignature) -> EmbeddingSet:
        """Return the embedding set that is filled with the target's embeddings, made now if there is none."""
        for unused in self._catalog.unused_embedding_sets(active.collection):
            if unused.number > active.number and (unused.model, unused.version) == (target.model, target.version):
                return unused
            self._dropper.drop_embedding_set(unused)
        # A deletion sees the new set, or has ended before.
        with self._state.locks.hold(claims_lock(active.collection), wait_s=LEASE_S):
            self._check_lock(active.collection)
            made = self._catalog.create_embedding_set(
                active, model=target.model, version=target.version, dim=target.dim
            )
            self._state.index_states.set(made.name, IndexState())
        self._state.changes.announce(Change(made.name, "collection"))
        return made

    def _give_up(self, active: EmbeddingSet) -> None:
        """Drop what was filled, and let the collection go on as it was."""
        self._check_lock(active.collection)
        self._state.indexed_segments.open(active.name)
        for unused in self._catalog.unused_embedding_sets(active.collection):
            self._dropper.drop_embedding_set(unused)
        self._state.model_changes.forget(active.collection)

    # Moving

    def _move(self, active: EmbeddingSet, filling: EmbeddingSet, state: ModelChangeState) -> None:
        """Embed what the new set lacks; once that is little, tune its index, and change to it."""
        until = time.monotonic() + _TURN_S
        if self._queue.waiting()[EMBED] > _WAITING:
            raise Unavailable("the embedder is far behind")
        self._compactor.recover(filling.name)
        self._compactor.merge_some(filling)
        if state.resume_after == "":
            index_written(filling, self._catalog, self._state, self._queue)
        if state.resume_after is not None:
            state, complete = self._pass(active, filling, state, until)
            if not complete:
                return
        self._check_failed(active, filling)
        # During a long pass, other jobs have added images: another pass takes them.
        again = state.sent > _LITTLE
        state = replace(state, sent=0, resume_after="" if again else None)
        self._check_lock(active.collection)
        self._state.model_changes.set(active.collection, state)
        if again:
            return
        index_state = self._state.index_states.get(filling.name) or IndexState()
        if is_tuning_due(index_state, self._state.claims.count(filling.name), exact_below=self._exact_below):
            self._builder.build(filling, TuningRequest())
        self._change(active, filling, state)

    def _batches(self, active: EmbeddingSet, filling: EmbeddingSet, job: str) -> EmbeddingBatches:
        def on_progress() -> None:
            total = self._state.claims.count(active.name)
            self._state.jobs.advance(job, steps=min(total, self._state.claims.count(filling.name)), total=total)

        return EmbeddingBatches(self._state, self._queue, filling, on_progress)

    def _pass(
        self, active: EmbeddingSet, filling: EmbeddingSet, state: ModelChangeState, until: float
    ) -> tuple[ModelChangeState, bool]:
        """Send what the new set lacks, segment by segment; returns the state, and whether all was done in time.

        A segment that is merged between two turns sorts behind all others by its name.
        """
        batches = self._batches(active, filling, state.job)
        done, in_time = state.resume_after or "", True
        for segment in self._catalog.segments(active.name):
            if segment > done:
                in_time = time.monotonic() < until
                if not in_time:
                    break
                for items in self._missing.batches(active, filling, segment):
                    batches.send(items, until + _LAST_S)
                done = segment
        in_time = batches.wait(until + _LAST_S) and in_time
        self._check_lock(active.collection)
        state = replace(state, resume_after=done, sent=state.sent + batches.sent * BATCH_SIZE)
        self._state.model_changes.set(active.collection, state)
        return state, in_time

    def _check_failed(self, active: EmbeddingSet, filling: EmbeddingSet) -> None:
        """Refuse to go on if many images cannot be embedded: then more is wrong than an image here and there.

        Raises:
            _Refused: There are too many.
        """
        failed = self._state.model_changes.count_failed(filling.name)
        most = max(_FEW_FAILED, int(_FAILED_SHARE * self._state.claims.count(active.name)))
        if failed > most:
            first = next(iter(self._state.model_changes.failed(filling.name).values()))
            raise _Refused(
                REFUSED,
                f"{failed} images cannot be embedded, more than the {most} that may fail; the first, "
                f"{first.name}: {first.reason}",
            )

    # Changing

    def _change(self, active: EmbeddingSet, filling: EmbeddingSet, state: ModelChangeState) -> None:
        """Close the set in use, move the rest, activate the new set; if that does not work, open the old one again."""
        collection, indexed_segments = active.collection, self._state.indexed_segments
        with self._state.locks.hold(claims_lock(collection), wait_s=LEASE_S):
            self._check_lock(collection)
            indexed_segments.close(active.name)
        try:
            if not self._move_rest(active, filling, state.job):
                self._check_lock(collection)
                indexed_segments.open(active.name)
                return
            self._check_failed(active, filling)
            if not indexed_segments.is_closed(active.name):
                raise Unavailable(f"the index of {collection!r} was lost")
            changed = replace(
                state,
                changed_at=time.time(),
                previous=ModelVersion(active.model, active.version),
                images=self._state.claims.count(filling.name),
            )
            self._check_lock(collection)
            self._state.model_changes.set(collection, changed)
            self._check_lock(collection)
            self._catalog.activate(filling, active)
        except Exception:
            self._check_lock(collection)  # else it is the next worker's
            if self._catalog.get(collection) == active:
                indexed_segments.open(active.name)
            raise
        self._state.changes.announce(Change(filling.name, "activated"))
        _log.info("%s: changed to %s version %d", collection, filling.model, filling.version)

    def _move_rest(self, active: EmbeddingSet, filling: EmbeddingSet, job: str) -> bool:
        """Make the new set hold what the set in use, which is closed, does; returns whether it was in time."""
        until = time.monotonic() + _LAST_S
        pending = self._state.model_changes.pending_deletes(filling.name)
        self._check_lock(active.collection)
        if pending:  # an image may have come back since, with another label
            self._deleter.delete(filling, pending)
            self._state.model_changes.remove_pending_deletes(filling.name, pending)
        for claims in self._state.claims.scan(filling.name):
            image_ids = list(claims)
            holders = self._state.claims.holders(active.name, image_ids)
            deleted = [image_id for image_id, holder in zip(image_ids, holders, strict=True) if holder is None]
            self._check_lock(active.collection)  # once another worker has dropped the old set, it holds nothing
            self._deleter.delete(filling, deleted)
        index_written(filling, self._catalog, self._state, self._queue)
        while time.monotonic() < until:
            batches = self._batches(active, filling, job)
            for segment, image_ids in self._missing.by_segment(active, filling).items():
                for items in self._missing.batches(active, filling, segment, image_ids):
                    batches.send(items, until)
            if not batches.wait(until):
                return False
            if not batches.sent:
                return True
        return False

    # Clearing away

    def _drop_previous(self, active: EmbeddingSet, state: ModelChangeState) -> bool:
        """Drop the sets that the collection has left; returns False while what was embedded for them is awaited."""
        unused = self._catalog.unused_embedding_sets(active.collection)
        previous = [embedding_set for embedding_set in unused if embedding_set.number < active.number]
        if not previous:
            return True
        # The worker that changed the collection may have died before it announced it.
        self._state.changes.announce(Change(active.name, "activated"))
        until = time.monotonic() + _TURN_S
        changed_at = state.changed_at or time.time()
        self._state.model_changes.set(active.collection, replace(state, changed_at=changed_at))
        for embedding_set in previous:
            while (
                unreported_segments(self._state.jobs, self._catalog.segments(embedding_set.name))
                and time.time() - changed_at < _LATE_S
            ):
                if time.monotonic() > until:
                    return False
                time.sleep(_POLL_S)
            self._dropper.drop_embedding_set(embedding_set)
        self._queue.compact(collection=active.collection)
        return True

    def _end(self, active: EmbeddingSet, job: str) -> None:
        """Report that a collection uses the model that it is to use, and leave nothing behind."""
        self._check_lock(active.collection)
        for unused in self._catalog.unused_embedding_sets(active.collection):
            self._dropper.drop_embedding_set(unused)
        self._store.delete([layout.embedding_set_key(active.name)])
        if self._catalog.is_there(layout.regions_of(active.collection)):  # of the other model
            self._queue.make_regions(collection=active.collection)
        state = self._state.model_changes.get(active.collection)
        previous = None if state is None else state.previous
        images = 0 if state is None else state.images
        result = ModelChangeResult(
            changed=previous is not None,
            model=active.model,
            version=active.version,
            dim=active.dim,
            previous=previous,
            images=images,
        )
        failed = tuple(self._state.model_changes.failed(active.name).values())
        self._state.jobs.set_result(job, result.to_json())
        self._state.jobs.report(job, 0, Outcome(affected=images, rejected=failed))
        self._forget(active)

    def _clear_ended(self, collection: str, job: str) -> None:
        """Forget what is noted of a change that has ended, if the worker that reported it died before."""
        kept = self._state.model_changes.get(collection)
        if kept is None or kept.job != job:
            return
        with self._state.locks.hold(segments_lock(collection), wait_s=LEASE_S + 1):
            kept = self._state.model_changes.get(collection)
            if kept is None or kept.job != job:
                return
            try:
                self._forget(self._catalog.get(collection))
            except NotFound:  # dropped since
                self._state.model_changes.forget(collection)

    def _forget(self, active: EmbeddingSet) -> None:
        self._state.model_changes.forget_failed(active.name)
        self._state.model_changes.forget(active.collection)


class _Refused(ArtseekError):
    """The collection is not changed; `code` is a short word for the reason."""

    def __init__(self, code: str, reason: str) -> None:
        super().__init__(reason)
        self.code = code
