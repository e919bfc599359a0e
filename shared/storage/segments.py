"""Vector segments: the rows of an embed task, or of several that were merged, as an immutable Arrow IPC file."""

import io
import json
import zlib
from collections.abc import Collection as Container
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from shared.errors import Invalid
from shared.storage.documents import DocumentPage, packed, unpacked
from shared.storage.layout import ID_BITS
from shared.versioned import StoredKind

_SEGMENT = StoredKind("segment of")
HEAD_BYTES = 65_536  # as much of a merged segment as `places_of` needs

Vectors = npt.NDArray[np.float32] | npt.NDArray[np.float16]

_TYPES = {np.dtype(np.float32): pa.float32(), np.dtype(np.float16): pa.float16()}
_CHECKSUM, _INPUTS, _PLACES = b"crc32", b"inputs", b"places"
_FLAGS = pa.field("flags", pa.string(), nullable=False)  # words, joined by spaces
_DOCUMENT = pa.field("document", pa.string(), nullable=False)  # a page of a document as a word
_NOT_OF_ENTRY = frozenset({"vector", "origin"})
_OF_ENTRY = ("id", "digest", "name", "label", "size", "media_type", "width", "height", "added")
DIGEST_BYTES = 32
_PREFACE = 8  # bytes of an Arrow IPC file before its schema
_NO_PLACES = " ".join(["0" * 12] * 4)  # of the same width as all others: what is written there moves nothing


@dataclass(frozen=True)
class Entry:
    """What a collection knows of an image, beside its embedding; `flags` say what is wrong with it.

    `document`: which page it is, of a document of several.
    """

    id: int
    digest: str
    name: str
    label: str | None
    size: int
    media_type: str
    width: int
    height: int
    added: float
    flags: tuple[str, ...] = ()
    document: DocumentPage | None = None


def schema(dim: int, vector_type: pa.DataType | None = None) -> pa.Schema:
    """Return the columns of a segment whose embeddings are `dim` numbers: float32, or of `vector_type`."""
    item = pa.field("item", vector_type or pa.float32(), nullable=False)
    return pa.schema(
        [
            pa.field("id", pa.int64(), nullable=False),
            pa.field("vector", pa.list_(item, dim), nullable=False),
            pa.field("label", pa.string()),
            pa.field("name", pa.string(), nullable=False),
            pa.field("digest", pa.binary(32), nullable=False),
            pa.field("size", pa.int64(), nullable=False),
            pa.field("media_type", pa.string(), nullable=False),
            pa.field("width", pa.int32(), nullable=False),
            pa.field("height", pa.int32(), nullable=False),
            pa.field("added", pa.float64(), nullable=False),
        ]
    )


def vector_column(vectors: Vectors) -> pa.Array:
    """Return float32 or float16 [n, dim] as a column, without a copy of each value in Python."""
    flat = pa.array(np.ascontiguousarray(vectors).reshape(-1))
    item = pa.field("item", flat.type, nullable=False)
    return pa.FixedSizeListArray.from_arrays(flat, type=pa.list_(item, vectors.shape[1]))


def serialize(table: pa.Table) -> bytes:
    """Return a table as the bytes of an Arrow IPC file with one record batch."""
    sink = io.BytesIO()  # which gives its bytes away without a copy, as Arrow's own sink does not
    with pa.ipc.new_file(sink, table.schema) as writer:
        for batch in table.combine_chunks().to_batches():
            writer.write_batch(batch)
    return sink.getvalue()


def pack(entries: Sequence[Entry], vectors: Vectors, *, collection: str, model: str, version: int) -> bytes:
    """Return a segment of n entries and their embeddings, float32 or float16 [n, dim], stored as they are.

    Raises:
        Invalid: Entries and embeddings differ in number, or an embedding is not finite.
    """
    if vectors.ndim != 2 or len(vectors) != len(entries):
        raise Invalid(f"{len(entries)} entries need as many embeddings, got an array of shape {vectors.shape}")
    if vectors.dtype not in _TYPES:
        raise Invalid(f"embeddings are of type {vectors.dtype}, expected float32 or float16")
    if not np.isfinite(vectors).all():
        raise Invalid("an embedding holds NaN or infinity: the model's export is broken, or its range is not float16's")
    columns = [
        pa.array([entry.id for entry in entries], pa.int64()),
        vector_column(vectors),
        pa.array([entry.label for entry in entries], pa.string()),
        pa.array([entry.name for entry in entries], pa.string()),
        pa.array([bytes.fromhex(entry.digest) for entry in entries], pa.binary(32)),
        pa.array([entry.size for entry in entries], pa.int64()),
        pa.array([entry.media_type for entry in entries], pa.string()),
        pa.array([entry.width for entry in entries], pa.int32()),
        pa.array([entry.height for entry in entries], pa.int32()),
        pa.array([entry.added for entry in entries], pa.float64()),
    ]
    fields = schema(vectors.shape[1], _TYPES[vectors.dtype])
    if any(entry.flags for entry in entries):  # seldom, so that no other segment has the column
        columns.append(pa.array([" ".join(entry.flags) for entry in entries], pa.string()))
        fields = fields.append(_FLAGS)
    if any(entry.document for entry in entries):
        columns.append(pa.array([packed(entry.document) for entry in entries], pa.string()))
        fields = fields.append(_DOCUMENT)
    metadata = {b"format": str(_SEGMENT.newest), b"collection": collection, b"model": model, b"version": str(version)}
    return serialize(_sealed(columns, fields, metadata))


