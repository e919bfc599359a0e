"""Switching: embeds a collection with another model into a space beside the one in use, and changes to it in one write.

Work is done in turns, so that others get theirs: each sends the task again. A turn holds the lock `tend:` and may die
anywhere: what the new space lacks follows from the ledger, so the next turn goes on from there. The old space answers
until the change. Before it, the old space is closed for a moment: nothing settles in it and nothing is deleted from it,
such tasks wait, while the last images are moved. What was embedded for it and comes later is embedded again.
"""

import json
import logging
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol

from services.maintenance.compaction import Compactor, in_flight
from services.maintenance.tuning import Tender
from shared.errors import ArtseekError, Invalid, NotFound, ObjectNotFound, Unavailable
from shared.messaging.intake import new_job_id
from shared.messaging.task_queue import EMBED, Item, Queue, Wish
from shared.rpc.serving import ModelNotFound, ModelSignature, ServingClient
from shared.state import Change, Changes, IndexState, Jobs, Ledger, Rejection
from shared.state.jobs import Outcome
from shared.storage import layout, segments
from shared.storage.catalog import Catalog, Collection
from shared.storage.object_store import ObjectStore
from shared.storage.segments import Entry

_log = logging.getLogger(__name__)

_LOCK_S = 15.0
_TURN_S = 20.0
_LAST_S = 40.0  # as long as additions and deletions may have to wait
_POLL_S = 0.1
_BATCH = 32
_OUTSTANDING = 8  # batches
_WAITING = 64  # batches of others, before which none is sent
_LITTLE = 1024  # images that may be left when the old space is closed
_FEW_LEFT_OUT, _LEFT_OUT_SHARE = 10, 0.01
_LATE_S = 300.0  # how long what was embedded for the old space is waited for
_UNDER_WAY_S = 900.0  # after its last turn, a change to another model is taken for given up

NOT_SERVED = "not-served"
"""Code of the rejection that a job of this kind ends with if it changes nothing: likewise the two below."""
REFUSED = "refused"
CANCELLED = "cancelled"


class Spaces(Protocol):
    """Who changes what is in a space."""

    def delete_rows(self, collection: Collection, ids: Sequence[int], *, originals: bool) -> int:
        """Remove images from a space; returns how many there were."""

    def drop_space(self, collection: Collection) -> None:
        """Remove a space."""


