"""The benchmark's arithmetic: recall with ties, which point is shown, shares at equal recall, exponent, table."""

from dataclasses import asdict
from io import StringIO
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from benchmarks.dataset import Dataset, tenth_similarity
from benchmarks.end_to_end import EndToEndResult
from benchmarks.growth import exponent, growth_rows, scaling_rows
from benchmarks.report import index_rows, markdown, show, skipped_lines
from benchmarks.results import END_TO_END, DatasetInfo, Results
from benchmarks.runner import IndexResult, Point
from benchmarks.simulation import Vectors, unit
from shared.tuning.report import TrialReport

CHOSEN = TrialReport(
    family="voronoi",
    tables=2,
    cells=64,
    probes=8,
    lookups=16,
    budget_share=None,
    recall=0.97,
    recall_error=0.002,
    candidate_share=0.02,
    cost_ms=0.5,
)


def vectors(count: int, dim: int, seed: int = 0) -> Vectors:
    return unit(np.random.default_rng(seed).standard_normal((count, dim)).astype(np.float32))


def point(recall: float, *, share: float | None = None, ms: float = 1.0, chosen: bool = False) -> Point:
    return Point(8, recall, ms, 2 * ms, 1000 / ms, share, None, chosen)


def result(index: str, count: int, *points: Point, ours: bool = True, skipped: str = "") -> IndexResult:
    return IndexResult(index, f"{count:,}", count, 16, ours, "probes", 1.5, 100.0, {}, points, skipped)


def results(*indexes: IndexResult, end_to_end: tuple[EndToEndResult, ...] = ()) -> Results:
    counts = sorted({index.count for index in indexes} | {result.count for result in end_to_end})
    datasets = {f"{count:,}": DatasetInfo(count, 16, 1.8, simulated=True) for count in counts}
    return Results({"processor": "some", "cores": "2"}, 0.95, datasets, list(indexes), list(end_to_end))


def end_to_end(count: int, share: float) -> EndToEndResult:
    return EndToEndResult(f"{count:,}", count, 16, 0.95, point(0.96, share=share), CHOSEN, {"merge_s": 0.0123})


# Recall


