"""The replica of a collection shows what the store holds after every change."""

import random
import threading
from pathlib import Path

import numpy as np
import pytest

from shared.storage import layout
from shared.storage.catalog import Catalog, EmbeddingSet
from tests.support import rows
from tests.support.replicas import (
    OpenReplica,
    WatchedStore,
    assert_gone,
    assert_holds,
    files_in,
    merge,
    put,
    scanned,
    write_merged,
)


def test_a_copy_has_what_the_store_lists(catalog: Catalog, art: EmbeddingSet, make_replica: OpenReplica) -> None:
    replica = make_replica()
    assert_holds(replica, [])
    put(catalog, art, "a", range(10))
    put(catalog, art, "b", range(10, 13))
    catalog.add_tombstones("art", [("a", rows.image_id(4)), ("b", rows.image_id(4)), ("c", rows.image_id(5))])
    replica.synchronise()
    assert_holds(replica, [*range(4), *range(5, 13)])
    assert_gone(replica, 4, 99)
    replica.synchronise()
    assert_holds(replica, [*range(4), *range(5, 13)])


def test_a_page_of_a_class(catalog: Catalog, art: EmbeddingSet, open_replica: OpenReplica) -> None:
    put(catalog, art, "a", range(12))
    put(catalog, art, "b", range(12, 30))
    replica = open_replica()
    paintings = [number for number in range(29, -1, -1) if rows.entry(number).label == "painting"]
    total, page = replica.view.latest(limit=4, offset=3, label="painting")
    assert total == len(paintings)
    assert replica.view.ids[page].tolist() == rows.ids(paintings[3:7])
    assert replica.view.latest(limit=5, offset=0, label="nothing")[0] == 0
    assert replica.view.latest(limit=5, offset=100, label="")[1].tolist() == []


def test_an_announced_segment_is_added_once(
    catalog: Catalog, watched: WatchedStore, art: EmbeddingSet, open_replica: OpenReplica
) -> None:
    replica = open_replica()
    put(catalog, art, "a", range(5))
    for _ in range(3):
        replica.add_segment("a")
    replica.add_segment("never-written")
    replica.synchronise()
    assert_holds(replica, range(5))
    assert watched.read.count("a") == 1


def test_a_deletion_may_be_announced_before_its_segment(
    catalog: Catalog, art: EmbeddingSet, open_replica: OpenReplica
) -> None:
    replica = open_replica()
    replica.add_tombstones("a", rows.image_id(2))
    put(catalog, art, "a", range(5))
    replica.add_segment("a")
    assert_holds(replica, [0, 1, 3, 4])


@pytest.mark.parametrize("first", ["a", "b"])
@pytest.mark.parametrize("deleted", ["a", "b"])
def test_an_image_in_two_segments_counts_once_and_either_may_go(
    catalog: Catalog, art: EmbeddingSet, first: str, deleted: str, open_replica: OpenReplica
) -> None:
    replica = open_replica()
    put(catalog, art, "a", [1, 2, 3])
    put(catalog, art, "b", [3, 4])
    for segment in (first, "a", "b"):
        replica.add_segment(segment)
    assert_holds(replica, [1, 2, 3, 4])
    replica.add_tombstones(deleted, rows.image_id(3))
    assert_holds(replica, [1, 2, 3, 4])  # by the other segment's row
    replica.add_tombstones("a" if deleted == "b" else "b", rows.image_id(3))
    assert_holds(replica, [1, 2, 4])
    put(catalog, art, "c", [3])
    replica.add_segment("c")
    assert_holds(replica, [1, 2, 3, 4])