class Switcher:
    """Changes collections to other models. Its servers are passed in.

    `connect_model` gives a client for a model and version.
    """

    def __init__(
        self,
        *,
        store: ObjectStore,
        ledger: Ledger,
        jobs: Jobs,
        changes: Changes,
        queue: Queue,
        tender: Tender,
        compactor: Compactor,
        spaces: Spaces,
        connect_model: Callable[[str, int | None], ServingClient],
    ) -> None:
        self._store, self._ledger, self._jobs, self._changes, self._queue = store, ledger, jobs, changes, queue
        self._tender, self._compactor, self._spaces = tender, compactor, spaces
        self._connect_model = connect_model
        self._catalog = Catalog(store)

    def switch(self, *, collection: str, job: str, model: str, version: int | None) -> None:
        """Take a turn at changing a collection to a model, by default to its latest version, and ask for another one.

        The job's result says what was done, its rejections which images the model's space lacks, and why. If nothing
        is changed, they say why not.

        Raises:
            Unavailable: A server is away, or others work on all of the collection's segments.
        """
        if self._jobs.reported(job, 0):
            return
        try:
            done, version = self._turn(collection, job, model, version)
        except _Refused as refusal:
            _log.warning("%s is not changed to %s: %s", collection, model, refusal)
            self._jobs.report(job, 0, Outcome(rejected=(Rejection("", refusal.code, str(refusal)),)))
            return
        if not done:
            self._queue.switch(collection=collection, job=job, model=model, version=version)

    def _turn(self, name: str, job: str, model: str, version: int | None) -> tuple[bool, int]:
        """Work for a while; returns whether all is done, and the model's version."""
        try:
            used = self._catalog.get(name)
        except NotFound as error:
            raise _Refused(REFUSED, str(error)) from error
        self._tender.known(used)
        target = self._signature(model, version)
        filling = self._catalog.filling(used)
        if filling is not None:
            self._tender.known(filling)
        with self._ledger.holding(f"tend:{name}", seconds=_LOCK_S, wait_s=_LOCK_S + 1) as held:
            if not held:
                raise Unavailable(f"another worker is at the segments of {name!r}")
            used = self._catalog.get(name)
            self._compactor.recover(used.space)
            state = self._state(name, job, target)
            if not self._clear(used, state):
                return False, target.version
            if (used.model, used.version) == (target.model, target.version):
                self._end(used, job, state)
                return True, target.version
            self._ledger.open(used.space)  # whoever closed it has died
            try:
                if self._jobs.cancelled(job):
                    raise _Refused(CANCELLED, "it was cancelled; the collection is as it was")
                self._move(used, self._filling(used, target), job, state)
            except _Refused:
                self._give_up(used)
                raise
        return False, target.version  # one more turn clears away

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

    def _state(self, name: str, job: str, target: ModelSignature) -> dict[str, Any]:
        """Return what the last turn kept.

        `after` is the segment behind which the first passes go on, absent once all is moved but what came last; `sent`
        is how many images this pass has sent; `left` is when the old space was left, and `report` what was done.
        """
        kept = self._ledger.switching(name)
        state: dict[str, Any] = json.loads(kept) if kept else {}
        wanted = [target.model, target.version]
        if state.get("target", wanted) != wanted and not self._ended(state["job"]):
            other, number = state["target"]
            raise _Refused(
                REFUSED, f"the change of {name!r} to {other} version {number} is under way, by the job {state['job']}"
            )
        if state.get("target") != wanted:
            state = {"target": wanted, "job": job, "after": ""}
        self._keep(name, state)
        return state

    def _keep(self, name: str, state: dict[str, Any]) -> None:
        self._ledger.set_switching(name, json.dumps(state), seconds=_UNDER_WAY_S)

    def _ended(self, job: str) -> bool:
        try:
            return self._jobs.get(job).done
        except NotFound:
            return True

    def _filling(self, used: Collection, target: ModelSignature) -> Collection:
        """Return the space that is filled with the target's embeddings, made now if there is none."""
        for space in self._catalog.unused_spaces(used.name):
            if space.number > used.number and (space.model, space.version) == (target.model, target.version):
                return space
            self._spaces.drop_space(space)
        with self._claims(used):  # a deletion sees it, or has ended before
            made = self._catalog.create_space(used, model=target.model, version=target.version, dim=target.dim)
            self._ledger.set_state(made.space, IndexState())
        self._changes.announce(Change(made.space, "collection"))
        return made

    def _claims(self, collection: Collection) -> Any:
        return _Held(self._ledger, f"claims:{collection.name}")

    def _give_up(self, used: Collection) -> None:
        """Drop what was filled, and let the collection go on as it was."""
        self._ledger.open(used.space)
        for space in self._catalog.unused_spaces(used.name):
            self._spaces.drop_space(space)
        self._ledger.set_switching(used.name, None, seconds=0)

    # Moving

    def _move(self, used: Collection, filling: Collection, job: str, state: dict[str, Any]) -> None:
        """Embed what the new space lacks; once that is little, tune its index, and change to it."""
        until = time.monotonic() + _TURN_S
        if self._queue.waiting()[EMBED] > _WAITING:
            raise Unavailable("the embedder is far behind")
        self._compactor.recover(filling.space)
        self._compactor.merge_some(filling)
        if state.get("after") == "":
            self._index_written(filling)
        batches = _Batches(self._ledger, self._jobs, self._queue, filling, lambda: self._tell(job, used, filling))
        if "after" in state and not self._pass(used, filling, batches, state, until):
            return
        self._check_left_out(used, filling)
        if state.pop("sent", 0) > _LITTLE:  # as long as that took, others have added images
            state["after"] = ""
            self._keep(used.name, state)
            return
        state.pop("after", None)
        self._keep(used.name, state)
        if self._tender.due(self._ledger.state(filling.space) or IndexState(), self._ledger.size(filling.space)):
            self._tender.build(filling, Wish())
        self._change(used, filling, job, state)

    def _tell(self, job: str, used: Collection, filling: Collection) -> None:
        total = self._ledger.size(used.space)
        self._jobs.advance(job, steps=min(total, self._ledger.size(filling.space)), total=total)

    def _pass(
        self, used: Collection, filling: Collection, batches: "_Batches", state: dict[str, Any], until: float
    ) -> bool:
        """Send what the new space lacks, segment by segment; returns whether all of it was done in time.

        What is merged between two turns goes behind all others, by its name.
        """
        in_time = True
        for segment in self._catalog.segments(used.space):
            if segment > state["after"]:
                in_time = time.monotonic() < until
                if not in_time:
                    break
                for items in self._lacking_of(used, filling, segment):
                    batches.send(items, until + _LAST_S)
                state["after"] = segment
        in_time = batches.wait(until + _LAST_S) and in_time
        state["sent"] = state.get("sent", 0) + batches.sent * _BATCH
        self._keep(used.name, state)
        return in_time

    def _lacking_of(
        self, used: Collection, filling: Collection, segment: str, among: Sequence[int] | None = None
    ) -> Iterator[list[Item]]:
        """Yield the images that a segment holds and the new space lacks, `among` some, a batch at a time."""
        try:
            rows = self._tender.contents.segment(used, segment)
        except (Invalid, ObjectNotFound) as error:
            reason = f"its segment cannot be read: {error}"
            lost = {image: json.dumps([str(image), "damaged-segment", reason]) for image in among or ()}
            self._ledger.leave_out(filling.space, lost)
            return
        if not self._ledger.settled(used.space, [segment])[0]:
            return
        left_out = self._ledger.left_out(filling.space)
        places = {image: row for row, image in enumerate(segments.ids_of(rows).tolist())}
        chosen = list(places) if among is None else [image for image in among if image in places]
        held = self._ledger.holders(used.space, chosen)
        mine = [image for image, holder in zip(chosen, held, strict=True) if holder == segment]
        there = self._there(filling, mine)
        lacking = [image for image in mine if image not in there and image not in left_out]
        for start in range(0, len(lacking), _BATCH):
            entries = (segments.entry_of(rows, places[image]) for image in lacking[start : start + _BATCH])
            yield [item_of(entry) for entry in entries]

    def _there(self, collection: Collection, ids: Sequence[int]) -> set[int]:
        """Return which images a space has, with their embeddings written and indexed."""
        holders = self._ledger.holders(collection.space, ids)
        names = sorted({holder for holder in holders if holder})
        settled = {
            name for name, flag in zip(names, self._ledger.settled(collection.space, names), strict=True) if flag
        }
        return {image for image, holder in zip(ids, holders, strict=True) if holder in settled}

    def _check_left_out(self, used: Collection, filling: Collection) -> None:
        """Refuse to go on if many images cannot be embedded: then something else is wrong than an image here and there.

        Raises:
            _Refused: There are too many.
        """
        left_out = self._ledger.left_out(filling.space)
        most = max(_FEW_LEFT_OUT, int(_LEFT_OUT_SHARE * self._ledger.size(used.space)))
        if len(left_out) > most:
            name, _, reason = json.loads(next(iter(left_out.values())))
            raise _Refused(
                REFUSED,
                f"{len(left_out)} images cannot be embedded, more than the {most} that may be left out; the first, "
                f"{name}: {reason}",
            )

    # Changing

    def _change(self, used: Collection, filling: Collection, job: str, state: dict[str, Any]) -> None:
        """Close the old space, move the rest, change to the new one; if that does not work, open the old one again."""
        with self._claims(used):
            self._ledger.close(used.space)
        try:
            if not self._move_rest(used, filling, job):
                self._ledger.open(used.space)
                return
            self._check_left_out(used, filling)
            if not self._ledger.is_closed(used.space) or not self._ledger.is_held(f"tend:{used.name}"):
                raise Unavailable(f"the index of {used.name!r} was lost, or another worker took over")
            report = {
                "switched": True,
                "from": {"model": used.model, "version": used.version},
                "images": self._ledger.size(filling.space),
            }
            self._keep(used.name, {**state, "left": time.time(), "report": report})
            self._catalog.use_space(filling, used)
        except Exception:
            if self._catalog.get(used.name) == used:
                self._ledger.open(used.space)
            raise
        self._changes.announce(Change(filling.space, "switched"))
        _log.info("%s: changed to %s version %d", used.name, filling.model, filling.version)

    def _move_rest(self, used: Collection, filling: Collection, job: str) -> bool:
        """Make the new space hold what the old one, which is closed, does; returns whether it was in time."""
        until = time.monotonic() + _LAST_S
        gone = self._ledger.gone(filling.space)
        if gone:  # it may have come back since, with another label
            self._spaces.delete_rows(filling, gone, originals=False)
            self._ledger.forget_gone(filling.space, gone)
        for some in self._ledger.members(filling.space):
            ids = list(some)
            holders = self._ledger.holders(used.space, ids)
            gone = [image for image, holder in zip(ids, holders, strict=True) if holder is None]
            self._spaces.delete_rows(filling, gone, originals=False)
        self._index_written(filling)
        while time.monotonic() < until:
            batches = _Batches(self._ledger, self._jobs, self._queue, filling, lambda: self._tell(job, used, filling))
            for segment, ids in self._lacking(used, filling).items():
                for items in self._lacking_of(used, filling, segment, ids):
                    batches.send(items, until)
            if not batches.wait(until):
                return False
            if not batches.sent:
                return True
        return False

    def _index_written(self, filling: Collection) -> None:
        """Have the segments indexed that were written, but not settled: the message for it may have been lost."""
        for segment in sorted(set(self._catalog.segments(filling.space)) - self._ledger.all_settled(filling.space)):
            if (batch := layout.batch_of(segment)) is not None:
                self._queue.index(space=filling.space, segment=segment, job=batch[0], batch=batch[1], outcome=Outcome())

    def _lacking(self, used: Collection, filling: Collection) -> dict[str, list[int]]:
        """Return the images that the new space lacks, by their segments in the old one."""
        left_out = self._ledger.left_out(filling.space)
        found: defaultdict[str, list[int]] = defaultdict(list)
        for some in self._ledger.members(used.space):
            names = sorted(set(some.values()))
            settled = {name for name, flag in zip(names, self._ledger.settled(used.space, names), strict=True) if flag}
            there = self._there(filling, list(some))
            for image, segment in some.items():
                if image not in there and image not in left_out and segment in settled:
                    found[segment].append(image)
        return found

    # Clearing away

    def _clear(self, used: Collection, state: dict[str, Any]) -> bool:
        """Drop the spaces that the collection has left; returns False while what was embedded for them is awaited."""
        spaces = [space for space in self._catalog.unused_spaces(used.name) if space.number < used.number]
        if not spaces:
            return True
        self._changes.announce(Change(used.space, "switched"))  # whoever changed it may have died before
        until = time.monotonic() + _TURN_S
        left = state.setdefault("left", time.time())
        self._keep(used.name, state)
        for space in spaces:
            while in_flight(self._jobs, self._catalog.segments(space.space)) and time.time() - left < _LATE_S:
                if time.monotonic() > until:
                    return False
                time.sleep(_POLL_S)
            self._spaces.drop_space(space)
        self._queue.compact(collection=used.name)
        return True

    def _end(self, used: Collection, job: str, state: dict[str, Any]) -> None:
        """Report that a collection uses the model that it is to use, and leave nothing behind."""
        for space in self._catalog.unused_spaces(used.name):
            self._spaces.drop_space(space)
        self._store.delete([layout.space_key(used.space)])
        result = state.get("report", {"switched": False})
        left_out = tuple(Rejection(*json.loads(why)) for why in self._ledger.left_out(used.space).values())
        self._jobs.set_result(job, result | {"model": used.model, "version": used.version, "dim": used.dim})
        self._jobs.report(job, 0, Outcome(affected=int(result.get("images", 0)), rejected=left_out))
        self._ledger.clear_left_out(used.space)
        self._ledger.set_switching(used.name, None, seconds=0)


