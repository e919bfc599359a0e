"""What was found out of files by reading them, kept on this machine; it may be lost at any time: files are read again.

A file with the size, modification time and inode that it had has the content that it had.
"""

import os
import sqlite3
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_VERSION: Final = 1
_COARSE_NS: Final = 2_000_000_000
_FINE_NS: Final = 100_000_000
_TABLE: Final = """
CREATE TABLE files (
    path BLOB PRIMARY KEY, size INTEGER, modified INTEGER, inode INTEGER,
    digest TEXT, code TEXT, reason TEXT, judge TEXT
) WITHOUT ROWID;
"""


@dataclass(frozen=True)
class Fingerprint:
    """What changes with a file's content: its size in bytes, when it was modified in nanoseconds, its inode."""

    size: int
    modified: int
    inode: int

    def is_safe(self, now: int) -> bool:
        """Return whether a file that is written after `now`, in nanoseconds, has another modification time.

        It may be counted in steps of two seconds.
        """
        return now - self.modified > (_COARSE_NS if self.modified % 1_000_000_000 == 0 else _FINE_NS)

    @classmethod
    def of(cls, found: os.stat_result) -> "Fingerprint":
        """Return the fingerprint of a file."""
        return cls(found.st_size, found.st_mtime_ns, found.st_ino)


@dataclass(frozen=True)
class Finding:
    """What was found out of a file: the SHA-256 of its content, or why it is not taken, and who refused it."""

    digest: str
    code: str = ""
    reason: str = ""
    judge: str = ""


def default_path() -> Path:
    """Return where the cache of this user lies."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "artseek" / "files.sqlite"


class DigestCache:
    """Findings by file, in SQLite; where it cannot be written, in memory."""

    def __init__(self, path: Path) -> None:
        """Open the file, or make it; one of another version, or that is damaged, is made anew."""
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._connection = _opened(path)
        except (OSError, sqlite3.Error):
            self._connection = _made(sqlite3.connect(":memory:"))

    def close(self) -> None:
        """Close the file."""
        self._connection.close()

    def find(self, path: Path, fingerprint: Fingerprint) -> Finding | None:
        """Return what was found out of a file; None: it was not read, or is another by now."""
        row = self._connection.execute(
            "SELECT digest, code, reason, judge FROM files WHERE path = ? AND size = ? AND modified = ? AND inode = ?",
            (os.fsencode(path), fingerprint.size, fingerprint.modified, fingerprint.inode),
        ).fetchone()
        return None if row is None else Finding(*row)

    def put(self, findings: Iterable[tuple[Path, Fingerprint, Finding]]) -> None:
        """Keep what was found out of files."""
        rows = [
            (
                *(os.fsencode(path), fingerprint.size, fingerprint.modified, fingerprint.inode),
                *(finding.digest, finding.code, finding.reason, finding.judge),
            )
            for path, fingerprint, finding in findings
        ]
        with suppress(sqlite3.Error), self._connection:  # such as no space: the files are read again
            self._connection.executemany("INSERT OR REPLACE INTO files VALUES (?, ?, ?, ?, ?, ?, ?, ?)", rows)

    def refuse(self, refused: Sequence[tuple[Path, str, str]], judge: str) -> None:
        """Keep why files are not taken: their codes and reasons."""
        rows = [(code, reason, judge, os.fsencode(path)) for path, code, reason in refused]
        with suppress(sqlite3.Error), self._connection:
            self._connection.executemany("UPDATE files SET code = ?, reason = ?, judge = ? WHERE path = ?", rows)


def _opened(path: Path) -> sqlite3.Connection:
    with suppress(sqlite3.DatabaseError):
        connection = sqlite3.connect(path, timeout=30.0)
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        if version == _VERSION and connection.execute("PRAGMA quick_check(1)").fetchone() == ("ok",):
            return connection
        connection.close()
    for suffix in ("", "-wal", "-shm", "-journal"):
        with suppress(FileNotFoundError):
            path.with_name(path.name + suffix).unlink()
    return _made(sqlite3.connect(path, timeout=30.0))


def _made(connection: sqlite3.Connection) -> sqlite3.Connection:
    connection.executescript(f"BEGIN; {_TABLE} PRAGMA user_version = {_VERSION}; COMMIT;")
    return connection
