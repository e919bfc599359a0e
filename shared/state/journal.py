"""What still remembers purged images: the append-only file of Redis or Valkey, and the files of the object store."""

import secrets
from contextlib import suppress

from redis.exceptions import NoPermissionError, ResponseError

from shared.state.connection import Client, guarded, servers

_UNVACUUMED = "purged"
_FORGET = "if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end return 0"


class Journal:
    """Has the servers rewrite their append-only files, and notes that the object store is to be vacuumed."""

    def __init__(self, client: Client) -> None:
        self._redis = client

    def rewrite(self) -> None:
        """Begin to rewrite the append-only files, in the background.

        A server that is rewriting it just now, has none, or does not permit it, is passed over.
        """
        for server in servers(self._redis):
            with guarded(), suppress(ResponseError, NoPermissionError):
                server.bgrewriteaof()

    def note_purge(self) -> None:
        """Note that something was purged, for whoever can have the object store vacuumed."""
        with guarded():
            self._redis.set(_UNVACUUMED, secrets.token_hex(8))

    def unvacuumed(self) -> str | None:
        """Return a token for the last purge after which nobody had the object store vacuumed; None if there is none."""
        with guarded():
            found = self._redis.get(_UNVACUUMED)
        return found.decode() if found else None

    def note_vacuum(self, purge: str) -> None:
        """Note that the object store was vacuumed after a purge, unless there was another one meanwhile."""
        with guarded():
            self._redis.eval(_FORGET, 1, _UNVACUUMED, purge)
