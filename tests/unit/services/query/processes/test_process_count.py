"""How many processes the query service has by itself: as many as it may use cores, up to a few."""

import pytest

from services.query.processes import process_count as counting


def test_what_is_set_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(counting, "usable_cores", lambda: 2)
    assert counting.process_count(7) == 7


@pytest.mark.parametrize(("platform", "cores", "count"), [("linux", 2, 2), ("linux", 64, 4), ("darwin", 8, 1)])
def test_without_a_setting_the_cores_count(
    monkeypatch: pytest.MonkeyPatch, platform: str, cores: int, count: int
) -> None:
    monkeypatch.setattr(counting, "usable_cores", lambda: cores)
    monkeypatch.setattr("sys.platform", platform)
    assert counting.process_count(0) == count