def _sealed(columns: Sequence[pa.Array], fields: pa.Schema, metadata: Mapping[bytes, str | bytes]) -> pa.Table:
    """Return a table with a checksum of its columns in its metadata."""
    rows = pa.RecordBatch.from_arrays(list(columns), schema=fields)
    return pa.Table.from_batches([rows.replace_schema_metadata({**metadata, _CHECKSUM: f"{_checksum(rows):08x}"})])


def _checksum(rows: pa.RecordBatch) -> int:
    """Return the CRC-32 of the values of all columns; padding does not count."""
    crc = 0
    for column in rows.columns:
        for values in _values(column) if len(column) else ():
            crc = zlib.crc32(values, crc)
    return crc


def _values(column: pa.Array) -> Iterator[memoryview]:
    """Yield what a column holds: nulls, lengths of texts, values."""
    if column.null_count:
        yield column.is_null().to_numpy(zero_copy_only=False).data
    if pa.types.is_string(column.type):
        _, offsets, text = column.buffers()
        ends = np.frombuffer(offsets, np.int32)[column.offset : column.offset + len(column) + 1]
        yield (ends - ends[0]).data
        yield memoryview(text or b"")[ends[0] : ends[-1]]
    elif pa.types.is_fixed_size_list(column.type):
        yield _list_values(column).data
    else:
        width = column.type.bit_width // 8
        yield memoryview(column.buffers()[1])[column.offset * width : (column.offset + len(column)) * width]


def unpack(data: bytes | pa.Buffer, *, verify: bool = False) -> pa.RecordBatch:
    """Return the rows of a segment, still in `data` (no copy); `verify` reads all of it for its checksum.

    A segment that was written without a checksum is held to the rules of the format alone.

    Raises:
        Invalid: The bytes are no segment, or not the ones that were written.
    """
    try:
        reader = pa.ipc.open_file(pa.py_buffer(data) if isinstance(data, bytes) else data)
        metadata = reader.schema.metadata or {}
        number = metadata.get(b"format", b"")
        if not number.isdigit():
            raise Invalid(f"the segment says {number.decode()!r} of its format, expected a number from 1")
        _SEGMENT.check(int(number), place=metadata.get(b"collection", b"").decode())
        if reader.num_record_batches == 1:
            rows = reader.get_batch(0)
        else:
            rows = pa.RecordBatch.from_arrays([[]] * len(reader.schema), schema=reader.schema)
        if verify:
            rows.validate(full=True)
    except (pa.ArrowInvalid, OSError) as error:
        raise Invalid(f"the segment cannot be read as an Arrow IPC file: {error}") from error
    if verify and _CHECKSUM in metadata and metadata[_CHECKSUM] != b"%08x" % _checksum(rows):
        raise Invalid(f"the segment's checksum is not {metadata[_CHECKSUM].decode()}, with which it was written")
    return rows


def model_of(rows: pa.RecordBatch) -> tuple[str, int, int]:
    """Return model, version and dimensions of a segment's embeddings."""
    metadata = rows.schema.metadata or {}
    return metadata[b"model"].decode(), int(metadata[b"version"]), rows.schema.field("vector").type.list_size


def without_vectors(file: pa.NativeFile) -> pa.RecordBatch:
    """Return the rows of a segment's file, every column that it has but the embeddings, which are not read.

    Raises:
        Invalid: It is no segment.
    """
    try:
        wanted = [place for place, name in enumerate(pa.ipc.open_file(file).schema.names) if name not in _NOT_OF_ENTRY]
        return pa.ipc.open_file(file, options=pa.ipc.IpcReadOptions(included_fields=wanted)).get_batch(0)
    except (pa.ArrowInvalid, OSError) as error:
        raise Invalid(f"the segment cannot be read as an Arrow IPC file: {error}") from error


