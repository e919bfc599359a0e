"""What has happened to an embedding set since its last compaction: segments indexed, and rows deleted."""

from shared.state.connection import Client, guarded

SEGMENTS = "segments"
"""The field that counts indexed segments."""


class SinceCompaction:
    """Counts; a count may be too large after a task that ran twice."""

    def __init__(self, client: Client) -> None:
        self._redis = client

    def add_segment(self, set_name: str) -> int:
        """Count an indexed segment; returns how many there were since the last compaction."""
        return self._add(set_name, SEGMENTS, 1)

    def add_deleted(self, set_name: str, rows: int) -> int:
        """Count deleted rows; returns how many there were since the last compaction."""
        return self._add(set_name, "deleted", rows)

    def reset(self, set_name: str) -> None:
        """Note that a compaction begins."""
        with guarded():
            self._redis.unlink(since_key(set_name))

    def _add(self, set_name: str, field: str, count: int) -> int:
        with guarded():
            return int(self._redis.hincrby(since_key(set_name), field, count))


def since_key(set_name: str) -> str:
    """Return the key of what has happened to an embedding set."""
    return f"since-compaction:{set_name}"
