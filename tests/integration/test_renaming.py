"""Collections that are given another name: all that was theirs is there under it, and nothing under the old one."""

from pathlib import Path
from typing import Any

import pytest

from services.maintenance.moved_objects import MovedObjects
from services.query.replica.replica_sync import ReplicaSync
from shared.errors import Closed, Invalid, Locked, NotFound, Renamed, Unavailable
from shared.evaluation.evaluations import Evaluations
from shared.index.generations import Generation, GenerationCache, collection_prefix
from shared.records.change_file import ImageChange
from shared.records.model import Value
from shared.records.record_store import RecordStore
from shared.state.locks import segments_lock
from shared.state.outcomes import REFUSED
from shared.storage import evaluation_layout, layout
from shared.storage.catalog import Catalog, EmbeddingSet
from shared.storage.kept_queries import KeptQueries
from shared.storage.trash import Trash, TrashEntry
from shared.verification.verifier import Extent, Verifier
from tests.support import rows
from tests.support.deaths import moments
from tests.support.evaluation_reports import a_report
from tests.support.eventually import eventually
from tests.support.indexing import DIM, Died, Parts, parts_of
from tests.support.servers import Servers

TRASHED, LIVE = range(4, 6), [*range(4), *range(6, 12)]
QUERY = b"a picture that was searched for"


@pytest.fixture
def parts(servers: Servers) -> Parts:
    return parts_of(servers.settings)


def make_ready(parts: Parts) -> None:
    """Make a collection with an index, tombstones, a trash, an evaluation and a merge that was left."""
    KeptQueries(parts.store).keep("art", QUERY, "mine.jpg")
    art = parts.collection()
    parts.add(art, "s0", range(6))
    parts.add(art, "s1", range(6, 12))
    parts.maintenance().tuner.maintain(collection="art")
    parts.delete("art", rows.ids(TRASHED))
    parts.catalog.begin_merge("art", "merged-0", ["s0", "s1"])
    Evaluations(parts.store).put("art", a_report(id="e1"), b"rows")
    RecordStore(parts.store).say("art", "csv", {rows.image_id(0): {"title": [Value("Night")]}})


def renamed(parts: Parts, old: str, new: str, job: str = "rename", life: list[int] | None = None) -> list[str]:
    """Rename a collection; returns why not."""
    parts.job(job, kind="rename")
    parts.maintenance(life).renamer.rename(job=job, collection=old, new=new)
    return [rejection.reason for rejection in parts.jobs.outcome(job).rejected]


def findings(parts: Parts) -> list[str]:
    found = Verifier(parts.clients(), query=None).verify(Extent(sample=0)).findings
    return [f"{finding.kind} {finding.collection}" for finding in found]


def assert_moved(parts: Parts, old: str = "art", new: str = "prints") -> None:
    catalog = Catalog(parts.store)
    active = catalog.get(new)
    current = catalog.current_index(active.name)
    assert current is not None
    generation = Generation.load(parts.store, active, current.generation)
    names = generation.buckets(rows.embeddings(LIVE, DIM))
    members = [image for number in LIVE for image in [rows.image_id(number)] * generation.family.tables]
    assert all(parts.buckets.contain(names, members))
    assert parts.state.claims.count(active.name) == len(LIVE)
    assert sorted(Trash(parts.store).digests(new)) == sorted(map(rows.digest, TRASHED))
    assert Evaluations(parts.store).ids() == [(new, "e1")]
    assert Evaluations(parts.store).get(new, "e1").collection.name == new
    assert KeptQueries(parts.store).find(new, layout.digest_of(QUERY), days=1) is not None
    records = RecordStore(parts.store)
    for change in records.changes(new):
        with records.reading(new, change.name) as said:
            assert [str(one.id) for one in said if isinstance(one, ImageChange)] == [str(rows.image_id(0))]
    assert len(records.changes(new)) == 1
    left = {item.key for item in parts.store.list("") if f"/{old}/" in item.key or f"/{old}." in item.key}
    assert list(parts.store.list(layout.RENAMING)) == []
    assert left == {layout.rename_key(old)}
    with pytest.raises(Renamed, match=f"{old!r}: it was renamed to {new!r}"):
        catalog.get(old)
    assert findings(parts) == []


def test_a_rename_that_dies_anywhere_shows_the_collection_under_one_name_and_is_finished_by_the_next(
    parts: Parts,
) -> None:
    make_ready(parts)
    old, lives = "art", [0]
    for life in lives:
        new, job, left = f"prints{life}", f"rename{life}", [life]
        try:
            assert renamed(parts, old, new, job, left) == []
        except Died:
            there = [name for name in (old, new) if parts.catalog.is_there(name)]
            assert len(there) == 1, f"it died at call {life}"
            assert parts.state.claims.count(parts.catalog.get(there[0]).name) == len(LIVE)
            assert renamed(parts, old, new, job) == [], f"it died at call {life}"
        assert_moved(parts, old, new)
        assert parts.jobs.get(job).counts.affected == len(LIVE)
        if life == 0:
            lives += moments(-left[0], 8)
        old = new
    assert len(lives) > 8


