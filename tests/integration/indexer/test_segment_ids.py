"""Which segments have rows of images: what is remembered of the ids of segments, and what is read again."""

import pytest

from shared.index import segment_ids
from shared.index.segment_ids import SegmentIds
from tests.support import rows
from tests.support.indexing import Parts

NUMBERS = {"a": range(10), "b": range(10, 20), "c": range(20, 30)}


def test_what_is_kept_of_a_collection_stays_and_what_finds_no_room_is_read_again(
    parts: Parts, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("art", "other"):
        collection = parts.collection(name)
        for segment, numbers in NUMBERS.items():
            parts.add(collection, segment, numbers)
    monkeypatch.setattr(segment_ids, "_KEPT_BYTES", 8 * 20)  # of two segments
    get, read = parts.store.get, list[str]()

    def recorded(key: str, *, start: int = 0, size: int = 0) -> bytes:
        read.append(key)
        return bytes(get(key, start=start, size=size))

    monkeypatch.setattr(parts.store, "get", recorded)
    ids = SegmentIds(parts.store)

    def segments_read(name: str) -> list[str]:
        """Search for an image of each segment; returns which segments were read for it."""
        read.clear()
        found = ids.find(name, rows.ids([3, 15, 29]))
        assert found.by_segment == {"a": rows.ids([3]), "b": rows.ids([15]), "c": rows.ids([29])}
        return sorted(key.rpartition("/")[2] for key in read)

    all_segments = ["a.arrow", "b.arrow", "c.arrow"]
    assert segments_read("art") == all_segments
    assert segments_read("art") == ["c.arrow"]
    assert segments_read("other") == all_segments  # which are kept in place of those
    assert segments_read("other") == ["c.arrow"]
    parts.catalog.remove_segments("other", ["a"])
    read.clear()
    assert ids.find("other", rows.ids([3, 15, 29])).by_segment == {"b": rows.ids([15]), "c": rows.ids([29])}
    assert [key.rpartition("/")[2] for key in read] == ["c.arrow"]  # and kept in the room of the one that is gone
    read.clear()
    ids.find("other", rows.ids([3, 15, 29]))
    assert read == []
