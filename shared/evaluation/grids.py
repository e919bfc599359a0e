"""Grids: which settings of an index are to be judged side by side, as JSON says it."""

import json
from collections.abc import Mapping
from itertools import product
from typing import Any, get_args

from shared.errors import Invalid
from shared.evaluation.index_setting import IndexSetting, SpaceName
from shared.hashing.mixing import MAX_TABLES
from shared.hashing.probing import MAX_PROBES
from shared.hashing.pstable import FAMILY as P_STABLE
from shared.hashing.pstable import MAX_HASHES
from shared.hashing.voronoi import FAMILY as VORONOI
from shared.hashing.voronoi import MAX_CELLS
from shared.tuning.tuner import FAMILIES, Goal

MAX_SETTINGS = 256
MAX_WIDTH = 1e9
_SHOWN = 80  # characters of a value in a message
SPACES: tuple[SpaceName, ...] = get_args(SpaceName)
_NAMES = ("family", "space", "tables", "hashes", "width", "cells", "probes")


def parse_grid(text: str | bytes) -> tuple[IndexSetting, ...]:
    """Return the settings that a grid's JSON asks for: a list of objects, or one object.

    A value that is a list stands for each of its values; lists of one object are crossed. What is left out or null, the
    tuner chooses, but for the plain space.

    Raises:
        Invalid: It is no such JSON, or a value is out of its range; the message names it.
    """
    try:
        grid = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise Invalid(f"the grid is not JSON: {error}") from None
    return grid_settings(grid)


def grid_settings(grid: object) -> tuple[IndexSetting, ...]:
    """Return the settings that a grid's JSON value asks for, as `parse_grid` does."""
    settings: list[IndexSetting] = []
    for place, entry in enumerate(grid if isinstance(grid, list) else [grid]):
        if not isinstance(entry, dict):
            raise Invalid(f"entry {place} of the grid is {_shown(entry)}, expected an object such as {{'tables': 8}}")
        if unknown := sorted(entry.keys() - set(_NAMES)):
            raise Invalid(f"entry {place} of the grid has {_shown(unknown[0])}, expected some of {', '.join(_NAMES)}")
        lists = {name: _distinct(value) if isinstance(value, list) else [value] for name, value in entry.items()}
        if empty := [name for name, values in lists.items() if not values]:
            raise Invalid(f"entry {place} of the grid: {empty[0]} is an empty list, expected one value or several")
        for values in product(*lists.values()):
            settings.append(_setting(dict(zip(lists, values, strict=True)), f"entry {place} of the grid"))
            if len(settings) > MAX_SETTINGS:
                raise Invalid(f"the grid has more than {MAX_SETTINGS} settings: make it coarser, or several of it")
    if not settings:
        raise Invalid("the grid has no settings")
    return tuple(dict.fromkeys(settings))


def _distinct(values: list[object]) -> list[object]:
    """Return JSON values without repetitions."""
    return list({json.dumps(value): value for value in values}.values())


def _shown(value: object) -> str:
    return repr(value)[:_SHOWN]


def _setting(entry: Mapping[str, object], where: str) -> IndexSetting:
    """Return the setting that one object asks for, its lists resolved.

    Raises:
        Invalid: A value is out of its range; the message names it, and says `where` it stands.
    """
    given = {name: value for name, value in entry.items() if value is not None}
    family, space = given.get("family", P_STABLE), given.get("space", "principal")
    if not isinstance(family, str) or family not in FAMILIES:
        raise Invalid(f"{where}: family is {_shown(family)}, expected one of {', '.join(FAMILIES)}")
    if space not in ("principal", "plain"):
        raise Invalid(f"{where}: space is {_shown(space)}, expected one of {', '.join(SPACES)}")
    setting = IndexSetting(
        family=family,
        space="plain" if space == "plain" else "principal",
        tables=_integer(given, "tables", where),
        hashes=_integer(given, "hashes", where),
        width=_width(given, where),
        cells=_integer(given, "cells", where),
        probes=_integer(given, "probes", where),
    )
    foreign = ("cells",) if family == P_STABLE else ("hashes", "width")
    for name in foreign:
        if name in given:
            raise Invalid(f"{where}: {name} is none of the {family} family's parameters")
    if space == "plain":
        required = ("tables", "hashes", "width", "probes")
        if family != P_STABLE or not all(name in given for name in required):
            raise Invalid(f"{where}: the plain space takes the p-stable family with {', '.join(required)} all given")
    if setting.width is not None and not 0 < setting.width <= MAX_WIDTH:
        raise Invalid(f"{where}: width is {_shown(setting.width)}, expected above 0 and at most {MAX_WIDTH:g}")
    try:
        tuning_goal(setting, seed=0)
    except Invalid as error:
        raise Invalid(f"{where}: {error}") from None
    return setting


