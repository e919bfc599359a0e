"""A record: fields with several values each, and for each value where it came from.

A *cell* holds what one origin says of one field of an image. Of two cells for the same place, the one with the later
stamp counts, so changes may be applied in any order and more than once. Of the origins of a field, the first in
`ORIGINS` that says anything counts; the others are alternatives.
"""

import json
import math
import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, Self, get_args

from shared.errors import Invalid
from shared.records.paths import Paths, known_paths

Origin = Literal["edit", "csv", "sidecar", "xmp", "iptc", "exif", "folder"]
FieldType = Literal["text", "number", "date", "link"]

ORIGINS: Final[tuple[Origin, ...]] = get_args(Origin)  # the first counts most; `folder`: where the files lie
LABEL: Final = "label"
STANDARD: Final[Mapping[str, FieldType]] = {
    "title": "text",
    "caption": "text",
    "creator": "text",
    "date": "date",
    "credit": "text",
    "rights": "text",
    "keywords": "text",
    "place": "text",
    "source": "text",
    "identifier": "text",
    "url": "link",
}
PROSE: Final = frozenset({"title", "caption", "identifier", "url"})
"""Fields that hardly two images share a value of: they are no facets unless they are asked for."""

MAX_VALUES: Final = 500  # of a field
MAX_LENGTH: Final = 20_000  # characters of a value
MAX_FIELDS: Final = 500  # of a record
_NAME = re.compile(r"[a-z][a-z0-9_]{0,62}")
_LANGUAGE = re.compile(r"[A-Za-z]{2,8}(-[A-Za-z0-9]{1,8})*")
_NOT_IN_NAMES = re.compile(r"[^a-z0-9]+")
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]|[\ud800-\udfff]")


@dataclass(frozen=True, slots=True)
class Value:
    """A value of a field: text, or a number; `lang` is the language of a text, such as ``de``."""

    value: str | float
    lang: str | None = None

    @property
    def text(self) -> str:
        """The value as it is written."""
        return self.value if isinstance(self.value, str) else number_text(self.value)

    def to_json(self) -> Any:
        """Return what is stored of it."""
        return [self.value, self.lang] if self.lang else self.value

    @classmethod
    def from_json(cls, stored: Any) -> Self:
        """Return what was stored."""
        return cls(*stored) if isinstance(stored, list) else cls(stored)


@dataclass(frozen=True, slots=True)
class Cell:
    """What an origin says of a field since the moment `stamp`, in nanoseconds since 1970; no values: nothing."""

    stamp: int
    values: tuple[Value, ...]

    def beats(self, other: "Cell | None") -> bool:
        """Return whether this cell counts, not the other for the same place; the same for both orders."""
        return other is None or self.rank > other.rank

    @property
    def rank(self) -> tuple[int, str]:
        """Of two cells the one with the greater rank counts."""
        return self.stamp, json.dumps([value.to_json() for value in self.values])


Cells = dict[str, dict[Origin, Cell]]
"""The cells of an image by field and origin."""


@dataclass(frozen=True)
class FieldValues:
    """The values of a field that count, and where they came from."""

    values: tuple[Value, ...]
    origin: Origin


def merge(cells: Cells, others: Mapping[str, Mapping[Origin, Cell]]) -> bool:
    """Put the later ones of other cells into `cells`; returns whether anything changed."""
    changed = False
    for field, by_origin in others.items():
        held = cells.setdefault(field, {})
        for origin, cell in by_origin.items():
            if cell.beats(held.get(origin)):
                held[origin] = cell
                changed = True
    return changed


def said_of(by_origin: Mapping[Origin, Cell]) -> list[FieldValues]:
    """Return what counts of a field, then the alternatives. An edit without values hides all the others."""
    said = []
    for origin in ORIGINS:
        cell = by_origin.get(origin)
        if cell is not None and (cell.values or origin == "edit"):
            said.append(FieldValues(cell.values, origin))
    return said


def values_of(cells: Cells, field: str) -> tuple[Value, ...] | None:
    """Return the values of a field that count; None: nothing was ever said of it."""
    by_origin = cells.get(field)
    if by_origin is None:
        return None
    if len(by_origin) == 1 and (only := next(iter(by_origin.values()))).values:
        return only.values
    said = said_of(by_origin)
    return said[0].values if said else None


def cells_to_json(cells: Cells) -> dict[str, Any]:
    """Return what is stored of cells."""
    return {
        field: {origin: [cell.stamp, [value.to_json() for value in cell.values]] for origin, cell in held.items()}
        for field, held in cells.items()
    }


def cells_from_json(stored: Mapping[str, Any]) -> Cells:
    """Return the cells that were stored; those of origins that this version does not know are left out."""
    return {
        field: {
            origin: Cell(int(stamp), tuple(Value.from_json(value) for value in values))
            for origin, (stamp, values) in held.items()
            if origin in ORIGINS
        }
        for field, held in stored.items()
    }


