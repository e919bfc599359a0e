"""The query service's copy of a collection, on a real object store: whole after every change, restart and fault."""

import random
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from services.query.replica.replica import Replica
from services.query.replica.replica_sync import ReplicaSync
from services.query.replica.view import Filter, RowFilter, View
from services.query.search.ranking import rank
from shared import tuning
from shared.errors import NotFound
from shared.index.generations import Generation
from shared.state import Change, Changes, Client, State, connect
from shared.storage import layout, segments
from shared.storage.catalog import Catalog, CurrentIndex, EmbeddingSet
from shared.storage.object_store import ObjectStore
from tests.support import rows
from tests.support.eventually import PATIENCE_S, eventually
from tests.support.servers import Servers

DIM = 8


class WatchedStore(ObjectStore):
    """An object store that notes which segments are read, and calls `before` with the key of each first."""

    def __init__(self, store: ObjectStore) -> None:
        super().__init__(store._client, store._bucket)
        self.read: list[str] = []
        self.before: Callable[[str], None] = lambda _: None

    def download(self, key: str, path: Path) -> None:
        self.before(key)
        self.read.append(layout.segment_of(key))
        super().download(key, path)


@pytest.fixture
def watched(store: ObjectStore) -> WatchedStore:
    return WatchedStore(store)


@pytest.fixture
def catalog(watched: WatchedStore) -> Catalog:
    return Catalog(watched)


@pytest.fixture
def art(catalog: Catalog) -> EmbeddingSet:
    return catalog.create("art", model="lite", version=1, dim=DIM)


def put(catalog: Catalog, embedding_set: EmbeddingSet, segment: str, numbers: Sequence[int]) -> None:
    catalog.store.put(layout.segment_key(embedding_set.collection, segment), rows.segment(numbers, embedding_set))


def write_merged(catalog: Catalog, embedding_set: EmbeddingSet, merged: str, inputs: Sequence[str]) -> None:
    """Write a segment that is made of others, without rows that are deleted."""
    parts = []
    for segment in inputs:
        data = catalog.store.get(layout.segment_key(embedding_set.collection, segment))
        parts.append((segment, segments.unpack(data), catalog.tombstones_of(embedding_set.collection, segment)))
    made = segments.merge(parts)
    assert made is not None
    catalog.store.put(layout.segment_key(embedding_set.collection, merged), made)


def merge(catalog: Catalog, embedding_set: EmbeddingSet, merged: str, inputs: Sequence[str]) -> None:
    """Merge segments as the indexer does, up to the deletion of the inputs."""
    write_merged(catalog, embedding_set, merged, inputs)
    catalog.remove_segments(embedding_set.collection, inputs)


OpenCopy = Callable[[], Replica]


@pytest.fixture
def make_copy(catalog: Catalog, art: EmbeddingSet, redis: Client, tmp_path: Path) -> OpenCopy:
    """Makes a copy of ``art``, which is in step with nothing yet."""
    return lambda: Replica(art, catalog=catalog, state=State.of(redis), folder=tmp_path)


@pytest.fixture
def open_replica(make_copy: OpenCopy) -> OpenCopy:
    """Makes a copy of ``art`` that is in step."""

    def opened() -> Replica:
        replica = make_copy()
        replica.synchronise()
        return replica

    return opened


def assert_holds(replica: Replica, numbers: Sequence[int]) -> None:
    """Check that exactly these images are in the copy, once each, by every way to read it."""
    wanted = sorted(rows.ids(numbers))
    view = replica.view
    assert view.counts.images == len(wanted)
    assert view.counts.classes == Counter(label for number in numbers if (label := rows.entry(number).label))
    assert view.counts.bytes == sum(rows.entry(number).size for number in numbers)
    total, page = view.latest(limit=10_000, offset=0, label="")
    assert (total, view.ids[page].tolist()) == (len(wanted), rows.ids(sorted(numbers, reverse=True)))  # added later
    assert sorted(scanned(view)) == wanted
    for number in numbers:
        mapped, row = replica.find(rows.image_id(number))
        assert mapped.entry(row) == rows.entry(number)
        assert np.array_equal(mapped.vectors[row], rows.embedding(number, DIM))


def scanned(view: View) -> list[int]:
    """Return the ids of all images that a scan finds."""
    query = rows.embedding(3, DIM)[np.newaxis]
    return [hit.image_id for hit in rank(view, query, RowFilter(view, Filter()).rows(), k=10_000, metric="cosine")[0]]


