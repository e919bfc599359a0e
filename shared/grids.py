"""Grids: which settings of an index are to be judged side by side, as JSON says it."""

import json
from itertools import product
from typing import Any

from shared.errors import Invalid
from shared.hashing.pstable import FAMILY as P_STABLE
from shared.hashing.tuning import FAMILIES, Goal

MOST = 256
SPACES = ("principal", "plain")
_PARAMETERS = {
    "family": "p-stable or voronoi",
    "space": "principal or plain",
    "tables": "L, the number of tables",
    "hashes": "k, the hash functions of a table of the p-stable family",
    "width": "w, their slot width",
    "cells": "the cells of a table of the voronoi family",
    "probes": "buckets of a table that a query looks into",
}
_NUMBERS = ("tables", "hashes", "width", "cells", "probes")


def settings_of(text: str | bytes) -> tuple[dict[str, Any], ...]:
    """Return the settings that a grid's JSON asks for: a list of objects, or one object.

    A value that is a list stands for each of its values; lists of one object are crossed. What is left out, the tuner
    chooses, but for the plain space.

    Raises:
        Invalid: It is no such JSON, or a value is out of its range; the message names it.
    """
    try:
        asked = json.loads(text)
    except ValueError as error:
        raise Invalid(f"the grid is not JSON: {error}") from None
    entries = asked if isinstance(asked, list) else [asked]
    found: list[dict[str, Any]] = []
    for place, entry in enumerate(entries):
        if not isinstance(entry, dict):
            raise Invalid(f"entry {place} of the grid is {entry!r}, expected an object such as {{'tables': 8}}")
        if strange := sorted(entry.keys() - _PARAMETERS):
            raise Invalid(f"entry {place} of the grid has {strange[0]!r}, expected some of {', '.join(_PARAMETERS)}")
        lists = {name: value if isinstance(value, list) else [value] for name, value in entry.items()}
        for values in product(*lists.values()):
            found.append(_checked(dict(zip(lists, values, strict=True)), place))
            if len(found) > MOST:
                raise Invalid(f"the grid has more than {MOST} settings: make it coarser, or several of it")
    if not found:
        raise Invalid("the grid has no settings")
    return tuple({json.dumps(one): one for one in found}.values())


def _checked(setting: dict[str, Any], place: int) -> dict[str, Any]:
    made = {"family": P_STABLE, "space": "principal"} | setting
    where = f"entry {place} of the grid"
    if made["family"] not in FAMILIES:
        raise Invalid(f"{where}: family is {made['family']!r}, expected one of {', '.join(FAMILIES)}")
    if made["space"] not in SPACES:
        raise Invalid(f"{where}: space is {made['space']!r}, expected one of {', '.join(SPACES)}")
    for name in _NUMBERS:
        value = made.get(name)
        whole = name != "width"
        if value is not None and (isinstance(value, bool) or not isinstance(value, int if whole else (int, float))):
            raise Invalid(f"{where}: {name} is {value!r}, expected {'a whole number' if whole else 'a number'}")
    foreign = ("cells",) if made["family"] == P_STABLE else ("hashes", "width")
    for name in foreign:
        if name in made:
            raise Invalid(f"{where}: {name} is none of the {made['family']} family's parameters")
    if made["space"] == "plain":
        wanted = ("tables", "hashes", "width", "probes")
        if made["family"] != P_STABLE or not all(name in made for name in wanted):
            raise Invalid(f"{where}: the plain space takes the p-stable family with {', '.join(wanted)} all given")
    if made.get("width") is not None and not made["width"] > 0:
        raise Invalid(f"{where}: width is {made['width']}, expected above 0")
    try:
        goal_of(made, seed=0)
    except Invalid as error:
        raise Invalid(f"{where}: {error}") from None
    return made


def goal_of(setting: dict[str, Any], *, seed: int) -> Goal:
    """Return the tuner's goal that leaves it no choice but where the setting does."""
    given = {name: setting[name] for name in _NUMBERS if setting.get(name) is not None}
    return Goal(seed=seed, families=(setting["family"],), **given)
