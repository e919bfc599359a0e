"""Pins on originals that are on their way into a collection, and marks on originals that are being deleted.

An upload pins an original, waits while it is marked, and stores it. A deletion marks an original, looks at its pins,
and deletes it. Whichever comes second sees the other.
"""

from collections.abc import Sequence

from shared.state import cluster
from shared.state.connection import Client, guarded

PINNED_S = 8 * 24 * 3600
"""How long a pin lasts whose upload nobody finishes: longer than the record of its job."""

_IF_MINE = "if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end "
_RENEW = _IF_MINE + "redis.call('PEXPIRE', KEYS[1], ARGV[2]) return 1"
_UNMARK = _IF_MINE + "return redis.call('DEL', KEYS[1])"


class Pins:
    """Pins and marks originals, by their digests. Every call may run twice."""

    def __init__(self, client: Client) -> None:
        self._redis = client

    # Pins of uploads

    def pin(self, digest: str, job: str) -> None:
        """Note that an upload, by its job, is about to store an original and to have it added."""
        self.pin_all([digest], job)

    def pin_all(self, digests: Sequence[str], job: str) -> set[str]:
        """Note that an upload is about to store originals; returns those that are being deleted, to be waited for."""
        with guarded():
            pipeline = self._redis.pipeline(transaction=False)
            for digest in digests:
                pipeline.sadd(_pin_key(digest), job)
                pipeline.expire(_pin_key(digest), PINNED_S)
            if isinstance(self._redis, cluster.Lazy):  # whose nodes answer in no order
                pipeline.execute()
                return self.marked(digests)
            for digest in digests:
                pipeline.exists(_mark_key(digest))
            marks = pipeline.execute()[2 * len(digests) :]
        return _where(digests, marks)

    def unpin(self, digests: Sequence[str], job: str) -> None:
        """Note that an upload is done with some originals: a claim holds them, or nothing does."""
        with guarded():
            pipeline = self._redis.pipeline(transaction=False)
            for digest in digests:
                pipeline.srem(_pin_key(digest), job)
            pipeline.execute()

    def pinned(self, digests: Sequence[str], *, but_by: str | None = None) -> set[str]:
        """Return which originals an upload has pinned, other than that of the job `but_by`."""
        with guarded():
            pipeline = self._redis.pipeline(transaction=False)
            for digest in digests:
                pipeline.smembers(_pin_key(digest))
            found = pipeline.execute()
        own = set() if but_by is None else {but_by.encode()}
        return {digest for digest, jobs in zip(digests, found, strict=True) if set(jobs) - own}

    # Marks of deletions

    def mark(self, digests: Sequence[str], token: str, *, seconds: float) -> list[str]:
        """Mark originals as being deleted by whoever has the token; returns those that another one has marked."""
        with guarded():
            pipeline = self._redis.pipeline(transaction=False)
            for digest in digests:
                pipeline.set(_mark_key(digest), token, nx=True, px=int(seconds * 1000))
                pipeline.get(_mark_key(digest))
            marks = pipeline.execute()[1::2]
        return [digest for digest, mark in zip(digests, marks, strict=True) if mark != token.encode()]

    def renew(self, digests: Sequence[str], token: str, *, seconds: float) -> bool:
        """Have marks last so much longer from now on; returns whether none of them had run out."""
        with guarded():
            return all(
                bool(self._redis.eval(_RENEW, 1, _mark_key(digest), token, int(seconds * 1000))) for digest in digests
            )

    def unmark(self, digests: Sequence[str], token: str) -> None:
        """Take marks away; those of others stay."""
        with guarded():
            for digest in digests:
                self._redis.eval(_UNMARK, 1, _mark_key(digest), token)

    def is_marked(self, digest: str) -> bool:
        """Return whether an original is being deleted."""
        return bool(self.marked([digest]))

    def marked(self, digests: Sequence[str]) -> set[str]:
        """Return which originals are being deleted."""
        with guarded():
            pipeline = self._redis.pipeline(transaction=False)
            for digest in digests:
                pipeline.exists(_mark_key(digest))
            return _where(digests, pipeline.execute())


def _where(digests: Sequence[str], flags: Sequence[int]) -> set[str]:
    return {digest for digest, flag in zip(digests, flags, strict=True) if flag}


def _pin_key(digest: str) -> str:
    return f"pin:{digest}"


def _mark_key(digest: str) -> str:
    return f"deleting:{digest}"