def test_the_tenth_similarity_is_that_of_the_exact_scan(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("benchmarks.dataset._BLOCK", 33)
    base, queries = vectors(200, 8), vectors(5, 8, 1)
    expected = np.sort(queries @ base.T, axis=1)[:, -10]
    np.testing.assert_allclose(tenth_similarity(base, queries), expected, rtol=1e-6)


def test_of_fewer_than_ten_vectors_all_are_wanted(tmp_path: Path) -> None:
    dataset = Dataset.write("few", tmp_path, vectors(4, 8), vectors(3, 8, 1))
    none = np.full(6, -1)
    assert dataset.recall(np.stack([np.concatenate([np.arange(4), none])] * 3)) == 1
    assert dataset.recall(np.stack([np.concatenate([[0, 0, 1], none, [-1]])] * 3)) == 0.5


def test_a_vector_as_near_as_the_tenth_counts_whichever_it_is(tmp_path: Path) -> None:
    base = vectors(50, 8)
    base[30:] = base[30]  # twenty at one place
    dataset = Dataset.write("ties", tmp_path, base, base[30:31])
    assert dataset.recall(np.arange(30, 40)[None]) == 1
    assert dataset.recall(np.arange(40, 50)[None]) == 1
    far = np.argsort(base[:30] @ base[30])[:5]
    assert dataset.recall(np.concatenate([far, np.arange(30, 35)])[None]) == 0.5
    assert dataset.recall(np.array([[31] * 10])) == 0.1  # one answer ten times is one


def test_a_dataset_may_be_the_first_vectors_of_a_file_in_half_precision(tmp_path: Path) -> None:
    base, queries = vectors(300, 8).astype(np.float16), vectors(5, 8, 1)
    np.save(tmp_path / "all.npy", base)
    dataset = Dataset.first_of(tmp_path / "all.npy", 200, "some", tmp_path / "some", queries)
    assert dataset.stored.shape == (200, 8)
    assert [dataset.stored.dtype.name, dataset.vectors.dtype.name] == ["float16", "float32"]
    exact = np.argsort(-(queries @ base[:200].astype(np.float32).T), axis=1)[:, :10]
    assert dataset.recall(exact) == 1
    assert Dataset("some", tmp_path / "some").recall(np.roll(exact, 1, axis=0)) < 0.5


# What is shown


def test_the_chosen_point_is_shown_or_the_fastest_that_reaches_the_target_or_the_best() -> None:
    chosen = result("a", 100, point(0.9), point(0.94, chosen=True), point(0.99))
    fastest = result("b", 100, point(0.9, ms=1), point(0.99, ms=2), point(0.96, ms=3))
    neither = result("c", 100, point(0.7), point(0.8), point(0.6))
    shown = [index.best_point(0.95) for index in (chosen, fastest, neither, result("d", 100))]
    assert [best and best.recall for best in shown] == [0.94, 0.99, 0.8, None]


def test_the_share_at_a_recall_lies_between_two_points_by_its_logarithm() -> None:
    index = result("a", 100, point(0.9, share=0.01), point(1.0, share=0.04), point(0.5, share=0.001), point(0.7))
    assert index.candidate_share_at(0.95) == pytest.approx(0.02)
    assert index.candidate_share_at(0.9) == pytest.approx(0.01)
    assert result("a", 100, point(0.9, share=0.01)).candidate_share_at(0.95) is None


# Growth


def test_the_exponent_is_that_of_a_power_law() -> None:
    assert exponent([(n, 0.3 * n**-0.42) for n in (10_000, 100_000, 1_000_000)]) == pytest.approx(-0.42)
    assert exponent([(10_000, 0.1), (10_000, 0.2)]) is None
    assert exponent([]) is None


def test_growth_reads_shares_at_the_target_and_leaves_out_what_is_not_simulated_or_not_ours() -> None:
    sizes = (10_000, 1_000_000)
    ours = [result("a", n, point(0.9, share=n**-0.5 / 2), point(1.0, share=n**-0.5 * 2)) for n in sizes]
    others = [result("a library", n, point(0.9, share=0.1), point(1.0, share=0.2), ours=False) for n in sizes]
    all_results = results(*ours, *others, end_to_end=(end_to_end(10_000, 0.1), end_to_end(1_000_000, 0.001)))
    real = result("a", 500, point(0.9, share=0.5), point(1.0, share=0.9))
    all_results.datasets["500"] = DatasetInfo(500, 16, 1.4, simulated=False)
    all_results.indexes.append(real)
    assert growth_rows(all_results) == [
        ("share at equal recall", "10,000", "1,000,000", "exponent"),
        ("a", "1.00%", "0.10%", "-0.50"),
        (f"{END_TO_END}, as tuned", "10.00%", "0.10%", "-1.00"),
    ]


def test_searches_and_memory_grow_as_powers_of_the_size() -> None:
    def grown(count: int) -> EndToEndResult:
        measured = {"query_memory_mb": count / 1e4, "valkey-index_memory_mb": count / 1e3}
        at = point(0.96, share=count**-0.5, ms=count**0.25)
        return EndToEndResult(f"{count:,}", count, 16, 0.95, at, CHOSEN, measured)

    head, *rows = scaling_rows(results(end_to_end=(grown(10_000), grown(1_000_000))))
    assert head == (f"{END_TO_END}, grown", "10,000", "1,000,000", "exponent")
    assert {row[0]: row[1:] for row in rows} == {
        "share ranked, %": ("1", "0.100", "-0.50"),
        "images ranked": ("100", "1,000", "+0.50"),
        "median ms": ("10", "31.6", "+0.25"),
        "MB of the query service": ("1", "100", "+1.00"),
        "MB of Valkey": ("10", "1,000", "+1.00"),
    }
    assert scaling_rows(results(end_to_end=(grown(10_000),))) == []


# The table


def test_rows_have_the_cells_of_the_head_and_say_what_was_skipped_lines() -> None:
    all_results = results(
        result("a", 100, point(0.96, share=0.031, ms=1.5)),
        result("b", 100, skipped="b is not installed"),
        result("c", 100, skipped="b is not installed"),
        end_to_end=(end_to_end(100, 0.02),),
    )
    table = index_rows(all_results)
    assert [row[:3] for row in table] == [
        ("100", END_TO_END, "voronoi 2 × 64, probes 8"),
        ("100", "a", "probes 8"),
        ("100", "b", "skipped"),
        ("100", "c", "skipped"),
    ]
    assert table[1][3:] == ("0.960", "3.10%", "", "1.50", "3.00", "667", "1.5", "100")
    assert skipped_lines(all_results) == ["Skipped: b (100); c (100): b is not installed"]
    text = markdown(all_results)
    assert {line.count("|") for line in text.splitlines() if line.startswith("| 100 |")} == {12}
    assert "| s to merge them | 0.0123 |" in text
    assert skipped_lines(all_results)[0] in text


def test_plain_text_has_every_row() -> None:
    all_results = results(result("an index", 100, point(0.96)), end_to_end=(end_to_end(100, 0.02),))
    out = StringIO()
    show(all_results, Console(file=out, width=170))
    for cell in ("an index", "0.960", "contrast 1.80", "processor some", "s to merge them", "share at equal recall"):
        assert cell in out.getvalue()


def test_figures_are_read_as_they_were_written(tmp_path: Path) -> None:
    all_results = results(result("a", 100, point(0.96, share=0.1)), end_to_end=(end_to_end(100, 0.02),))
    all_results.save(tmp_path / "results.json")
    again = Results.load(tmp_path / "results.json")
    assert asdict(again) == asdict(all_results)
    assert index_rows(again) == index_rows(all_results)