def test_a_merged_segment_stands_for_its_inputs_in_whatever_order_they_come(
    catalog: Catalog, art: EmbeddingSet, tmp_path: Path, open_replica: OpenReplica
) -> None:
    for segment, numbers in {"a": [0, 1, 2], "b": [2, 3], "c": [4]}.items():
        put(catalog, art, segment, numbers)
    replicas = [open_replica()]
    catalog.add_tombstones("art", [("a", rows.image_id(0)), ("b", rows.image_id(3))])
    write_merged(catalog, art, "merged-1", ["a", "b"])
    late = open_replica()  # both are listed: somebody died in between, or has not got further
    assert_holds(late, [1, 2, 4])
    assert [path.name for path in files_in(tmp_path)] == ["c.arrow", "merged-1.arrow"]
    late.add_segment("b")  # announced before it was merged
    assert_holds(late, [1, 2, 4])
    replicas[0].add_segment("merged-1")
    replicas[0].synchronise()
    catalog.remove_segments("art", ["a", "b"])
    for replica in (*replicas, late, open_replica()):
        replica.add_segment("merged-1")
        replica.add_segment("a")
        assert_holds(replica, [1, 2, 4])
        replica.add_tombstones("a", rows.image_id(1))  # by its old name, as whoever deleted it knew it
        assert_holds(replica, [2, 4])
        replica.add_tombstones("merged-1", rows.image_id(2))
        assert_holds(replica, [4])
        replica.synchronise()
        assert_holds(replica, [4])


def test_a_segment_that_was_merged_before_it_was_fetched_is_found_in_the_merged_one(
    catalog: Catalog, watched: WatchedStore, art: EmbeddingSet, open_replica: OpenReplica
) -> None:
    """And that one in the one which it was merged into in its turn."""
    replica = open_replica()
    put(catalog, art, "a", [1])
    put(catalog, art, "b", [2])
    merges = iter([("merged-1", ["a", "b"]), ("merged-2", ["merged-1", "c"])])

    def merge_first(_: str) -> None:
        watched.before = lambda _: None
        put(catalog, art, "c", [3])
        for merged, inputs in merges:
            merge(catalog, art, merged, inputs)

    watched.before = merge_first
    replica.add_segment("a")
    assert_holds(replica, [1, 2, 3])


@pytest.mark.parametrize("steps", [1, 2])
def test_what_is_merged_while_the_store_is_listed_leaves_no_gap(
    catalog: Catalog, watched: WatchedStore, art: EmbeddingSet, make_replica: OpenReplica, steps: int
) -> None:
    for number in range(6):
        put(catalog, art, f"s{number}", [number])
    catalog.add_tombstones("art", [("s2", rows.image_id(2))])
    merges = iter([("merged-1", ["s1", "s2", "s3"]), ("merged-2", ["merged-1", "s5"])][:steps])

    def merge_first(_: str) -> None:
        for merged, inputs in merges:
            merge(catalog, art, merged, inputs)
            return

    watched.before = merge_first
    replica = make_replica()
    replica.synchronise()
    assert_holds(replica, [0, 1, 3, 4, 5])


def test_a_merge_that_was_withdrawn_is_undone(
    catalog: Catalog, art: EmbeddingSet, tmp_path: Path, open_replica: OpenReplica
) -> None:
    for segment, number in (("a", 1), ("b", 2)):
        put(catalog, art, segment, [number])
    replica = open_replica()
    write_merged(catalog, art, "merged-1", ["a", "b"])
    replica.synchronise()
    assert [path.name for path in files_in(tmp_path)] == ["merged-1.arrow"]
    catalog.store.delete([layout.segment_key("art", "merged-1")])
    replica.synchronise()
    assert_holds(replica, [1, 2])
    assert [path.name for path in files_in(tmp_path)] == ["a.arrow", "b.arrow"]


