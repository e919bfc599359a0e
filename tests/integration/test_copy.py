"""The query service's copy of a collection, on a real object store: whole after every change, restart and fault."""

import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest

from services.query import ranking
from services.query.copy import CollectionCopy
from services.query.follower import Follower
from shared import hashing, layout
from shared.catalog import Catalog, Collection, CurrentIndex
from shared.errors import NotFound
from shared.generations import Generation
from shared.index import Change, Changes, Client, connect
from shared.store import ObjectStore
from tests import rows
from tests.integration.conftest import Servers

DIM = 8


class WatchedStore(ObjectStore):
    """An object store that notes which segments are read, and calls `before` with the key of each first."""

    def __init__(self, store: ObjectStore) -> None:
        super().__init__(store._client, store._bucket)
        self.read: list[str] = []
        self.before: Callable[[str], None] = lambda _: None

    def get(self, key: str) -> bytes:
        if key.endswith(".arrow"):
            self.before(key)
            self.read.append(layout.segment_of(key))
        return super().get(key)


@pytest.fixture
def watched(store: ObjectStore) -> WatchedStore:
    return WatchedStore(store)


@pytest.fixture
def catalog(watched: WatchedStore) -> Catalog:
    return Catalog(watched)


@pytest.fixture
def art(catalog: Catalog) -> Collection:
    return catalog.create("art", model="lite", version=1, dim=DIM)


def put(catalog: Catalog, collection: Collection, segment: str, numbers: Sequence[int]) -> None:
    catalog.store.put(layout.segment_key(collection.name, segment), rows.segment(numbers, collection))


def open_copy(catalog: Catalog, collection: Collection, folder: Path) -> CollectionCopy:
    copy = CollectionCopy(collection, catalog=catalog, folder=folder)
    copy.synchronise()
    return copy


def assert_holds(copy: CollectionCopy, numbers: Sequence[int]) -> None:
    """Check that exactly these images are in the copy, once each, by every way to read it."""
    wanted = sorted(rows.ids(numbers))
    counts = copy.counts()
    assert counts.images == len(wanted)
    assert counts.classes == Counter(label for number in numbers if (label := rows.entry(number).label))
    assert counts.bytes == sum(rows.entry(number).size for number in numbers)
    total, page = copy.latest(limit=10_000, offset=0, label="")
    assert (total, [int(pack.ids[row]) for pack, row in page]) == (
        len(wanted),
        rows.ids(sorted(numbers, reverse=True)),  # of a higher number, added later
    )
    hits, compared = ranking.scan(copy.packs, rows.embedding(3, DIM), k=10_000, metric="cosine")
    assert (compared, sorted(int(hit.pack.ids[hit.row]) for hit in hits)) == (len(wanted), wanted)
    for number in numbers:
        pack, row = copy.find(rows.image_id(number))
        assert pack.entry(row) == rows.entry(number)
        assert np.array_equal(pack.vectors[row], rows.embedding(number, DIM))


def assert_gone(copy: CollectionCopy, *numbers: int) -> None:
    for number in numbers:
        with pytest.raises(NotFound, match=str(rows.image_id(number))):
            copy.find(rows.image_id(number))


# One collection


def test_a_copy_has_what_the_store_lists(catalog: Catalog, art: Collection, tmp_path: Path) -> None:
    copy = CollectionCopy(art, catalog=catalog, folder=tmp_path)
    assert_holds(copy, [])
    put(catalog, art, "a", range(10))
    put(catalog, art, "b", range(10, 13))
    catalog.bury("art", [("a", rows.image_id(4)), ("b", rows.image_id(4)), ("c", rows.image_id(5))])
    copy.synchronise()
    assert_holds(copy, [*range(4), *range(5, 13)])
    assert_gone(copy, 4, 99)
    copy.synchronise()
    assert_holds(copy, [*range(4), *range(5, 13)])


def test_a_page_of_a_class(catalog: Catalog, art: Collection, tmp_path: Path) -> None:
    put(catalog, art, "a", range(12))
    put(catalog, art, "b", range(12, 30))
    copy = open_copy(catalog, art, tmp_path)
    paintings = [number for number in range(29, -1, -1) if rows.entry(number).label == "painting"]
    total, page = copy.latest(limit=4, offset=3, label="painting")
    assert total == len(paintings)
    assert [int(pack.ids[row]) for pack, row in page] == rows.ids(paintings[3:7])
    assert copy.latest(limit=5, offset=0, label="nothing")[0] == 0
    assert list(copy.latest(limit=5, offset=100, label="")[1]) == []


