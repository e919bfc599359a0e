"""Edits of records, and imports into them: what people say of images of a collection that is there."""

import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from operator import attrgetter

from shared.errors import Invalid, NotFound, Unavailable
from shared.paging import all_items
from shared.records.importing import TECHNICAL, Import, Key, KnownImage, plan_import
from shared.records.model import LABEL, STANDARD, FieldType, Value, checked_values, field_name, guess_type
from shared.records.paths import KnownPath
from shared.records.record_store import RecordStore
from shared.records.tables import read_table
from shared.rpc.query import Image, QueryClient
from shared.schemas.images import paths_of, record_of

_PAGE = 1000
_AGAIN_S = 0.2
_NOT_FIELDS = frozenset({"label", "labels"})


def edit(
    records: RecordStore,
    query: QueryClient,
    collection: str,
    image_ids: Sequence[int],
    *,
    labels: Sequence[str] | None,
    fields: Mapping[str, object],
) -> int:
    """Store what an edit says of images; returns how many. `labels` of None stay; a field of None is taken away.

    Raises:
        NotFound: There is no such collection or image.
        Invalid: A value does not fit.
        Unavailable: A server does not answer.
    """
    facets = query.facets(collection, fields=[LABEL], limit=1)
    said: dict[str, Sequence[Value]] = {}
    types: dict[str, FieldType] = {}
    for name, given in fields.items():
        plain = field_name(name)
        if plain in _NOT_FIELDS:
            raise Invalid("labels are no field: give them in `labels`")
        if plain in {*TECHNICAL, "paths"}:
            raise Invalid(f"{plain!r} is what the system finds out by itself: give the field another name")
        known = STANDARD.get(plain) or _type_of(facets.types.get(plain))
        values = checked_values(plain, given, known)
        if known is None and values:
            types[plain] = guess_type([value.value for value in values])
        said[plain] = values
    if labels is not None:
        said[LABEL] = checked_values(LABEL, list(labels))
    ids = list(dict.fromkeys(image_ids))
    for image_id in ids:
        query.image(collection, image_id)
    if said:
        records.say(collection, "edit", dict.fromkeys(ids, said), types=types, after=facets.stamp)
    return len(ids)


def import_table(
    records: RecordStore,
    query: QueryClient,
    collection: str,
    data: bytes,
    key: Key,
    *,
    column: str = "",
    dry_run: bool = False,
    patience_s: float = 0.0,
    most: int = sys.maxsize,
) -> tuple[Import, bool]:
    """Import a table, in one step; its rows may take `most` bytes of memory, and what is made of them three times that.

    Returns:
        What was stored, or with `dry_run` would be; and whether searches know of it, which is waited for so long.

    Raises:
        NotFound: There is no such collection.
        Invalid: The file cannot be read, takes too much memory, or has no column with the key.
        Unavailable: A server does not answer.
    """
    table = read_table(data, most=most)
    images = [_known_image(image) for image in all_images(query, collection)]
    facets = query.facets(collection, fields=[LABEL], limit=1)
    known = {name: kept for name, found in facets.types.items() if (kept := _type_of(found)) is not None}
    stamp = max(time.time_ns(), facets.stamp + 1)
    planned = plan_import(table, key, images, types=known, stamp=stamp, column=column)
    if dry_run:
        return planned, False
    records.restore(collection, planned.changes, planned.fields(stamp))
    return planned, not planned.changes or _is_searchable(query, collection, stamp, patience_s)


def _is_searchable(query: QueryClient, collection: str, stamp: int, patience_s: float) -> bool:
    """Return whether the query service knows of what was said then; it is asked again for so long."""
    last = time.monotonic() + patience_s
    while True:
        with suppress(Unavailable):  # what was stored is found when it is back
            if query.facets(collection, fields=[LABEL], limit=1).stamp >= stamp:
                return True
        if time.monotonic() >= last:
            return False
        time.sleep(_AGAIN_S)


def all_images(
    query: QueryClient,
    collection: str,
    *,
    filter: str = "",  # noqa: A002 -- as the API calls it
    text: str = "",
    records: bool = True,
    fields: Sequence[str] = (),
) -> Iterator[Image]:
    """Yield the images of a collection, with their records or without records with some fields of them.

    Those that come meanwhile may be left out; those that stay are not, whatever is deleted.
    """

    def read(offset: int) -> Sequence[Image]:
        page = query.images(
            collection, limit=_PAGE, offset=offset, filter=filter, text=text, records=records, fields=fields
        )
        return page.images

    return all_items(read, attrgetter("id"), limit=_PAGE)


def named_images(query: QueryClient, collection: str, ids: Iterable[int]) -> Iterator[Image]:
    """Yield the images with these ids, each once, in this order, with their records; those that are gone are left out.

    Raises:
        Unavailable: A server does not answer.
    """
    for image_id in dict.fromkeys(ids):
        with suppress(NotFound):
            yield query.image(collection, image_id)


def _known_image(image: Image) -> KnownImage:
    paths, _ = paths_of(image)
    identifiers = record_of(image)["fields"].get("identifier", ())
    return KnownImage(
        image.id,
        image.name,
        image.digest,
        tuple(image.labels),
        tuple(str(identifier["value"]) for identifier in identifiers),
        tuple(paths),
    )


def _type_of(name: str | None) -> FieldType | None:
    types: Mapping[str, FieldType] = {"text": "text", "number": "number", "date": "date", "link": "link"}
    return types.get(name or "")


def note_paths(
    records: RecordStore,
    query: QueryClient,
    collection: str,
    noted: Mapping[int, Sequence[KnownPath]],
    *,
    labels: Mapping[int, Sequence[str]],
) -> None:
    """Store what is known of paths of images, and which labels their folders give them, in one step.

    Raises:
        NotFound: There is no such collection.
        Unavailable: A server does not answer.
    """
    stamp = query.facets(collection, fields=[LABEL], limit=1).stamp
    records.note_paths(collection, noted, labels=labels, after=stamp)
