"""Who works in a repository: many may write and read backups at a time, or one removes what is no longer needed.

A lease is a file that its holder writes again while it works. Its age is told by the target's clock alone, so that the
clocks of machines need not agree. Whoever takes a lease writes it first and looks for others then: of two that meet, at
least one sees the other, and steps back.
"""

import io
import json
import os
import secrets
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Literal

from shared.backup.target import Target, TargetFile
from shared.errors import ArtseekError, Locked

FOLDER = "leases"
LEASE_S = 900.0
"""Age from which the lease of a process that died counts for nothing."""
_RENEWED_S = LEASE_S / 2  # age from which a holder no longer goes by its own lease

Work = Literal["use", "cleaning"]


class LeaseLost(ArtseekError):
    """The holder was held up for so long that others may have taken it for dead."""


class Lease:
    """The right to work in a repository."""

    def __init__(self, target: Target, name: str) -> None:
        self._target, self.name = target, name
        self._renewed = _clock()

    def renew(self) -> None:
        """Write the lease again."""
        self.ensure()
        started = _clock()
        text = json.dumps({"host": socket.gethostname(), "process": os.getpid()}).encode()
        self._target.write(self.name, io.BytesIO(text), len(text))
        self._renewed = started

    def ensure(self) -> None:
        """Make sure that nobody can have taken the holder for dead.

        Raises:
            LeaseLost: Somebody may have.
        """
        if _clock() - self._renewed > _RENEWED_S:
            raise LeaseLost("this process was held up for too long, and others may work in the backup: run it again")


@contextmanager
def hold_lease(target: Target, work: Work) -> Iterator[Lease]:
    """Hold a lease over the block. Any number may use a repository at a time; who cleans it must be alone.

    Raises:
        Locked: The others' work and this do not go together.
    """
    lease = Lease(target, f"{FOLDER}/{work}-{secrets.token_hex(8)}")
    lease.renew()
    try:
        _look_around(target, lease, work)
        ended = threading.Event()
        threading.Thread(target=_renew, args=(lease, ended), name="lease", daemon=True).start()
        try:
            yield lease
        finally:
            ended.set()
    finally:
        target.delete([lease.name])


def _look_around(target: Target, lease: Lease, work: Work) -> None:
    found = {file.name: file for file in target.list(FOLDER)}
    now = found[lease.name].modified if lease.name in found else time.time()
    dead: list[TargetFile] = []
    for file in found.values():
        if file.name == lease.name:
            continue
        if now - file.modified > LEASE_S:
            dead.append(file)
        elif work == "cleaning" or file.name.startswith(f"{FOLDER}/cleaning-"):
            what = "removes old backups from" if file.name.startswith(f"{FOLDER}/cleaning-") else "works in"
            raise Locked(
                f"another process {what} {target}, {now - file.modified:.0f} s ago at last; one that died is waited "
                f"for for {LEASE_S:.0f} s"
            )
    target.delete([file.name for file in dead])


def _renew(lease: Lease, ended: threading.Event) -> None:
    """Keep a lease alive until `ended`; one that cannot be written again runs out."""
    while not ended.wait(LEASE_S / 10):
        with suppress(ArtseekError, OSError):
            lease.renew()


def _clock() -> float:
    """Return seconds of a clock that goes on while the process, or the machine, is stopped."""
    return time.clock_gettime(time.CLOCK_BOOTTIME) if hasattr(time, "CLOCK_BOOTTIME") else time.monotonic()
