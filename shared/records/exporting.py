"""Exports of a collection: its images with their records, or their vectors."""

import json
import tempfile
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any, Final, Literal

import numpy as np
import pyarrow as pa

from shared.clients import Clients
from shared.index.segment_reader import SegmentReader
from shared.records import vector_files
from shared.records.editing import all_images, named_images
from shared.records.importing import TECHNICAL
from shared.records.model import STANDARD, guess_type, number_text
from shared.records.parquet_tables import FIELD_TYPE
from shared.records.tables import csv_lines, join
from shared.rpc.query import Image, QueryClient
from shared.schemas.images import paths_of, record_of
from shared.storage import segments
from shared.storage.catalog import EmbeddingSet
from shared.timestamps import rfc3339

Format = Literal["csv", "jsonl", "parquet", "vectors", "npy"]
MEDIA_TYPES: Final[Mapping[str, str]] = {
    "csv": "text/csv",
    "jsonl": "application/jsonl",
    "parquet": "application/vnd.apache.parquet",
    "vectors": "application/vnd.apache.parquet",
    "npy": "application/octet-stream",
}
EXTENSIONS: Final[Mapping[str, str]] = {
    "csv": ".csv",
    "jsonl": ".jsonl",
    "parquet": ".parquet",
    "vectors": ".vectors.parquet",
    "npy": ".npy",
}
_NUMBERS: Final = frozenset({"id", "bytes", "pixel_width", "pixel_height"})


def export(
    clients: Clients,
    query: QueryClient,
    collection: str,
    kind: Format,
    *,
    filter: str = "",  # noqa: A002 -- as the API calls it
    text: str = "",
    ids: Sequence[int] = (),
) -> Iterator[bytes]:
    """Return the parts of a file with the images that pass a filter, or with those of `ids` that are there.

    Raises:
        NotFound: There is no such collection.
        Invalid: The filter does not fit.
        Unavailable: A server does not answer.
    """
    types = dict(query.facets(collection, filter=filter, text=text, fields=["label"], limit=1).types)
    images = named_images(query, collection, ids) if ids else all_images(query, collection, filter=filter, text=text)
    if kind == "csv":
        texts = [name for name, field_type in types.items() if field_type == "text" and name not in STANDARD]
        found = query.facets(collection, filter=filter, text=text, fields=texts, limit=1).facets if texts else []
        first = {facet.field: guess_type([value.value for value in facet.values]) for facet in found}
        return _csv(images, types, {name for name, guessed in first.items() if guessed != "text"})
    if kind == "jsonl":
        return _json_lines(images, types)
    if kind == "parquet":
        return _parquet(images, types)
    return (_vectors if kind == "vectors" else _npy)(clients, collection, images)


def _csv(images: Iterable[Image], types: Mapping[str, str], texts: Collection[str]) -> Iterator[bytes]:
    """Yield a CSV file; `texts` are fields of text that an import might take for something else."""
    own = sorted(types)
    columns = [*TECHNICAL, "paths", "labels", *(_column(name, types[name], texts) for name in own)]
    for line in csv_lines(columns, (_cells(image, own) for image in images)):
        yield line.encode()


def _column(name: str, field_type: str, texts: Collection[str]) -> str:
    told = name not in STANDARD and (field_type != "text" or name in texts)
    return f"{name}:{field_type}" if told else name


def _cells(image: Image, names: Sequence[str]) -> list[str]:
    fields = record_of(image)["fields"]
    technical = [join([value]) if isinstance(value, str) else str(value) for value in _technical(image)]
    return [
        *technical,
        join(paths_of(image)[0]),
        join(list(image.labels)),
        *(join([cell["value"] for cell in fields.get(name, ())]) for name in names),
    ]


def _technical(image: Image) -> list[Any]:
    size = (image.size, image.media_type, image.width, image.height)
    return [image.id, image.name, image.digest, *size, rfc3339(image.added)]


def _json_lines(images: Iterable[Image], types: Mapping[str, str]) -> Iterator[bytes]:
    for image in images:
        record = record_of(image)
        others = {name: kept for name, kept in record["alternatives"].items() if name != "label"}
        hidden: dict[str, list[Any]] = {name: [] for name in others if name not in record["fields"]}
        values = {
            **dict(zip(TECHNICAL, _technical(image), strict=True)),
            "paths": paths_of(image)[0],
            "labels": list(image.labels),
            "fields": {**record["fields"], **hidden},
            "alternatives": others,
            "types": {name: types[name] for name in record["fields"] if name in types},
        }
        yield json.dumps(values, ensure_ascii=False).encode() + b"\n"


