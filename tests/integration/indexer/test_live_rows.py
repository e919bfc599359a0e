"""The live rows of all segments: which they are, and that ids which are kept keep no segment in memory."""

import numpy as np

from shared.index.segment_reader import SegmentReader
from tests.support import rows
from tests.support.indexing import DIM, Parts


def test_rows_are_those_that_are_not_deleted(parts: Parts) -> None:
    art = parts.collection()
    for segment, numbers in {"a": range(10), "b": range(10, 15), "c": range(15, 17)}.items():
        parts.add(art, segment, numbers)
    deleted = [("a", rows.image_id(3)), ("a", rows.image_id(12)), *(("c", rows.image_id(n)) for n in (15, 16))]
    parts.catalog.add_tombstones("art", deleted)
    reader = SegmentReader(parts.store)
    live = {"a": [0, 1, 2, *range(4, 10)], "b": list(range(10, 15))}
    found = {name: (ids, vectors) for name, ids, vectors in reader.live_rows(art)}
    assert {name: ids.tolist() for name, (ids, _) in found.items()} == {name: rows.ids(n) for name, n in live.items()}
    for name, (_, vectors) in found.items():
        np.testing.assert_array_equal(vectors, rows.embeddings(live[name], DIM))
    assert [name for name, _, _ in reader.live_rows(art, with_empty=True)] == ["a", "b", "c"]


def test_ids_that_are_kept_keep_no_segment_in_memory(parts: Parts) -> None:
    art = parts.collection()
    parts.add(art, "a", range(10))
    parts.add(art, "b", range(10, 20))
    parts.catalog.add_tombstones("art", [("b", rows.image_id(11))])
    assert all(ids.flags.owndata for _, ids, _ in SegmentReader(parts.store).live_rows(art))
