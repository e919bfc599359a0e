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

SortKey = tuple[float, float, str, str]


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

    def arrange(self, collection: str, hits: Sequence[messages.Hit], *, sort: str, group: str) -> list[messages.Hit]:
        """Return hits in the order of a field, and those with the same first value of a field together.

        Hits that have no value come last in the order of a field, whichever way it goes. Groups come in the order of
        their first hits.

        Raises:
            Invalid: No image has the field.
        """
        index = self._selections.index(collection)
        for name in filter(None, (sort.removeprefix("-"), group)):
            if name not in _LABEL_NAMES and (index is None or name not in index.field_types()):
                raise Invalid(f"no image of {collection!r} has the field {name!r} to sort or group by")
        arranged = list(hits)
        held = {} if index is None else index.records([hit.image.id for hit in hits])
        records = {image_id: record.cells for image_id, record in held.items()}
        if sort:
            arranged = _sorted(arranged, records, sort, index)
        if group:
            arranged = _grouped(arranged, records, group)
        return arranged


def _sorted(
    hits: Sequence[messages.Hit], records: Mapping[int, Cells], sort: str, index: RecordIndex | None
) -> list[messages.Hit]:
    name, backwards = sort.removeprefix("-"), sort.startswith("-")
    field_type = "text" if index is None or name in _LABEL_NAMES else index.field_types()[name]
    keys = {
        hit.image.id: min((_key(value, field_type) for value in _values(hit, records, name)), default=None)
        for hit in hits
    }
    having = [(key, hit) for hit in hits if (key := keys[hit.image.id]) is not None]
    having.sort(key=lambda pair: pair[0], reverse=backwards)
    return [*(hit for _, hit in having), *(hit for hit in hits if keys[hit.image.id] is None)]


def _grouped(hits: Sequence[messages.Hit], records: Mapping[int, Cells], name: str) -> list[messages.Hit]:
    groups: dict[str | None, list[messages.Hit]] = {}
    for hit in hits:
        value = next((value.text for value in _values(hit, records, name)), None)
        if value is not None:
            hit.group = value
        groups.setdefault(value, []).append(hit)
    return [hit for group in groups.values() for hit in group]


def _values(hit: messages.Hit, records: Mapping[int, Cells], name: str) -> Sequence[Value]:
    if name in _LABEL_NAMES:
        return [Value(label) for label in hit.image.labels]
    return values_of(records.get(hit.image.id, {}), name) or ()


def _key(value: Value, field_type: FieldType) -> SortKey:
    """Return where a value comes in the order of its field; what has no place in it comes after what has."""
    if field_type in {"number", "date"}:
        low, high = span_of(value.text, field_type)
        none = float("inf")
        return none if low is None else low, none if high is None else high, "", value.text
    return 0.0, 0.0, folded(value.text), value.text