def test_what_was_sent_to_a_collection_before_it_was_renamed_finds_it(parts: Parts) -> None:
    make_ready(parts)
    art = parts.catalog.get("art")
    late = parts.write(art, "late-000000", [20, 21])
    assert renamed(parts, "art", "prints") == []
    written_since = parts.write(art, "since-000000", [22])
    for job, segment, outcome in (("late", "late-000000", late), ("since", "since-000000", written_since)):
        parts.job(job)
        for set_name in ("art", "prints"):  # what the first hands over, the second indexes
            parts.indexer().segments.index(set_name=set_name, segment=segment, job=job, batch=0, outcome=outcome)
        assert parts.jobs.get(job).added == sum(outcome.added.values())
    parts.delete("art", rows.ids([0]), job="delete-late")
    holders = parts.state.claims.holders("prints", rows.ids([0, 20, 21, 22]))
    assert holders == [None, "late-000000", "late-000000", "since-000000"]
    assert not parts.catalog.segments("art")
    assert findings(parts) == []
    parts.maintenance().compactor.compact(collection="prints", job=parts.job("c", kind="compact"))
    assert len(parts.catalog.segments("prints")) == 1
    assert findings(parts) == []


def test_a_collection_that_is_about_to_move_takes_no_segment(parts: Parts, monkeypatch: pytest.MonkeyPatch) -> None:
    art = parts.collection()
    parts.add(art, "s0", range(4))
    maintenance = parts.maintenance()
    outcome = parts.write(art, "s1", [5])
    parts.job("j")

    def meanwhile(*_: object) -> None:
        with pytest.raises(Closed):
            parts.indexer().segments.index(set_name="art", segment="s1", job="j", batch=0, outcome=outcome)
        with pytest.raises(Unavailable):
            parts.delete("art", rows.ids([0]))
        raise Unavailable("a server is away")

    monkeypatch.setattr(maintenance.renamer, "_copy_state", meanwhile)
    parts.job("rename", kind="rename")
    with pytest.raises(Unavailable, match="is away"):
        maintenance.renamer.rename(job="rename", collection="art", new="prints")
    parts.indexer().segments.index(set_name="art", segment="s1", job="j", batch=0, outcome=outcome)
    parts.delete("art", rows.ids([0]), job="again")
    assert renamed(parts, "art", "prints") == []
    assert set(next(parts.state.claims.scan("prints"))) == set(rows.ids([1, 2, 3, 5]))
    assert findings(parts) == []


def taken_again(parts: Parts) -> EmbeddingSet:
    """Have another collection made under a name that is free again, with an image, a record and a trash."""
    again = parts.collection("art")
    parts.store.put(layout.segment_key(again.name, "s0"), rows.segment([20], again))
    parts.state.claims.claim(again.name, "s0", rows.ids([20]))
    RecordStore(parts.store).say("art", "csv", {rows.image_id(20): {"title": [Value("Day")]}})
    Trash(parts.store).put("art", [TrashEntry.unknown(rows.digest(21), 1.0)], origin="art s0")
    return again


def assert_kept(parts: Parts, again: EmbeddingSet) -> None:
    """Check that a collection that was made under the name is whole."""
    assert parts.catalog.get("art") == again
    assert parts.catalog.segments(again.name) == ["s0"]
    assert parts.state.claims.holders(again.name, rows.ids([20])) == ["s0"]
    assert len(RecordStore(parts.store).changes("art")) == 1
    assert Trash(parts.store).digests("art") == [rows.digest(21)]


