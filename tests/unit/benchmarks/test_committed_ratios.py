"""Which ratios fell, how they are kept, and that what is compared takes turns."""

from pathlib import Path

import pytest

from benchmarks import check, committed_ratios, search_layers
from benchmarks.check import PARTS
from benchmarks.committed_ratios import Ratio, compare, failures, lines, load, save
from benchmarks.interleaving import medians_in_turns
from shared.errors import Invalid


def ratio(*values: float, name: str = "one-to-other") -> Ratio:
    return Ratio(name, "one / other", values)


@pytest.mark.parametrize(
    ("values", "verdict"),
    [
        ((0.79, 0.79, 0.79), "FELL"),
        ((0.8, 0.8, 0.8), "FELL"),
        ((0.81, 0.81, 0.81), "holds"),
        ((0.1, 0.9, 0.9), "holds"),  # the median counts
        ((0.1, 0.1, 0.9), "FELL"),
        ((1.3, 1.3, 1.3), "rose: renew"),
    ],
)
def test_a_ratio_falls_by_a_fifth(values: tuple[float, ...], verdict: str) -> None:
    (found,) = compare([ratio(*values)], {"one-to-other": 1.0})
    assert found.verdict == verdict
    assert found.has_fallen == (verdict == "FELL")


def test_what_fell_and_what_was_not_measured_is_named() -> None:
    committed = {"one-to-other": 1.0, "kept": 2.0, "gone": 0.5}
    found = compare([ratio(0.7), ratio(2.1, name="kept"), ratio(0.1, name="new")], committed)
    assert list(failures(found, committed)) == [
        "one-to-other fell from 1 to 0.7: one / other",
        "gone is in ratios.json and was not measured",
    ]
    assert list(failures(found, ())) == ["one-to-other fell from 1 to 0.7: one / other"]


def test_the_check_fails_where_a_ratio_fell(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    measured: list[float] = []

    def part() -> list[Ratio]:
        measured.append(1.0)
        return [ratio(0.8)]

    monkeypatch.setattr("sys.argv", ["check"])
    monkeypatch.setattr(check, "PARTS", {"index": part})
    monkeypatch.setattr(committed_ratios, "load", lambda: {"one-to-other": 1.0})
    with pytest.raises(SystemExit) as ended:
        check.main()
    assert ended.value.code == "one-to-other fell from 1 to 0.8: one / other"  # which Python prints, with status 1
    assert len(measured) == 2  # once more, in case that the machine was at fault
    assert "FELL" in capsys.readouterr().out
    monkeypatch.setattr(committed_ratios, "load", lambda: {"one-to-other": 0.9})
    check.main()


def test_a_ratio_that_was_never_committed_is_new() -> None:
    (found,) = compare([ratio(0.1)], {"another": 1.0})
    assert (found.verdict, found.has_fallen) == ("new", False)


def test_each_ratio_is_shown_beside_the_committed_one() -> None:
    shown = list(lines(compare([ratio(0.5, 0.7, 0.6)], {"one-to-other": 1.25})))[1]
    assert shown.split() == ["one-to-other", "0.6", "1.25", "0.5", "to", "0.7", "FELL", "one", "/", "other"]


def test_what_is_renewed_is_kept_beside_the_rest(tmp_path: Path) -> None:
    file = tmp_path / "ratios.json"
    assert load(file) == {}
    save([ratio(0.5), ratio(2.0, name="more")], {"cores": "2"}, file)
    save([ratio(0.61234)], {"cores": "2"}, file)
    assert load(file) == {"one-to-other": 0.612, "more": 2.0}


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"format": 2, "ratios": {}}', '{"format": 1, "ratios": {"a": "b"}}'])
def test_a_file_that_cannot_be_read_is_named(tmp_path: Path, text: str) -> None:
    file = tmp_path / "ratios.json"
    file.write_text(text)
    with pytest.raises(Invalid, match=r"ratios\.json"):
        load(file)


def test_every_committed_ratio_is_measured() -> None:
    measured = {found.name for found in search_layers.ratios_of(dict.fromkeys(LAYERS, (1.0,)))}
    assert measured <= set(committed_ratios.load()) <= {*measured, "ingestion-to-loop"}
    assert set(PARTS) == {"index", "ingestion"}


LAYERS = (
    search_layers.FLAT,
    search_layers.FAMILY,
    search_layers.SERVICE,
    search_layers.SERVICE_BY_ID,
    search_layers.HTTP,
)


def test_a_faster_layer_has_a_larger_ratio() -> None:
    times = dict.fromkeys(LAYERS, (1.0,))
    for layer, name in (("family", "flat-to-family"), ("service", "family-to-service"), ("HTTP", "service-to-http")):
        ratios = {found.name: found.median for found in search_layers.ratios_of({**times, layer: (0.5,)})}
        assert ratios[name] == 2


def test_calls_take_turns() -> None:
    made: list[tuple[str, int]] = []
    calls = {name: lambda number, name=name: made.append((name, number)) for name in "ab"}
    found = medians_in_turns(calls, repetitions=2, each=3)
    assert {name: len(times) for name, times in found.items()} == {"a": 2, "b": 2}
    assert "".join(name for name, _ in made) == "aaaaa" + "bbbbb" + "bbbbb" + "aaaaa"
    assert [number for name, number in made if name == "a"] == [0, 1, 0, 1, 2, 3, 4, 3, 4, 5]