class _Refused(ArtseekError):
    """The collection is not changed; `code` is a short word for why."""

    def __init__(self, code: str, reason: str) -> None:
        super().__init__(reason)
        self.code = code


class _Held:
    """A lock on claims as a context manager, which raises if it is not got."""

    def __init__(self, ledger: Ledger, name: str) -> None:
        self._name = name
        self._holding = ledger.holding(name, seconds=_LOCK_S, wait_s=_LOCK_S)

    def __enter__(self) -> None:
        if not self._holding.__enter__():
            self._holding.__exit__(None, None, None)
            raise Unavailable(f"a deletion goes on: {self._name} is held")

    def __exit__(self, *error: Any) -> None:
        self._holding.__exit__(*error)


class _Batches:
    """Batches of images on their way into a space, as a job of their own; `tell` is called as they arrive."""

    def __init__(self, ledger: Ledger, jobs: Jobs, queue: Queue, space: Collection, tell: Callable[[], None]) -> None:
        self._ledger, self._jobs, self._queue, self._space, self._tell = ledger, jobs, queue, space, tell
        self._job = ""
        self._outstanding: dict[int, list[Item]] = {}
        self.sent = 0

    def send(self, items: list[Item], until: float) -> None:
        """Send a batch, after waiting until some of those before have arrived.

        Raises:
            Unavailable: They have not within the time.
        """
        while len(self._outstanding) >= _OUTSTANDING:
            if not self._arrived(until):
                raise Unavailable("the embedder does not keep up")
        if not self._job:
            self._job = new_job_id()
            self._jobs.create(self._job, self._space.name)
        self._outstanding[self.sent] = items
        self._jobs.extend(self._job, batches=self.sent + 1, total=0, closed=True)
        self._queue.embed(
            job=self._job, batch=self.sent, collection=self._space.name, items=items, space=self._space.space
        )
        self.sent += 1

    def wait(self, until: float) -> bool:
        """Wait for all batches; returns whether they have arrived in time. Those that have not are sent anew later."""
        while self._outstanding:
            if not self._arrived(until):
                return False
        if self._job:
            self._jobs.forget(self._job)
        return True

    def _arrived(self, until: float) -> bool:
        """Take note of what has arrived; returns False if nothing has and time is up."""
        reported = self._jobs.progress(self._job)
        if reported is None:
            raise Unavailable("the index was lost while images were embedded")
        arrived = reported & self._outstanding.keys()
        if arrived:
            reasons = {one.name: one for one in self._jobs.get(self._job).outcome.rejected}
            items = [item for batch in sorted(arrived) for item in self._outstanding.pop(batch)]
            ids = [layout.image_id(item.digest) for item in items]
            holders = self._ledger.holders(self._space.space, ids)
            self._ledger.leave_out(
                self._space.space,
                {
                    image: json.dumps([item.name, reasons[item.name].code, reasons[item.name].reason])
                    for item, image, holder in zip(items, ids, holders, strict=True)
                    if holder is None and item.name in reasons
                },
            )
            self._tell()
            return True
        if time.monotonic() > until:
            return False
        time.sleep(_POLL_S)
        return True


def item_of(entry: Entry) -> Item:
    """Return an image of a segment as one of a batch that is to be embedded."""
    return Item(entry.digest, entry.name, entry.label, entry.size, entry.added)
