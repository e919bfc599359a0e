"""Importing a table of records: which image each row means, which field each column, and what is new."""

import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal, get_args

from shared.errors import Invalid
from shared.records.change_file import FieldChange, ImageChange
from shared.records.model import (
    LABEL,
    ORIGINS,
    STANDARD,
    Cell,
    Cells,
    FieldType,
    Origin,
    Value,
    checked_values,
    field_name,
    guess_type,
    is_plain_number,
)
from shared.records.paths import PathEntry
from shared.records.tables import Row, Table, header_of, split

Key = Literal["filename", "identifier", "id"]
KEYS: Final[tuple[Key, ...]] = get_args(Key)
TECHNICAL: Final = ("id", "filename", "digest", "bytes", "media_type", "pixel_width", "pixel_height", "added")
"""Columns of an export that say nothing of a record."""

_KEY_COLUMNS: Final[Mapping[Key, Sequence[str]]] = {
    "filename": ("filename", "file_name", "file", "path", "name", "image"),
    "identifier": ("identifier", "object_number", "inventory_number", "accession_number", "id"),
    "id": ("id", "image_id", "digest"),
}
_LABELS: Final = frozenset({"label", "labels", "class"})
_SAMPLE: Final = 1000  # rows that show that a new column is text


@dataclass(frozen=True)
class KnownImage:
    """An image of the collection, as far as rows are matched with it."""

    id: int
    name: str
    digest: str
    labels: tuple[str, ...] = ()
    identifiers: tuple[str, ...] = ()
    paths: tuple[str, ...] = ()


@dataclass(frozen=True)
class Unmatched:
    """A row that means no image, by its number, the value of its key, and why."""

    row: int
    key: str
    reason: str


@dataclass(frozen=True)
class Import:
    """What an import would store, and what of the table it leaves out.

    Attributes:
        changes: What is said of images.
        types: The types of own fields that are new.
        matched: Rows that mean an image.
        unmatched: Rows that do not.
        ignored: Columns that are not imported, and why.
        refused: Cells that are not imported, as `unmatched`.
    """

    changes: Sequence[ImageChange]
    types: Mapping[str, FieldType]
    rows: int
    matched: int
    unmatched: Sequence[Unmatched]
    ignored: Mapping[str, str]
    refused: Sequence[Unmatched] = field(default_factory=list)

    def fields(self, stamp: int) -> list[FieldChange]:
        """Return the declarations of new fields."""
        return [FieldChange(name, field_type, stamp) for name, field_type in sorted(self.types.items())]


class _Images:
    """Finds images by a key."""

    def __init__(self, key: Key, images: Iterable[KnownImage]) -> None:
        self._key = key
        self._exact: dict[str, list[KnownImage]] = {}
        self._loose: dict[str, list[KnownImage]] = {}
        for image in images:
            for exact in self._exact_keys(image):
                self._exact.setdefault(exact, []).append(image)
            if key == "filename":
                self._loose.setdefault(_base(image.name), []).append(image)

    def find(self, value: str) -> list[KnownImage] | str:
        """Return the images that a value means, or why it means none."""
        plain = unicodedata.normalize("NFC", value.strip())
        if not plain:
            return "the key is empty"
        if found := self._exact.get(plain):
            return found
        found = self._loose.get(_base(plain), []) if "/" not in plain.replace("\\", "/") else []
        if len(found) > 1:
            return f"{len(found)} images have this file name: give their paths"
        return found or "no image of the collection has it"

    def _exact_keys(self, image: KnownImage) -> list[str]:
        if self._key == "filename":
            return list({unicodedata.normalize("NFC", name): None for name in (image.name, *image.paths)})
        return [str(image.id), image.digest] if self._key == "id" else list(image.identifiers)


def _base(name: str) -> str:
    return unicodedata.normalize("NFC", name.replace("\\", "/").rpartition("/")[2]).casefold()


def plan_import(
    table: Table,
    key: Key,
    images: Iterable[KnownImage],
    *,
    types: Mapping[str, FieldType],
    stamp: int,
    column: str = "",
) -> Import:
    """Return what importing a table into a collection comes to.

    Args:
        table: The table.
        key: By what rows are matched.
        images: All images of the collection.
        types: The types of the fields that the collection has.
        stamp: When it is said.
        column: Which column has the key; empty: the one that is named for it.

    Raises:
        Invalid: There is no such column, or a value does not fit.
    """
    key_column = _key_column(table, key, column)
    found = _Images(key, images)
    names, ignored = _columns(table, key_column)
    new_types = _new_types(table, names, types)
    known = {**STANDARD, **types, **new_types}
    changes: dict[int, ImageChange] = {}
    unmatched: list[Unmatched] = []
    refused: list[Unmatched] = []
    matched = 0
    for row in table.rows:
        value = str(row.cells.get(key_column) or "")
        meant = found.find(value)
        if isinstance(meant, str):
            unmatched.append(Unmatched(row.number, value[:200], meant))
            continue
        matched += 1
        for image in meant:
            try:
                cells = (
                    _exported_cells(row, stamp, image) if table.exported else _cells(row, names, known, stamp, image)
                )
            except Invalid as error:
                refused.append(Unmatched(row.number, value[:200], str(error)))
                continue
            change = changes.setdefault(image.id, ImageChange(image.id))
            _add(change, cells, repeated=not table.exported)
            if table.exported and (paths := _new_paths(row, image)):
                change.paths.setdefault("", {}).update({path: PathEntry(stamp, "present") for path in paths})
    kept = [change for change in changes.values() if change.cells or change.paths]
    return Import(kept, new_types, len(table.rows), matched, unmatched, ignored, refused)


