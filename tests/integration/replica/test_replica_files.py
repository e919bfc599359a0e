"""The files of a replica: restarts, crashes, damaged and missing segments."""

from pathlib import Path

import pytest

from shared.state import Client, State
from shared.storage import layout
from shared.storage.catalog import Catalog, CurrentIndex, EmbeddingSet
from tests.support import rows
from tests.support.eventually import eventually
from tests.support.replicas import (
    DIM,
    OpenReplica,
    WatchedStore,
    assert_gone,
    assert_holds,
    files_in,
    fit,
    merge,
    put,
    write_merged,
)


def test_a_restart_reads_its_files_and_fetches_only_what_is_new(
    catalog: Catalog, watched: WatchedStore, art: EmbeddingSet, open_replica: OpenReplica
) -> None:
    for number in range(18):
        put(catalog, art, f"s{number:02}", [number, number + 50])
    catalog.add_tombstones("art", [("s01", rows.image_id(1))])
    open_replica()
    assert len(watched.read) == 18
    watched.read.clear()
    put(catalog, art, "s99", [99])
    catalog.add_tombstones("art", [("s02", rows.image_id(2)), ("s17", rows.image_id(17))])
    replica = open_replica()
    assert watched.read == ["s99"]
    assert_holds(replica, [0, *range(3, 17), *range(50, 68), 99])


