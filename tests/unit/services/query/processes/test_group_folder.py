"""The folder of a group goes with its supervisor; of one that was killed, the next one removes it."""

import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from services.query.processes.group_folder import group_folder, remove_abandoned
from tests.support.paths import ROOT

_SUPERVISOR = """
import sys
from services.query.processes.group_folder import group_folder

with group_folder() as folder:
    (folder / "counts").mkdir()
    print(folder, flush=True)
    sys.stdin.read()
"""


@pytest.fixture(autouse=True)
def parent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", None)
    return tmp_path


def test_the_folder_is_for_the_owner_alone_and_goes_after_the_block() -> None:
    with group_folder() as folder:
        (folder / "counts").mkdir()
        assert folder.stat().st_mode & 0o077 == 0
    assert not folder.exists()


def test_what_a_killed_supervisor_left_goes_and_that_of_a_running_one_stays(parent: Path) -> None:
    supervisors = [
        subprocess.Popen(
            [sys.executable, "-c", _SUPERVISOR], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for _ in range(2)
    ]
    try:
        folders = [Path(supervisor.stdout.readline().strip()) for supervisor in supervisors if supervisor.stdout]
        assert [folder.parent for folder in folders] == [parent, parent]
        supervisors[0].kill()
        supervisors[0].wait()
        other = parent / "artseek-query-older"  # of a version that held no lock: nobody knows whether it is in use
        other.mkdir()
        (parent / "artseek-query-link").symlink_to(folders[0])
        remove_abandoned(parent)
        assert [folder.exists() for folder in (*folders, other)] == [False, True, True]
    finally:
        for supervisor in supervisors:
            supervisor.kill()
            supervisor.communicate()
    with group_folder() as folder:
        assert sorted(parent.glob("artseek-query-*/")) == sorted([folder, other])
