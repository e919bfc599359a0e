"""Scratch generations: indexes in Redis that searches never see, removed with the evaluation that made them."""

import hashlib
from contextlib import suppress
from dataclasses import dataclass

from shared.errors import Locked
from shared.index.generations import Generation
from shared.state import Client, State, guarded
from shared.state.locks import LEASE_S, evaluation_lock

_KEY = "scratch"  # the evaluations that have buckets, or may have


@dataclass(frozen=True)
class ScratchGeneration(Generation):
    """A generation of an evaluation, whose buckets lie apart from those of collections."""

    evaluation: str

    @property
    def prefix(self) -> bytes:
        """What the names of all buckets of this generation start with."""
        return scratch_prefix(self.evaluation) + self.number.to_bytes(2, "big")


def scratch_prefix(evaluation: str) -> bytes:
    """Return what the names of all buckets of an evaluation start with; those of collections start with ``b:``."""
    return b"e:" + hashlib.sha256(evaluation.encode()).digest()[:8]


class Scratch:
    """Remembers which evaluations have buckets, so that those of a worker that died can be removed."""

    def __init__(self, client: Client, state: State) -> None:
        self._redis, self._state = client, state

    def begin(self, evaluation: str) -> None:
        """Note that an evaluation is about to have buckets."""
        with guarded():
            self._redis.sadd(_KEY, evaluation)

    def end(self, evaluation: str) -> None:
        """Remove the buckets of an evaluation, if it has any."""
        with guarded():
            has_buckets = self._redis.sismember(_KEY, evaluation)
        if has_buckets:
            self._state.buckets.drop(scratch_prefix(evaluation))
            with guarded():
                self._redis.srem(_KEY, evaluation)

    def sweep(self) -> None:
        """Remove the buckets of evaluations that no worker is at."""
        with guarded():
            names = [name.decode() for name in self._redis.smembers(_KEY)]
        for name in names:
            # The worker that holds the lock may have died a moment ago.
            with suppress(Locked), self._state.locks.hold(evaluation_lock(name), wait_s=LEASE_S + 1):
                self.end(name)
