"""Redis has lost a part of what it held of an index, or holds what was true a while ago: it is noticed and mended."""

import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from services.maintenance.schedule import SuspectRebuild
from services.query.replica.index_watch import CHECKING, IndexWatch
from services.query.replica.replica import Replica
from services.query.replica.replica_sync import ReplicaSync
from services.query.search.search_query import SearchQuery
from services.query.search.searcher import Searcher
from shared.clients import Clients
from shared.images import DirectDecoder
from shared.index.generations import Generation
from shared.messaging.lost_index import ensure_known
from shared.state import IndexState
from shared.state.changes import Change
from shared.storage import layout
from shared.storage.catalog import EmbeddingSet
from tests.support import rows
from tests.support.eventually import PATIENCE_S, eventually
from tests.support.indexing import DIM, Parts, parts_of
from tests.support.servers import Servers


@pytest.fixture
def parts(servers: Servers) -> Parts:
    return parts_of(servers.settings)


def whole(parts: Parts) -> EmbeddingSet:
    """Return a collection with an index: a merged segment of 20 images, one of them deleted, and a newer segment."""
    art = parts.collection()
    parts.add(art, "a", range(12))
    parts.add(art, "b", range(12, 20))
    parts.maintenance().tuner.maintain(collection="art")
    parts.indexer().deletion.delete(job=parts.job("d", kind="delete"), collection="art", image_ids=[rows.image_id(5)])
    parts.maintenance().compactor.compact(collection="art", job=parts.job("c", kind="compact"))
    parts.add(art, "later", range(20, 25))
    return art


def lose_generation(parts: Parts, _: EmbeddingSet) -> None:
    parts.state.index_states.set("art", IndexState())


def lose_state(parts: Parts, _: EmbeddingSet) -> None:
    parts.state.index_states.forget("art")


def lose_buckets(parts: Parts, art: EmbeddingSet) -> None:
    generation = Generation.load(parts.store, art, 1)
    parts.buckets.drop(generation.prefix)


def lose_claims(parts: Parts, _: EmbeddingSet) -> None:
    parts.state.claims.forget("art")


def test_a_collection_whose_first_segment_is_just_written_is_not_lost(
    parts: Parts, monkeypatch: pytest.MonkeyPatch
) -> None:
    look = parts.catalog.segments

    def look_late(set_name: str) -> list[str]:
        with monkeypatch.context() as meanwhile:
            meanwhile.setattr(parts.catalog, "segments", look)
            parts.add(parts.collection(), "a", range(3))
        parts.state.index_states.set(set_name, IndexState(1, 0, 3))
        return look(set_name)

    monkeypatch.setattr(parts.catalog, "segments", look_late)
    state = ensure_known("art", catalog=parts.catalog, state=parts.state, queue=parts.queue)
    assert state == IndexState(1, 0, 3)


LOSSES = [lose_generation, lose_state, lose_buckets, lose_claims]
Lose = Callable[[Parts, EmbeddingSet], None]


@pytest.mark.parametrize("lose", LOSSES)
def test_the_loss_of_a_part_is_noticed_and_mended(parts: Parts, tmp_path: Path, lose: Lose) -> None:
    art = whole(parts)
    before = {**parts.snapshot(art), "jobs": None}
    replica = Replica(art, catalog=parts.catalog, state=parts.state, folder=tmp_path)
    replica.synchronise()
    watch = IndexWatch(parts.catalog, parts.state)
    watch.check(replica)
    assert replica.index_fault is None
    assert parts.state.suspects.all() == {}

    lose(parts, art)
    watch.check(replica)

    assert replica.index_fault
    assert parts.state.suspects.all() == {"art": replica.index_fault}
    parts.maintenance().rebuilder.rebuild(collection="art")  # as a worker asks for it
    assert {**parts.snapshot(art), "jobs": None} == before
    assert parts.state.suspects.all() == {}
    watch.check(replica)
    assert replica.index_fault is None


def test_a_row_that_is_being_deleted_is_not_missed(parts: Parts, tmp_path: Path) -> None:
    art = whole(parts)
    replica = Replica(art, catalog=parts.catalog, state=parts.state, folder=tmp_path)
    replica.synchronise()
    generation = Generation.load(parts.store, art, 1)
    for number in range(20, 25):  # tombstones and buckets, but not announced yet
        parts.catalog.add_tombstones("art", [("later", rows.image_id(number))])
        generation.remove(parts.buckets, np.array([rows.image_id(number)]), rows.embeddings([number], DIM))
    IndexWatch(parts.catalog, parts.state).check(replica)
    assert replica.index_fault is None


