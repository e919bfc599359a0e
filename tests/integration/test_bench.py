"""The index benchmark as a whole, on few vectors: what it measures is there, and is what the exact scan says."""

import json
from pathlib import Path

import numpy as np
import pytest

from benchmarks.report import MEASUREMENTS
from benchmarks.results import END_TO_END, Results
from tests.support.processes import run_module

SIZE = 700
LIBRARIES = ("FAISS Flat", "hnswlib")


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
            *("--dim", "16", "--queries", "30", "--families", "voronoi", "p-stable", "--libraries", *LIBRARIES),
            *("--out", str(folder / "out")),
        ]
    )
    return folder / "out"


@pytest.fixture(scope="module")
def results(out: Path) -> Results:
    return Results.load(out / "results.json")


def test_the_sets_are_the_real_vectors_and_those_simulated(results: Results) -> None:
    assert {name: info.count for name, info in results.datasets.items()} == {"real": 370, str(SIZE): SIZE}
    assert all(info.contrast > 1 for info in results.datasets.values())
    assert {"processor", "cores", "memory", "numpy", "valkey"} <= results.machine.keys()


@pytest.mark.parametrize("name", ["real", str(SIZE)])
def test_families_reach_what_was_asked_and_find_no_less_with_more_effort(results: Results, name: str) -> None:
    voronoi, plain = (
        next(result for result in results.indexes if (result.dataset, result.index) == (name, index))
        for index in ("voronoi", "p-stable")
    )
    assert not voronoi.skipped
    assert sum(point.chosen for point in voronoi.points) == 1
    best = voronoi.best_point(results.target)
    assert best is not None
    assert best.recall >= 0.9  # few queries
    assert best.lookups is not None
    # More effort finds and compares no less.
    for less, more in zip(voronoi.points, voronoi.points[1:], strict=False):
        assert more.recall >= less.recall - 1e-9
        assert (more.candidate_share or 0) >= (less.candidate_share or 0)
    assert [point.effort for point in plain.points] == [1]
    assert (voronoi.bytes_per_vector or 0) > 0


@pytest.mark.parametrize("name", ["real", str(SIZE)])
def test_end_to_end_the_index_is_searched(results: Results, name: str) -> None:
    (result,) = (result for result in results.end_to_end if result.dataset == name)
    assert result.point.recall >= 0.85
    assert result.point.candidate_share is not None
    assert 0 < result.point.candidate_share < 1
    assert result.chosen.family in {"voronoi", "p-stable"}
    assert abs(result.measurements["predicted_recall"] - result.point.recall) < 0.1
    assert result.measurements.keys() >= MEASUREMENTS.keys() - {"times_faster", "times_faster_all_cores"}
    assert all(value > 0 for value in result.measurements.values())


def test_a_library_is_measured_or_skipped(results: Results) -> None:
    for library in LIBRARIES:
        of_library = [result for result in results.indexes if result.index == library]
        assert len(of_library) == 2
        for result in of_library:
            assert bool(result.points) != bool(result.skipped)
    flat = [result for result in results.indexes if result.index == "FAISS Flat" and result.points]
    assert all(result.points[0].recall == 1 for result in flat)


def test_the_table_is_written_and_can_be_shown_again(out: Path, tmp_path: Path) -> None:
    table = (out / "table.md").read_text(encoding="utf-8")
    assert table.count(f"| {END_TO_END} |") == 3  # a row of each set, and the head of the figures
    run_module(["-m", "benchmarks.index", "--read", str(out / "results.json"), "--out", str(tmp_path)])
    assert (tmp_path / "table.md").read_text(encoding="utf-8") == table
    assert json.loads((out / "results.json").read_text(encoding="utf-8"))["target"] == 0.95
