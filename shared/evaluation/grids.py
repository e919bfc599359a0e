"""Grids: the settings of an index that an evaluation compares, read from JSON and checked."""

import json
from collections.abc import Iterator, Mapping
from itertools import product
from typing import Any, get_args

from shared.errors import Invalid
from shared.evaluation.index_setting import IndexSetting, SpaceName
from shared.hashing.families import FAMILIES, REGISTRY, p_stable
from shared.hashing.parameters import PARAMETERS, Parameter, ParameterName
from shared.hashing.registration import FamilyRegistration
from shared.tuning.goal import Goal

MAX_SETTINGS = 256
SPACES: tuple[SpaceName, ...] = get_args(SpaceName)
DEFAULT_FAMILY = p_stable.FAMILY
"""The family of a setting that names none."""

_SHOWN = 80  # characters of a value in a message
_NAMES = ("family", "space", *(parameter.name for parameter in PARAMETERS))
_PARAMETERS = {parameter.name: parameter for parameter in PARAMETERS}


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
    family, space = given.get("family", DEFAULT_FAMILY), given.get("space", "principal")
    if not isinstance(family, str) or family not in FAMILIES:
        raise Invalid(f"{where}: family is {_shown(family)}, expected one of {', '.join(FAMILIES)}")
    if space not in SPACES:
        raise Invalid(f"{where}: space is {_shown(space)}, expected one of {', '.join(SPACES)}")
    setting = IndexSetting(
        family=family,
        space="plain" if space == "plain" else "principal",
        tables=_integer(given, "tables", where),
        hashes=_integer(given, "hashes", where),
        width=_number(given, "width", where),
        cells=_integer(given, "cells", where),
        probes=_integer(given, "probes", where),
    )
    registration = REGISTRY[family]
    for parameter in PARAMETERS:
        if parameter.name in given and parameter.name not in registration.parameters:
            raise Invalid(f"{where}: {parameter.name} is none of the {family} family's parameters")
    if setting.space == "plain" and not _fits_plain_space(registration, given):
        families = (
            f"the {other.name} family with {', '.join(other.parameters)} all given" for other in _of_plain_space()
        )
        raise Invalid(f"{where}: the plain space takes {' or '.join(families)}")
    try:
        tuning_goal(setting, seed=0)
    except Invalid as error:
        raise Invalid(f"{where}: {error}") from None
    return setting


def _of_plain_space() -> list[FamilyRegistration]:
    """Return the families that can be drawn in the plain space."""
    return [registration for registration in REGISTRY.values() if registration.draw_in_plain_space is not None]


def _fits_plain_space(registration: FamilyRegistration, given: Mapping[str, object]) -> bool:
    """Return whether a family can be drawn in the plain space by what is given: the tuner has no say there."""
    return registration in _of_plain_space() and all(name in given for name in registration.parameters)


def _integer(given: Mapping[str, object], name: ParameterName, where: str) -> int | None:
    value = given.get(name)
    if isinstance(value, float) and value.is_integer():  # as JSON may write an integer
        return int(value)
    if value is None or (isinstance(value, int) and not isinstance(value, bool)):
        return value
    raise Invalid(f"{where}: {name} is {_shown(value)}, expected a whole number")


def _number(given: Mapping[str, object], name: ParameterName, where: str) -> float | None:
    value = given.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise Invalid(f"{where}: {name} is {_shown(value)}, expected a number")
    most = _PARAMETERS[name].most
    if not 0 < value <= most:
        raise Invalid(f"{where}: {name} is {_shown(value)}, expected above 0 and at most {most:g}")
    return value


def json_schema() -> dict[str, Any]:
    """Return the JSON schema of a grid."""
    default_first = sorted(REGISTRY.values(), key=lambda registration: registration.name != DEFAULT_FAMILY)
    kinds = [kind for registration in default_first for kind in _schemas_of_family(registration)]
    common = [
        parameter
        for parameter in PARAMETERS
        if all(parameter.name in registration.parameters for registration in REGISTRY.values())
    ]
    properties: dict[str, Any] = {
        "family": _value_or_list({"enum": list(FAMILIES)}),
        "space": _value_or_list({"const": "principal"}),
        **{parameter.name: _value_or_list(_nullable(parameter)) for parameter in common},
    }
    entry = {"anyOf": [*kinds, _schema_of_object("Several families.", properties, ("family",))]}
    return {"anyOf": [entry, {"type": "array", "minItems": 1, "items": entry}]}


def _schemas_of_family(registration: FamilyRegistration) -> Iterator[dict[str, Any]]:
    """Yield the schema of the settings of a family, and of those in the plain space if it can be drawn there."""
    parameters = [parameter for parameter in PARAMETERS if parameter.name in registration.parameters]
    family = _value_or_list({"const": registration.name})
    required = () if registration.name == DEFAULT_FAMILY else ("family",)
    properties: dict[str, Any] = {
        "family": family,
        "space": _value_or_list({"const": "principal"}),
        **{parameter.name: _value_or_list(_nullable(parameter)) for parameter in parameters},
    }
    yield _schema_of_object(f"The {registration.name} family.", properties, required)
    if registration.draw_in_plain_space is not None:
        properties = {
            "family": family,
            "space": _value_or_list({"enum": list(SPACES)}),
            **{parameter.name: _value_or_list(_schema_of(parameter)) for parameter in parameters},
        }
        yield _schema_of_object(
            f"The {registration.name} family on the embeddings themselves.",
            properties,
            (*required, "space", *registration.parameters),
        )


def _schema_of_object(description: str, properties: dict[str, Any], required: tuple[str, ...] = ()) -> dict[str, Any]:
    schema = {"description": description, "type": "object", "additionalProperties": False, "properties": properties}
    return {**schema, "required": list(required)} if required else schema


def _value_or_list(schema: dict[str, Any]) -> dict[str, Any]:
    return {"anyOf": [schema, {"type": "array", "minItems": 1, "items": schema}]}


def _schema_of(parameter: Parameter) -> dict[str, Any]:
    if parameter.whole:
        return {"type": "integer", "minimum": 1, "maximum": parameter.most}
    return {"type": "number", "exclusiveMinimum": 0, "maximum": parameter.most}


def _nullable(parameter: Parameter) -> dict[str, Any]:
    schema = _schema_of(parameter)
    return {**schema, "type": [schema["type"], "null"]}


def tuning_goal(setting: IndexSetting, *, seed: int) -> Goal:
    """Return the tuner's goal that leaves it no choice but where the setting does."""
    return Goal(seed=seed, families=(setting.family,), **setting.given())
