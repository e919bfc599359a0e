"""The replicas of all collections follow what is announced, with and without index and store."""

import json
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path

import pytest

from services.query.grpc_service import QueryService
from services.query.records.record_sync import RecordSync
from services.query.records.selection import Selections
from services.query.replica.replica_sync import ReplicaSync
from shared.errors import NotFound, Unavailable
from shared.rpc.query import query_pb2 as messages
from shared.state import Change, Changes, Client, State, connect
from shared.storage import layout
from shared.storage.catalog import Catalog, EmbeddingSet
from tests.support import rows
from tests.support.eventually import PATIENCE_S, eventually
from tests.support.replicas import DIM, WatchedStore, assert_holds, fit, put, write_merged
from tests.support.servers import Servers


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


def test_a_collection_that_begins_while_the_store_is_listed_stays(
    follow: Callable[[], ReplicaSync], catalog: Catalog, redis: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    replica_sync = follow()
    eventually(lambda: replica_sync.connected)
    list_unused, listings, looked = (
        catalog.all_unused_embedding_sets,
        [threading.Event(), threading.Event()],
        threading.Event(),
    )

    def all_unused_embedding_sets() -> list[str]:
        if not listings[0].is_set():  # the collections' names have been read
            catalog.create("art", model="lite", version=1, dim=DIM)
            Changes(redis).announce(Change("art", "collection"))
            assert size(replica_sync) == 0
            listings[0].set()
        else:
            listings[1].set()
            assert looked.wait(PATIENCE_S)
        return list_unused()

    monkeypatch.setattr(catalog, "all_unused_embedding_sets", all_unused_embedding_sets)
    monkeypatch.setattr("services.query.replica.replica_sync._RELIST_S", 0.0)
    assert listings[1].wait(PATIENCE_S)
    assert size(replica_sync) == 0
    looked.set()


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


def test_a_manifest_that_cannot_be_read_is_named_and_the_others_are_listed_served_and_followed(
    follow: Callable[[], ReplicaSync], catalog: Catalog, art: EmbeddingSet, redis: Client, tmp_path: Path
) -> None:
    put(catalog, art, "a", [1])
    catalog.create("whole", model="lite", version=1, dim=DIM)
    newer = json.dumps({**asdict(art), "collection": "newer", "colour": "blue"}).encode()
    catalog.store.put(layout.manifest_key("newer"), newer)
    replica_sync, changes = follow(), Changes(redis)
    eventually(lambda: replica_sync.connected)
    for kind in ("dropped", "activated", "collection", "rebuilt"):  # whatever is announced of it
        changes.announce(Change("newer", kind))
        changes.announce(Change("newer.2", kind))
    put(catalog, art, "b", [2])
    changes.announce(Change("art", "segment", "b"))
    assert size(replica_sync) == 2
    replica_sync.catch_up()
    with pytest.raises(Unavailable, match="newer"):
        replica_sync.replica("newer")
    selections = Selections(RecordSync(catalog.store, State.of(redis).record_changes, tmp_path))
    listed = QueryService(None, replica_sync, selections).ListCollections(  # type: ignore[arg-type]
        messages.ListCollectionsRequest(),
        None,  # type: ignore[arg-type]
    )
    assert [(found.name, found.images, bool(found.fault)) for found in listed.collections] == [
        ("art", 2, False),
        ("newer", 0, True),
        ("whole", 0, False),
    ]
    put(catalog, catalog.get("whole"), "a", [3])
    changes.announce(Change("whole", "segment", "a"))
    assert size(replica_sync, "whole") == 1
    catalog.store.put(layout.manifest_key("newer"), json.dumps({**asdict(art), "collection": "newer"}).encode())
    changes.announce(Change("newer", "rebuilt"))
    assert size(replica_sync, "newer") == 0
    assert replica_sync.faults == {}


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