def test_an_announced_segment_is_added_once(
    catalog: Catalog, watched: WatchedStore, art: Collection, tmp_path: Path
) -> None:
    copy = open_copy(catalog, art, tmp_path)
    put(catalog, art, "a", range(5))
    for _ in range(3):
        copy.add_segment("a")
    copy.add_segment("never-written")
    copy.synchronise()
    assert_holds(copy, range(5))
    assert watched.read.count("a") == 1


def test_a_deletion_may_be_announced_before_its_segment(catalog: Catalog, art: Collection, tmp_path: Path) -> None:
    copy = open_copy(catalog, art, tmp_path)
    copy.bury("a", rows.image_id(2))
    put(catalog, art, "a", range(5))
    copy.add_segment("a")
    assert_holds(copy, [0, 1, 3, 4])


@pytest.mark.parametrize("first", ["a", "b"])
@pytest.mark.parametrize("deleted", ["a", "b"])
def test_an_image_in_two_segments_counts_once_and_either_may_go(
    catalog: Catalog, art: Collection, tmp_path: Path, first: str, deleted: str
) -> None:
    copy = open_copy(catalog, art, tmp_path)
    put(catalog, art, "a", [1, 2, 3])
    put(catalog, art, "b", [3, 4])
    for segment in (first, "a", "b"):
        copy.add_segment(segment)
    assert_holds(copy, [1, 2, 3, 4])
    copy.bury(deleted, rows.image_id(3))
    assert_holds(copy, [1, 2, 3, 4])  # by the other segment's row
    copy.bury("a" if deleted == "b" else "b", rows.image_id(3))
    assert_holds(copy, [1, 2, 4])
    put(catalog, art, "c", [3])
    copy.add_segment("c")
    assert_holds(copy, [1, 2, 3, 4])


def test_sixteen_packs_become_one_and_marks_stay(catalog: Catalog, art: Collection, tmp_path: Path) -> None:
    copy = open_copy(catalog, art, tmp_path)
    for number in range(15):
        put(catalog, art, f"s{number:02}", [number, 100])  # 100 is in all of them
        copy.add_segment(f"s{number:02}")
    copy.bury("s03", rows.image_id(3))
    copy.bury("s00", rows.image_id(100))
    assert len(copy.packs) == 15
    put(catalog, art, "s15", [15])
    copy.add_segment("s15")
    assert len(copy.packs) == 1
    assert [path.name for path in _files(tmp_path)] == [copy.packs[0].path.name]
    live = [number for number in range(16) if number != 3]
    assert_holds(copy, [*live, 100])
    for number in range(1, 15):
        assert_holds(copy, [*live, 100])
        copy.bury(f"s{number:02}", rows.image_id(100))
    assert_holds(copy, live)


def test_readers_see_every_image_once_while_packs_are_added_buried_and_merged(
    catalog: Catalog, art: Collection, tmp_path: Path
) -> None:
    """Readers take no lock: whatever they see at any moment is a whole collection."""
    copy = open_copy(catalog, art, tmp_path)
    always = list(range(1000, 1040))
    put(catalog, art, "always", always)
    copy.add_segment("always")
    wanted = set(rows.ids(always))
    faults: list[str] = []
    done = threading.Event()

    def read() -> None:
        while not done.is_set():
            hits, _ = ranking.scan(copy.packs, rows.embedding(3, DIM), k=10_000, metric="euclidean")
            found = [int(hit.pack.ids[hit.row]) for hit in hits]
            if len(set(found)) != len(found) or not wanted <= set(found):
                faults.append(f"{len(found)} hits, {len(set(found))} images, {len(wanted - set(found))} missing")

    readers = [threading.Thread(target=read) for _ in range(2)]
    for reader in readers:
        reader.start()
    for number in range(70):
        put(catalog, art, f"s{number:02}", [number, 1000 + number % 40])  # the second one is there already
        copy.add_segment(f"s{number:02}")
        if number % 3 == 0:
            copy.bury(f"s{number:02}", rows.image_id(1000 + number % 40))
    done.set()
    for reader in readers:
        reader.join()
    assert faults == []
    assert_holds(copy, [*range(70), *always])


