"""What stands in a message: the number of its format, and whether its fields are those that a task takes.

A message that a newer version sent, that lacks a field, has one more, or one of another type, is refused before its
task begins, by a sentence that names the field.
"""

import dataclasses
import inspect
import reprlib
import types
from collections.abc import Callable, Mapping
from typing import Any, Literal, NotRequired, Required, Union, get_args, get_origin, get_type_hints

from typing_extensions import is_typeddict  # knows those of typing_extensions too

from shared.errors import Invalid, TooNew

FORMAT = 1
"""The format of the messages that this version sends. It reads this one and all before; without a number it is 1."""
FORMAT_FIELD = "format"


def read_fields(task: Callable[..., None], message: Mapping[str, Any], *, place: str) -> dict[str, Any]:
    """Return a message as the arguments of a task: dataclasses, where the task's annotations name any.

    Args:
        task: Takes the fields as keyword arguments; its annotations say of which types.
        message: The fields, and the number of their format.
        place: What the message is called in errors.

    Raises:
        TooNew: A newer version sent it.
        Invalid: A field is missing, unknown, or of another type than expected.
    """
    fields = dict(message)
    number = fields.pop(FORMAT_FIELD, 1)
    if isinstance(number, bool) or not isinstance(number, int) or number < 1:
        raise Invalid(f"{place} has the format {number!r}, expected a number from 1")
    if number > FORMAT:
        raise TooNew(
            f"{place} was sent by a newer Artseek (format {number}; this one reads {FORMAT}): upgrade this worker"
        )
    hints = get_type_hints(task, include_extras=True)
    required = {
        name for name, field in inspect.signature(task).parameters.items() if field.default is inspect.Parameter.empty
    }
    hints.pop("return", None)
    return _read_record(fields, hints, required, place)


def _read_record(value: Any, hints: Mapping[str, Any], required: set[str], place: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise _unfit(value, "an object", place)
    if unknown := sorted(map(str, value.keys() - hints.keys())):
        raise Invalid(f"{place} has the field {unknown[0]!r}, which this version does not know")
    if missing := sorted(required - value.keys()):
        raise Invalid(f"{place} lacks the field {missing[0]!r}")
    return {name: _read(item, hints[name], f"the field {name!r} of {place}") for name, item in value.items()}


def _read(value: Any, hint: Any, place: str) -> Any:
    """Return a value of JSON as what a type hint says it is."""
    if hint is Any:
        return value
    origin = get_origin(hint)
    if origin is not None:
        return _READERS[origin](value, get_args(hint), place)
    if is_typeddict(hint):
        return _read_record(value, get_type_hints(hint, include_extras=True), set(hint.__required_keys__), place)
    if dataclasses.is_dataclass(hint):
        return _read_dataclass(value, hint, place)
    if hint is float and type(value) is int:
        return float(value)
    if type(value) is not hint:
        raise _unfit(value, _NAMES[hint], place)
    return value


def _read_marked(value: Any, parts: tuple[Any, ...], place: str) -> Any:
    return _read(value, parts[0], place)


def _read_union(value: Any, parts: tuple[Any, ...], place: str) -> Any:
    if value is None and types.NoneType in parts:
        return None
    (kind,) = (part for part in parts if part is not types.NoneType)
    return _read(value, kind, place)


def _read_literal(value: Any, parts: tuple[Any, ...], place: str) -> Any:
    if value not in parts:
        raise _unfit(value, " or ".join(map(repr, parts)), place)
    return value


def _read_list(value: Any, parts: tuple[Any, ...], place: str) -> list[Any]:
    if not isinstance(value, list):
        raise _unfit(value, "a list", place)
    return [_read(item, parts[0], f"an element of {place}") for item in value]


def _read_tuple(value: Any, parts: tuple[Any, ...], place: str) -> tuple[Any, ...]:
    return tuple(_read_list(value, parts, place))


def _read_dict(value: Any, parts: tuple[Any, ...], place: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise _unfit(value, "an object", place)
    return {name: _read(item, parts[1], f"the field {name!r} of {place}") for name, item in value.items()}


def _read_dataclass(value: Any, kind: Any, place: str) -> Any:
    required = {
        field.name
        for field in dataclasses.fields(kind)
        if field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
    }
    return kind(**_read_record(value, get_type_hints(kind, include_extras=True), required, place))


def _unfit(value: Any, expected: str, place: str) -> Invalid:
    return Invalid(f"{place} is {reprlib.repr(value)}, expected {expected}")


_NAMES = {str: "a text", int: "a whole number", float: "a number", bool: "true or false"}
_READERS: dict[Any, Callable[[Any, tuple[Any, ...], str], Any]] = {
    Required: _read_marked,
    NotRequired: _read_marked,
    Union: _read_union,
    types.UnionType: _read_union,
    Literal: _read_literal,
    list: _read_list,
    tuple: _read_tuple,
    dict: _read_dict,
}