def test_nobody_takes_the_old_name_before_all_that_was_left_under_it_has_gone(
    parts: Parts, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_ready(parts)
    real, refused = MovedObjects.move_evaluations, list[str]()

    def creating(*arguments: Any) -> None:
        with pytest.raises(Locked, match="'art' is just being renamed to 'prints'") as caught:
            parts.collection("art")
        refused.append(str(caught.value))
        real(*arguments)

    monkeypatch.setattr(MovedObjects, "move_evaluations", creating)
    assert renamed(parts, "art", "prints") == []
    assert len(refused) == 1
    assert_moved(parts)
    again = taken_again(parts)
    parts.jobs.forget("rename")  # its worker died before it reported
    assert renamed(parts, "art", "prints") == []
    assert parts.jobs.get("rename").counts.affected == len(LIVE)
    assert_kept(parts, again)


def test_a_collection_that_an_earlier_version_let_take_the_name_too_early_keeps_all_that_both_have(
    parts: Parts,
) -> None:
    make_ready(parts)
    assert renamed(parts, "art", "prints") == []
    rename = parts.catalog.renames.of("art")
    assert rename is not None
    again = taken_again(parts)
    parts.catalog.renames.begin(rename)
    assert renamed(parts, "art", "prints", job="again") == []
    assert parts.catalog.renames.under_way() == []
    assert_kept(parts, again)
    assert parts.state.claims.count(parts.catalog.get("prints").name) == len(LIVE)


def test_a_name_can_be_used_again(parts: Parts) -> None:
    parts.add(parts.collection(), "s0", range(3))
    assert renamed(parts, "art", "prints", "r1") == []
    assert parts.catalog.current_name("art") == "prints"
    assert parts.catalog.former_names({"prints", "maps"}) == {"art"}
    assert parts.catalog.former_names({"art", "maps"}) == set()
    again = parts.collection()
    assert again.name == "art.1"  # what was sent to the first is not taken for the second's
    assert parts.catalog.current_name("art") == "art"
    assert parts.catalog.former_names({"prints"}) == set()  # another collection has it
    assert parts.catalog.name_since("art", again.created - 3600) == "prints"
    assert parts.catalog.name_since("art", again.created + 3600) == "art"
    assert renamed(parts, "art", "drawings", "r2") == []
    assert renamed(parts, "prints", "art", "r3") == []
    assert parts.catalog.get("art").name == "art.2"
    assert parts.catalog.current_name("prints") == "art"
    parts.maintenance().dropper.drop(job=parts.job("d", kind="drop"), collection="art")
    with pytest.raises(NotFound, match=r"there is no collection 'prints'$"):
        parts.catalog.get("prints")


def test_a_rebuild_after_a_rename_fills_what_redis_has_lost(parts: Parts) -> None:
    parts.add(parts.collection(), "s0", range(12))
    worker = parts.maintenance()
    worker.tuner.maintain(collection="art")
    worker.rebuilder.rebuild(collection="art", job=parts.job("r1", kind="rebuild"))
    worker.renamer.rename(job=parts.job("rename", kind="rename"), collection="art", new="prints")
    prints = parts.catalog.get("prints")
    parts.buckets.drop(collection_prefix(prints))

    worker.rebuilder.rebuild(collection="prints", job=parts.job("r2", kind="rebuild"))

    parts.assert_indexed(prints, range(12))


def test_a_generation_is_that_of_the_name_that_its_collection_has(parts: Parts) -> None:
    art = parts.collection()
    parts.add(art, "s0", range(3))
    parts.maintenance().tuner.maintain(collection="art")
    generations = GenerationCache(parts.store)
    assert generations.get(art, 1).embedding_set.name == "art"
    assert renamed(parts, "art", "prints") == []
    assert generations.get(parts.catalog.get("prints"), 1).embedding_set.name == "prints"


def test_a_rename_that_cannot_be_made_says_why(parts: Parts) -> None:
    art, other = parts.collection(), parts.collection("other")
    parts.add(art, "s0", [1])
    parts.add(other, "s0", [2])
    assert "already" in renamed(parts, "art", "other", "r1")[0]
    assert "no collection 'nothing'" in renamed(parts, "nothing", "new", "r2")[0]
    parts.store.delete([layout.manifest_key("other")])
    assert "artseek verify" in renamed(parts, "art", "other", "r3")[0]
    parts.catalog.create_embedding_set(art, model="large", version=1, dim=DIM)
    parts.jobs.create("r4", "art", kind="rename")
    assert parts.jobs.outcome("r1").rejected[0].code == REFUSED
    assert {item.key for item in parts.store.list(layout.RENAMES)} == set()
    with pytest.raises(Invalid):
        renamed(parts, "art", "No Name")


def test_a_collection_that_is_deleted_in_the_middle_of_its_rename_is_gone(
    parts: Parts, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_ready(parts)
    maintenance = parts.maintenance()

    def die(*_: object) -> None:
        raise Died

    monkeypatch.setattr(maintenance.renamer, "_copy_state", die)
    parts.job("rename", kind="rename")
    with pytest.raises(Died):
        maintenance.renamer.rename(job="rename", collection="art", new="prints")
    with pytest.raises(Unavailable, match="being renamed"):
        parts.catalog.create("prints", model="lite", version=1, dim=DIM)
    assert not parts.state.locks.is_held(segments_lock("art"))
    parts.maintenance().dropper.drop(job=parts.job("d", kind="drop"), collection="art")
    assert "no collection 'art'" in renamed(parts, "art", "prints")[0]
    left = {item.key for item in parts.store.list("")}
    assert not [key for key in left if not key.startswith(evaluation_layout.EVALUATIONS)]


def test_the_query_service_follows_a_rename_with_the_files_that_it_has(parts: Parts, tmp_path: Path) -> None:
    parts.add(parts.collection(), "s0", range(4))
    replica_sync = ReplicaSync(parts.catalog, parts.state, tmp_path)
    replica_sync.start()
    try:
        eventually(lambda: replica_sync.connected)
        assert replica_sync.replica("art").view.images == 4
        (before,) = tmp_path.glob("*/s0.arrow")
        file = before.stat().st_ino
        assert renamed(parts, "art", "prints") == []
        assert replica_sync.replica("prints").view.images == 4
        with pytest.raises(Renamed, match="renamed to 'prints'"):
            replica_sync.replica("art")
        (after,) = tmp_path.glob("prints-*/s0.arrow")
        assert after.stat().st_ino == file
    finally:
        replica_sync.stop()
