"""Grids: which settings of an index are to be judged side by side, as JSON says it."""

import json
from itertools import product
from typing import Any

from shared.errors import Invalid
from shared.hashing.mixing import MAX_TABLES
from shared.hashing.probing import MAX_PROBES
from shared.hashing.pstable import FAMILY as P_STABLE
from shared.hashing.pstable import MAX_HASHES
from shared.hashing.voronoi import FAMILY as VORONOI
from shared.hashing.voronoi import MAX_CELLS
from shared.tuning.tuner import FAMILIES, Goal

MOST = 256
MOST_WIDTH = 1e9
_SHOWN = 80  # characters of a value in a message
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

    A value that is a list stands for each of its values; lists of one object are crossed. What is left out or null, the
    tuner chooses, but for the plain space.

    Raises:
        Invalid: It is no such JSON, or a value is out of its range; the message names it.
    """
    try:
        asked = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise Invalid(f"the grid is not JSON: {error}") from None
    return settings_in(asked)


def settings_in(asked: Any) -> tuple[dict[str, Any], ...]:
    """Return the settings that a grid's JSON value asks for, as `settings_of` does."""
    entries = asked if isinstance(asked, list) else [asked]
    found: list[dict[str, Any]] = []
    for place, entry in enumerate(entries):
        if not isinstance(entry, dict):
            raise Invalid(f"entry {place} of the grid is {_shown(entry)}, expected an object such as {{'tables': 8}}")
        if strange := sorted(entry.keys() - _PARAMETERS):
            raise Invalid(
                f"entry {place} of the grid has {_shown(strange[0])}, expected some of {', '.join(_PARAMETERS)}"
            )
        lists = {name: _once(value) if isinstance(value, list) else [value] for name, value in entry.items()}
        if empty := [name for name, values in lists.items() if not values]:
            raise Invalid(f"entry {place} of the grid: {empty[0]} is an empty list, expected one value or several")
        for values in product(*lists.values()):
            found.append(_checked(dict(zip(lists, values, strict=True)), place))
            if len(found) > MOST:
                raise Invalid(f"the grid has more than {MOST} settings: make it coarser, or several of it")
    if not found:
        raise Invalid("the grid has no settings")
    return tuple(_once(found))


def _once(values: list[Any]) -> list[Any]:
    """Return JSON values without those that are there already."""
    return list({json.dumps(one): one for one in values}.values())


def _shown(value: object) -> str:
    return repr(value)[:_SHOWN]


def _checked(setting: dict[str, Any], place: int) -> dict[str, Any]:
    given = {name: value for name, value in setting.items() if value is not None}
    made = {"family": P_STABLE, "space": "principal"} | given
    where = f"entry {place} of the grid"
    if made["family"] not in FAMILIES:
        raise Invalid(f"{where}: family is {_shown(made['family'])}, expected one of {', '.join(FAMILIES)}")
    if made["space"] not in SPACES:
        raise Invalid(f"{where}: space is {_shown(made['space'])}, expected one of {', '.join(SPACES)}")
    for name in _NUMBERS:
        value = made.get(name)
        whole = name != "width"
        if whole and isinstance(value, float) and value.is_integer():  # as JSON may write an integer
            value = made[name] = int(value)
        if value is not None and (isinstance(value, bool) or not isinstance(value, int if whole else (int, float))):
            raise Invalid(f"{where}: {name} is {_shown(value)}, expected {'a whole number' if whole else 'a number'}")
    foreign = ("cells",) if made["family"] == P_STABLE else ("hashes", "width")
    for name in foreign:
        if name in made:
            raise Invalid(f"{where}: {name} is none of the {made['family']} family's parameters")
    if made["space"] == "plain":
        wanted = ("tables", "hashes", "width", "probes")
        if made["family"] != P_STABLE or not all(name in made for name in wanted):
            raise Invalid(f"{where}: the plain space takes the p-stable family with {', '.join(wanted)} all given")
    if "width" in made and not 0 < made["width"] <= MOST_WIDTH:
        raise Invalid(f"{where}: width is {_shown(made['width'])}, expected above 0 and at most {MOST_WIDTH:g}")
    try:
        goal_of(made, seed=0)
    except Invalid as error:
        raise Invalid(f"{where}: {error}") from None
    return made


def json_schema() -> dict[str, Any]:
    """Return the JSON schema of a grid."""

    def some(kind: dict[str, Any]) -> dict[str, Any]:
        return {"anyOf": [kind, {"type": "array", "minItems": 1, "items": kind}]}

    def number(most: int) -> dict[str, Any]:
        return {"type": ["integer", "null"], "minimum": 1, "maximum": most}

    tables, probes = some(number(MAX_TABLES)), some(number(MAX_PROBES))
    hashes = some(number(MAX_HASHES))
    width = some({"type": ["number", "null"], "exclusiveMinimum": 0, "maximum": MOST_WIDTH})
    p_stable = {"family": some({"const": P_STABLE}), "tables": tables, "hashes": hashes, "width": width}
    plain = {
        "tables": some({**number(MAX_TABLES), "type": "integer"}),
        "hashes": some({**number(MAX_HASHES), "type": "integer"}),
        "width": some({"type": "number", "exclusiveMinimum": 0, "maximum": MOST_WIDTH}),
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


def goal_of(setting: dict[str, Any], *, seed: int) -> Goal:
    """Return the tuner's goal that leaves it no choice but where the setting does."""
    given = {name: setting[name] for name in _NUMBERS if setting.get(name) is not None}
    return Goal(seed=seed, families=(setting["family"],), **given)
