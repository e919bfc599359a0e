"""Whoever reads a part of a segment tells a store that is away from a file that is damaged."""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest

from shared.errors import Invalid, ObjectNotFound, StoreUnavailable
from shared.storage import segments
from shared.storage.documents import DocumentPage
from shared.storage.object_store import ObjectStore, RangeFile, StoredObject
from tests.support import rows

KEY = "vectors/a/merged-1.arrow"
VECTORS = np.zeros((20, 3), np.float32)
SEGMENT = segments.pack([rows.entry(n) for n in range(20)], VECTORS, collection="a", model="m", version=1)


class FailingStore(ObjectStore):
    """A store with one object, which answers some reads and fails from then on."""

    def __init__(self, content: bytes, *, answers: int = 1000, failure: Exception | None = None) -> None:
        self.content, self.answers, self.failure = content, answers, failure
        self.reads = 0

    def list(self, prefix: str) -> Iterator[StoredObject]:
        yield StoredObject(prefix, len(self.content), 0.0, "")

    def get(self, key: str, *, start: int = 0, size: int = 0) -> bytes:
        del key
        self.reads += 1
        if self.reads > self.answers and self.failure is not None:
            raise self.failure
        return self.content[start : start + size]


def read(store: ObjectStore) -> pa.RecordBatch:
    with RangeFile(store, KEY) as file:
        return segments.without_vectors(pa.PythonFile(file, mode="r"))


def reads_of_a_segment() -> int:
    store = FailingStore(SEGMENT)
    assert read(store).num_rows == 20
    return store.reads


@pytest.mark.parametrize("failure", [StoreUnavailable("cannot read"), ObjectNotFound("no such object")])
@pytest.mark.parametrize("answers", range(reads_of_a_segment()))
def test_a_store_that_fails_at_any_read_is_no_damaged_segment(answers: int, failure: Exception) -> None:
    with pytest.raises(type(failure)) as raised:
        read(FailingStore(SEGMENT, answers=answers, failure=failure))
    assert raised.value is failure


def test_all_is_read_of_a_merged_segment_but_its_embeddings() -> None:
    """What few images have, flags and pages, comes behind the columns that every segment has."""
    page = DocumentPage(rows.digest(9), 2, 3)
    entries = [rows.entry(1), replace(rows.entry(2), flags=("damaged",)), replace(rows.entry(3), document=page)]
    parts: list[tuple[str, pa.RecordBatch, set[int]]] = [
        (entry.name, segments.unpack(segments.pack([entry], VECTORS[:1], collection="a", model="m", version=1)), set())
        for entry in entries
    ]
    merged = segments.merge(parts)
    assert merged is not None
    for content, wanted in ((merged, entries), (SEGMENT, [rows.entry(number) for number in range(20)])):
        batch = read(FailingStore(content))
        assert "vector" not in batch.schema.names
        assert segments.entries_of(batch, range(len(wanted))) == wanted


def test_a_damaged_segment_is_told() -> None:
    with pytest.raises(Invalid, match="cannot be read as an Arrow IPC file"):
        read(FailingStore(SEGMENT[:-20]))
