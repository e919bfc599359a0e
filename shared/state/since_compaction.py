"""What has happened to an embedding set since its last compaction: segments indexed, and rows deleted."""

from shared.state.connection import Client, guarded


class SinceCompaction:
    """Counts; a count may be too large after a task that ran twice."""

    def __init__(self, client: Client) -> None:
        self._redis = client

    def add_segment(self, set_name: str) -> int:
        """Count an indexed segment; returns how many there were since the last compaction."""
        return self._add(set_name, "segments", 1)

    def add_deleted(self, set_name: str, rows: int) -> int:
        """Count deleted rows; returns how many there were since the last compaction."""
        return self._add(set_name, "deleted", rows)

    def reset(self, set_name: str) -> None:
        """Note that a compaction begins."""
        with guarded():
            self._redis.unlink(_key(set_name))

    def _add(self, set_name: str, field: str, count: int) -> int:
        with guarded():
            return int(self._redis.hincrby(_key(set_name), field, count))


def _key(set_name: str) -> str:
    return f"since-compaction:{set_name}"
