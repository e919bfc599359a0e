"""Notes on access: which change of accounts, keys and collections is the latest, and when keys were last used."""

import secrets
import time
from collections.abc import Sequence

from shared.state.connection import Client, guarded

_VERSION = "access:version"
_USES = "access:key-uses"


class AccessMarks:
    """Reads and writes the notes; what the object store holds counts, these only say when to look again."""

    def __init__(self, client: Client) -> None:
        self._redis = client

    def version(self) -> str:
        """Return what names the latest change; empty if Redis was emptied since."""
        with guarded():
            value = self._redis.get(_VERSION)
        return "" if value is None else value.decode()

    def touch(self) -> None:
        """Note that something has changed. A random name, since a count would begin again in an emptied Redis."""
        with guarded():
            self._redis.set(_VERSION, secrets.token_hex(8))

    def note_use(self, key: str) -> None:
        """Note that an API key is used now."""
        with guarded():
            self._redis.hset(_USES, key, f"{time.time():.0f}")

    def uses(self) -> dict[str, float]:
        """Return when each key was last used, in seconds since 1970."""
        with guarded():
            return {key.decode(): float(at) for key, at in self._redis.hgetall(_USES).items()}

    def forget_keys(self, keys: Sequence[str]) -> None:
        """Forget when keys that are no more were used."""
        if keys:
            with guarded():
                self._redis.hdel(_USES, *keys)
