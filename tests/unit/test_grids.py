"""Grids: what their JSON stands for, and what of it is refused."""

import json
from typing import Any

import pytest

from shared.errors import Invalid
from shared.grids import MOST, goal_of, settings_of


def of(value: Any) -> list[dict[str, Any]]:
    return list(settings_of(json.dumps(value)))


def test_lists_of_an_object_are_crossed_and_what_is_left_out_stays_open() -> None:
    found = of({"tables": [4, 8], "hashes": [6, 10], "probes": 1})
    assert [(one["tables"], one["hashes"], one["probes"]) for one in found] == [
        (4, 6, 1),
        (4, 10, 1),
        (8, 6, 1),
        (8, 10, 1),
    ]
    assert {(one["family"], one["space"]) for one in found} == {("p-stable", "principal")}
    goal = goal_of(found[0], seed=3)
    assert (goal.tables, goal.hashes, goal.width, goal.probes, goal.seed) == (4, 6, None, 1, 3)
    assert goal.families == ("p-stable",)


def test_entries_stand_side_by_side_and_the_same_setting_counts_once() -> None:
    found = of([{"family": "voronoi", "cells": [64, 128]}, {"family": "voronoi", "cells": 64}, {"tables": 2}])
    assert [one.get("cells") for one in found] == [64, 128, None]


@pytest.mark.parametrize(
    ("grid", "said"),
    [
        ("no JSON", "not JSON"),
        ([], "no settings"),
        ([3], "entry 0 of the grid is 3"),
        ({"tabels": 3}, "'tabels'"),
        ({"tables": 0}, "tables is 0, expected 1 to"),
        ({"tables": 2.5}, "tables is 2.5, expected a whole number"),
        ({"tables": True}, "tables is True"),
        ({"width": -1}, "width is -1"),
        ({"family": "kd-tree"}, "'kd-tree', expected one of"),
        ({"family": "voronoi", "hashes": 3}, "hashes is none of the voronoi family"),
        ({"cells": 3}, "cells is none of the p-stable family"),
        ({"space": "plain", "tables": 3}, "all given"),
        ({"space": "curved"}, "'curved'"),
        ([{"tables": 2}, {"probes": 10**6}], "entry 1 of the grid: probes"),
        ({"tables": list(range(1, 257)), "hashes": [4, 5]}, f"more than {MOST} settings"),
    ],
)
def test_what_makes_no_grid_is_refused_by_name(grid: Any, said: str) -> None:
    with pytest.raises(Invalid, match="grid") as refusal:
        settings_of(grid if isinstance(grid, str) else json.dumps(grid))
    assert said in str(refusal.value)
