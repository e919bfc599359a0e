"""Vector segments: the rows of one embed task, as an immutable Arrow IPC file."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from shared.errors import Invalid

FORMAT = "1"


@dataclass(frozen=True)
class Entry:
    """What a collection knows of an image, beside its embedding."""

    id: int
    digest: str
    name: str
    label: str | None
    size: int
    media_type: str
    width: int
    height: int
    added: float


def schema(dim: int) -> pa.Schema:
    """Return the columns of a segment whose embeddings are `dim` float32."""
    return pa.schema(
        [
            pa.field("id", pa.int64(), nullable=False),
            pa.field("vector", pa.list_(pa.field("item", pa.float32(), nullable=False), dim), nullable=False),
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


def vector_column(vectors: npt.NDArray[np.float32]) -> pa.Array:
    """Return float32 [n, dim] as a column, without a copy of each value in Python."""
    flat = pa.array(np.ascontiguousarray(vectors, dtype=np.float32).reshape(-1), type=pa.float32())
    item = pa.field("item", pa.float32(), nullable=False)
    return pa.FixedSizeListArray.from_arrays(flat, type=pa.list_(item, vectors.shape[1]))


def serialize(table: pa.Table) -> bytes:
    """Return a table as the bytes of an Arrow IPC file with one record batch."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_file(sink, table.schema) as writer:
        for batch in table.combine_chunks().to_batches():
            writer.write_batch(batch)
    return bytes(sink.getvalue())


def pack(
    entries: Sequence[Entry], vectors: npt.NDArray[np.float32], *, collection: str, model: str, version: int
) -> bytes:
    """Return a segment of n entries and their embeddings, float32 [n, dim].

    Raises:
        Invalid: Entries and embeddings differ in number, or an embedding is not finite.
    """
    if vectors.ndim != 2 or len(vectors) != len(entries):
        raise Invalid(f"{len(entries)} entries need as many embeddings, got an array of shape {vectors.shape}")
    if not np.isfinite(vectors).all():
        raise Invalid("an embedding holds NaN or infinity: the model's export is broken")
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
    metadata = {"format": FORMAT, "collection": collection, "model": model, "version": str(version)}
    return serialize(pa.Table.from_arrays(columns, schema=schema(vectors.shape[1]).with_metadata(metadata)))


def unpack(data: bytes | pa.Buffer) -> pa.RecordBatch:
    """Return the rows of a segment, still in `data` (no copy).

    Raises:
        Invalid: The bytes are no segment.
    """
    try:
        reader = pa.ipc.open_file(pa.py_buffer(data) if isinstance(data, bytes) else data)
        if (reader.schema.metadata or {}).get(b"format") != FORMAT.encode():
            raise Invalid(f"the segment has another format than {FORMAT}, which this program reads")
        if reader.num_record_batches == 1:
            return reader.get_batch(0)
        return pa.RecordBatch.from_arrays([[]] * len(reader.schema), schema=reader.schema)
    except (pa.ArrowInvalid, OSError) as error:
        raise Invalid(f"the segment cannot be read as an Arrow IPC file: {error}") from error


def vectors_of(batch: pa.RecordBatch) -> npt.NDArray[np.float32]:
    """Return the embeddings of a segment, float32 [n, dim], as a view of its bytes."""
    column = batch.column("vector")
    dim = column.type.list_size
    values: npt.NDArray[np.float32] = column.values.to_numpy(zero_copy_only=True)
    return values[column.offset * dim : (column.offset + len(column)) * dim].reshape(len(column), dim)


def ids_of(batch: pa.RecordBatch) -> npt.NDArray[np.int64]:
    """Return the ids of a segment, int64 [n], as a view of its bytes."""
    ids: npt.NDArray[np.int64] = batch.column("id").to_numpy(zero_copy_only=True)
    return ids


def entry_of(batch: pa.RecordBatch, row: int) -> Entry:
    """Return one row of a segment, without its embedding."""
    return Entry(
        id=batch.column("id")[row].as_py(),
        digest=batch.column("digest")[row].as_py().hex(),
        name=batch.column("name")[row].as_py(),
        label=batch.column("label")[row].as_py(),
        size=batch.column("size")[row].as_py(),
        media_type=batch.column("media_type")[row].as_py(),
        width=batch.column("width")[row].as_py(),
        height=batch.column("height")[row].as_py(),
        added=batch.column("added")[row].as_py(),
    )