def check_model(rows: pa.RecordBatch, *, model: str, version: int) -> None:
    """Check that a segment's embeddings are of a model version; those of two cannot be compared.

    Raises:
        Invalid: They are of another one.
    """
    metadata = rows.schema.metadata or {}
    found = metadata.get(b"model", b"").decode(), metadata.get(b"version", b"").decode()
    if found != (model, str(version)):
        raise Invalid(
            f"the segment's embeddings are of {found[0]!r} version {found[1]}, the collection's of {model!r} version "
            f"{version}: they cannot be compared, so it is left out"
        )


# Merging


def merge(parts: Iterable[tuple[str, pa.RecordBatch, Container[int]]]) -> bytes | None:
    """Return one segment of the live rows of several, in order; each comes with its name and the ids of deleted rows.

    The result has a column `origin`, int32: which of them a row comes from. Of an image that is live in two, the
    first row is kept. Where one of them has float32 embeddings, the result has.

    Returns:
        None if no row is live.

    Raises:
        Invalid: They are not all of one model version. A collection's name may have changed between two of them.
    """
    names: list[str] = []
    vectors: list[Vectors] = []
    tables: list[pa.Table] = []
    embedding_sets: set[tuple[bytes | int, ...]] = set()
    metadata: dict[bytes, bytes] = {}
    seen: set[int] = set()
    for name, rows, deleted in parts:
        kept = []
        for row, image_id in enumerate(ids_of(rows).tolist()):
            if image_id not in deleted and image_id not in seen:
                seen.add(image_id)
                kept.append(row)
        metadata = rows.schema.metadata
        stored = vectors_of(rows)
        embedding_sets.add((metadata[b"model"], metadata[b"version"], stored.shape[1]))
        origin = pa.array(np.full(len(kept), len(names), np.int32))
        others = pa.Table.from_batches([rows]).select([field.name for field in schema(1) if field.name != "vector"])
        others = others.append_column(_FLAGS, pa.array([" ".join(flags) for flags in flags_of(rows)], pa.string()))
        others = others.append_column(_DOCUMENT, pa.array(list(map(packed, documents_of(rows))), pa.string()))
        tables.append(others.replace_schema_metadata().take(pa.array(kept, pa.int64())).append_column("origin", origin))
        vectors.append(stored[kept])
        names.append(name)
    if len(embedding_sets) > 1:
        raise Invalid(f"segments of one model version can be merged, these are of {sorted(embedding_sets)}")
    if not seen:
        return None
    embeddings = cast("Vectors", np.concatenate(vectors))
    vectors.clear()
    rest = pa.concat_tables(tables).combine_chunks().to_batches()[0]
    tables.clear()
    fields = schema(embeddings.shape[1], _TYPES[embeddings.dtype])
    if any(rest.column("flags").to_pylist()):
        fields = fields.append(_FLAGS)
    if any(rest.column("document").to_pylist()):
        fields = fields.append(_DOCUMENT)
    fields = fields.append(pa.field("origin", pa.int32(), nullable=False))
    columns = [vector_column(embeddings) if field.name == "vector" else rest.column(field.name) for field in fields]
    kept_metadata = {key: metadata[key] for key in (b"format", b"collection", b"model", b"version")}
    table = _sealed(columns, fields, {**kept_metadata, _INPUTS: json.dumps(names)})
    return _with_places(table)


def _with_places(table: pa.Table) -> bytes:
    """Return a table as a segment whose metadata says where in the file its ids, embeddings and digests begin."""

    def written(places: str) -> bytes:
        return serialize(table.replace_schema_metadata({**table.schema.metadata, _PLACES: places}))

    data = pa.py_buffer(written(_NO_PLACES))
    rows = unpack(data)
    columns = rows.column("id"), rows.column("vector").values, rows.column("digest")
    places = [len(rows), *(column.buffers()[1].address - data.address for column in columns)]
    del rows, columns, data
    return written(" ".join(f"{place:012d}" for place in places))


def inputs_of(rows: pa.RecordBatch) -> tuple[str, ...]:
    """Return the names of the segments that a merged one was made of; none for another."""
    return tuple(json.loads((rows.schema.metadata or {}).get(_INPUTS, b"[]")))


def origins_of(rows: pa.RecordBatch) -> npt.NDArray[np.int32] | None:
    """Return for each row of a merged segment which of `inputs_of` it comes from, int32 [n]; None for another."""
    if "origin" not in rows.schema.names:
        return None
    origins: npt.NDArray[np.int32] = rows.column("origin").to_numpy(zero_copy_only=True)
    return origins


