"""The cores that a process may use: those of its affinity, unless a quota of its control groups allows fewer."""

from pathlib import Path

import pytest

from shared.usable_cores import usable_cores


@pytest.fixture(autouse=True)
def _eight_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda _: set(range(8)), raising=False)


def write(folder: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(f"{text}\n")
    return folder


@pytest.mark.parametrize(
    ("quota", "cores"),
    [("max 100000", 8), ("200000 100000", 2), ("50000 100000", 1), ("250000 100000", 2), ("odd", 8), (None, 8)],
)
def test_a_container_may_use_fewer_cores_than_there_are(tmp_path: Path, quota: str | None, cores: int) -> None:
    files = {"own": "0::/"} | ({"groups/cpu.max": quota} if quota is not None else {})
    write(tmp_path, files)
    assert usable_cores(tmp_path / "groups", tmp_path / "own") == cores


def test_the_lowest_quota_counts_of_a_group_and_those_that_it_is_in(tmp_path: Path) -> None:
    folder = write(
        tmp_path,
        {
            "own": "0::/system.slice/artseek.service",
            "groups/system.slice/artseek.service/cpu.max": "600000 100000",
            "groups/system.slice/cpu.max": "400000 100000",
        },
    )
    assert usable_cores(folder / "groups", folder / "own") == 4


def test_quotas_of_the_first_version_of_control_groups_count(tmp_path: Path) -> None:
    folder = write(
        tmp_path,
        {
            "own": "4:memory:/docker/1\n2:cpu,cpuacct:/docker/1\n0::/",
            "groups/cpu/docker/1/cpu.cfs_quota_us": "-1",
            "groups/cpu/docker/1/cpu.cfs_period_us": "100000",
            "groups/cpu/cpu.cfs_quota_us": "300000",  # as a container sees it, which is not shown the groups outside
            "groups/cpu/cpu.cfs_period_us": "100000",
        },
    )
    assert usable_cores(folder / "groups", folder / "own") == 3


def test_without_control_groups_the_affinity_counts(tmp_path: Path) -> None:
    assert usable_cores(tmp_path, tmp_path / "none") == 8
