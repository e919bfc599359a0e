"""What records say of images that an answer names, and hits in the order of a field or in groups by one."""

import json
from collections.abc import Mapping, Sequence
from typing import Final

from services.query.records.selection import Selections
from shared.errors import Invalid
from shared.records.index_tables import span_of
from shared.records.model import LABEL, Cells, FieldType, Value, folded, record_json, values_of
from shared.records.paths import all_paths, known_paths
from shared.records.record_index import RecordIndex
from shared.rpc.query import query_pb2 as messages

_LABEL_NAMES: Final = frozenset({LABEL, "labels"})

_NAMED: Final = 3  # collections that an error names

SortKey = tuple[float, float, str, str]
PlacedHit = tuple[str, messages.Hit]
"""A hit, and the collection that it is in."""
Records = Mapping[tuple[str, int], Cells]


class Descriptions:
    """Adds labels and records to images, and arranges hits by what their records say."""

    def __init__(self, selections: Selections) -> None:
        self._selections = selections

    def add(
        self, collection: str, images: Sequence[messages.Image], *, whole: bool = False, fields: Sequence[str] = ()
    ) -> None:
        """Add labels, the present names of files and, if they are wanted, records or some of their fields."""
        index = self._selections.index(collection)
        if index is None or not (whole or fields or index.has_labels or index.has_paths):
            return
        records = index.records([image.id for image in images])
        for image in images:
            if (record := records.get(image.id)) is None:
                continue
            cells = record.cells
            if (paths := all_paths(image.name, known_paths(record.paths))) and image.name not in paths:
                image.name = paths[0]  # the file was moved
            if (labels := values_of(cells, LABEL)) is not None:
                image.labels[:] = [label.text for label in labels]
                image.label = labels[0].text if labels else ""
            if whole:
                image.record = json.dumps(record_json(cells, record.paths), ensure_ascii=False)
            elif fields:
                some = record_json({name: by for name, by in cells.items() if name in fields})
                image.record = json.dumps({"fields": some["fields"]}, ensure_ascii=False)

    def arrange(
        self, hits: Sequence[PlacedHit], *, sort: str, group: str, collections: Sequence[str]
    ) -> list[PlacedHit]:
        """Return hits in the order of a field, and those with the same first value of a field together.

        Hits without a value that has a place in the order of a field come last, whichever way it goes. Groups come in
        the order of their first hits. A field that has several types in the collections is ordered as text.

        Raises:
            Invalid: No image of the collections has the field.
        """
        indexes = {name: self._selections.index(name) for name in collections}
        types = [index.field_types() for index in indexes.values() if index is not None]
        for name in filter(None, (sort.removeprefix("-"), group)):
            if name not in _LABEL_NAMES and not any(name in known for known in types):
                places = " or ".join(map(repr, collections[:_NAMED]))
                raise Invalid(f"no image of {places} has the field {name!r} to sort or group by")
        arranged, records = list(hits), _records_of(hits, indexes)
        if sort:
            name = sort.removeprefix("-")
            given = {known[name] for known in types if name in known and name not in _LABEL_NAMES}
            field_type = given.pop() if len(given) == 1 else "text"
            arranged = _sorted(arranged, records, name, field_type, backwards=sort.startswith("-"))
        if group:
            arranged = _grouped(arranged, records, group)
        return arranged


def _records_of(hits: Sequence[PlacedHit], indexes: Mapping[str, RecordIndex | None]) -> Records:
    """Return what the records of hits say; those without a record are not there."""
    found: dict[tuple[str, int], Cells] = {}
    for name, index in indexes.items():
        ids = [hit.image.id for place, hit in hits if place == name]
        if index is not None and ids:
            found |= {(name, image_id): record.cells for image_id, record in index.records(ids).items()}
    return found


def _sorted(
    hits: Sequence[PlacedHit], records: Records, name: str, field_type: FieldType, *, backwards: bool
) -> list[PlacedHit]:
    having, rest = [], []
    for placed in hits:
        keys = (_key(value, field_type) for value in _values(placed, records, name))
        key = min((key for key in keys if key is not None), default=None)
        if key is None:
            rest.append(placed)
        else:
            having.append((key, placed))
    having.sort(key=lambda pair: pair[0], reverse=backwards)
    return [*(placed for _, placed in having), *rest]


def _grouped(hits: Sequence[PlacedHit], records: Records, name: str) -> list[PlacedHit]:
    groups: dict[str | None, list[PlacedHit]] = {}
    for placed in hits:
        value = next((value.text for value in _values(placed, records, name)), None)
        if value is not None:
            placed[1].group = value
        groups.setdefault(value, []).append(placed)
    return [placed for group in groups.values() for placed in group]


def _values(placed: PlacedHit, records: Records, name: str) -> Sequence[Value]:
    collection, hit = placed
    if name in _LABEL_NAMES:
        return [Value(label) for label in hit.image.labels]
    return values_of(records.get((collection, hit.image.id), {}), name) or ()


def _key(value: Value, field_type: FieldType) -> SortKey | None:
    """Return where a value comes in the order of its field; None: it has no place in it."""
    if field_type in {"number", "date"}:
        low, high = span_of(value.text, field_type)
        return None if low is None or high is None else (low, high, "", value.text)
    return 0.0, 0.0, folded(value.text), value.text