def test_while_a_part_is_lost_searches_scan_exactly_and_say_so(parts: Parts, tmp_path: Path) -> None:
    art = whole(parts)
    clients = Clients(store=parts.store, state=parts.state, connect_model=parts.connect_model)
    sync = ReplicaSync(parts.catalog, parts.state, tmp_path)
    searcher = Searcher(clients, sync, decoder=DirectDecoder(), exact_below=0)
    sync.start()
    query = SearchQuery(collection="art", image_id=rows.image_id(20), k=5, mode="lsh")
    try:
        eventually(lambda: searcher.search(query)[0].mode == "lsh", trying=Exception)
        # A server that restarts with a shorter file has lost the end of the stream of changes too.
        lose_buckets(parts, art)
        parts.redis.delete("changes")
        eventually(lambda: searcher.search(query)[0].index_fault not in {None, CHECKING})
        found, _ = searcher.search(query)
        assert (found.mode, len(found.hits)) == ("exact", 5)
        parts.maintenance().rebuilder.rebuild(collection="art")
        eventually(lambda: searcher.search(query)[0].index_fault is None)
        assert searcher.search(query)[0].mode == "lsh"
    finally:
        sync.stop()


def test_no_index_is_asked_between_the_start_and_its_first_check(
    parts: Parts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole(parts)
    checks = threading.Event()
    check = IndexWatch.check

    def late(watch: IndexWatch, replica: Replica) -> None:
        assert checks.wait(PATIENCE_S)
        check(watch, replica)

    monkeypatch.setattr(IndexWatch, "check", late)
    since = parts.state.changes.since

    def slow(position: str, block_ms: int | None = None) -> tuple[str, list[Change]] | None:
        assert block_ms is None or checks.wait(PATIENCE_S)  # the background thread, not a request
        return since(position, block_ms=block_ms)

    monkeypatch.setattr(parts.state.changes, "since", slow)
    sync = ReplicaSync(parts.catalog, parts.state, tmp_path)
    sync.start()
    try:
        assert sync.listed.wait(PATIENCE_S)
        assert sync.replica("art").index_fault == CHECKING
        checks.set()
        eventually(lambda: sync.replica("art").index_fault is None)
    finally:
        checks.set()
        sync.stop()


def test_suspect_indexes_are_rebuilt_without_being_asked_for(parts: Parts) -> None:
    asked: list[str] = []

    class Queue:
        def rebuild(self, *, collection: str) -> None:
            asked.append(collection)

    rebuild = SuspectRebuild(parts.state, Queue())  # type: ignore[arg-type]
    rebuild.run()
    assert asked == []
    parts.state.suspects.add("art.2", "buckets are lost")
    rebuild.run()
    rebuild.run()  # soon after: the rebuild is under way
    assert asked == ["art"]


def test_claims_of_a_while_ago_do_not_cost_an_image_its_row(parts: Parts) -> None:
    art = parts.collection()
    parts.add(art, "a", range(12))
    parts.add(art, "b", range(12, 20))
    old = {key: parts.redis.dump(key) for key in (b"claims:art", b"indexed:art")}
    parts.maintenance().compactor.compact(collection="art", job=parts.job("c", kind="compact"))
    parts.indexer().deletion.delete(job=parts.job("d", kind="delete"), collection="art", image_ids=rows.ids([1, 2]))
    parts.add(art, "back", [1])  # deleted and added again
    parts.maintenance().tuner.maintain(collection="art")
    before = {**parts.snapshot(art), "jobs": None}
    for key, value in old.items():
        parts.redis.delete(key)
        parts.redis.restore(key, 0, value)

    # Compaction trusts no claim that names a segment that is gone, or a deleted row.
    parts.maintenance().compactor.compact(collection="art", job=parts.job("c2", kind="compact"))
    deleted = parts.catalog.tombstones("art")
    assert not deleted & {("back", rows.image_id(1))}
    parts.state.suspects.add("art", "claims of a while ago")
    parts.maintenance().rebuilder.rebuild(collection="art")

    after = {**parts.snapshot(art), "jobs": None}
    parts.assert_indexed(art, [0, 1, *range(3, 20)])
    assert set(after["claims"]) == set(before["claims"])
    holders = {holder.decode() for holder in after["claims"].values()}
    assert holders == {member.decode() for member in after["indexed"]} == set(parts.catalog.segments("art"))


def test_claims_without_rows_go_unless_their_segment_is_still_to_come(parts: Parts) -> None:
    art = parts.collection()
    parts.add(art, "a", range(5))
    parts.job("coming")
    parts.state.claims.claim("art", "coming-000000", rows.ids([5]))
    parts.state.claims.claim("art", "gone-000000", rows.ids([6]))
    parts.state.claims.claim("art", "a", rows.ids([7]))  # which has no such row
    parts.state.indexed_segments.add("art", "gone-000000")
    parts.maintenance().rebuilder.rebuild(collection="art", job=parts.job("r", kind="rebuild"))
    assert parts.state.claims.holders("art", rows.ids(range(8))) == [*["a"] * 5, "coming-000000", None, None]
    assert parts.state.indexed_segments.all("art") == {"a"}


def test_a_damaged_generation_is_replaced_by_a_new_one(parts: Parts) -> None:
    art = whole(parts)
    parts.store.put(layout.generation_key("art", 1), b"damaged")
    parts.redis.flushall()
    parts.maintenance().rebuilder.rebuild(collection="art")
    current = parts.catalog.current_index("art")
    assert current is not None
    assert current.generation == 2
    parts.assert_indexed(art, [*range(5), *range(6, 25)])
