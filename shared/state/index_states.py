"""The state of an embedding set's index: the generation in use, and the one that is being filled."""

from dataclasses import dataclass

from shared.state.connection import Client, guarded

_FIELDS = ("active", "building", "trained_on")
_CREATE = """
for _, name in ipairs(ARGV) do redis.call('HSETNX', KEYS[1], name, 0) end
return redis.call('HMGET', KEYS[1], unpack(ARGV))
"""


@dataclass(frozen=True)
class IndexState:
    """The generation in use and the one that is being filled, 0 for none.

    `trained_on` is how many images the collection had when the generation in use was fitted.
    """

    active: int = 0
    building: int = 0
    trained_on: int = 0

    @property
    def generations(self) -> tuple[int, ...]:
        """The generations that a new image must be added to."""
        return tuple(number for number in (self.active, self.building) if number)


class IndexStates:
    """Reads and writes index states."""

    def __init__(self, client: Client) -> None:
        self._redis = client

    def get(self, set_name: str) -> IndexState | None:
        """Return the index state; None if Redis knows nothing of the embedding set: it is new, or was lost."""
        with guarded():
            fields = self._redis.hgetall(_key(set_name))
        if not fields:
            return None
        return IndexState(*(int(fields.get(name.encode(), 0)) for name in _FIELDS))

    def set(self, set_name: str, state: IndexState) -> None:
        """Write the index state, which also marks the embedding set as known."""
        with guarded():
            self._redis.hset(_key(set_name), mapping=vars(state))

    def create(self, set_name: str) -> IndexState:
        """Mark an embedding set as known, unless another process has meanwhile; returns the index state by then."""
        with guarded():
            values = self._redis.eval(_CREATE, 1, _key(set_name), *_FIELDS)
        return IndexState(*map(int, values))

    def forget(self, set_name: str) -> None:
        """Delete the index state."""
        with guarded():
            self._redis.unlink(_key(set_name))


def _key(set_name: str) -> str:
    return f"index:{set_name}"
