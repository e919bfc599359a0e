"""Log files of the servers, rotated by size while they are written to.

A server keeps its log open, so the file is copied and then emptied. It was opened for appending: what is written next
stands at its beginning. A line that is written between the copy's last look and the emptying is lost.
"""

import os
from contextlib import suppress
from pathlib import Path
from typing import Final

LOG_BYTES: Final = 5 * 2**20
OLDER_LOGS: Final = 3
"""A server's log and its older parts, NAME.log.1 the newest, are at most (1 + OLDER_LOGS) * LOG_BYTES, and what the
server writes between two looks."""

_BLOCK = 2**20


def rotate(log: Path, *, limit: int = LOG_BYTES) -> bool:
    """Move a log's lines into NAME.log.1 if it is larger than `limit` bytes; returns whether it was.

    Of a log that is much larger only the last `limit` bytes are kept; without room for the copy, nothing.
    """
    try:
        if log.stat().st_size <= limit:
            return False
    except FileNotFoundError:
        return False
    copy = log.with_name(f"{log.name}.part")
    copied = _copy_end(log, copy, limit)
    os.truncate(log, 0)
    if copied:
        for number in range(OLDER_LOGS, 1, -1):
            with suppress(FileNotFoundError):
                _older(log, number - 1).replace(_older(log, number))
        copy.replace(_older(log, 1))
    return True


def last_line(log: Path) -> str:
    """Return the last line of a log that says something, its first 500 characters; empty if there is none."""
    with log.open("rb") as source:
        source.seek(max(0, log.stat().st_size - _BLOCK))
        lines = source.read().decode(errors="replace").split("\n")
    return next((line.strip()[:500] for line in reversed(lines) if line.strip()), "")


def _copy_end(log: Path, copy: Path, limit: int) -> bool:
    """Copy the last `limit` bytes of a log; returns whether there was room."""
    try:
        with (
            log.open("rb") as source,
            os.fdopen(os.open(copy, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as target,
        ):
            source.seek(-limit, os.SEEK_END)
            source.readline()  # the rest of a line that is cut
            while block := source.read(_BLOCK):
                target.write(block)
    except OSError:  # the disk is full: an emptied log leaves room for what is more urgent
        copy.unlink(missing_ok=True)
        return False
    return True


def _older(log: Path, number: int) -> Path:
    return log.with_name(f"{log.name}.{number}")
