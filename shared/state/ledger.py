"""The ledger: which segment holds which image of a collection, and which index generation is in use.

Every image of a collection is claimed by exactly one segment before it is embedded, so that two tasks with the same
image cannot both add it. The claim is settled once the segment is indexed.

All of it is kept for each space of a collection: what one model version makes of it.
"""

import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TypeVar

from redis.exceptions import LockError
from redis.lock import Lock

from shared.errors import Closed, IndexUnavailable
from shared.state.connection import Client, guarded

_ATTEMPTS_KEPT_S = 24 * 3600
_CHUNK = 4096  # images of one command
_CLOSED = b"closed"  # a member of `settled:` beside the segments, so that one command sees both; it names no segment
_SETTLE = (
    "if redis.call('SISMEMBER', KEYS[1], ARGV[1]) == 1 then return 0 end redis.call('SADD', KEYS[1], ARGV[2]) return 1"
)

Item = TypeVar("Item")


@dataclass(frozen=True)
class IndexState:
    """The index of a collection: the generation in use and the one being filled, 0 for none.

    `trained_on` is how many images the collection had when the one in use was fitted.
    """

    active: int = 0
    building: int = 0
    trained_on: int = 0

    @property
    def generations(self) -> tuple[int, ...]:
        """The generations that a new image must be added to."""
        return tuple(number for number in (self.active, self.building) if number)