@pytest.mark.parametrize("damage", ["empty", "cut", "other bytes", "no footer"])
@pytest.mark.parametrize("merged", [False, True])
def test_a_broken_file_is_fetched_anew(
    catalog: Catalog,
    watched: WatchedStore,
    art: EmbeddingSet,
    tmp_path: Path,
    open_replica: OpenReplica,
    damage: str,
    *,
    merged: bool,
) -> None:
    for number in range(4):
        put(catalog, art, f"s{number:02}", [number])
    if merged:
        merge(catalog, art, "merged-1", ["s00", "s01"])
    open_replica()
    path = files_in(tmp_path)[0]
    data = path.read_bytes()
    path.write_bytes(
        {"empty": b"", "cut": data[: len(data) // 2], "other bytes": b"\x00" * 5000, "no footer": data[:-10]}[damage]
    )
    watched.read.clear()
    replica = open_replica()
    assert_holds(replica, range(4))
    assert watched.read == [path.stem]


def test_a_changed_byte_in_a_file_is_found_in_time(
    catalog: Catalog, watched: WatchedStore, art: EmbeddingSet, tmp_path: Path, open_replica: OpenReplica
) -> None:
    """Files of an earlier run are read whole in the background: all of them at the start would take too long."""
    for number in range(3):
        put(catalog, art, f"s{number:02}", [number, number + 10])
    open_replica()
    path = tmp_path / f"art-{art.tag}" / "s01.arrow"
    data = path.read_bytes()
    place = data.index(rows.embedding(11, DIM).tobytes())
    path.write_bytes(data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :])
    watched.read.clear()
    replica = open_replica()
    while replica.verify_some():
        pass
    assert_holds(replica, [0, 1, 2, 10, 11, 12])
    assert watched.read == ["s01"]


def test_what_a_crash_leaves_is_cleared(
    catalog: Catalog, watched: WatchedStore, art: EmbeddingSet, tmp_path: Path, open_replica: OpenReplica
) -> None:
    for number in range(4):
        put(catalog, art, f"s{number:02}", [number])
    open_replica()
    before = {path: path.read_bytes() for path in files_in(tmp_path)}
    merge(catalog, art, "merged-1", ["s00", "s01", "s02"])
    open_replica()
    for path, data in before.items():  # killed before it deleted what had been merged
        path.write_bytes(data)
        path.with_suffix(".lengths").write_bytes(b"of before")
    folder = tmp_path / f"art-{art.tag}"
    (folder / "merged-x.part").write_bytes(b"half of another")
    watched.read.clear()
    replica = open_replica()
    assert_holds(replica, range(4))
    assert watched.read == []
    assert [path.name for path in files_in(tmp_path)] == ["merged-1.arrow", "s03.arrow", "s03.lengths"]


def test_a_segment_that_left_the_store_leaves_the_copy(
    catalog: Catalog, art: EmbeddingSet, tmp_path: Path, open_replica: OpenReplica
) -> None:
    for number in range(17):
        put(catalog, art, f"s{number:02}", [number])
    replica = open_replica()
    catalog.store.delete([layout.segment_key("art", "s03"), layout.segment_key("art", "s16")])
    replica.synchronise()
    assert_holds(replica, [0, 1, 2, *range(4, 16)])
    assert {path.name for path in files_in(tmp_path)} == {mapped.path.name for mapped in replica.view.mapped_segments}


def test_a_deleted_image_is_never_shown_while_its_segment_is_fetched(
    catalog: Catalog, watched: WatchedStore, art: EmbeddingSet, open_replica: OpenReplica
) -> None:
    replica = open_replica()
    put(catalog, art, "a", [1, 2])
    put(catalog, art, "b", [3])
    catalog.add_tombstones("art", [("a", rows.image_id(2))])
    seen: list[int] = []

    def look(key: str) -> None:
        """When b is asked for, wait until a is there: what do readers see now?"""
        if key.endswith("b.arrow"):
            eventually(lambda: replica.view.mapped_segments, interval_s=0.001)
            seen.append(replica.view.counts.images)
            assert_gone(replica, 2)

    watched.before = look
    replica.synchronise()
    assert seen == [1]
    assert_holds(replica, [1, 3])


def test_a_damaged_segment_is_named_and_the_rest_is_there_and_so_is_it_once_it_is_mended(
    catalog: Catalog, art: EmbeddingSet, open_replica: OpenReplica, caplog: pytest.LogCaptureFixture
) -> None:
    for segment, numbers in (("a", [1]), ("changed", [2, 3])):
        put(catalog, art, segment, numbers)
    good = catalog.store.get(layout.segment_key("art", "changed"))
    place = good.index(rows.embedding(3, DIM).tobytes())
    changed = good[:place] + bytes([good[place] ^ 1]) + good[place + 1 :]
    for segment, data in (("changed", changed), ("broken", b"no segment"), ("empty", b"")):
        catalog.store.put(layout.segment_key("art", segment), data)
    replica = open_replica()
    replica.add_segment("broken")
    assert_holds(replica, [1])
    assert replica.damaged == ["broken", "changed", "empty"]
    assert "segment changed of art is damaged" in caplog.text
    catalog.store.put(layout.segment_key("art", "changed"), good)
    catalog.store.delete([layout.segment_key("art", "empty")])
    replica.synchronise()
    assert_holds(replica, [1, 2, 3])
    assert replica.damaged == ["broken"]


def test_a_missing_segment_is_named_and_one_that_was_merged_or_removed_is_not(
    catalog: Catalog, art: EmbeddingSet, redis: Client, open_replica: OpenReplica, caplog: pytest.LogCaptureFixture
) -> None:
    state = State.of(redis)
    for number in range(6):
        put(catalog, art, f"s{number}", [number])
        state.indexed_segments.add("art", f"s{number}")
    replica = open_replica()
    catalog.store.delete([layout.segment_key("art", "s0")])
    write_merged(catalog, art, "merged-1", ["s1", "s2"])
    state.indexed_segments.add("art", "merged-1")
    catalog.remove_segments("art", ["s1", "s2"])  # which Redis still has as indexed
    state.indexed_segments.remove("art", ["s3"])
    catalog.remove_segments("art", ["s3"])
    for each in (replica, open_replica()):
        each.synchronise()
        assert each.damaged == ["s0"]
        assert_holds(each, [1, 2, 4, 5])
    assert "segment s0 of art is missing" in caplog.text


def test_the_generation_in_use_is_loaded(catalog: Catalog, art: EmbeddingSet, open_replica: OpenReplica) -> None:
    replica = open_replica()
    assert replica.generation is None
    for number in (1, 2):
        fit(catalog, art, number)
        replica.load_generation()
        assert replica.generation is not None
        assert (replica.generation.number, replica.generation.family.parameters()["seed"]) == (number, number)
    catalog.set_current_index("art", CurrentIndex(3, 0))  # which is not there
    replica.load_generation()
    assert replica.generation is None
