"""What a long benchmark tells of its stages: how long they took, and the most memory that each process had."""

import mmap
import os

from benchmarks.memory_watch import MemoryWatch, memory_of
from benchmarks.stages import Stages

MB = 2**20


def mapped(size: int) -> mmap.mmap:
    """Return memory that is new to the process, all of it in use, and goes back when it is closed."""
    held = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    for start in range(0, size, MB):
        held[start : start + MB] = b"\1" * MB
    return held


def me() -> dict[str, list[int]]:
    return {"me": [os.getpid()]}


def test_the_memory_of_a_process_is_its_own_and_pages_of_files() -> None:
    before = memory_of([os.getpid()])
    held = mapped(64 * MB)
    after = memory_of([os.getpid()])
    assert after.anonymous - before.anonymous > 60 * MB
    assert after.mapped > 0
    assert memory_of([os.getpid(), 2**22 + 1]).anonymous > 60 * MB  # a process that is gone has none
    held.close()


def test_a_peak_is_kept_until_it_is_taken() -> None:
    with MemoryWatch(me, each_minute=lambda _: None) as watch:
        before = watch.take_peaks()["me"]
        held = mapped(64 * MB)
        watch.look()
        held.close()
        assert watch.take_peaks()["me"] - before > 60 * MB
        assert watch.take_peaks()["me"] - before < 30 * MB


def test_each_stage_is_told_and_peaks_are_those_of_all() -> None:
    told: list[str] = []
    with Stages(told.append, me) as stages:
        with stages.stage("first"):
            held = mapped(64 * MB)
            before = memory_of([os.getpid()]).anonymous
        held.close()
        with stages.stage("second"):
            pass
    assert [line.partition(":")[0] for line in told] == ["first", "second"]
    assert all("s of cores here; at most me " in line for line in told)
    assert stages.peaks["me"] >= before - MB
    assert stages.memory()["me"].anonymous < before - 30 * MB
