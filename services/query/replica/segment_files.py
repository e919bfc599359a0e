"""The files of segments below the folder of a replica, which all processes of a query service share.

A segment is fetched by one process, into a part file that it holds locked, and mapped by all: its pages are in memory
once. A process that dies gives its lock up, and who waited for it fetches the segment itself.
"""

import fcntl
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

PART = ".part"
KEPT = (".arrow", ".lengths", PART)
"""How the names of our files end."""


@contextmanager
def locked_part(path: Path) -> Iterator[Path]:
    """Hold the right to write the file of a segment; yields the part file that is to be written and then renamed.

    Who else wants to write the file waits. What is not renamed is deleted.
    """
    part = path.with_suffix(PART)
    file = _lock(part)
    try:
        yield part
    finally:
        with suppress(OSError):
            if _is_at(file, part):
                part.unlink()
        os.close(file)


def unused_part(path: Path) -> Path:
    """Return where a thread writes a file, which others may write too, before it is renamed to `path`."""
    return path.with_name(f"{path.name}.{os.getpid()}-{threading.get_ident()}{PART}")


def remove_part(part: Path) -> None:
    """Delete a part file, unless a process is writing it."""
    with suppress(OSError):
        file = os.open(part, os.O_RDWR)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if _is_at(file, part):
                part.unlink()
        finally:
            os.close(file)


def _lock(part: Path) -> int:
    """Return the descriptor of the part file at this path, locked, and made if there is none."""
    while True:
        part.parent.mkdir(parents=True, exist_ok=True)  # another process may have found the collection dropped
        try:
            file = os.open(part, os.O_RDWR | os.O_CREAT, 0o666)
        except FileNotFoundError:
            continue
        try:
            fcntl.flock(file, fcntl.LOCK_EX)
            if _is_at(file, part):
                return file
        except BaseException:
            os.close(file)
            raise
        os.close(file)  # who held it has renamed or deleted it


def _is_at(file: int, path: Path) -> bool:
    """Return whether an open file is the one that a path names."""
    try:
        return os.path.samestat(os.fstat(file), path.stat())
    except FileNotFoundError:
        return False