def record_json(cells: Cells, paths: Paths | None = None) -> dict[str, Any]:
    """Return a record as answers tell it: the values that count, the alternatives, the paths, and the latest stamp."""
    fields: dict[str, list[dict[str, Any]]] = {}
    alternatives: dict[str, list[dict[str, Any]]] = {}
    for name in sorted(cells):
        said = said_of(cells[name])
        if name != LABEL and said and said[0].values:
            fields[name] = _values_json(said[0])
        if others := [value for other in said[1:] for value in _values_json(other)]:
            alternatives[name] = others
    stamps = [cell.stamp for by_origin in cells.values() for cell in by_origin.values()]
    known = [vars(path) for path in known_paths(paths or {})]
    return {"fields": fields, "alternatives": alternatives, "paths": known, "stamp": max(stamps, default=0)}


def _values_json(said: FieldValues) -> list[dict[str, Any]]:
    return [{"value": value.value, "lang": value.lang, "origin": said.origin} for value in said.values]


def field_name(name: str) -> str:
    """Return the name of a field as it is stored: ``Object Number`` is ``object_number``.

    Raises:
        Invalid: There is no such name.
    """
    plain = _NOT_IN_NAMES.sub("_", folded(name)).strip("_")
    if not _NAME.fullmatch(plain):
        raise Invalid(f"{name[:80]!r} cannot name a field: begin with a letter of a-z, and use at most 63 letters")
    return plain


def is_field_name(name: str) -> bool:
    """Return whether a name is written as field names are stored."""
    return _NAME.fullmatch(name) is not None


def folded(text: str) -> str:
    """Return a text as it is compared: without case and accents."""
    if text.isascii():
        return text.lower()
    decomposed = unicodedata.normalize("NFKD", text.casefold())
    return "".join(char for char in decomposed if not unicodedata.combining(char))


def number_text(number: float) -> str:
    """Return a number as it is written: 12, not 12.0."""
    try:
        return str(int(number)) if float(number).is_integer() and abs(number) < 1e15 else repr(float(number))
    except OverflowError:  # a whole number that no float holds
        return str(number)


def checked_values(field: str, given: object, field_type: FieldType | None = None) -> tuple[Value, ...]:
    """Return values of a field as a user gave them: one or a list; each a text, a number, or a text with a language.

    Raises:
        Invalid: They do not fit; the message names the field.
    """
    items = given if isinstance(given, list | tuple) else [] if given is None else [given]
    if len(items) > MAX_VALUES:
        raise Invalid(f"the field {field!r} has {len(items)} values, at most {MAX_VALUES} are taken")
    values = [_checked_value(field, item, field_type) for item in items]
    return tuple(dict.fromkeys(value for value in values if value.value != ""))


def _checked_value(field: str, item: object, field_type: FieldType | None) -> Value:
    lang: object = None
    if isinstance(item, Mapping):
        lang, extra = item.get("lang"), set(item) - {"value", "lang", "origin"}
        if "value" not in item or extra or not (lang is None or isinstance(lang, str)):
            raise Invalid(
                f"a value of the field {field!r} is an object without `value`, or with more than it and `lang`"
            )
        item = item["value"]
    if isinstance(lang, str) and not _LANGUAGE.fullmatch(lang):
        raise Invalid(f"{lang[:40]!r} of the field {field!r} is no language: write it as in `de` or `pt-BR`")
    if isinstance(item, bool) or not isinstance(item, str | int | float):
        raise Invalid(f"a value of the field {field!r} is {type(item).__name__}, expected a text or a number")
    if isinstance(item, float) and not math.isfinite(item):
        raise Invalid(f"a value of the field {field!r} is no finite number")
    if field_type == "number" or (field_type is None and not isinstance(item, str)):
        return Value(read_number(field, item))
    text = item if isinstance(item, str) else number_text(item)
    text = _CONTROL.sub("", unicodedata.normalize("NFC", text)).strip()
    if len(text) > MAX_LENGTH:
        raise Invalid(f"a value of the field {field!r} has {len(text):,} characters, at most {MAX_LENGTH:,} are taken")
    if field_type == "link" and text and not is_link(text):
        raise Invalid(f"{text[:80]!r} of the field {field!r} is no link: it begins with http:// or https://")
    return Value(text, lang if isinstance(lang, str) and lang else None)


def read_number(field: str, item: str | float) -> float:
    """Return a number that may be written out.

    Raises:
        Invalid: It is none.
    """
    try:
        number = float(item)
    except (ValueError, OverflowError):
        number = math.nan
    if not math.isfinite(number) or (isinstance(item, str) and "_" in item):
        raise Invalid(f"{str(item)[:80]!r} of the field {field!r} is no number")
    return number


def is_link(text: str) -> bool:
    """Return whether a text is an address of the web: nothing else becomes a link on a page."""
    return text.startswith(("http://", "https://")) and not any(char.isspace() for char in text)


def guess_type(values: Iterable[str | float]) -> FieldType:
    """Return the type of an own field that has not been declared, by its values."""
    texts: Sequence[str | float] = [value for value in values if value != ""]
    if texts and all(isinstance(value, int | float) or is_plain_number(value) for value in texts):
        return "number"
    return "link" if texts and all(isinstance(value, str) and is_link(value) for value in texts) else "text"


_PLAIN_NUMBER = re.compile(r"-?(0|[1-9]\d{0,14})(\.\d{1,15})?")


def is_plain_number(text: str) -> bool:
    """Return whether a text is the number that it looks like: ``007`` is an inventory number."""
    return _PLAIN_NUMBER.fullmatch(text) is not None