@pytest.mark.parametrize("seed", range(3))
def test_whatever_happens_the_copy_is_what_the_store_says(
    catalog: Catalog, art: Collection, tmp_path: Path, seed: int
) -> None:
    """Segments that overlap, deletions, merges, restarts and listings in any order, against a plain model."""
    chance = random.Random(seed)
    copy = open_copy(catalog, art, tmp_path)
    written: dict[str, list[int]] = {}
    dead: set[tuple[str, int]] = set()
    for step in range(120):
        match chance.choice(["add", "add", "add", "add silently", "bury", "bury", "synchronise", "restart"]):
            case "add" | "add silently" as how:
                segment = f"{chance.randrange(1000):03}-{step}"
                written[segment] = chance.sample(range(60), chance.randrange(1, 6))
                put(catalog, art, segment, written[segment])
                if how == "add":
                    copy.add_segment(segment)
                else:
                    copy.synchronise()
            case "bury" if written:
                segment = chance.choice(list(written))
                number = chance.choice(written[segment])
                dead.add((segment, number))
                catalog.bury("art", [(segment, rows.image_id(number))])
                copy.bury(segment, rows.image_id(number))
            case "restart":
                copy = open_copy(catalog, art, tmp_path)
            case _:
                copy.synchronise()
        live = {number for segment, numbers in written.items() for number in numbers if (segment, number) not in dead}
        if step % 5 == 0:
            assert_holds(copy, sorted(live))
        else:
            assert copy.counts().images == len(live)
    assert len(copy.packs) <= 31
    assert {path.name for path in _files(tmp_path)} == {pack.path.name for pack in copy.packs}


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def test_a_restart_reads_its_files_and_fetches_only_what_is_new(
    catalog: Catalog, watched: WatchedStore, art: Collection, tmp_path: Path
) -> None:
    for number in range(18):
        put(catalog, art, f"s{number:02}", [number, number + 50])
    catalog.bury("art", [("s01", rows.image_id(1))])
    open_copy(catalog, art, tmp_path)
    assert len(watched.read) == 18
    watched.read.clear()
    put(catalog, art, "s99", [99])
    catalog.bury("art", [("s02", rows.image_id(2)), ("s17", rows.image_id(17))])
    copy = open_copy(catalog, art, tmp_path)
    assert watched.read == ["s99"]
    assert_holds(copy, [0, *range(3, 17), *range(50, 68), 99])