def assert_gone(replica: Replica, *numbers: int) -> None:
    for number in numbers:
        with pytest.raises(NotFound, match=str(rows.image_id(number))):
            replica.find(rows.image_id(number))


# One collection


def test_a_copy_has_what_the_store_lists(catalog: Catalog, art: EmbeddingSet, make_copy: OpenCopy) -> None:
    replica = make_copy()
    assert_holds(replica, [])
    put(catalog, art, "a", range(10))
    put(catalog, art, "b", range(10, 13))
    catalog.add_tombstones("art", [("a", rows.image_id(4)), ("b", rows.image_id(4)), ("c", rows.image_id(5))])
    replica.synchronise()
    assert_holds(replica, [*range(4), *range(5, 13)])
    assert_gone(replica, 4, 99)
    replica.synchronise()
    assert_holds(replica, [*range(4), *range(5, 13)])


def test_a_page_of_a_class(catalog: Catalog, art: EmbeddingSet, open_replica: OpenCopy) -> None:
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
    catalog: Catalog, watched: WatchedStore, art: EmbeddingSet, open_replica: OpenCopy
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
    catalog: Catalog, art: EmbeddingSet, open_replica: OpenCopy
) -> None:
    replica = open_replica()
    replica.add_tombstones("a", rows.image_id(2))
    put(catalog, art, "a", range(5))
    replica.add_segment("a")
    assert_holds(replica, [0, 1, 3, 4])


@pytest.mark.parametrize("first", ["a", "b"])
@pytest.mark.parametrize("deleted", ["a", "b"])
def test_an_image_in_two_segments_counts_once_and_either_may_go(
    catalog: Catalog, art: EmbeddingSet, first: str, deleted: str, open_replica: OpenCopy
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
    catalog: Catalog, art: EmbeddingSet, tmp_path: Path, open_replica: OpenCopy
) -> None:
    for segment, numbers in {"a": [0, 1, 2], "b": [2, 3], "c": [4]}.items():
        put(catalog, art, segment, numbers)
    replicas = [open_replica()]
    catalog.add_tombstones("art", [("a", rows.image_id(0)), ("b", rows.image_id(3))])
    write_merged(catalog, art, "merged-1", ["a", "b"])
    late = open_replica()  # both are listed: somebody died in between, or has not got further
    assert_holds(late, [1, 2, 4])
    assert [path.name for path in _files(tmp_path)] == ["c.arrow", "merged-1.arrow"]
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
    catalog: Catalog, watched: WatchedStore, art: EmbeddingSet, open_replica: OpenCopy
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
    catalog: Catalog, watched: WatchedStore, art: EmbeddingSet, make_copy: OpenCopy, steps: int
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
    replica = make_copy()
    replica.synchronise()
    assert_holds(replica, [0, 1, 3, 4, 5])


def test_a_merge_that_was_withdrawn_is_undone(
    catalog: Catalog, art: EmbeddingSet, tmp_path: Path, open_replica: OpenCopy
) -> None:
    for segment, number in (("a", 1), ("b", 2)):
        put(catalog, art, segment, [number])
    replica = open_replica()
    write_merged(catalog, art, "merged-1", ["a", "b"])
    replica.synchronise()
    assert [path.name for path in _files(tmp_path)] == ["merged-1.arrow"]
    catalog.store.delete([layout.segment_key("art", "merged-1")])
    replica.synchronise()
    assert_holds(replica, [1, 2])
    assert [path.name for path in _files(tmp_path)] == ["a.arrow", "b.arrow"]