def _integer(given: Mapping[str, object], name: str, where: str) -> int | None:
    value = given.get(name)
    if isinstance(value, float) and value.is_integer():  # as JSON may write an integer
        return int(value)
    if value is None or (isinstance(value, int) and not isinstance(value, bool)):
        return value
    raise Invalid(f"{where}: {name} is {_shown(value)}, expected a whole number")


def _width(given: Mapping[str, object], where: str) -> float | None:
    value = given.get("width")
    if value is None or (isinstance(value, int | float) and not isinstance(value, bool)):
        return value
    raise Invalid(f"{where}: width is {_shown(value)}, expected a number")


def json_schema() -> dict[str, Any]:
    """Return the JSON schema of a grid."""

    def some(kind: dict[str, Any]) -> dict[str, Any]:
        return {"anyOf": [kind, {"type": "array", "minItems": 1, "items": kind}]}

    def number(most: int) -> dict[str, Any]:
        return {"type": ["integer", "null"], "minimum": 1, "maximum": most}

    tables, probes = some(number(MAX_TABLES)), some(number(MAX_PROBES))
    hashes = some(number(MAX_HASHES))
    width = some({"type": ["number", "null"], "exclusiveMinimum": 0, "maximum": MAX_WIDTH})
    p_stable = {"family": some({"const": P_STABLE}), "tables": tables, "hashes": hashes, "width": width}
    plain = {
        "tables": some({**number(MAX_TABLES), "type": "integer"}),
        "hashes": some({**number(MAX_HASHES), "type": "integer"}),
        "width": some({"type": "number", "exclusiveMinimum": 0, "maximum": MAX_WIDTH}),
        "probes": some({**number(MAX_PROBES), "type": "integer"}),
    }
    principal = some({"const": "principal"})

    def setting(said: str, properties: dict[str, Any], required: tuple[str, ...] = ()) -> dict[str, Any]:
        made = {"description": said, "type": "object", "additionalProperties": False, "properties": properties}
        return {**made, "required": list(required)} if required else made

    entry = {
        "anyOf": [
            setting("The p-stable family.", {**p_stable, "space": principal, "probes": probes}),
            setting(
                "The p-stable family on the embeddings themselves.",
                {"family": p_stable["family"], "space": some({"enum": list(SPACES)}), **plain},
                ("space", *plain),
            ),
            setting(
                "The voronoi family.",
                {
                    "family": some({"const": VORONOI}),
                    "space": principal,
                    "tables": tables,
                    "cells": some(number(MAX_CELLS)),
                    "probes": probes,
                },
                ("family",),
            ),
            setting(
                "Several families.",
                {"family": some({"enum": list(FAMILIES)}), "space": principal, "tables": tables, "probes": probes},
                ("family",),
            ),
        ]
    }
    return {"anyOf": [entry, {"type": "array", "minItems": 1, "items": entry}]}


def tuning_goal(setting: IndexSetting, *, seed: int) -> Goal:
    """Return the tuner's goal that leaves it no choice but where the setting does."""
    return Goal(seed=seed, families=(setting.family,), **setting.given())
