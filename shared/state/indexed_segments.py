"""Indexed segments: those that are written and whose images are in the buckets.

While a collection changes to another model or name, the embedding set that it leaves is closed for a moment: no
segment is indexed in it any more.
"""

from collections.abc import Sequence

from shared.errors import Closed
from shared.state.connection import Client, guarded
from shared.state.pieces import pieces

_RETIRED_S = 24 * 3600
CLOSED = b"closed"  # a member of the set beside the segments, so that one command sees both; it names no segment
_ADD = (
    "if redis.call('SISMEMBER', KEYS[1], ARGV[1]) == 1 then return 0 end redis.call('SADD', KEYS[1], ARGV[2]) return 1"
)


class IndexedSegments:
    """Notes which segments are indexed. Every call may run twice."""

    def __init__(self, client: Client) -> None:
        self._redis = client

    def add(self, set_name: str, segment: str) -> None:
        """Note that a segment is written and indexed.

        Raises:
            Closed: The collection is about to change to another embedding set, and takes no segment in this one.
        """
        with guarded():
            if not self._redis.eval(_ADD, 1, indexed_key(set_name), CLOSED, segment):
                raise closed(set_name)

    def contains(self, set_name: str, segment: str) -> bool:
        """Return whether a segment is indexed."""
        return self.contain(set_name, [segment])[0]

    def contain(self, set_name: str, segments: Sequence[str]) -> list[bool]:
        """Return for each segment whether it is indexed."""
        if not segments:
            return []
        with guarded():
            return [bool(flag) for flag in self._redis.smismember(indexed_key(set_name), list(segments))]

    def all(self, set_name: str) -> set[str]:
        """Return all indexed segments."""
        with guarded():
            return {name.decode() for name in self._redis.smembers(indexed_key(set_name)) - {CLOSED}}

    def among(self, set_name: str, segments: Sequence[str]) -> set[str]:
        """Return those of some segments that are indexed."""
        return {segment for segment, flag in zip(segments, self.contain(set_name, segments), strict=True) if flag}

    def remove(self, set_name: str, segments: Sequence[str]) -> None:
        """Note that segments are about to be removed from the object store."""
        if segments:
            with guarded():
                self._redis.srem(indexed_key(set_name), *segments)

    def close(self, set_name: str) -> None:
        """Refuse every further segment: what is indexed by now is all there is."""
        with guarded():
            self._redis.sadd(indexed_key(set_name), CLOSED)

    def open(self, set_name: str) -> None:
        """Take segments again."""
        with guarded():
            self._redis.srem(indexed_key(set_name), CLOSED)

    def is_closed(self, set_name: str) -> bool:
        """Return whether further segments are refused."""
        with guarded():
            return bool(self._redis.sismember(indexed_key(set_name), CLOSED))

    def retire(self, set_name: str) -> None:
        """Delete what is noted of an embedding set that its collection has left, and refuse segments for a day more.

        A worker that knows nothing of it yet could note one.
        """
        with guarded():
            self._redis.sadd(indexed_key(set_name), CLOSED)
            self._redis.expire(indexed_key(set_name), _RETIRED_S)
        for piece in pieces(sorted(self.all(set_name))):
            self.remove(set_name, piece)

    def forget(self, set_name: str) -> None:
        """Delete what is noted of an embedding set."""
        with guarded():
            self._redis.unlink(indexed_key(set_name))


def indexed_key(set_name: str) -> str:
    """Return the key of the segments that are indexed in an embedding set."""
    return f"indexed:{set_name}"


def closed(set_name: str) -> Closed:
    """Return the error of an embedding set that takes no more segments."""
    return Closed(f"{set_name!r} is about to change to another model or name")
