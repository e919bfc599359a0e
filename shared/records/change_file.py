"""Change objects: what was said of images at one moment, or a merge of several of them, as compressed JSON lines.

The first line is a header; it is compressed by itself, so that it can be read without the rest. Each later line is of
one image, in ascending order of ids, or declares the type of a field:

    {"format": 2, "inputs": ["…"]}
    {"field": "height", "type": "number", "stamp": 1732800000000000000}
    {"id": 42, "cells": {"creator": {"csv": [1732800000000000000, ["Rembrandt van Rijn"]]}}}
    {"id": 43, "erased": 1732800000000000000}
    {"id": 44, "paths": {"/mnt/photos": {"2024/1.jpg": [1732800000000000000, "present", "2024"]}}}

What is `erased` of an image is every cell and path that is not later than the stamp. Format 1 has no paths.
"""

import gzip
import heapq
import io
import itertools
import json
import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from operator import attrgetter
from typing import Any, BinaryIO, Final, get_args

from shared.errors import Invalid
from shared.records.model import Cells, FieldType, cells_from_json, cells_to_json, merge
from shared.records.paths import Paths, later_than, merge_paths, paths_from_json, paths_to_json
from shared.versioned import StoredKind

_KIND: Final = StoredKind("change of records", 2)
HEADER_BYTES: Final = 2**20  # more than a header has


@dataclass
class ImageChange:
    """What a change says of an image: cells, paths, and up to which moment everything is erased."""

    id: int
    cells: Cells = field(default_factory=dict)
    erased: int = 0
    paths: Paths = field(default_factory=dict)

    def copy(self) -> "ImageChange":
        """Return a change that says the same, which may be changed by itself."""
        cells = {name: dict(by_origin) for name, by_origin in self.cells.items()}
        paths = {source: dict(entries) for source, entries in self.paths.items()}
        return ImageChange(self.id, cells, self.erased, paths)

    def merge(self, other: "ImageChange") -> None:
        """Take over what another change says of the same image."""
        merge(self.cells, other.cells)
        merge_paths(self.paths, other.paths)
        self.erased = max(self.erased, other.erased)
        self.drop_erased()

    @property
    def stamp(self) -> int:
        """The latest stamp of what it says, or up to which it erases; 0: it says nothing."""
        cells = [cell.stamp for by_origin in self.cells.values() for cell in by_origin.values()]
        paths = [entry.stamp for entries in self.paths.values() for entry in entries.values()]
        return max([self.erased, *cells, *paths])

    def drop_erased(self) -> None:
        """Leave out the cells and paths that are erased."""
        if self.erased:
            self.paths = later_than(self.paths, self.erased)
            self.cells = {
                name: kept
                for name, held in self.cells.items()
                if (kept := {origin: cell for origin, cell in held.items() if cell.stamp > self.erased})
            }


@dataclass(frozen=True)
class FieldChange:
    """The type that a field has since a moment."""

    field: str
    type: FieldType
    stamp: int


Change = ImageChange | FieldChange


@dataclass(frozen=True)
class Header:
    """The names of the change objects that an object is a merge of; none: it is no merge."""

    inputs: tuple[str, ...] = ()


def write(file: BinaryIO, header: Header, fields: Iterable[FieldChange], images: Iterable[ImageChange]) -> None:
    """Write a change object; `images` come in ascending order of ids."""
    with gzip.GzipFile(fileobj=file, mode="wb", mtime=0) as packed:
        packed.write(_KIND.dumps({"inputs": list(header.inputs)}) + b"\n")
    with gzip.GzipFile(fileobj=file, mode="wb", mtime=0, compresslevel=5) as packed:
        for declared in fields:
            packed.write(_line({"field": declared.field, "type": declared.type, "stamp": declared.stamp}))
        for image in images:
            values: dict[str, Any] = {"id": image.id}
            if image.cells:
                values["cells"] = cells_to_json(image.cells)
            if image.paths:
                values["paths"] = paths_to_json(image.paths)
            if image.erased:
                values["erased"] = image.erased
            packed.write(_line(values))


def read_header(data: bytes, *, place: str) -> Header:
    """Return the header of the object that begins with these bytes.

    Raises:
        Invalid: It has none, or a newer version wrote it.
    """
    try:
        line = zlib.decompressobj(wbits=31).decompress(data, HEADER_BYTES * 16)
    except zlib.error as error:
        raise Invalid(f"the change of records {place!r} cannot be read: {error}") from error
    return _KIND.loads(line, lambda values: Header(tuple(values["inputs"])), place=place)


def read(file: BinaryIO, *, place: str) -> Iterator[Change]:
    """Yield what a change object says.

    Raises:
        Invalid: It is damaged, or a newer version wrote it.
    """
    try:
        with gzip.GzipFile(fileobj=file, mode="rb") as packed, io.BufferedReader(packed) as lines:
            _KIND.loads(next(lines), lambda values: values, place=place)
            for line in lines:
                yield _change(json.loads(line))
    except (OSError, EOFError, zlib.error, ValueError, TypeError, KeyError, StopIteration) as error:
        raise Invalid(f"the change of records {place!r} cannot be read: {error}") from error


def merged(changes: Sequence[Iterator[Change]]) -> tuple[list[FieldChange], Iterator[ImageChange]]:
    """Return what several changes say together: the fields, and image by image in ascending order of ids."""
    fields: dict[str, FieldChange] = {}
    images: list[Iterator[ImageChange]] = []
    for some in changes:
        rest: Iterator[Change] = some
        for change in some:
            if isinstance(change, FieldChange):
                held = fields.get(change.field)
                if held is None or (change.stamp, change.type) > (held.stamp, held.type):
                    fields[change.field] = change
            else:
                rest = itertools.chain([change], some)
                break
        images.append(change for change in rest if isinstance(change, ImageChange))
    return [fields[name] for name in sorted(fields)], _together(images)


def _together(images: Sequence[Iterator[ImageChange]]) -> Iterator[ImageChange]:
    ordered = heapq.merge(*images, key=attrgetter("id"))
    together: ImageChange | None = None
    for image in ordered:
        if together is not None and together.id == image.id:
            together.merge(image)
            continue
        if together is not None:
            yield together
        together = image
    if together is not None:
        yield together


def _line(values: dict[str, Any]) -> bytes:
    return json.dumps(values, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode() + b"\n"


def _change(values: Any) -> Change:
    if "field" in values:
        if values["type"] not in get_args(FieldType):
            raise Invalid(f"the field {values['field']!r} has the unknown type {values['type']!r}")
        return FieldChange(str(values["field"]), values["type"], int(values["stamp"]))
    return ImageChange(
        int(values["id"]),
        cells_from_json(values.get("cells", {})),
        int(values.get("erased", 0)),
        paths_from_json(values.get("paths", {})),
    )
