"""Which segments of a collection have been looked through for images without windows, and had none left.

It saves looking again: nothing relies on it, and what is lost of it is looked through once more.
"""

from shared.state.connection import Client, guarded


class RegionCoverage:
    """Notes segments of collections by the embedding set of their regions. Every call may run twice."""

    def __init__(self, client: Client) -> None:
        self._redis = client

    def add(self, regions: str, segment: str) -> None:
        """Note that all images of a segment have their windows in an embedding set, or cannot have any."""
        with guarded():
            self._redis.sadd(_key(regions), segment)

    def all(self, regions: str) -> set[str]:
        """Return the segments that were noted."""
        with guarded():
            return {segment.decode() for segment in self._redis.smembers(_key(regions))}

    def forget(self, regions: str) -> None:
        """Have all segments looked through again."""
        with guarded():
            self._redis.unlink(_key(regions))


def _key(regions: str) -> str:
    return f"regions:{regions}"