def test_readers_see_every_image_once_while_segments_are_added_buried_and_merged(
    catalog: Catalog, art: EmbeddingSet, open_replica: OpenReplica
) -> None:
    """Readers take no lock: whatever they see at any moment is a whole collection."""
    replica = open_replica()
    always = list(range(1000, 1040))
    put(catalog, art, "always", always)
    replica.add_segment("always")
    wanted = set(rows.ids(always))
    faults: list[str] = []
    done = threading.Event()

    def read() -> None:
        while not done.is_set():
            view = replica.view
            found = scanned(view)
            if len(set(found)) != len(found) or not wanted <= set(found):
                faults.append(f"{len(found)} hits, {len(set(found))} images, {len(wanted - set(found))} missing")
            if (view.find(np.array(sorted(wanted))) < 0).any():
                faults.append("not in the directory")

    readers = [threading.Thread(target=read) for _ in range(2)]
    for reader in readers:
        reader.start()
    here = ["always"]
    for number in range(60):
        put(catalog, art, f"s{number:02}", [number, 1000 + number % 40])  # the second one is there already
        replica.add_segment(f"s{number:02}")
        here.append(f"s{number:02}")
        if number % 3 == 0:
            gone = here[number % (len(here) - 1)], rows.image_id(1000 + number % 40)
            catalog.add_tombstones("art", [gone])
            replica.add_tombstones(*gone)
        if number % 10 == 9:
            some, here = here[:8], here[8:]
            merge(catalog, art, f"merged-{number}", some)
            replica.add_segment(f"merged-{number}")
            here.append(f"merged-{number}")
    done.set()
    for reader in readers:
        reader.join()
    assert faults == []
    assert_holds(replica, [*range(60), *always])


@pytest.mark.parametrize("seed", range(4))
def test_whatever_happens_the_copy_is_what_the_store_says(  # noqa: PLR0912, PLR0915 -- one step each
    catalog: Catalog, art: EmbeddingSet, tmp_path: Path, open_replica: OpenReplica, seed: int
) -> None:
    """Segments that overlap, deletions, merges, restarts and listings in any order, against a plain model."""
    chance = random.Random(seed)
    replica = open_replica()
    written: dict[str, dict[int, str]] = {}  # segment to its numbers, each with the segment it came from
    deleted: set[tuple[str, int]] = set()

    def live() -> set[int]:
        return {
            number
            for segment, numbers in written.items()
            for number, origin in numbers.items()
            if (segment, number) not in deleted and (origin, number) not in deleted
        }

    for step in range(120):
        match chance.choice(
            ["add", "add", "add", "add silently", "delete", "delete", "merge", "synchronise", "restart"]
        ):
            case "add" | "add silently" as how:
                segment = f"{chance.randrange(1000):03}-{step}"
                some = chance.sample(range(60), chance.randrange(1, 6))
                written[segment] = dict.fromkeys(some, segment)
                put(catalog, art, segment, some)
                if how == "add":
                    replica.add_segment(segment)
                else:
                    replica.synchronise()
            case "delete" if written:
                segment = chance.choice(list(written))
                number, origin = chance.choice(list(written[segment].items()))
                name = chance.choice([segment, origin])
                deleted.add((name, number))
                catalog.add_tombstones("art", [(name, rows.image_id(number))])
                replica.add_tombstones(name, rows.image_id(number))
            case "merge" if len(written) > 2:
                inputs = chance.sample(list(written), 3)
                merged, contents = f"merged-{step}", dict[int, str]()
                for segment in inputs:
                    for number, origin in written.pop(segment).items():
                        if (segment, number) in deleted or (origin, number) in deleted:
                            # The mark of a row that was deleted under the name of an input of an input was moved.
                            catalog.add_tombstones("art", [(segment, rows.image_id(number))])
                        else:
                            contents.setdefault(number, segment)
                if not contents:
                    catalog.remove_segments("art", inputs)
                    continue
                written[merged] = contents
                write_merged(catalog, art, merged, inputs)
                if chance.random() < 0.3:
                    replica.synchronise()
                if chance.random() < 0.5:
                    replica.add_segment(merged)
                catalog.remove_segments("art", inputs)
                if chance.random() < 0.5:
                    replica.add_segment(merged)
            case "restart":
                replica = open_replica()
            case _:
                replica.synchronise()
        if step % 5 == 0:
            assert_holds(replica, sorted(live()))
        else:
            assert replica.view.images == len(live())
    replica.synchronise()
    assert_holds(replica, sorted(live()))
    assert {path.stem for path in files_in(tmp_path)} == written.keys()
    assert replica.damaged == []
