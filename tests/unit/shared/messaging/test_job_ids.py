"""Ids of jobs sort by time, new ones behind those of earlier versions, and fit where ids are asked for."""

import time

import pytest

from services.web.api.inputs import EvaluationPath, JobPath, checked
from services.web.pages.evaluations import ComparisonView
from shared.state.job_ids import new_job_id


def test_ids_of_one_second_sort_by_time() -> None:
    made = []
    for _ in range(50):
        made.append(new_job_id())
        time.sleep(0.001)
    assert made == sorted(made)
    assert len({one[:8] for one in made}) <= 2  # all of them within a moment


def test_an_id_begins_with_its_second_so_that_older_ones_come_first(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1_764_302_400
    monkeypatch.setattr(time, "time_ns", lambda: now * 10**9 + 999_999_999)
    made = new_job_id()
    assert int(made[:8], 16) == now
    assert made[8:11] == "fff"
    before = f"{now - 1:08x}{'f' * 12}"  # as they used to be: seconds, and 48 bits of chance
    assert before < made < f"{now + 1:08x}{'0' * 12}"
    assert new_job_id() != made


def test_old_and_new_ids_fit() -> None:
    for one in (new_job_id(), "67f3a1c2b4d5e6f70819"):
        assert checked(JobPath, {"id": one}, "path").id == one
        assert checked(EvaluationPath, {"id": one}, "path").id == one
        assert checked(ComparisonView, {"a": one, "b": one}, "page").a == one
