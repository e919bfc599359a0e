"""The index benchmark as a whole, on few vectors: what it measures is there, and is what the exact scan says."""

import json
from pathlib import Path

import numpy as np
import pytest

from benchmarks.report import FIGURES, WHOLE, Results
from tests.support.processes import run_module

SIZE = 700
RIVALS = ("FAISS Flat", "hnswlib")


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that a run has written."""
    folder = tmp_path_factory.mktemp("bench")
    rng = np.random.default_rng(0)
    centres = rng.standard_normal((12, 24))
    real = centres[rng.integers(12, size=400)] + 0.5 * rng.standard_normal((400, 24))
    np.save(folder / "real.npy", real.astype(np.float32))
    run_module(
        [
            *("-m", "benchmarks.index", "--quick", "--features", str(folder / "real.npy"), "--sizes", str(SIZE)),
            *("--dim", "16", "--queries", "30", "--families", "voronoi", "p-stable", "--rivals", *RIVALS),
            *("--out", str(folder / "out")),
        ]
    )
    return folder / "out"


@pytest.fixture(scope="module")
def results(out: Path) -> Results:
    return Results.load(out / "results.json")


def test_the_sets_are_the_real_vectors_and_those_simulated(results: Results) -> None:
    assert {name: about["count"] for name, about in results.sets.items()} == {"real": 370, str(SIZE): SIZE}
    assert all(about["contrast"] > 1 for about in results.sets.values())
    assert {"processor", "cores", "memory", "numpy", "valkey"} <= results.machine.keys()


@pytest.mark.parametrize("name", ["real", str(SIZE)])
def test_families_reach_what_was_asked_and_find_no_less_with_more_effort(results: Results, name: str) -> None:
    voronoi, plain = (
        next(one for one in results.measured if (one.vectors, one.index) == (name, index))
        for index in ("voronoi", "p-stable")
    )
    assert not voronoi.left_out
    assert sum(point.chosen for point in voronoi.points) == 1
    best = voronoi.best(results.target)
    assert best is not None
    assert best.recall >= 0.9  # few queries
    assert best.lookups is not None
    # More effort finds and compares no less.
    for less, more in zip(voronoi.points, voronoi.points[1:], strict=False):
        assert more.recall >= less.recall - 1e-9
        assert (more.share or 0) >= (less.share or 0)
    assert [point.effort for point in plain.points] == [1]
    assert (voronoi.bytes_per_vector or 0) > 0


@pytest.mark.parametrize("name", ["real", str(SIZE)])
def test_the_whole_path_is_searched_by_the_index(results: Results, name: str) -> None:
    (whole,) = (one for one in results.whole if one.vectors == name)
    assert whole.point.recall >= 0.85
    assert whole.point.share is not None
    assert 0 < whole.point.share < 1
    assert whole.index["family"] in {"voronoi", "p-stable"}
    assert abs(whole.figures["predicted_recall"] - whole.point.recall) < 0.1
    assert whole.figures.keys() >= FIGURES.keys() - {"times_faster", "times_faster_all_cores"}
    assert all(value > 0 for figure, value in whole.figures.items() if figure != "buckets_bytes_per_image")


def test_a_library_is_measured_or_said_to_be_left_out(results: Results) -> None:
    for rival in RIVALS:
        found = [one for one in results.measured if one.index == rival]
        assert len(found) == 2
        for one in found:
            assert bool(one.points) != bool(one.left_out)
    flat = [one for one in results.measured if one.index == "FAISS Flat" and one.points]
    assert all(one.points[0].recall == 1 for one in flat)


def test_the_table_is_written_and_can_be_shown_again(out: Path, tmp_path: Path) -> None:
    table = (out / "table.md").read_text(encoding="utf-8")
    assert table.count(f"| {WHOLE} |") == 3  # a row of each set, and the head of the figures
    run_module(["-m", "benchmarks.index", "--read", str(out / "results.json"), "--out", str(tmp_path)])
    assert (tmp_path / "table.md").read_text(encoding="utf-8") == table
    assert json.loads((out / "results.json").read_text(encoding="utf-8"))["target"] == 0.95