def _parquet(images: Iterable[Image], types: Mapping[str, str]) -> Iterator[bytes]:
    """Yield a Parquet file; fields of numbers that have other values, too, are columns of text."""
    own = {name: f"field_{name}" if name in {*TECHNICAL, "paths", "labels"} else name for name in sorted(types)}
    numbers = {name for name in own if types[name] == "number"}
    with tempfile.TemporaryFile("w+", encoding="utf-8") as rows:
        for image in images:
            fields = record_of(image)["fields"]
            values = {own[name]: [cell["value"] for cell in fields.get(name, ())] for name in own}
            numbers -= {name for name in numbers if any(isinstance(value, str) for value in values[own[name]])}
            technical = dict(zip(TECHNICAL, _technical(image), strict=True))
            row = technical | {"paths": paths_of(image)[0], "labels": list(image.labels)} | values
            rows.write(json.dumps(row) + "\n")
        rows.seek(0)
        schema = pa.schema(
            [
                *((name, pa.int64() if name in _NUMBERS else pa.string()) for name in TECHNICAL),
                ("paths", pa.list_(pa.string())),
                ("labels", pa.list_(pa.string())),
                *(_parquet_field(own[name], types[name], is_number=name in numbers) for name in own),
            ]
        )
        texts = [own[name] for name in own if name not in numbers]
        yield from vector_files.parquet_parts(schema, (_with_texts(json.loads(line), texts) for line in rows))


def _parquet_field(column: str, field_type: str, *, is_number: bool) -> pa.Field:
    values = pa.float64() if is_number else pa.string()
    return pa.field(column, pa.list_(values), metadata={FIELD_TYPE: field_type})


def _with_texts(row: dict[str, Any], columns: Iterable[str]) -> dict[str, Any]:
    """Return a row whose numbers are texts in these columns."""
    return row | {
        name: [value if isinstance(value, str) else number_text(value) for value in row[name]] for name in columns
    }


def _vectors(clients: Clients, collection: str, images: Iterable[Image]) -> Iterator[bytes]:
    """Yield a Parquet file with the embeddings of images; its metadata names model and version."""
    active = clients.catalog.get(collection)

    def rows() -> Iterator[dict[str, Any]]:
        left = {image.id: image for image in images}
        for image_id, vector in _embeddings(clients, active):
            if (image := left.pop(image_id, None)) is not None:
                technical = dict(zip(TECHNICAL, _technical(image), strict=True))
                yield {**technical, **_beside(image), "labels": list(image.labels), "vector": vector}

    return vector_files.parquet_parts(vector_files.schema(active.model, active.version, active.dim), rows())


def _beside(image: Image) -> dict[str, Any]:
    """Return the flags of an image, and which page of a document it is."""
    if not image.HasField("document"):
        return {"flags": list(image.flags), "document": None, "page": None, "pages": None}
    page = image.document
    return {"flags": list(image.flags), "document": page.digest, "page": page.page, "pages": page.pages}


def _npy(clients: Clients, collection: str, images: Iterable[Image]) -> Iterator[bytes]:
    """Yield a NumPy file with the embeddings of images, in the order of their ids."""
    active = clients.catalog.get(collection)
    wanted = {image.id for image in images}
    ids = sorted(wanted)

    def rows() -> Iterator[tuple[int, vector_files.Vectors]]:
        for image_id, vector in _embeddings(clients, active):
            if image_id in wanted:
                wanted.remove(image_id)
                yield image_id, vector

    return vector_files.npy_parts(rows(), ids, active.dim)


def _embeddings(clients: Clients, active: EmbeddingSet) -> Iterator[tuple[int, vector_files.Vectors]]:
    """Yield the embedding of each live row of an embedding set."""
    reader, tombstones = SegmentReader(clients.store), clients.catalog.tombstones_by_segment(active.name)
    for segment in clients.catalog.segments(active.name):
        table = reader.read(active, segment)
        vectors = segments.vectors_of(table)
        for place, image_id in enumerate(segments.ids_of(table).tolist()):
            if image_id not in tombstones[segment]:
                yield image_id, np.asarray(vectors[place], dtype=np.float32)
