"""Stored values carry the number of their format: older ones are read, newer ones are refused by name."""

import json
from dataclasses import asdict
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from shared import hashing, tuning
from shared.errors import Invalid, TooNew
from shared.evaluation.rows import ROWS, from_parquet, parquet
from shared.storage import segments
from shared.storage.catalog import EmbeddingSet
from shared.versioned import StoredKind
from tests.support import rows

KIND = StoredKind("note", newest=2)


def make(values: Any) -> tuple[int, str]:
    return int(values["count"]), values["name"].strip()


def test_a_value_comes_back_as_it_was_and_carries_its_number() -> None:
    data = KIND.dumps({"count": 3, "name": "Ärger"})
    assert json.loads(data) == {"format": 2, "count": 3, "name": "Ärger"}
    assert KIND.loads(data, make, place="notes/1") == (3, "Ärger")


@pytest.mark.parametrize("older", ['{"count": 3, "name": "a"}', '{"format": 1, "count": 3, "name": "a"}'])
def test_what_an_older_version_wrote_is_read(older: str) -> None:
    assert KIND.loads(older, make, place="notes/1") == (3, "a")


def test_what_a_newer_version_wrote_is_refused_by_name() -> None:
    with pytest.raises(TooNew, match=r"the note 'notes/1' has format 3, .* formats up to 2: upgrade Artseek"):
        KIND.loads('{"format": 3, "text": "?"}', make, place="notes/1")


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        ("{", "the note 'notes/1' cannot be read"),
        ("[1, 2]", "the note 'notes/1' cannot be read"),
        ('{"format": 1, "count": 3}', "the field 'name' is missing"),
        ('{"format": 1, "count": "three", "name": "a"}', "three"),
        ('{"format": 1, "count": 3, "name": null}', "strip"),
        ('{"format": 0}', "has the format 0"),
        ('{"format": true}', "has the format True"),
        ('{"format": "2"}', "has the format '2'"),
    ],
)
def test_what_is_no_such_value_is_refused_by_name(data: str, reason: str) -> None:
    with pytest.raises(Invalid, match="notes/1") as refused:
        KIND.loads(data, make, place="notes/1")
    assert reason in str(refused.value)
    assert not isinstance(refused.value, TooNew)


def test_a_manifest_with_a_field_that_is_unknown_is_refused() -> None:
    manifest = asdict(EmbeddingSet("art", "00aa11bb", "lite", 1, 4, 1.5)) | {"colour": "red"}
    with pytest.raises(Invalid, match=r"collections/art\.json.*colour"):
        StoredKind("manifest").loads(
            json.dumps(manifest), lambda values: EmbeddingSet(**values), place="collections/art.json"
        )


def test_a_segment_of_a_newer_version_is_refused_by_name() -> None:
    embedding_set = EmbeddingSet("art", "00aa11bb", "lite", 1, 4, 1.5)
    data = rows.segment(range(3), embedding_set)
    table = segments.unpack(data)
    newer = table.replace_schema_metadata({**table.schema.metadata, b"format": b"2"})
    with pytest.raises(TooNew, match="'art' has format 2"):
        segments.unpack(segments.serialize(pa.Table.from_batches([newer])))


def test_a_hash_family_of_version_0_1_is_read_and_one_of_a_newer_version_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    vectors = rows.embeddings(range(60), 8)
    family = tuning.fit(vectors, seed=1, family="voronoi", tables=1, cells=4, probes=2)
    stored = hashing.dumps(family)
    assert np.array_equal(hashing.loads(stored).keys(vectors), family.keys(vectors))
    monkeypatch.setattr("shared.hashing.serialization._FAMILY", StoredKind("hash family", newest=2))
    newer = hashing.dumps(family)
    monkeypatch.undo()
    with pytest.raises(TooNew, match=r"hash family .* has format 2"):
        hashing.loads(newer)


def test_rows_of_an_evaluation_of_a_newer_version_are_refused_by_name() -> None:
    table = ROWS.empty_table()
    assert from_parquet(parquet(table)).num_rows == 0
    sink = pa.BufferOutputStream()
    pa.parquet.write_table(table.replace_schema_metadata({b"format": b"2"}), sink)
    with pytest.raises(TooNew, match="has format 2"):
        from_parquet(sink.getvalue().to_pybytes())
