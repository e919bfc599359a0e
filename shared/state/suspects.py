"""Suspect indexes: embedding sets of which Redis holds less than the object store, until they are rebuilt."""

from shared.state.connection import Client, guarded

_KEY = "suspect"


class Suspects:
    """Notes which indexes are suspect, and why. Every call may run twice."""

    def __init__(self, client: Client) -> None:
        self._redis = client

    def add(self, set_name: str, reason: str) -> None:
        """Note that the index of an embedding set lacks something; the maintenance worker rebuilds it."""
        with guarded():
            self._redis.hset(_KEY, set_name, reason)

    def remove(self, set_name: str) -> None:
        """Note that the index of an embedding set was rebuilt, or is gone."""
        with guarded():
            self._redis.hdel(_KEY, set_name)

    def contains(self, set_name: str) -> bool:
        """Return whether the index of an embedding set is suspect."""
        with guarded():
            return bool(self._redis.hexists(_KEY, set_name))

    def all(self) -> dict[str, str]:
        """Return the suspect indexes by their embedding sets, and why."""
        with guarded():
            found = self._redis.hgetall(_KEY)
        return {set_name.decode(): reason.decode() for set_name, reason in found.items()}
