"""The messages of jobs that are on their way: each is kept until its batch is reported, since a broker may lose it.

`sent:<job>` holds for each batch the last message that was sent for it, how often in a row the sweeper has found it
nowhere, and how often it was sent again. A job has as many batches on their way as its intake lets wait.
"""

import json
from dataclasses import dataclass
from typing import Any

from shared.state.connection import Client, guarded

_KEPT_S = 7 * 24 * 3600
SUBMITTER_S = 120
"""How long a submitter counts as alive that gives no sign of life."""


@dataclass(frozen=True)
class SentMessage:
    """A message as it was sent: the name of its task, and the arguments."""

    task: str
    arguments: dict[str, Any]


class SentMessages:
    """Keeps messages."""

    def __init__(self, client: Client) -> None:
        self._redis = client

    def note(self, job: str, batch: int, message: SentMessage) -> None:
        """Keep a message that is about to be sent, instead of the batch's last one."""
        value = json.dumps([message.task, message.arguments], separators=(",", ":"))
        with guarded():
            pipeline = self._redis.pipeline(transaction=False)
            pipeline.hset(_key(job), str(batch), value)
            pipeline.expire(_key(job), _KEPT_S)
            pipeline.execute()

    def get(self, job: str, batch: int) -> SentMessage | None:
        """Return the message that was last sent for a batch; None if none was."""
        with guarded():
            found = self._redis.hget(_key(job), str(batch))
        if found is None:
            return None
        task, arguments = json.loads(found)
        return SentMessage(task, arguments)

    def batches(self, job: str) -> set[int]:
        """Return the batches whose messages are kept: those on their way, and for a moment one that has reported."""
        with guarded():
            return {int(field) for field in self._redis.hkeys(_key(job)) if field.isdigit()}

    def forget(self, job: str, batch: int, pipeline: Client) -> None:
        """Have a pipeline forget the message of a batch that is reported."""
        pipeline.hdel(_key(job), *_fields(batch))

    def renew(self, job: str, pipeline: Client) -> None:
        """Have a pipeline keep the messages of a job as long as if one was sent just now."""
        pipeline.expire(_key(job), _KEPT_S)

    def forget_all(self, job: str) -> None:
        """Forget all messages of a job."""
        with guarded():
            self._redis.unlink(_key(job))

    # What the sweeper notes

    def miss(self, job: str, batch: int) -> int:
        """Note that a message was found nowhere; returns how often it was since it was last seen or sent."""
        with guarded():
            pipeline = self._redis.pipeline(transaction=False)
            pipeline.hincrby(_key(job), _missed(batch), 1)
            pipeline.expire(_key(job), _KEPT_S)
            return int(pipeline.execute()[0])

    def see(self, job: str, batch: int) -> None:
        """Note that a message was found, or that a worker is at it."""
        with guarded():
            self._redis.hdel(_key(job), _missed(batch))

    def resend(self, job: str, batch: int) -> int:
        """Note that a message is sent again; returns how often it was, this time included."""
        with guarded():
            pipeline = self._redis.pipeline(transaction=False)
            pipeline.hdel(_key(job), _missed(batch))
            pipeline.hincrby(_key(job), _resent(batch), 1)
            return int(pipeline.execute()[1])

    # Submitters

    def renew_submitter(self, job: str) -> None:
        """Note that whoever hands in the images of a job is alive."""
        with guarded():
            self._redis.set(_submitter(job), b"", ex=SUBMITTER_S)

    def end_submitter(self, job: str) -> None:
        """Note that nobody hands in any more images of a job."""
        with guarded():
            self._redis.unlink(_submitter(job))

    def has_submitter(self, job: str) -> bool:
        """Return whether somebody may hand in more images of a job."""
        with guarded():
            return bool(self._redis.exists(_submitter(job)))


def _key(job: str) -> str:
    return f"sent:{job}"


def _missed(batch: int) -> str:
    return f"missed:{batch}"


def _resent(batch: int) -> str:
    return f"resent:{batch}"


def _fields(batch: int) -> tuple[str, str, str]:
    return str(batch), _missed(batch), _resent(batch)


def _submitter(job: str) -> str:
    return f"submitter:{job}"
