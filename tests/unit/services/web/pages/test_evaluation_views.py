"""What the pages show of evaluations: confusion beyond forty classes, heat maps of grids, how two runs differ."""

from typing import Any

import pyarrow as pa
import pytest

from services.web.pages import charts, evaluation_views
from shared.evaluation.report import QueryKind
from shared.evaluation.rows import ROWS
from tests.support.evaluation_reports import a_class, a_query_set, a_report, a_run, a_setting


def rows(*queries: tuple[str, list[int], float]) -> pa.Table:
    """Return rows of queries given as digest, hits, AP@k."""
    columns: dict[str, list[Any]] = {name: [] for name in ROWS.names}
    for number, (digest, hits, precision) in enumerate(queries):
        values = dict.fromkeys(ROWS.names, 0) | {
            "run": "exact-cosine-all",
            "query": number,
            "digest": digest,
            "name": f"{digest}.jpg",
            "label": "forms",
            "in_collection": digest == "twin",
            "hits": hits,
            "hit_labels": ["forms"] * len(hits),
            "distances": [0.1] * len(hits),
            "scores": [0.9] * len(hits),
            "ap_at_k": precision,
        }
        for name, value in values.items():
            columns[name].append(value)
    return pa.table(columns, schema=ROWS)


def test_a_confusion_of_many_classes_keeps_every_hit() -> None:
    labels = [f"class {number:02d}" for number in range(50)]
    per_class = {label: a_class(100 - place) for place, label in enumerate(labels)}
    confusion = {label: {label: 7, "class 49": 2, "": 1} for label in labels[:49]} | {labels[49]: {labels[49]: 10}}
    table = evaluation_views.confusion_table(a_run("exact-cosine-all", confusion=confusion, per_class=per_class))
    assert list(table.rows) == labels[:40]
    assert list(table.columns) == [*labels[:40], evaluation_views.OTHERS, evaluation_views.NO_LABEL]
    for line in table.cells:
        assert sum(cell.value for cell in line if cell) == pytest.approx(1.0)
        assert [cell.short for cell in line[-2:] if cell] == ["2", "1"]
    two = a_run("exact-cosine-all", confusion={"a": {"b": 3}}, per_class={"a": a_class(1)})
    small = evaluation_views.confusion_table(two)
    assert (list(small.rows), list(small.columns)) == (["a"], ["a", "b"])


def test_a_grid_of_three_parameters_is_a_map_for_each_value_of_the_third() -> None:
    grid = [
        a_setting(10 * tables + hashes, recall, tables=tables, hashes=hashes, width=width)
        for width in (1.0, 2.0)
        for tables in (4, 8, 16)
        for hashes, recall in ((2, width / 4), (3, width / 8))
    ]
    del grid[-1]
    run = a_run("lsh-cosine-all")
    report = a_report([run], grid)
    maps = evaluation_views.grid_maps(report, run, "recall_at_k")
    assert [table.title for table in maps] == ["p-stable, width 1", "p-stable, width 2"]
    assert [list(maps[0].columns), list(maps[0].rows)] == [["4", "8", "16"], ["2", "3"]]
    assert [[cell.value if cell else None for cell in line] for line in maps[1].cells] == [
        [0.5, 0.5, 0.5],
        [0.25, 0.25, None],
    ]
    assert evaluation_views.grid_maps(report, a_run("lsh-euclidean-all"), "recall_at_k") == []
    assert evaluation_views.grid_maps(a_report([run], grid[:1]), run, "recall_at_k") == []
    assert len(charts.heat(maps[1])["cells"]) == 5


def test_what_two_runs_answer_differently_comes_in_order_of_how_much() -> None:
    first = rows(
        ("same", [1, 2], 1.0), ("swapped", [1, 2], 0.5), ("fell", [1, 2], 1.0), ("rose", [5], 0.1), ("gone", [1], 0.1)
    )
    second = rows(
        ("new", [1], 0.2), ("fell", [3, 4], 0.25), ("swapped", [2, 1], 0.5), ("rose", [6], 0.6), ("same", [1, 2], 1.0)
    )
    found = evaluation_views.compare(first, second)
    assert (found.common, found.only_a, found.only_b, found.better, found.worse) == (4, 1, 1, 1, 1)
    assert [pair.a["digest"] for pair in found.changed] == ["fell", "rose", "swapped"]
    rise, (low, high) = found.rises["ap_at_k"]
    assert rise == pytest.approx(-0.0625)
    assert -0.75 <= low <= rise <= high <= 0.5
    assert evaluation_views.compare(first, rows()).rises == {}


def test_the_worst_queries_come_first_and_twins_are_found() -> None:
    table = rows(("good", [1], 1.0), ("twin", [2], 0.2), ("bad", [], 0.0))
    assert [row["digest"] for row in evaluation_views.worst(table, limit=2, offset=0)] == ["bad", "twin"]
    assert [row["digest"] for row in evaluation_views.worst(table, limit=2, offset=2)] == ["good"]
    assert [row["digest"] for row in evaluation_views.twins(table)] == ["twin"]


def test_only_evaluations_by_the_same_are_drawn_together() -> None:
    def by(kind: QueryKind, k: int = 10, **more: Any) -> str:
        return evaluation_views.comparison_key(a_report(k=k, query_set=a_query_set(kind=kind, **more)))

    assert by("sample", digest="cd" * 32) == by("sample")
    assert len({by("sample"), by("sample", k=5), by("kept", name="one"), by("kept", name="two"), by("folder")}) == 5
    assert by("folder", digest="cd" * 32) != by("folder")


def test_hours_without_live_searches_are_gaps() -> None:
    hours = [{"hour": f"2026-01-01T{hour:02d}:00:00Z", "recall": 0.5, "sampled": 2, "dropped": 0} for hour in (1, 2, 5)]
    (line,) = charts.live_recall(hours)["series"]
    assert [point["y"] for point in line["points"]] == [0.5, 0.5, None, 0.5]
    assert line["points"][2]["text"] == []