def _key_column(table: Table, key: Key, column: str) -> str:
    wanted = [column] if column else list(_KEY_COLUMNS[key])
    for name in wanted:
        for candidate in table.columns:
            if candidate == name or _plain(candidate) == name:
                return candidate
    raise Invalid(
        f"no column has the key: none is named {' or '.join(wanted[:3])}; the file has the columns "
        f"{', '.join(table.columns[:20])}"
    )


def _plain(column: str) -> str:
    try:
        return field_name(header_of(column).name)
    except Invalid:
        return ""


def _columns(table: Table, key_column: str) -> tuple[dict[str, str], dict[str, str]]:
    """Return the field of each column that is imported, and why others are not."""
    names: dict[str, str] = {}
    ignored: dict[str, str] = {}
    for column in table.columns:
        plain = _plain(column)
        if table.exported:
            continue
        if plain in _LABELS:
            names[column] = LABEL
        elif column == key_column and plain != "identifier":
            continue
        elif plain in {*TECHNICAL, "paths"}:
            ignored[column] = "the system finds it out by itself"
        elif not plain:
            ignored[column] = "it has no name that can be that of a field: begin with a letter"
        else:
            names[column] = plain
    return names, ignored


def _new_types(table: Table, names: Mapping[str, str], types: Mapping[str, FieldType]) -> dict[str, FieldType]:
    """Return the types of fields that the collection does not have yet."""
    found: dict[str, FieldType] = {}
    for column, name in names.items():
        declared = header_of(column).type
        if name == LABEL or name in STANDARD or (name in types and declared in {None, types[name]}):
            continue
        found[name] = declared or _guessed(table.rows, column)
    for row in table.rows if table.exported else ():
        given = row.cells.get("types")
        found |= {
            field_name(name): declared
            for name, declared in (given if isinstance(given, dict) else {}).items()
            if declared in get_args(FieldType) and name not in STANDARD and types.get(name) != declared
        }
    return found


def _guessed(rows: Sequence[Row], column: str) -> FieldType:
    """Return the type of a column by all its values: one ``007`` among numbers makes it text."""
    guess: FieldType = "text"
    for some in (rows[:_SAMPLE], rows):
        values = [
            value for row in some for value in split(row.cells.get(column)) if isinstance(value, str | int | float)
        ]
        guess = guess_type(values)
        if values and guess == "text":
            break
    return guess


def _cells(row: Row, names: Mapping[str, str], known: Mapping[str, FieldType], stamp: int, image: KnownImage) -> Cells:
    given: dict[str, list[Value]] = {}
    for column, name in names.items():
        if column not in row.cells:
            continue
        lang = header_of(column).lang
        items = [
            {"value": item, "lang": lang} if lang and isinstance(item, str) else item
            for item in split(row.cells[column])
        ]
        field_type = None if name == LABEL else known.get(name)
        if field_type == "number" and header_of(column).type is None and not all(map(_is_number, items)):
            field_type = None
        try:
            values = checked_values(name, items, field_type)
        except Invalid:
            if field_type not in {"number", "link"} or name in STANDARD:
                raise
            values = checked_values(name, items)  # kept as it is written: it is found as text
        given.setdefault(name, []).extend(values)
    if tuple(value.text for value in given.get(LABEL, [])) == image.labels:
        given.pop(LABEL, None)
    return {name: {"csv": Cell(stamp, tuple(dict.fromkeys(values)))} for name, values in given.items()}


def _is_number(item: object) -> bool:
    return is_plain_number(item) if isinstance(item, str) else isinstance(item, int | float)


def _exported_cells(row: Row, stamp: int, image: KnownImage) -> Cells:
    """Return the cells of a line that an export wrote."""
    cells: Cells = {}
    for part in ("fields", "alternatives"):
        given = row.cells.get(part) or {}
        if not isinstance(given, dict):
            raise Invalid(f"`{part}` is no object of fields, as an export writes it: {str(given)[:80]}")
        for name, values in given.items():
            plain = field_name(str(name))
            items: Sequence[Any] = values if isinstance(values, list) else [values]
            if part == "fields" and not items:
                cells.setdefault(plain, {})["edit"] = Cell(stamp, ())
            for item in items:
                named = item.get("origin") if isinstance(item, Mapping) else None
                origin: Origin = next((known for known in ORIGINS if known == named), "csv")
                held = cells.setdefault(plain, {}).get(origin)
                more = checked_values(plain, [item])
                cells[plain][origin] = Cell(stamp, (*(held.values if held else ()), *more))
    labels = row.cells.get("labels")
    if isinstance(labels, list) and tuple(labels) != image.labels:
        cells[LABEL] = {"csv": Cell(stamp, checked_values(LABEL, labels))}
    return cells


def _new_paths(row: Row, image: KnownImage) -> list[str]:
    """Return the paths of a line that an export wrote which the image does not have."""
    paths = row.cells.get("paths")
    given = paths if isinstance(paths, list) else []
    return [path for path in given if isinstance(path, str) and path not in image.paths]


def _add(change: ImageChange, cells: Cells, *, repeated: bool) -> None:
    """Add cells to what other rows said of the same image: their values come together."""
    for name, by_origin in cells.items():
        for origin, cell in by_origin.items():
            held = change.cells.get(name, {}).get(origin)
            values = (*(held.values if held and repeated else ()), *cell.values)
            change.cells.setdefault(name, {})[origin] = Cell(cell.stamp, tuple(dict.fromkeys(values)))