class Ledger:
    """Claims and looks up ids. Every call may run twice."""

    def __init__(self, client: Client) -> None:
        self._redis = client

    # The state of a collection's index

    def state(self, space: str) -> IndexState | None:
        """Return the state of the index; None if the server knows nothing of the collection: it is new, or was lost."""
        with guarded():
            fields = self._redis.hgetall(f"index:{space}")
        if not fields:
            return None
        return IndexState(*(int(fields.get(name, 0)) for name in (b"active", b"building", b"trained_on")))

    def set_state(self, space: str, state: IndexState) -> None:
        """Write the state of the index, which also marks the collection as known."""
        values = {"active": state.active, "building": state.building, "trained_on": state.trained_on}
        with guarded():
            self._redis.hset(f"index:{space}", mapping=values)

    def forget(self, space: str) -> None:
        """Forget a collection: state, members and settled segments. Its buckets are not touched."""
        with guarded():
            for key in ("index", "members", "settled", "gathered", "gone", "left-out"):
                self._redis.unlink(f"{key}:{space}")

    # Claims

    def claim(self, space: str, segment: str, ids: Sequence[int]) -> list[str]:
        """Claim images for a segment; returns the segment that holds the claim of each, which may be another one."""
        key = f"members:{space}"
        holders: list[bytes | None] = []
        with guarded():
            for some in _chunks(ids):
                pipeline = self._redis.pipeline(transaction=False)
                for image in some:
                    pipeline.hsetnx(key, str(image), segment)
                pipeline.hmget(key, [str(image) for image in some])
                holders += pipeline.execute()[-1]
        return [holder.decode() if holder else "" for holder in holders]

    def take_over(self, space: str, segment: str, ids: Iterable[int]) -> None:
        """Claim images for a segment whoever held them: what held them was found never to have been written."""
        mapping = {str(image): segment for image in ids}
        if mapping:
            with guarded():
                self._redis.hset(f"members:{space}", mapping=mapping)

    def holders(self, space: str, ids: Sequence[int]) -> list[str | None]:
        """Return the segment that holds the claim of each image, None where nobody does."""
        found: list[bytes | None] = []
        with guarded():
            for some in _chunks(ids):
                found += self._redis.hmget(f"members:{space}", [str(image) for image in some])
        return [holder.decode() if holder else None for holder in found]

    def move(self, space: str, merged: str, ids: Sequence[int], origins: Sequence[str]) -> list[int]:
        """Hand claims over to the segment that others were merged into; ``origins[i]`` is what ``ids[i]`` comes from.

        Returns:
            The images that yet another segment holds by now.
        """
        others = []
        for some in _chunks(range(len(ids))):
            holders = self.holders(space, [ids[place] for place in some])
            mapping = {}
            for place, holder in zip(some, holders, strict=True):
                if holder == origins[place]:
                    mapping[str(ids[place])] = merged
                elif holder not in {None, merged}:
                    others.append(ids[place])
            if mapping:
                with guarded():
                    self._redis.hset(f"members:{space}", mapping=mapping)
        return others

    def release(self, space: str, segment: str, ids: Iterable[int]) -> None:
        """Give up a segment's claims on images; claims that others hold stay."""
        images = list(ids)
        mine = [image for image, holder in zip(images, self.holders(space, images), strict=True) if holder == segment]
        if mine:
            with guarded():
                self._redis.hdel(f"members:{space}", *(str(image) for image in mine))

    def size(self, space: str) -> int:
        """Return the number of claimed images."""
        with guarded():
            return int(self._redis.hlen(f"members:{space}"))

    # Settled segments

    def settle(self, space: str, segment: str) -> tuple[int, int]:
        """Note that a segment is written and indexed.

        Returns:
            How many were since the last compaction, and the number of claimed images.

        Raises:
            Closed: The collection is about to change to another space, and takes no segment in this one.
        """
        with guarded():
            if not self._redis.eval(_SETTLE, 1, f"settled:{space}", _CLOSED, segment):
                raise Closed(f"{space!r} is about to change to another model")
            pipeline = self._redis.pipeline(transaction=False)
            pipeline.hincrby(f"gathered:{space}", "segments", 1)
            pipeline.hlen(f"members:{space}")
            settled, size = pipeline.execute()
            return int(settled), int(size)

    def settled(self, space: str, segments: Sequence[str]) -> list[bool]:
        """Return for each segment whether it is written and indexed."""
        if not segments:
            return []
        with guarded():
            return [bool(flag) for flag in self._redis.smismember(f"settled:{space}", list(segments))]

    def all_settled(self, space: str) -> set[str]:
        """Return the segments that are written and indexed."""
        with guarded():
            return {name.decode() for name in self._redis.smembers(f"settled:{space}") - {_CLOSED}}

    def unsettle(self, space: str, segments: Sequence[str]) -> None:
        """Note that segments are about to be removed."""
        if segments:
            with guarded():
                self._redis.srem(f"settled:{space}", *segments)

    # Closing, while a collection changes to another space

    def close(self, space: str) -> None:
        """Let nothing settle any more: what has settled until now is all there is."""
        with guarded():
            self._redis.sadd(f"settled:{space}", _CLOSED)

    def open(self, space: str) -> None:
        """Let segments settle again."""
        with guarded():
            self._redis.srem(f"settled:{space}", _CLOSED)

    def is_closed(self, space: str) -> bool:
        """Return whether nothing settles any more."""
        with guarded():
            return bool(self._redis.sismember(f"settled:{space}", _CLOSED))

    # What is to be done to a space that is being filled

    def note_gone(self, space: str, ids: Iterable[int]) -> None:
        """Note that images are about to be deleted from the space in use, so that they do not stay in this one."""
        with guarded():
            self._redis.sadd(f"gone:{space}", *(str(image) for image in ids))

    def gone(self, space: str) -> list[int]:
        """Return the images that were noted."""
        with guarded():
            return [int(image) for image in self._redis.smembers(f"gone:{space}")]

    def forget_gone(self, space: str, ids: Sequence[int]) -> None:
        """Note that images were taken out."""
        with guarded():
            for some in _chunks(ids):
                self._redis.srem(f"gone:{space}", *(str(image) for image in some))

    def leave_out(self, space: str, reasons: Mapping[int, str]) -> None:
        """Note that images cannot be embedded, and why."""
        if reasons:
            with guarded():
                self._redis.hset(f"left-out:{space}", mapping={str(image): why for image, why in reasons.items()})

    def left_out(self, space: str) -> dict[int, str]:
        """Return the images that cannot be embedded, and why."""
        with guarded():
            return {int(image): why.decode() for image, why in self._redis.hgetall(f"left-out:{space}").items()}

    def clear_left_out(self, space: str) -> None:
        """Have all images tried again."""
        with guarded():
            self._redis.unlink(f"left-out:{space}")

    def members(self, space: str) -> Iterator[dict[int, str]]:
        """Yield the claims, some thousands of images at a time; what is claimed meanwhile may be left out."""
        cursor = 0
        while True:
            with guarded():
                cursor, found = self._redis.hscan(f"members:{space}", cursor, count=_CHUNK)
            yield {int(image): holder.decode() for image, holder in found.items()}
            if not cursor:
                return

    def switching(self, collection: str) -> str | None:
        """Return what was kept of a collection's change to another space; None if none is under way."""
        with guarded():
            kept = self._redis.get(f"switch:{collection}")
        return kept.decode() if kept else None

    def set_switching(self, collection: str, kept: str | None, *, seconds: float) -> None:
        """Keep something of a collection's change to another space for so many seconds, or forget it."""
        with guarded():
            if kept is None:
                self._redis.unlink(f"switch:{collection}")
            else:
                self._redis.set(f"switch:{collection}", kept, px=int(seconds * 1000))

    # What gathers until a compaction: settled segments, and deleted rows

    def count_deleted(self, space: str, rows: int) -> int:
        """Note that rows were deleted; returns how many were since the last compaction."""
        with guarded():
            return int(self._redis.hincrby(f"gathered:{space}", "deleted", rows))

    def forget_gathered(self, space: str) -> None:
        """Note that a compaction begins."""
        with guarded():
            self._redis.unlink(f"gathered:{space}")

    # Attempts at a task, and images that kill their worker

    def begin(self, task: str) -> tuple[int, str | None]:
        """Note that a task begins; returns how often it began without an end, and what it was at when it last died."""
        key = f"attempt:{task}"
        with guarded():
            pipeline = self._redis.pipeline(transaction=False)
            pipeline.hincrby(key, "begun", 1)
            pipeline.hget(key, "at")
            pipeline.hdel(key, "at")
            pipeline.expire(key, _ATTEMPTS_KEPT_S)
            begun, at, *_ = pipeline.execute()
        return int(begun), at.decode() if at else None

    def at(self, task: str, item: str) -> None:
        """Note what a task is at, so that its next attempt knows what killed it."""
        with guarded():
            self._redis.hset(f"attempt:{task}", "at", item)

    def strike(self, task: str, item: str) -> int:
        """Count that an item killed its task; returns how often it did."""
        with guarded():
            return int(self._redis.hincrby(f"attempt:{task}", f"strikes:{item}", 1))

    def pause(self, task: str) -> None:
        """Note that an attempt ended in good order and the task will be tried again."""
        with guarded():
            pipeline = self._redis.pipeline(transaction=False)
            pipeline.hdel(f"attempt:{task}", "at")
            pipeline.hset(f"attempt:{task}", "begun", 0)
            pipeline.execute()

    def end(self, task: str) -> None:
        """Note that a task is done."""
        with guarded():
            self._redis.unlink(f"attempt:{task}")

    def set_aside(self, version: str, digest: str) -> None:
        """Note that this version of the program must not touch the image with this digest again."""
        with guarded():
            self._redis.sadd(f"set-aside:{version}", digest)

    def is_set_aside(self, version: str, digests: Sequence[str]) -> list[bool]:
        """Return for each digest whether this version of the program set it aside."""
        if not digests:
            return []
        with guarded():
            return [bool(flag) for flag in self._redis.smismember(f"set-aside:{version}", list(digests))]

    # Requests that many make

    def once(self, request: str, *, seconds: float) -> bool:
        """Return whether nobody else made this request within so many seconds."""
        with guarded():
            return bool(self._redis.set(f"once:{request}", b"", nx=True, px=int(seconds * 1000)))

    # Locks

    def is_held(self, name: str) -> bool:
        """Return whether somebody holds a lock."""
        with guarded():
            return bool(self._redis.exists(f"lock:{name}"))

    @contextmanager
    def holding(self, name: str, *, seconds: float, wait_s: float = 0.0) -> Iterator[bool]:
        """Hold a lock over the block: whether it was got. It frees itself `seconds` after its holder died."""
        with guarded():
            lock = self._redis.lock(
                f"lock:{name}", timeout=seconds, blocking=wait_s > 0, blocking_timeout=wait_s, thread_local=False
            )
            held = lock.acquire()
        ended = threading.Event()
        if held:
            threading.Thread(target=_renew, args=(lock, seconds / 3, ended), name="lock", daemon=True).start()
        try:
            yield held
        finally:
            ended.set()
            if held:
                with guarded(), suppress(LockError):  # it ran out before the work was done
                    lock.release()


def _chunks(items: Sequence[Item]) -> Iterator[Sequence[Item]]:
    """Yield a sequence in pieces that one command can hold."""
    for start in range(0, len(items), _CHUNK):
        yield items[start : start + _CHUNK]


def _renew(lock: Lock, every_s: float, ended: threading.Event) -> None:
    """Keep a lock from running out until `ended`."""
    while not ended.wait(every_s):
        with suppress(IndexUnavailable, LockError), guarded():
            lock.reacquire()
