"""The children of the local system: those that die are started again, whatever happens to the others."""

import shutil
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from local.child_processes import Child, Children, NotReady
from local.log_files import LOG_BYTES
from shared.stopping import StopSignal
from tests.support.eventually import eventually

LASTS = [sys.executable, "-S", "-c", "import time; print('started', flush=True); time.sleep(600)"]
DIES = [sys.executable, "-S", "-c", "print('started', flush=True)"]
WRITES = [sys.executable, "-S", "-c", f"import os, time; os.write(1, b'line\\n' * {LOG_BYTES // 4}); time.sleep(600)"]


@pytest.fixture
def logs(tmp_path: Path) -> Path:
    folder = tmp_path / "logs"
    folder.mkdir()
    return folder


@pytest.fixture
def children(logs: Path) -> Iterator[Children]:
    with Children(logs, StopSignal()) as running:
        yield running


def starts(logs: Path, name: str) -> int:
    path = logs / f"{name}.log"
    return path.read_text().count("started") if path.exists() else 0


def kill(logs: Path, name: str) -> None:
    """Kill the child that writes to the log of this name, once it has begun."""
    for process in psutil.Process().children():
        if Path(f"/proc/{process.pid}/fd/1").resolve() == logs / f"{name}.log":
            process.kill()


def test_a_child_that_dies_over_and_over_does_not_hold_up_another(children: Children, logs: Path) -> None:
    children.start([Child("dies", DIES, lambda: True), Child("lasts", LASTS, lambda: True)])
    eventually(lambda: starts(logs, "dies") == 6)  # the next start is seconds away
    eventually(lambda: starts(logs, "lasts") == 1)
    kill(logs, "lasts")
    eventually(lambda: starts(logs, "lasts") == 2)
    assert starts(logs, "dies") == 6


def test_a_child_that_cannot_be_started_now_is_started_later_and_others_meanwhile(
    children: Children, logs: Path, caplog: pytest.LogCaptureFixture
) -> None:
    children.start([Child("lasts", LASTS, lambda: True)])
    eventually(lambda: starts(logs, "lasts") == 1)
    away = logs.with_name("away")
    kill(logs, "lasts")
    shutil.move(logs, away)
    eventually(lambda: any("cannot be started" in record.getMessage() for record in caplog.records))
    shutil.move(away, logs)
    eventually(lambda: starts(logs, "lasts") == 2)
    kill(logs, "lasts")
    eventually(lambda: starts(logs, "lasts") == 3)


def test_a_child_that_dies_at_its_start_is_waited_for_no_longer_than_is_usual(children: Children, logs: Path) -> None:
    with pytest.raises(NotReady, match=rf"dies was not ready within \d s; see {logs / 'dies.log'}"):
        children.start([Child("dies", DIES, lambda: False, patience_s=2.0)])


def test_a_child_that_lives_is_given_the_time_of_a_busy_machine(children: Children, logs: Path) -> None:
    begun = time.monotonic()
    children.start([Child("lasts", LASTS, lambda: time.monotonic() > begun + 1.0, patience_s=0.5)])
    eventually(lambda: starts(logs, "lasts") == 1)


def test_the_log_of_a_child_that_runs_stays_small(children: Children, logs: Path) -> None:
    children.start([Child("writes", WRITES, lambda: True)])
    eventually((logs / "writes.log.1").exists)
    assert (logs / "writes.log.1").stat().st_size <= LOG_BYTES
    eventually(lambda: (logs / "writes.log").stat().st_size < LOG_BYTES)
