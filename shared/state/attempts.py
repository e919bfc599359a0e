"""Attempts at a task, what an attempt was at when its worker died, and the images that are set aside for it."""

from collections.abc import Sequence

from shared.state.connection import Client, guarded

_KEPT_S = 24 * 3600


class Attempts:
    """Counts the attempts at tasks, and the strikes against items that stopped their worker."""

    def __init__(self, client: Client) -> None:
        self._redis = client

    def begin(self, task: str) -> tuple[int, str | None]:
        """Note that a task begins.

        Returns:
            How often it began without an end, and the item at which the last attempt died.
        """
        key = _key(task)
        with guarded():
            pipeline = self._redis.pipeline(transaction=False)
            pipeline.hincrby(key, "begun", 1)
            pipeline.hget(key, "at")
            pipeline.hdel(key, "at")
            pipeline.expire(key, _KEPT_S)
            begun, item, *_ = pipeline.execute()
        return int(begun), item.decode() if item else None

    def note_item(self, task: str, item: str) -> None:
        """Note the item that a task works on, so that the next attempt knows what stopped this one."""
        with guarded():
            self._redis.hset(_key(task), "at", item)

    def strike(self, task: str, item: str) -> int:
        """Count that an item stopped its task; returns how often it did."""
        with guarded():
            return int(self._redis.hincrby(_key(task), f"strikes:{item}", 1))

    def pause(self, task: str) -> None:
        """Note that an attempt ended in good order and the task will be tried again."""
        with guarded():
            pipeline = self._redis.pipeline(transaction=False)
            pipeline.hdel(_key(task), "at")
            pipeline.hset(_key(task), "begun", 0)
            pipeline.execute()

    def end(self, task: str) -> None:
        """Note that a task is done."""
        with guarded():
            self._redis.unlink(_key(task))

    def set_aside(self, version: str, digest: str) -> None:
        """Note that this version of the program must not touch the image with this digest again."""
        with guarded():
            self._redis.sadd(f"set-aside:{version}", digest)

    def are_set_aside(self, version: str, digests: Sequence[str]) -> list[bool]:
        """Return for each digest whether this version of the program set the image aside."""
        if not digests:
            return []
        with guarded():
            return [bool(flag) for flag in self._redis.smismember(f"set-aside:{version}", list(digests))]


def _key(task: str) -> str:
    return f"attempt:{task}"
