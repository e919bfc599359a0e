"""When which server was disturbed: what it may be excused for."""

import threading
import time

_AFTERMATH_S = 20.0  # a server that was killed starts again; what waited for it tries again


class Absences:
    """The times at which servers were away, or could not know."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._away: dict[str, int] = {}
        self._ended: dict[str, float] = {}

    def begin(self, *servers: str) -> None:
        """Note that servers are disturbed from now on."""
        with self._lock:
            for server in servers:
                self._away[server] = self._away.get(server, 0) + 1

    def end(self, *servers: str) -> None:
        """Note that servers are left alone again."""
        with self._lock:
            for server in servers:
                self._away[server] -= 1
                self._ended[server] = time.monotonic()

    def since(self, server: str, moment: float) -> bool:
        """Return whether a server was disturbed after a moment, or shortly before."""
        with self._lock:
            ended = self._ended.get(server)
            return bool(self._away.get(server)) or (ended is not None and ended + _AFTERMATH_S > moment)

    def any_since(self, moment: float) -> bool:
        """Return whether any server was disturbed after a moment, or shortly before."""
        with self._lock:
            servers = set(self._away) | set(self._ended)
        return any(self.since(server, moment) for server in servers)
