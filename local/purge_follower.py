"""Has the object store give back the space of purged images: what it deletes stays in its files until it is vacuumed.

SeaweedFS vacuums a volume of which a third is garbage. After a purge, all volumes are vacuumed, and its log of changes,
which nothing here follows, is removed.
"""

import logging
import threading

from local.object_store import StoreVacuum
from shared.errors import Unavailable
from shared.state import State
from shared.waits import WaitLog

_log = logging.getLogger("artseek")

_TICK_S = 15.0
_PAUSES_S = (0.0, 60.0, 240.0, 60.0)
"""Pauses before the volumes are vacuumed after a purge. The store deletes the parts of files a little after the files,
and writes its log of changes every minute; so the last time is for what the one before it has deleted."""


class PurgeFollower:
    """Looks whether something was purged, and has the store vacuumed."""

    def __init__(self, state: State, vacuum: StoreVacuum, *, pauses_s: tuple[float, ...] = _PAUSES_S) -> None:
        self._state, self._vacuum, self._pauses_s = state, vacuum, pauses_s
        self._stopped = threading.Event()
        self._wait_log = WaitLog(_log, "vacuuming the object store")

    def start(self) -> None:
        """Begin, on a thread that ends with the process."""
        threading.Thread(target=self._run, name="purges", daemon=True).start()

    def stop(self) -> None:
        """Look no more."""
        self._stopped.set()

    def _run(self) -> None:
        while not self._stopped.wait(_TICK_S):
            try:
                self.follow()
                self._wait_log.goes_on()
            except (Unavailable, OSError) as error:
                self._wait_log.waits(error)
            except Exception as error:  # whatever it is, what is purged next is to be vacuumed too
                self._wait_log.waits(error, trace=True)

    def follow(self) -> bool:
        """Vacuum if something was purged since the last time; returns whether it was.

        Raises:
            Unavailable: Redis does not answer.
            OSError: The store does not answer, or its file of names cannot be rewritten.
        """
        purged = self._state.journal.unvacuumed()
        if purged is None:
            return False
        for pause in self._pauses_s:
            if self._stopped.wait(pause):
                return False
            self._vacuum.run()
        self._state.journal.note_vacuum(purged)
        return True