def test_readers_see_every_image_once_while_segments_are_added_buried_and_merged(
    catalog: Catalog, art: EmbeddingSet, open_replica: OpenCopy
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
    catalog: Catalog, art: EmbeddingSet, tmp_path: Path, open_replica: OpenCopy, seed: int
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
    assert {path.stem for path in _files(tmp_path)} == written.keys()
    assert replica.damaged == []


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def test_a_restart_reads_its_files_and_fetches_only_what_is_new(
    catalog: Catalog, watched: WatchedStore, art: EmbeddingSet, open_replica: OpenCopy
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
    open_replica: OpenCopy,
    damage: str,
    *,
    merged: bool,
) -> None:
    for number in range(4):
        put(catalog, art, f"s{number:02}", [number])
    if merged:
        merge(catalog, art, "merged-1", ["s00", "s01"])
    open_replica()
    path = _files(tmp_path)[0]
    data = path.read_bytes()
    path.write_bytes(
        {"empty": b"", "cut": data[: len(data) // 2], "other bytes": b"\x00" * 5000, "no footer": data[:-10]}[damage]
    )
    watched.read.clear()
    replica = open_replica()
    assert_holds(replica, range(4))
    assert watched.read == [path.stem]


def test_a_changed_byte_in_a_file_is_found_in_time(
    catalog: Catalog, watched: WatchedStore, art: EmbeddingSet, tmp_path: Path, open_replica: OpenCopy
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
    catalog: Catalog, watched: WatchedStore, art: EmbeddingSet, tmp_path: Path, open_replica: OpenCopy
) -> None:
    for number in range(4):
        put(catalog, art, f"s{number:02}", [number])
    open_replica()
    before = {path: path.read_bytes() for path in _files(tmp_path)}
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
    assert [path.name for path in _files(tmp_path)] == ["merged-1.arrow", "s03.arrow", "s03.lengths"]


def test_a_segment_that_left_the_store_leaves_the_copy(
    catalog: Catalog, art: EmbeddingSet, tmp_path: Path, open_replica: OpenCopy
) -> None:
    for number in range(17):
        put(catalog, art, f"s{number:02}", [number])
    replica = open_replica()
    catalog.store.delete([layout.segment_key("art", "s03"), layout.segment_key("art", "s16")])
    replica.synchronise()
    assert_holds(replica, [0, 1, 2, *range(4, 16)])
    assert {path.name for path in _files(tmp_path)} == {mapped.path.name for mapped in replica.view.mapped_segments}


def test_a_deleted_image_is_never_shown_while_its_segment_is_fetched(
    catalog: Catalog, watched: WatchedStore, art: EmbeddingSet, open_replica: OpenCopy
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
    catalog: Catalog, art: EmbeddingSet, open_replica: OpenCopy, caplog: pytest.LogCaptureFixture
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
    catalog: Catalog, art: EmbeddingSet, redis: Client, open_replica: OpenCopy, caplog: pytest.LogCaptureFixture
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


def test_the_generation_in_use_is_loaded(catalog: Catalog, art: EmbeddingSet, open_replica: OpenCopy) -> None:
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


def fit(catalog: Catalog, embedding_set: EmbeddingSet, number: int) -> Generation:
    family = tuning.fit(rows.embeddings(range(40), DIM), seed=number, tables=2, hashes=2, probes=2)
    generation = Generation(embedding_set, number, family)
    generation.save(catalog.store)
    catalog.set_current_index(embedding_set.collection, CurrentIndex(number, 40))
    return generation


# All collections


@pytest.fixture
def follow(catalog: Catalog, servers: Servers, tmp_path: Path) -> Iterator[Callable[[], ReplicaSync]]:
    started: list[ReplicaSync] = []

    def start() -> ReplicaSync:
        index = connect(servers.settings.index_url.get_secret_value(), retries=0, timeout_s=2.0)
        replica_sync = ReplicaSync(catalog, State.of(index), tmp_path)
        replica_sync.start()
        started.append(replica_sync)
        eventually(replica_sync.listed.is_set)
        return replica_sync

    yield start
    for replica_sync in started:
        replica_sync.stop()


def size(replica_sync: ReplicaSync, name: str = "art") -> int:
    """Return how many images the replica has; -1 for no such collection."""
    try:
        return replica_sync.replica(name).view.images
    except NotFound:
        return -1


def test_every_announced_change_is_in_the_next_answer(
    follow: Callable[[], ReplicaSync], catalog: Catalog, redis: Client
) -> None:
    """Once the replica sync is connected, an answer is never older than what was announced before its request."""
    replica_sync, changes = follow(), Changes(redis)
    eventually(lambda: replica_sync.connected)
    assert size(replica_sync) == -1
    art = catalog.create("art", model="lite", version=1, dim=DIM)
    changes.announce(Change("art", "collection"))
    assert size(replica_sync) == 0
    for number in range(20):
        put(catalog, art, f"s{number:02}", [number])
        changes.announce(Change("art", "segment", f"s{number:02}"))
        assert size(replica_sync) == number + 1
    catalog.add_tombstones("art", [("s05", rows.image_id(5))])
    changes.announce(Change("art", "deleted", f"s05/{rows.image_id(5)}"))
    assert_holds(replica_sync.replica("art"), [*range(5), *range(6, 20)])
    fit(catalog, art, 1)
    changes.announce(Change("art", "index"))
    assert replica_sync.replica("art").generation is not None
    put(catalog, art, "unannounced", [50])
    changes.announce(Change("art", "rebuilt"))
    assert size(replica_sync) == 20
    catalog.drop(catalog.get("art"))
    changes.announce(Change("art", "dropped"))
    assert size(replica_sync) == -1
    again = catalog.create("art", model="lite", version=1, dim=DIM)
    put(catalog, again, "s00", [70])
    changes.announce(Change("art", "segment", "s00"))  # the collection's own announcement was lost
    assert_holds(replica_sync.replica("art"), [70])


def test_merged_segments_and_deletions_from_them_are_in_the_next_answer(
    follow: Callable[[], ReplicaSync], catalog: Catalog, art: EmbeddingSet, redis: Client
) -> None:
    replica_sync, changes = follow(), Changes(redis)
    eventually(lambda: replica_sync.connected)
    numbers: set[int] = set()
    for step in range(6):
        names = [f"s{step}{letter}" for letter in "abc"]
        for place, segment in enumerate(names):
            put(catalog, art, segment, [10 * step + place])
            numbers.add(10 * step + place)
            changes.announce(Change("art", "segment", segment))
        write_merged(catalog, art, f"merged-{step}", names)
        changes.announce(Change("art", "merged", f"merged-{step}"))
        catalog.remove_segments("art", names)
        gone = rows.image_id(10 * step + step % 3)
        numbers.remove(10 * step + step % 3)
        name = f"merged-{step}" if step % 2 else names[step % 3]
        catalog.add_tombstones("art", [(f"merged-{step}", gone)])
        changes.announce(Change("art", "deleted", f"{name}/{gone}"))
        assert_holds(replica_sync.replica("art"), sorted(numbers))
    eventually(
        lambda: (
            {mapped.name for mapped in replica_sync.replicas["art"].view.mapped_segments}
            == {f"merged-{n}" for n in range(6)}
        )
    )
    assert_holds(replica_sync.replica("art"), sorted(numbers))


def test_a_request_waits_for_its_own_collection_and_for_no_other(
    follow: Callable[[], ReplicaSync], catalog: Catalog, watched: WatchedStore, art: EmbeddingSet, redis: Client
) -> None:
    """Nor for a merged segment, which holds what its inputs hold."""
    music = catalog.create("music", model="lite", version=1, dim=DIM)
    put(catalog, art, "a", [1])
    put(catalog, art, "b", [2])
    replica_sync, changes = follow(), Changes(redis)
    eventually(lambda: replica_sync.connected)
    hold, fetching = threading.Event(), threading.Event()

    def wait(key: str) -> None:
        if "slow" in key:
            fetching.set()
            assert hold.wait(PATIENCE_S)

    watched.before = wait
    try:
        write_merged(catalog, art, "merged-slow", ["a", "b"])
        changes.announce(Change("art", "merged", "merged-slow"))
        assert fetching.wait(PATIENCE_S)
        put(catalog, art, "c", [3])
        changes.announce(Change("art", "segment", "c"))
        assert_holds(replica_sync.replica("art"), [1, 2, 3])
        put(catalog, music, "slow", [5])
        changes.announce(Change("music", "segment", "slow"))
        with ThreadPoolExecutor(1) as threads:
            waiting = threads.submit(size, replica_sync, "music")
            put(catalog, art, "d", [4])
            changes.announce(Change("art", "segment", "d"))
            assert_holds(replica_sync.replica("art"), [1, 2, 3, 4])
            assert not waiting.done()
            hold.set()
            assert waiting.result(60) == 1
    finally:
        hold.set()
    eventually(
        lambda: (
            {mapped.name for mapped in replica_sync.replicas["art"].view.mapped_segments} == {"merged-slow", "c", "d"}
        )
    )


def test_a_change_is_followed_without_a_request(
    follow: Callable[[], ReplicaSync], catalog: Catalog, art: EmbeddingSet, redis: Client
) -> None:
    replica_sync = follow()
    put(catalog, art, "a", range(4))
    Changes(redis).announce(Change("art", "segment", "a"))
    eventually(lambda: replica_sync.replicas["art"].view.images == 4)


def test_a_start_lists_what_there_is(follow: Callable[[], ReplicaSync], catalog: Catalog, art: EmbeddingSet) -> None:
    put(catalog, art, "a", range(4))
    catalog.create("music", model="lite", version=1, dim=DIM)
    replica_sync = follow()
    assert sorted(replica_sync.replicas) == ["art", "music"]
    assert_holds(replica_sync.replica("art"), range(4))


def test_a_broken_manifest_keeps_no_other_collection_away(
    follow: Callable[[], ReplicaSync], catalog: Catalog, art: EmbeddingSet
) -> None:
    put(catalog, art, "a", range(4))
    catalog.store.put(layout.manifest_key("aaa-broken"), b"{")
    assert_holds(follow().replica("art"), range(4))


def test_a_lost_stream_is_made_up_for_by_a_listing(
    follow: Callable[[], ReplicaSync], catalog: Catalog, art: EmbeddingSet, redis: Client
) -> None:
    replica_sync, changes = follow(), Changes(redis)
    eventually(lambda: replica_sync.connected)
    put(catalog, art, "a", [1])
    changes.announce(Change("art", "segment", "a"))
    assert size(replica_sync) == 1
    put(catalog, art, "b", [2])
    catalog.add_tombstones("art", [("a", rows.image_id(1))])
    redis.flushall()  # and with it what was announced
    changes.announce(Change("music", "collection"))
    eventually(lambda: {mapped.name for mapped in replica_sync.replica("art").view.mapped_segments} == {"a", "b"})
    assert_holds(replica_sync.replica("art"), [2])
    put(catalog, art, "c", [3])
    changes.announce(Change("art", "segment", "c"))
    eventually(lambda: size(replica_sync) == 2)


def test_without_the_index_the_copy_answers_and_afterwards_it_follows(
    follow: Callable[[], ReplicaSync], catalog: Catalog, art: EmbeddingSet, servers: Servers
) -> None:
    put(catalog, art, "a", range(4))
    replica_sync = follow()
    servers.index.kill()
    eventually(lambda: not replica_sync.connected)
    assert_holds(replica_sync.replica("art"), range(4))
    put(catalog, art, "b", [4])
    servers.index.start()
    Changes(connect(servers.settings.index_url.get_secret_value())).announce(Change("art", "segment", "b"))
    eventually(lambda: size(replica_sync) == 5)
    assert replica_sync.connected


def test_a_request_in_the_moment_the_index_goes_away_is_answered(
    follow: Callable[[], ReplicaSync], catalog: Catalog, art: EmbeddingSet, servers: Servers
) -> None:
    put(catalog, art, "a", range(4))
    replica_sync = follow()
    eventually(lambda: replica_sync.connected)
    servers.index.kill()
    replica_sync.connected = True  # as it is until the background thread sees it
    assert_holds(replica_sync.replica("art"), range(4))
    assert not replica_sync.connected
    servers.index.start()


def test_a_start_without_the_index_lists_the_store(
    follow: Callable[[], ReplicaSync], catalog: Catalog, art: EmbeddingSet, servers: Servers
) -> None:
    put(catalog, art, "a", range(4))
    servers.index.kill()
    replica_sync = follow()
    assert_holds(replica_sync.replica("art"), range(4))
    servers.index.start()
    eventually(lambda: replica_sync.connected)


def test_without_the_store_the_copy_answers_and_afterwards_it_follows(
    follow: Callable[[], ReplicaSync], catalog: Catalog, art: EmbeddingSet, servers: Servers, redis: Client
) -> None:
    put(catalog, art, "a", range(4))
    replica_sync = follow()
    eventually(lambda: replica_sync.connected)
    put(catalog, art, "b", [4])
    servers.objects.kill()
    Changes(redis).announce(Change("art", "segment", "b"))
    assert_holds(replica_sync.replica("art"), range(4))
    servers.objects.start()
    eventually(lambda: size(replica_sync) == 5)


def test_a_collection_made_anew_under_its_name_while_nobody_listened_is_another_one(
    follow: Callable[[], ReplicaSync], catalog: Catalog, art: EmbeddingSet, tmp_path: Path
) -> None:
    put(catalog, art, "a", range(4))
    follow().stop()
    catalog.drop(catalog.get("art"))
    again = catalog.create("art", model="lite", version=1, dim=DIM)
    put(catalog, again, "a", [9])
    assert_holds(follow().replica("art"), [9])
    assert [path.name for path in tmp_path.iterdir()] == [f"art-{again.tag}"]