@pytest.mark.parametrize("damage", ["empty", "cut", "other bytes", "no footer"])
@pytest.mark.parametrize("segments", [2, 16])  # as they came, and merged
def test_a_broken_file_is_fetched_anew(
    catalog: Catalog, watched: WatchedStore, art: Collection, tmp_path: Path, damage: str, segments: int
) -> None:
    for number in range(segments):
        put(catalog, art, f"s{number:02}", [number])
    open_copy(catalog, art, tmp_path)
    path = _files(tmp_path)[0]
    data = path.read_bytes()
    path.write_bytes(
        {"empty": b"", "cut": data[: len(data) // 2], "other bytes": b"\x00" * 5000, "no footer": data[:-10]}[damage]
    )
    watched.read.clear()
    copy = open_copy(catalog, art, tmp_path)
    assert_holds(copy, range(segments))
    assert len(watched.read) == (1 if segments == 2 else 16)


def test_what_a_crash_in_a_merge_leaves_is_cleared(catalog: Catalog, art: Collection, tmp_path: Path) -> None:
    for number in range(15):
        put(catalog, art, f"s{number:02}", [number])
    open_copy(catalog, art, tmp_path)
    before = {path: path.read_bytes() for path in _files(tmp_path)}
    put(catalog, art, "s15", [15])
    open_copy(catalog, art, tmp_path)
    (merged,) = _files(tmp_path)
    for path, data in before.items():  # killed before it deleted what it had merged
        path.write_bytes(data)
    (merged.parent / "merged-x.part").write_bytes(b"half of another")
    copy = open_copy(catalog, art, tmp_path)
    assert_holds(copy, range(16))
    assert _files(tmp_path) == [merged]


def test_a_segment_that_left_the_store_leaves_the_copy(catalog: Catalog, art: Collection, tmp_path: Path) -> None:
    for number in range(17):
        put(catalog, art, f"s{number:02}", [number])
    copy = open_copy(catalog, art, tmp_path)
    catalog.store.delete([layout.segment_key("art", "s03"), layout.segment_key("art", "s16")])
    copy.synchronise()
    assert_holds(copy, [0, 1, 2, *range(4, 16)])
    assert {path.name for path in _files(tmp_path)} == {pack.path.name for pack in copy.packs}


def test_a_deleted_image_is_never_shown_while_its_segment_is_fetched(
    catalog: Catalog, watched: WatchedStore, art: Collection, tmp_path: Path
) -> None:
    copy = open_copy(catalog, art, tmp_path)
    put(catalog, art, "a", [1, 2])
    put(catalog, art, "b", [3])
    catalog.bury("art", [("a", rows.image_id(2))])
    seen: list[int] = []

    def look(key: str) -> None:
        """When b is asked for, wait until a is there: what do readers see now?"""
        if key.endswith("b.arrow"):
            until = time.monotonic() + 20
            while not copy.packs and time.monotonic() < until:
                time.sleep(0.001)
            seen.append(copy.counts().images)
            assert_gone(copy, 2)

    watched.before = look
    copy.synchronise()
    assert seen == [1]
    assert_holds(copy, [1, 3])


def test_a_segment_that_cannot_be_read_is_left_out_and_the_others_are_there(
    catalog: Catalog, art: Collection, tmp_path: Path
) -> None:
    put(catalog, art, "a", [1])
    catalog.store.put(layout.segment_key("art", "broken"), b"no segment")
    catalog.store.put(layout.segment_key("art", "empty"), b"")
    copy = open_copy(catalog, art, tmp_path)
    copy.add_segment("broken")
    assert_holds(copy, [1])


def test_the_generation_in_use_is_loaded(catalog: Catalog, art: Collection, tmp_path: Path) -> None:
    copy = open_copy(catalog, art, tmp_path)
    assert copy.generation is None
    for number in (1, 2):
        fit(catalog, art, number)
        copy.load_generation()
        assert copy.generation is not None
        assert (copy.generation.number, copy.generation.family.parameters()["seed"]) == (number, number)
    catalog.set_current_index("art", CurrentIndex(3, 0))  # which is not there
    copy.load_generation()
    assert copy.generation is None


def fit(catalog: Catalog, collection: Collection, number: int) -> Generation:
    family = hashing.fit(rows.embeddings(range(40), DIM), seed=number, tables=2, hashes=2, probes=2)
    generation = Generation(collection, number, family)
    generation.save(catalog.store)
    catalog.set_current_index(collection.name, CurrentIndex(number, 40))
    return generation


# All collections


@pytest.fixture
def follow(catalog: Catalog, servers: Servers, tmp_path: Path) -> Iterator[Callable[[], Follower]]:
    started: list[Follower] = []

    def start() -> Follower:
        index = connect(servers.settings.index_url.get_secret_value(), retries=0, timeout_s=2.0)
        follower = Follower(catalog=catalog, changes=Changes(index), folder=tmp_path)
        follower.start()
        started.append(follower)
        wait_until(follower.listed.is_set)
        return follower

    yield start
    for follower in started:
        follower.stop()


def wait_until(condition: Callable[[], bool]) -> None:
    until = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.02)


def size(follower: Follower, name: str = "art") -> int:
    """Return how many images the follower's copy has; -1 for no such collection."""
    try:
        return follower.copy(name).counts().images
    except NotFound:
        return -1


def test_every_announced_change_is_in_the_next_answer(
    follow: Callable[[], Follower], catalog: Catalog, redis: Client
) -> None:
    """Once the follower is connected, an answer is never older than what was announced before its request."""
    follower, changes = follow(), Changes(redis)
    wait_until(lambda: follower.connected)
    assert size(follower) == -1
    art = catalog.create("art", model="lite", version=1, dim=DIM)
    changes.announce(Change("art", "collection"))
    assert size(follower) == 0
    for number in range(20):
        put(catalog, art, f"s{number:02}", [number])
        changes.announce(Change("art", "segment", f"s{number:02}"))
        assert size(follower) == number + 1
    catalog.bury("art", [("s05", rows.image_id(5))])
    changes.announce(Change("art", "deleted", f"s05/{rows.image_id(5)}"))
    assert_holds(follower.copy("art"), [*range(5), *range(6, 20)])
    fit(catalog, art, 1)
    changes.announce(Change("art", "index"))
    assert follower.copy("art").generation is not None
    put(catalog, art, "unannounced", [50])
    changes.announce(Change("art", "rebuilt"))
    assert size(follower) == 20
    catalog.drop("art")
    changes.announce(Change("art", "dropped"))
    assert size(follower) == -1
    again = catalog.create("art", model="lite", version=1, dim=DIM)
    put(catalog, again, "s00", [70])
    changes.announce(Change("art", "segment", "s00"))  # the collection's own announcement was lost
    assert_holds(follower.copy("art"), [70])


def test_a_change_is_followed_without_a_request(
    follow: Callable[[], Follower], catalog: Catalog, art: Collection, redis: Client
) -> None:
    follower = follow()
    put(catalog, art, "a", range(4))
    Changes(redis).announce(Change("art", "segment", "a"))
    wait_until(lambda: follower.copies["art"].counts().images == 4)


def test_a_start_lists_what_there_is(follow: Callable[[], Follower], catalog: Catalog, art: Collection) -> None:
    put(catalog, art, "a", range(4))
    catalog.create("music", model="lite", version=1, dim=DIM)
    follower = follow()
    assert sorted(follower.copies) == ["art", "music"]
    assert_holds(follower.copy("art"), range(4))


def test_a_broken_manifest_keeps_no_other_collection_away(
    follow: Callable[[], Follower], catalog: Catalog, art: Collection
) -> None:
    put(catalog, art, "a", range(4))
    catalog.store.put(layout.manifest_key("aaa-broken"), b"{")
    assert_holds(follow().copy("art"), range(4))


def test_a_lost_stream_is_made_up_for_by_a_listing(
    follow: Callable[[], Follower], catalog: Catalog, art: Collection, redis: Client
) -> None:
    follower, changes = follow(), Changes(redis)
    wait_until(lambda: follower.connected)
    put(catalog, art, "a", [1])
    changes.announce(Change("art", "segment", "a"))
    assert size(follower) == 1
    put(catalog, art, "b", [2])
    catalog.bury("art", [("a", rows.image_id(1))])
    redis.flushall()  # and with it what was announced
    changes.announce(Change("music", "collection"))
    wait_until(lambda: size(follower) == 1 and follower.copy("art").packs != ())
    wait_until(lambda: set(follower.copy("art")._have) == {"a", "b"})
    assert_holds(follower.copy("art"), [2])
    put(catalog, art, "c", [3])
    changes.announce(Change("art", "segment", "c"))
    wait_until(lambda: size(follower) == 2)


def test_without_the_index_the_copy_answers_and_afterwards_it_follows(
    follow: Callable[[], Follower], catalog: Catalog, art: Collection, servers: Servers
) -> None:
    put(catalog, art, "a", range(4))
    follower = follow()
    servers.index.kill()
    wait_until(lambda: not follower.connected)
    assert_holds(follower.copy("art"), range(4))
    put(catalog, art, "b", [4])
    servers.index.start()
    Changes(connect(servers.settings.index_url.get_secret_value())).announce(Change("art", "segment", "b"))
    wait_until(lambda: size(follower) == 5)
    assert follower.connected


def test_a_request_in_the_moment_the_index_goes_away_is_answered(
    follow: Callable[[], Follower], catalog: Catalog, art: Collection, servers: Servers
) -> None:
    put(catalog, art, "a", range(4))
    follower = follow()
    wait_until(lambda: follower.connected)
    servers.index.kill()
    follower.connected = True  # as it is until the background thread sees it
    assert_holds(follower.copy("art"), range(4))
    assert not follower.connected
    servers.index.start()


def test_a_start_without_the_index_lists_the_store(
    follow: Callable[[], Follower], catalog: Catalog, art: Collection, servers: Servers
) -> None:
    put(catalog, art, "a", range(4))
    servers.index.kill()
    follower = follow()
    assert_holds(follower.copy("art"), range(4))
    servers.index.start()
    wait_until(lambda: follower.connected)


def test_without_the_store_the_copy_answers_and_afterwards_it_follows(
    follow: Callable[[], Follower], catalog: Catalog, art: Collection, servers: Servers, redis: Client
) -> None:
    put(catalog, art, "a", range(4))
    follower = follow()
    wait_until(lambda: follower.connected)
    put(catalog, art, "b", [4])
    servers.objects.kill()
    Changes(redis).announce(Change("art", "segment", "b"))
    assert_holds(follower.copy("art"), range(4))
    servers.objects.start()
    wait_until(lambda: size(follower) == 5)


def test_a_collection_made_anew_under_its_name_while_nobody_listened_is_another_one(
    follow: Callable[[], Follower], catalog: Catalog, art: Collection, tmp_path: Path
) -> None:
    put(catalog, art, "a", range(4))
    follow().stop()
    catalog.drop("art")
    again = catalog.create("art", model="lite", version=1, dim=DIM)
    put(catalog, again, "a", [9])
    assert_holds(follow().copy("art"), [9])
    assert [path.name for path in tmp_path.iterdir()] == [f"art-{again.tag}"]
