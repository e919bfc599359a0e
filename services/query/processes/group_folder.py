"""The folder of a group of processes: its supervisor holds a lock in it, and removes those of supervisors that died."""

import fcntl
import logging
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Final

_log = logging.getLogger(__name__)

_PREFIX: Final = "artseek-query-"
_LOCK: Final = "supervisor.lock"  # whoever has made the folder holds it for as long as it runs, however that ends


@contextmanager
def group_folder() -> Iterator[Path]:
    """Make a folder for the owner alone, which goes after the block; before, remove those of supervisors that died."""
    remove_abandoned(Path(tempfile.gettempdir()))
    folder = Path(tempfile.mkdtemp(prefix=_PREFIX))
    with _held(folder):  # until it is gone, so that no other supervisor removes it at the same time
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def remove_abandoned(parent: Path) -> None:
    """Remove the folders below `parent` whose supervisors have died; folders of other users stay."""
    for folder in parent.glob(f"{_PREFIX}*"):
        try:
            status = folder.lstat()
            if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.getuid():
                continue
            with (folder / _LOCK).open("rb") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(folder, ignore_errors=True)
        except OSError as error:  # it is held; or it is just being made, or removed
            _log.debug("%s stays: %s", folder, error)
        else:
            _log.info("removed %s, which a supervisor that was killed had left", folder)


def _held(folder: Path) -> IO[bytes]:
    """Return the lock of a folder, held until it is closed. It has its name only once it is held."""
    unnamed = folder / f"{_LOCK}.part"
    lock = unnamed.open("wb")
    fcntl.flock(lock, fcntl.LOCK_EX)
    unnamed.rename(folder / _LOCK)
    return lock
