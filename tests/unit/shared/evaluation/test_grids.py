"""Grids: what their JSON stands for, and what of it is refused."""

import json
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from shared.errors import Invalid
from shared.evaluation.grids import MAX_SETTINGS, json_schema, parse_grid, tuning_goal
from shared.evaluation.index_setting import IndexSetting


def settings(grid: Any) -> list[IndexSetting]:
    return list(parse_grid(json.dumps(grid)))


def test_lists_of_an_object_are_crossed_and_what_is_left_out_stays_open() -> None:
    found = settings({"tables": [4, 8], "hashes": [6, 10], "probes": 1})
    assert [(setting.tables, setting.hashes, setting.probes) for setting in found] == [
        (4, 6, 1),
        (4, 10, 1),
        (8, 6, 1),
        (8, 10, 1),
    ]
    assert {(setting.family, setting.space) for setting in found} == {("p-stable", "principal")}
    goal = tuning_goal(found[0], seed=3)
    assert (goal.tables, goal.hashes, goal.width, goal.probes, goal.seed) == (4, 6, None, 1, 3)
    assert goal.families == ("p-stable",)


def test_entries_stand_side_by_side_and_the_same_setting_counts_once() -> None:
    found = settings([{"family": "voronoi", "cells": [64, 128]}, {"family": "voronoi", "cells": 64}, {"tables": 2}])
    assert [setting.cells for setting in found] == [64, 128, None]


def test_null_leaves_a_parameter_to_the_tuner() -> None:
    found = settings({"tables": [None, 4]})
    assert [setting.tables for setting in found] == [None, 4]
    assert settings({"tables": None}) == settings({})


def test_values_count_once_and_integers_may_be_written_as_numbers() -> None:
    assert settings({"tables": [4.0, 4] * 200, "hashes": [5] * 200}) == settings({"tables": 4, "hashes": 5})


def test_a_setting_comes_back_from_its_json() -> None:
    (setting,) = settings({"family": "voronoi", "cells": 64, "probes": 3})
    assert setting.to_json() == {"family": "voronoi", "space": "principal", "cells": 64, "probes": 3}
    assert IndexSetting.from_json(setting.to_json()) == setting
    (plain,) = settings({"space": "plain", "tables": 2, "hashes": 3, "width": 9.5, "probes": 1})
    assert IndexSetting.from_json(json.loads(json.dumps(plain.to_json()))) == plain


def test_a_refusal_does_not_repeat_all_of_a_long_value() -> None:
    for grid in (["x" * 10**5], {"y" * 10**5: 1}, {"family": "z" * 10**5}, {"tables": "t" * 10**5}):
        with pytest.raises(Invalid) as refusal:
            settings(grid)
        assert len(str(refusal.value)) < 300


@pytest.mark.parametrize(
    ("grid", "fits"),
    [
        ({"tables": [4, 8], "hashes": [6, None], "width": 0.5, "probes": 1}, True),
        ([{"family": "voronoi", "cells": [64, 128]}, {"tables": 2}], True),
        ({"family": ["p-stable", "voronoi"], "tables": 2}, True),
        ({"space": ["plain", "principal"], "tables": 2, "hashes": 3, "width": 9, "probes": 1}, True),
        ({}, True),
        ([], False),
        ({"tables": []}, False),
        ({"tables": 0}, False),
        ({"tables": "4"}, False),
        ({"family": "voronoi", "hashes": 3}, False),
        ({"family": ["p-stable", "voronoi"], "cells": 3}, False),
        ({"space": "plain", "tables": 3}, False),
        ({"space": "plain", "tables": 2, "hashes": 3, "width": None, "probes": 1}, False),
        ({"tabels": 3}, False),
        (7, False),
    ],
)
def test_the_schema_takes_what_is_taken(grid: Any, *, fits: bool) -> None:
    Draft202012Validator.check_schema(json_schema())
    assert Draft202012Validator(json_schema()).is_valid(grid) == fits
    try:
        settings(grid)
    except Invalid:
        assert not fits
    else:
        assert fits


@pytest.mark.parametrize(
    ("grid", "message"),
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
        ({"tables": []}, "entry 0 of the grid: tables is an empty list"),
        ('{"width": 1e999}', "width is inf, expected above 0 and at most"),
        ({"space": "plain", "tables": 2, "hashes": 2, "width": 1, "probes": None}, "all given"),
        ("[" * 100_000, "not JSON"),
        ({"tables": list(range(1, 257)), "hashes": [4, 5]}, f"more than {MAX_SETTINGS} settings"),
    ],
)
def test_what_makes_no_grid_is_refused_by_name(grid: Any, message: str) -> None:
    with pytest.raises(Invalid, match="grid") as refusal:
        parse_grid(grid if isinstance(grid, str) else json.dumps(grid))
    assert message in str(refusal.value)
