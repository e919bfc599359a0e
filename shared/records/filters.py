"""Which images are wanted: values of fields, spans of dates and numbers, words of a text."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from shared.errors import Invalid
from shared.records import dates
from shared.records.model import LABEL, FieldType, field_name, is_field_name, number_text, read_number

MAX_FILTERS: Final = 50  # fields
MAX_FILTER_VALUES: Final = 1000  # of a field
MAX_TEXT: Final = 1000  # characters

NONE: Final = ""
"""The value of images that have none in a field."""


@dataclass(frozen=True)
class Range:
    """From a value to a value, both included, as they were written; None: open."""

    low: str | float | None = None
    high: str | float | None = None

    def bounds(self, name: str, field_type: FieldType) -> tuple[float, float]:
        """Return the least and the greatest number, or day, that is wanted.

        Raises:
            Invalid: The field has no order, or a bound is no value of it.
        """
        if field_type not in {"number", "date"}:
            raise Invalid(f"the field {name!r} is a {field_type}: only numbers and dates have `from` and `to`")
        return self._bound(name, field_type, self.low, 0), self._bound(name, field_type, self.high, 1)

    def _bound(self, name: str, field_type: FieldType, value: str | float | None, end: int) -> float:
        if value is None:
            return float("inf") if end else float("-inf")
        if field_type == "number":
            return read_number(name, value)
        span = dates.span(str(value))
        if span is None:
            raise Invalid(f"{str(value)[:40]!r} of the filter {name!r} is no date: write it as in 1652 or 1652-03-01")
        return span[end]


Criterion = tuple[str, ...] | Range


@dataclass(frozen=True)
class RecordFilter:
    """Images that have one of the values, or a value in the range, of each field, and each word of `text`."""

    criteria: Mapping[str, Criterion] = field(default_factory=dict)
    text: str = ""

    def __bool__(self) -> bool:
        return bool(self.criteria or self.text.strip())

    @property
    def labels(self) -> frozenset[str] | None:
        """The labels that are wanted, None for any."""
        wanted = self.criteria.get(LABEL)
        return frozenset(wanted) if isinstance(wanted, tuple) else None


def parse_filter(given: str, text: str = "") -> RecordFilter:
    """Return the filter that JSON like ``{"creator": ["…"], "date": {"from": "1650", "to": "1700"}}`` stands for.

    Raises:
        Invalid: It does not fit; the message names the field.
    """
    if len(text) > MAX_TEXT:
        raise Invalid(f"the text has {len(text)} characters, at most {MAX_TEXT} are taken")
    if not given.strip():
        return RecordFilter(text=text)
    try:
        values = json.loads(given)
    except (ValueError, RecursionError) as error:
        raise Invalid(f"the filter is not JSON: {str(error)[:100]}") from None
    return filter_of(values, text)


def filter_of(values: object, text: str = "") -> RecordFilter:
    """Return the filter that a JSON object stands for.

    Raises:
        Invalid: It does not fit; the message names the field.
    """
    if not isinstance(values, Mapping):
        raise Invalid('the filter should be an object of fields, as in {"creator": ["…"]}')
    if len(values) > MAX_FILTERS:
        raise Invalid(f"the filter names {len(values)} fields, at most {MAX_FILTERS} are taken")
    criteria = {}
    for name, wanted in values.items():
        plain = name if is_field_name(name) else LABEL if name == "labels" else field_name(str(name))
        criteria[LABEL if plain == "labels" else plain] = _criterion(plain, wanted)
    return RecordFilter(criteria, text)


def filter_to_json(wanted: RecordFilter) -> str:
    """Return the JSON of a filter; empty: nothing is filtered."""
    if not wanted.criteria:
        return ""
    return json.dumps(
        {
            name: {"from": criterion.low, "to": criterion.high} if isinstance(criterion, Range) else list(criterion)
            for name, criterion in wanted.criteria.items()
        },
        ensure_ascii=False,
    )


def _criterion(name: str, wanted: object) -> Criterion:
    if isinstance(wanted, Mapping):
        low, high = wanted.get("from"), wanted.get("to")
        if set(wanted) - {"from", "to"} or not all(_is_value(bound) or bound is None for bound in (low, high)):
            raise Invalid(f"the filter {name!r} has more than `from` and `to`, or one of them is no text and no number")
        return Range(low or None if low != 0 else 0, high or None if high != 0 else 0)
    items = wanted if isinstance(wanted, list | tuple) else [wanted]
    if len(items) > MAX_FILTER_VALUES:
        raise Invalid(f"the filter {name!r} has {len(items)} values, at most {MAX_FILTER_VALUES} are taken")
    if not items or not all(_is_value(item) or item is None for item in items):
        raise Invalid(f"the filter {name!r} should be a list of values, or an object with `from` and `to`")
    return tuple(_text(item) for item in items)


def _text(item: object) -> str:
    return number_text(item) if isinstance(item, int | float) else str(item or NONE)


def _is_value(item: object) -> bool:
    return isinstance(item, str | int | float) and not isinstance(item, bool)
