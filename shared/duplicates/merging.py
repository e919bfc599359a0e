"""Merges what is known of duplicates into the image that is kept; nothing is taken away from the others."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from shared.errors import Invalid
from shared.records.editing import edit, note_paths
from shared.records.model import LABEL
from shared.records.paths import KnownPath
from shared.records.record_store import RecordStore
from shared.rpc.query import Image, QueryClient
from shared.schemas.images import paths_of, record_of

_OF_THE_FILE: Final = frozenset({"exif"})  # of another file, which does not say more of the picture


@dataclass(frozen=True)
class Merged:
    """What an image was given: paths, labels, and the names of fields that have more values now."""

    paths: tuple[str, ...]
    labels: tuple[str, ...]
    fields: tuple[str, ...]


def merge_into(records: RecordStore, query: QueryClient, collection: str, keep: int, others: Sequence[int]) -> Merged:
    """Give an image the paths, labels and values of others that it lacks; it may run twice.

    Values are added as an edit, behind those that the image has. A camera's notes of another file (EXIF) are added only
    to a field that has no values.

    Raises:
        NotFound: There is no such collection or image.
        Invalid: The image is one of the others, or a field would have too many values.
        Unavailable: A server does not answer.
    """
    if keep in others:
        raise Invalid(f"the image {keep} is to be kept and cannot be merged into itself: leave it out of the others")
    kept = query.image(collection, keep)
    given = [query.image(collection, other) for other in dict.fromkeys(others)]
    labels = _added(list(kept.labels), [label for image in given for label in image.labels])
    fields = _fields(kept, given)
    known, vanished = paths_of(kept)
    paths = _added([*known, *vanished], [path for image in given for path in paths_of(image)[0]])
    if labels or fields:
        edit(
            records,
            query,
            collection,
            [keep],
            labels=[*kept.labels, *labels] if labels else None,
            fields=fields,
        )
    if paths:
        # Of no source: a folder that is kept in step goes on to say what lies there.
        own = [KnownPath("", kept.name, "present")] if known and known[0] == kept.name else []
        noted = [*own, *(KnownPath("", path, "present") for path in paths)]
        note_paths(records, query, collection, {keep: noted}, labels={})
    return Merged(tuple(paths), tuple(labels), tuple(sorted(fields)))


def _added(held: Sequence[str], more: Sequence[str]) -> list[str]:
    """Return what comes to what is held, each once, in order."""
    return [text for text in dict.fromkeys(more) if text not in held]


def _fields(kept: Image, others: Sequence[Image]) -> dict[str, object]:
    """Return the fields that get more values, with all their values."""
    held: dict[str, list[dict[str, Any]]] = record_of(kept)["fields"]
    fields: dict[str, list[dict[str, Any]]] = {}
    for other in others:
        for name, values in record_of(other)["fields"].items():
            if name == LABEL:
                continue
            now = fields.get(name, held.get(name, []))
            seen = {(value["value"], value["lang"]) for value in now}
            new = [
                value
                for value in values
                if (value["value"], value["lang"]) not in seen and not (now and value["origin"] in _OF_THE_FILE)
            ]
            if new:
                fields[name] = [*now, *new]
    return {
        name: [{"value": value["value"], "lang": value["lang"]} for value in values] for name, values in fields.items()
    }
