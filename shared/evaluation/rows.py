"""The rows of evaluations: what each query of each run found, as Parquet."""

import io
from typing import TypedDict

import pyarrow as pa
import pyarrow.parquet as pq

from shared.errors import Invalid, NotFound, ObjectNotFound
from shared.storage import evaluation_layout
from shared.storage.object_store import ObjectStore
from shared.versioned import StoredKind

_ROWS = StoredKind("Parquet file")
_FORMAT = b"format"

ROWS = pa.schema(
    [
        pa.field("run", pa.string(), nullable=False),
        pa.field("query", pa.int32(), nullable=False),
        pa.field("digest", pa.string(), nullable=False),
        pa.field("id", pa.int64(), nullable=False),
        pa.field("name", pa.string(), nullable=False),
        pa.field("label", pa.string(), nullable=False),
        pa.field("in_collection", pa.bool_(), nullable=False),
        pa.field("relevant", pa.int32(), nullable=False),
        pa.field("hits", pa.list_(pa.int64()), nullable=False),
        pa.field("hit_labels", pa.list_(pa.string()), nullable=False),
        pa.field("distances", pa.list_(pa.float64()), nullable=False),
        pa.field("scores", pa.list_(pa.float64()), nullable=False),
        pa.field("p_at_k", pa.float64(), nullable=False),
        pa.field("ap_at_k", pa.float64(), nullable=False),
        pa.field("recall_at_k", pa.float64(), nullable=False),
        pa.field("candidates", pa.int64(), nullable=False),
        pa.field("seen", pa.int64(), nullable=False),
        pa.field("latency_ms", pa.float64()),
    ]
)
"""One row of each run and query, by run in the order of the evaluation, then by query."""


class QueryRow(TypedDict):
    """A row of `ROWS` as Python values."""

    run: str
    query: int
    digest: str
    id: int
    name: str
    label: str
    in_collection: bool
    relevant: int
    hits: list[int]
    hit_labels: list[str]
    distances: list[float]
    scores: list[float]
    p_at_k: float
    ap_at_k: float
    recall_at_k: float
    candidates: int
    seen: int
    latency_ms: float | None


def query_rows(table: pa.Table) -> list[QueryRow]:
    """Return the rows of a table of `ROWS`."""
    rows: list[QueryRow] = table.to_pylist()
    return rows


def rows_of(store: ObjectStore, collection: str, evaluation: str, *, run: str | None = None) -> pa.Table:
    """Return the rows of an evaluation, or of one of its runs, as `ROWS`.

    Raises:
        NotFound: There is no such evaluation.
    """
    try:
        data = store.get(evaluation_layout.evaluation_rows_key(collection, evaluation))
    except ObjectNotFound:
        raise NotFound(f"the collection {collection!r} has no evaluation {evaluation[:80]!r}") from None
    return from_parquet(data, run=run)


def from_parquet(data: bytes, *, run: str | None = None) -> pa.Table:
    """Return the table of a Parquet file, or the part of it that belongs to a run.

    Raises:
        Invalid: The file cannot be read; `TooNew` where a newer version of Artseek wrote it.
    """
    try:
        table = pq.read_table(io.BytesIO(data), filters=None if run is None else [("run", "==", run)])
        number = int((table.schema.metadata or {}).get(_FORMAT, b"1"))
    except (pa.ArrowException, ValueError) as error:
        raise Invalid(f"the rows of an evaluation cannot be read: {error}") from error
    _ROWS.check(number, place="of an evaluation")
    return table


def parquet(table: pa.Table) -> bytes:
    """Return a table as the bytes of a Parquet file."""
    sink = io.BytesIO()
    metadata = {**(table.schema.metadata or {}), _FORMAT: str(_ROWS.newest)}
    pq.write_table(table.replace_schema_metadata(metadata), sink, compression="zstd")
    return sink.getvalue()
