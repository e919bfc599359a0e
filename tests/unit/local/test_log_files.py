"""Logs of the local system's servers: bounded while they are written to, and no line twice."""

import os
from pathlib import Path

import pytest

from local.log_files import OLDER_LOGS, last_line, rotate

LIMIT = 10_000


def write_lines(log: Path, numbers: range) -> None:
    """Write as a server does that has the file open all the time."""
    with log.open("ab", buffering=0) as out:
        for number in numbers:
            out.write(b"line %06d\n" % number)
            rotate(log, limit=LIMIT)


def test_a_log_that_is_open_all_the_time_stays_small_and_its_last_lines_are_kept(tmp_path: Path) -> None:
    log = tmp_path / "server.log"
    write_lines(log, range(10_000))
    files = [log, *(tmp_path / f"server.log.{number}" for number in range(1, OLDER_LOGS + 1))]
    assert sorted(tmp_path.iterdir()) == sorted(files)
    assert all(path.stat().st_size <= LIMIT + 12 for path in files)
    lines = b"".join(path.read_bytes() for path in reversed(files)).split(b"\n")
    kept = [int(line.split()[1]) for line in lines if line]
    assert kept[-1] == 9_999
    assert len(kept) > OLDER_LOGS * LIMIT // 13
    assert kept == sorted(set(kept))
    assert (tmp_path / "server.log.1").stat().st_mode & 0o077 == 0


def test_of_a_log_that_grew_far_beyond_the_limit_the_end_is_kept(tmp_path: Path) -> None:
    log = tmp_path / "server.log"
    log.write_bytes(b"".join(b"line %06d\n" % number for number in range(20_000)))
    assert rotate(log, limit=LIMIT)
    assert log.stat().st_size == 0
    older = (tmp_path / "server.log.1").read_bytes()
    assert LIMIT - 12 <= len(older) <= LIMIT
    assert older.startswith(b"line ")
    assert older.endswith(b"line 019999\n")


def test_a_small_log_and_one_that_is_not_there_are_left(tmp_path: Path) -> None:
    log = tmp_path / "server.log"
    assert not rotate(log, limit=LIMIT)
    log.write_bytes(b"line\n")
    assert not rotate(log, limit=LIMIT)
    assert [path.name for path in tmp_path.iterdir()] == ["server.log"]


def test_the_last_line_is_what_a_server_said_at_its_end(tmp_path: Path) -> None:
    log = tmp_path / "server.log"
    log.write_bytes(b"")
    assert last_line(log) == ""
    log.write_bytes(b"x" * 2**20 + b"\nRuntimeError: cannot listen \xff\n \n")
    assert last_line(log) == "RuntimeError: cannot listen \ufffd"


def test_without_room_for_the_copy_the_log_is_emptied_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> int:
        raise OSError(28, "No space left on device")

    log = tmp_path / "server.log"
    log.write_bytes(b"x" * (LIMIT + 1))
    monkeypatch.setattr(os, "open", full)
    assert rotate(log, limit=LIMIT)
    assert log.stat().st_size == 0
    assert [path.name for path in tmp_path.iterdir()] == ["server.log"]