@dataclass(frozen=True)
class Places:
    """Where the parts of a merged segment's file lie: offsets in bytes, to read one row without the others."""

    rows: int
    dim: int
    dtype: "np.dtype[np.float32] | np.dtype[np.float16]"
    ids: int
    vectors: int
    digests: int

    def vector(self, row: int) -> tuple[int, int]:
        """Return offset and size of an embedding."""
        size = self.dim * self.dtype.itemsize
        return self.vectors + row * size, size

    def digest(self, row: int) -> tuple[int, int]:
        """Return offset and size of a digest."""
        return self.digests + row * 32, 32


def places_of(head: bytes) -> Places:
    """Return where everything lies in the merged segment whose first `HEAD_BYTES` are given.

    Raises:
        Invalid: It is no merged segment.
    """
    try:
        fields = pa.ipc.read_schema(pa.py_buffer(head).slice(min(_PREFACE, len(head))))
        rows, ids, vectors, digests = (int(place) for place in fields.metadata[_PLACES].split())
        column = fields.field("vector").type
        dtype = np.dtype(column.value_type.to_pandas_dtype())
    except (pa.ArrowInvalid, OSError, KeyError, TypeError, ValueError) as error:
        raise Invalid(f"the head of the segment does not say where its rows lie: {error}") from error
    return Places(rows, column.list_size, dtype, ids, vectors, digests)


def vectors_of(rows: pa.RecordBatch) -> Vectors:
    """Return the embeddings of a segment as they are stored, float32 or float16 [n, dim], as a view of its bytes."""
    return _list_values(rows.column("vector"))


def _list_values(column: pa.FixedSizeListArray) -> Vectors:
    dim = column.type.list_size
    values: Vectors = column.values.to_numpy(zero_copy_only=True)
    return values[column.offset * dim : (column.offset + len(column)) * dim].reshape(len(column), dim)


def ids_of(rows: pa.RecordBatch) -> npt.NDArray[np.int64]:
    """Return the ids of a segment, int64 [n], as a view of its bytes."""
    return np.asarray(rows.column("id").to_numpy(zero_copy_only=True))


def image_ids_of(rows: pa.RecordBatch) -> npt.NDArray[np.int64]:
    """Return the ids of the images of a segment by their digests, int64 [n]; see `layout.image_id`."""
    digests = np.frombuffer(digest_bytes_of(rows), np.uint8).reshape(-1, DIGEST_BYTES)
    heads = np.ascontiguousarray(digests[:, :8]).view(">u8")[:, 0].astype(np.uint64)
    ids: npt.NDArray[np.int64] = np.maximum(1, heads >> np.uint64(64 - ID_BITS)).astype(np.int64)
    return ids


def digest_bytes_of(rows: pa.RecordBatch) -> memoryview:
    """Return the digests of a segment, one behind the other, as a view of its bytes."""
    column = rows.column("digest")
    start = column.offset * DIGEST_BYTES
    return memoryview(column.buffers()[1] or b"")[start : start + len(column) * DIGEST_BYTES]


def flags_of(rows: pa.RecordBatch) -> list[tuple[str, ...]]:
    """Return the flags of each row of a segment."""
    if _FLAGS.name not in rows.schema.names:
        return [()] * len(rows)
    return [tuple((words or "").split()) for words in rows.column(_FLAGS.name).to_pylist()]


def documents_of(rows: pa.RecordBatch) -> list[DocumentPage | None]:
    """Return for each row of a segment which page of a document it is; None where it is no page of several."""
    if _DOCUMENT.name not in rows.schema.names:
        return [None] * len(rows)
    return [unpacked(word) for word in rows.column(_DOCUMENT.name).to_pylist()]


def entry_of(batch: pa.RecordBatch, row: int) -> Entry:
    """Return one row of a segment, without its embedding."""
    return entries_of(batch, [row])[0]


def entries_of(batch: pa.RecordBatch, rows: Sequence[int]) -> list[Entry]:
    """Return some rows of a segment, without their embeddings."""
    if not rows:
        return []
    known = batch.select([name for name in batch.schema.names if name not in _NOT_OF_ENTRY])
    taken = known.take(pa.array(rows, pa.int64()))
    columns = {name: taken.column(name).to_pylist() for name in _OF_ENTRY}
    columns |= {"flags": flags_of(taken), "document": documents_of(taken)}
    columns["digest"] = [digest.hex() for digest in columns["digest"]]
    return [Entry(**dict(zip(columns, values, strict=True))) for values in zip(*columns.values(), strict=True)]
