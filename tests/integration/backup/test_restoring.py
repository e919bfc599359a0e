"""The way back: destroy everything, restore, and every answer is the same; whoever dies on the way goes on."""

import io
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from services.query.replica.replica_sync import ReplicaSync
from services.query.search.search_query import SearchQuery
from services.query.search.searcher import Searcher
from shared.access import AccessStore, CollectionAccess, Grant
from shared.access.audit import AuditLog
from shared.backup.backing_up import back_up
from shared.backup.folder_target import FolderTarget
from shared.backup.model_files import RestoredModels, restore_models
from shared.backup.repository import Damaged, Repository
from shared.backup.restoring import Restorer
from shared.backup.snapshot import Entry, Snapshot
from shared.errors import Invalid
from shared.images import DirectDecoder
from shared.rpc.query import Mode
from shared.settings import Settings
from shared.state.job_ids import new_job_id
from shared.storage import layout
from shared.verification.verifier import Extent, Verifier
from tests.support import rows
from tests.support.backups import Perishable, live_images
from tests.support.deaths import pace
from tests.support.eventually import PATIENCE_S
from tests.support.indexing import DIM, Died, Parts
from tests.support.replicas import wait_for_index
from tests.support.servers import Servers

COUNT = 60
DELETED = [3, 17, 44]
SEARCHES: tuple[tuple[str, Mode], ...] = (("art", "exact"), ("art", "lsh"), ("other", "exact"))


def fill(parts: Parts) -> None:
    """Make a collection of several segments, with deleted images and an index, and another that shares images."""
    art = parts.collection()
    for start in range(0, COUNT, 12):
        parts.add(art, f"s{start:02}", range(start, start + 12))
    parts.maintenance().tuner.maintain(collection="art")
    parts.indexer().deletion.delete(job=parts.job("d", kind="delete"), collection="art", image_ids=rows.ids(DELETED))
    parts.maintenance().compactor.compact(collection="art", job=parts.job("c", kind="compact"))
    parts.add(parts.collection("other"), "o", range(50, 70))
    parts.maintenance().tuner.maintain(collection="other")


def fill_little(parts: Parts) -> None:
    parts.add(parts.collection("art"), "a", range(8))
    parts.add(parts.collection("other"), "o", range(5, 9))


@contextmanager
def searcher(parts: Parts, folder: Path) -> Iterator[Searcher]:
    """A query service that starts with nothing."""
    replica_sync = ReplicaSync(parts.catalog, parts.state, folder)
    replica_sync.start()
    try:
        assert replica_sync.listed.wait(PATIENCE_S)
        wait_for_index(replica_sync)
        yield Searcher(parts.clients(), replica_sync, decoder=DirectDecoder(), exact_below=0)
    finally:
        replica_sync.stop()


def answers(parts: Parts, folder: Path) -> list[Any]:
    """Return the answers to some searches, exact and by the index."""
    with searcher(parts, folder) as found:
        results = [
            found.search(SearchQuery(collection=name, vector=rows.embedding(number, DIM), k=10, mode=mode))[0]
            for number in (1, 3, 20, 55, 200)
            for name, mode in SEARCHES
        ]
    return [
        (result.mode, result.candidates, [(hit.image_id, hit.score, hit.distance) for hit in result.hits])
        for result in results
    ]


def restorer_of(parts: Parts, repository: Repository, life: list[Any] | None = None) -> Restorer:
    name = repository.find(None)
    clients = parts.clients() if life is None else parts.wrapped(lambda part: Perishable(part, life))
    return Restorer(clients, repository, name, repository.read_snapshot(name))


def restore(parts: Parts, restorer: Restorer, **options: Any) -> None:
    """Restore as the command does."""
    for name in restorer.restore(**options).collections:
        parts.maintenance().rebuilder.rebuild(collection=name, job=parts.job(new_job_id(), kind="rebuild"))
    restorer.finish()


def destroy(parts: Parts, servers: Servers) -> None:
    """Lose the object store and Redis."""
    servers.empty()
    parts.store.ensure_bucket()


def objects(parts: Parts) -> dict[str, bytes]:
    return {item.key: parts.store.get(item.key) for item in parts.store.list("") if not item.key.startswith(".")}


# The drill


def test_everything_is_destroyed_and_restored_and_every_answer_is_the_same(
    parts: Parts, servers: Servers, settings: Settings, tmp_path: Path
) -> None:
    fill(parts)
    before, stored = answers(parts, tmp_path / "before"), objects(parts)
    index = parts.snapshot(parts.catalog.get("art"))
    repository = Repository.create(FolderTarget(tmp_path / "backup"))
    back_up(parts.clients(), repository, settings)
    destroy(parts, servers)
    restorer = restorer_of(parts, repository)
    assert restorer.condition() == "empty"
    restore(parts, restorer)
    assert objects(parts) == stored
    after = parts.snapshot(parts.catalog.get("art"))
    assert {key: after[key] for key in ("state", "buckets", "claims", "indexed")} == {
        key: index[key] for key in ("state", "buckets", "claims", "indexed")
    }
    assert answers(parts, tmp_path / "after") == before
    report = Verifier(parts.clients(), query=None).verify(Extent())
    assert report.ok, report
    parts.indexer().deletion.delete(job=parts.job("d2", kind="delete"), collection="art", image_ids=rows.ids([1]))
    parts.add(parts.catalog.get("art"), "later", [300])
    assert rows.digest(300) in live_images(parts.catalog, "art")
    assert rows.digest(1) not in live_images(parts.catalog, "art")


def test_what_redis_still_knows_of_another_time_does_no_harm(parts: Parts, settings: Settings, tmp_path: Path) -> None:
    fill(parts)
    repository = Repository.create(FolderTarget(tmp_path / "backup"))
    back_up(parts.clients(), repository, settings)
    before = live_images(parts.catalog, "art")
    parts.state.claims.claim("art", "of-another-time", rows.ids(range(500, 510)))
    (holder,) = parts.state.claims.holders("art", rows.ids([5]))
    parts.state.claims.hand_over("art", "of-another-time", rows.ids([5]), [str(holder)])
    parts.store.delete([item.key for item in parts.store.list("")])  # Redis is as it was
    restore(parts, restorer_of(parts, repository))
    assert live_images(parts.catalog, "art") == before
    assert parts.state.claims.count("art") == len(before)
    parts.assert_indexed(parts.catalog.get("art"), [number for number in range(COUNT) if number not in DELETED])


def test_a_restore_that_dies_at_any_step_goes_on_when_it_is_run_again(
    parts: Parts, servers: Servers, settings: Settings, tmp_path: Path
) -> None:
    art = parts.collection()
    parts.add(art, "a", range(6))
    parts.maintenance().tuner.maintain(collection="art")
    repository = Repository.create(FolderTarget(tmp_path / "backup"))
    back_up(parts.clients(), repository, settings)
    stored = objects(parts)
    start, died = 1, True
    while died:
        destroy(parts, servers)
        life, died = [start], False
        try:
            restore(parts, restorer_of(parts, repository, life))
        except Died:
            died = True
        if died and parts.catalog.names():  # whoever sees the collection sees all of it
            assert objects(parts).keys() >= stored.keys()
        again = restorer_of(parts, repository)
        if died and again.condition() != "occupied":  # it had not ended
            restore(parts, again)
        assert objects(parts) == stored
        parts.assert_indexed(parts.catalog.get("art"), range(6))
        start += pace(13)
    assert start > 40


# What is refused


def test_a_system_that_holds_something_is_left_alone(
    parts: Parts, servers: Servers, settings: Settings, tmp_path: Path
) -> None:
    fill_little(parts)
    repository = Repository.create(FolderTarget(tmp_path / "backup"))
    back_up(parts.clients(), repository, settings)
    assert restorer_of(parts, repository).condition() == "occupied"
    destroy(parts, servers)
    for key in (".ready", "system.json"):  # what the services of an empty system write
        parts.store.put(key, b"")
    assert restorer_of(parts, repository).condition() == "empty"
    parts.store.put(layout.RESTORING, b'{"format": 1, "snapshot": "another", "phase": "copying"}')
    assert restorer_of(parts, repository).condition() == "occupied"


def test_accounts_come_back_and_those_of_the_new_system_give_way(
    parts: Parts, servers: Servers, settings: Settings, tmp_path: Path
) -> None:
    def access() -> AccessStore:
        return AccessStore(parts.store, parts.state)

    fill_little(parts)
    access().add_account("ann", (Grant("admin"),), password="a long password", by="test")
    access().set_collection("art", CollectionAccess("public", "private"))
    then = access().load()
    AuditLog(parts.store).begin(who="account ann", what="add_images", collection="art")
    repository = Repository.create(FolderTarget(tmp_path / "backup"))
    back_up(parts.clients(), repository, settings)
    destroy(parts, servers)
    access().add_account("admin", (Grant("admin"),), password="of the new system", by="test")
    AuditLog(parts.store).begin(who="account admin", what="log_in")
    restorer, version = restorer_of(parts, repository), parts.state.access_marks.version()
    assert restorer.condition() == "empty"  # it has nothing but who may log in
    restorer.restore()
    assert access().load() == then
    assert parts.state.access_marks.version() != version
    assert {entry.what for entry in AuditLog(parts.store).latest(most=9)} == {"add_images", "log_in"}


def test_a_system_is_replaced_and_nothing_of_it_is_left(parts: Parts, settings: Settings, tmp_path: Path) -> None:
    fill(parts)
    repository = Repository.create(FolderTarget(tmp_path / "backup"))
    back_up(parts.clients(), repository, settings)
    stored, before = objects(parts), answers(parts, tmp_path / "before")
    parts.add(parts.catalog.get("art"), "later", range(100, 110))
    parts.add(parts.collection("newer"), "n", range(30, 40))
    parts.maintenance().tuner.maintain(collection="newer")
    for life in (40, 200, None):  # it dies while it deletes, and while it copies
        restorer = restorer_of(parts, repository, None if life is None else [life])
        try:
            if restorer.condition() == "occupied":
                restorer.clear()
            restore(parts, restorer)
        except Died:
            assert restorer_of(parts, repository).condition() == "begun"
    assert objects(parts) == stored
    assert answers(parts, tmp_path / "after") == before
    assert parts.catalog.names() == ["art", "other"]
    assert not parts.redis.exists("claims:newer")
    assert parts.state.claims.count("art") == COUNT - len(DELETED)


def test_a_collection_that_came_into_being_meanwhile_is_not_overwritten(
    parts: Parts, servers: Servers, settings: Settings, tmp_path: Path
) -> None:
    fill_little(parts)
    repository = Repository.create(FolderTarget(tmp_path / "backup"))
    back_up(parts.clients(), repository, settings)
    destroy(parts, servers)
    restorer = restorer_of(parts, repository)
    assert restorer.condition() == "empty"
    made = parts.catalog.create("art", model="lite", version=1, dim=DIM)
    with pytest.raises(Invalid, match="'art' came into being"):
        restorer.restore()
    assert parts.catalog.get("art") == made


@pytest.mark.parametrize("damage", ["missing", "other"])
def test_what_is_damaged_in_the_backup_is_named_and_left_out_only_if_asked(
    parts: Parts, servers: Servers, settings: Settings, tmp_path: Path, damage: str
) -> None:
    fill_little(parts)
    repository = Repository.create(FolderTarget(tmp_path / "backup"))
    back_up(parts.clients(), repository, settings)
    digest = layout.digest_of(b"5")
    path = tmp_path / "backup" / "blobs" / digest[:2] / digest
    path.unlink() if damage == "missing" else path.write_bytes(b"6")
    destroy(parts, servers)
    with pytest.raises(Damaged, match=digest):
        restorer_of(parts, repository).restore()
    assert parts.catalog.names() == []
    restored = restorer_of(parts, repository).restore(without_damaged=True)
    assert restored.collections == ("art", "other")
    assert [digest in fault for fault in restored.damaged] == [True]
    assert not parts.store.exists(layout.original_key(rows.digest(5)))
    assert parts.store.exists(layout.original_key(rows.digest(6)))


def test_a_forged_snapshot_writes_nothing_of_our_own(parts: Parts, settings: Settings, tmp_path: Path) -> None:
    repository = Repository.create(FolderTarget(tmp_path / "backup"))
    name = back_up(parts.clients(), repository, settings).snapshot
    snapshot = repository.read_snapshot(name)
    for key in (layout.RESTORING, "system.json", ".ready"):
        forged = replace(snapshot, objects=(Entry(key, "0" * 64, 0),))
        with pytest.raises(Invalid, match="forged"):
            Restorer(parts.clients(), repository, name, forged)


# Models


def export(folder: Path, version: str, data: bytes) -> None:
    path = folder / version
    (path / "assets.extra").mkdir(parents=True)
    (path / "saved_model.pb").write_bytes(data)
    (path / "assets.extra" / "artseek.json").write_text("{}")


def test_models_come_back_whole_and_those_that_are_there_stay(parts: Parts, settings: Settings, tmp_path: Path) -> None:
    export(settings.models, "lite/1", b"one")
    export(settings.models, "lite/2", b"two")
    export(settings.models, "works/1", b"works")
    repository = Repository.create(FolderTarget(tmp_path / "backup"))
    name = back_up(parts.clients(), repository, settings).snapshot
    elsewhere = tmp_path / "elsewhere"
    export(elsewhere, "lite/1", b"one")
    export(elsewhere, "lite/2", b"another two")
    half = elsewhere / "works" / "1"
    half.mkdir(parents=True)
    (half / "saved_model.pb").write_bytes(b"half")
    models = repository.read_snapshot(name).models
    assert restore_models(models, repository, elsewhere) == RestoredModels(("works/1",), ("lite/1",), ("lite/2",))
    assert (half / "saved_model.pb").read_bytes() == b"works"
    assert (elsewhere / "lite" / "2" / "saved_model.pb").read_bytes() == b"another two"
    assert str(elsewhere / "works") in (elsewhere / "models.config").read_text()
    assert sorted(path.name for path in elsewhere.iterdir()) == ["lite", "models.config", "works"]


def test_a_damaged_model_is_not_written(parts: Parts, settings: Settings, tmp_path: Path) -> None:
    export(settings.models, "lite/1", b"one")
    target = FolderTarget(tmp_path / "backup")
    repository = Repository.create(target)
    snapshot: Snapshot = repository.read_snapshot(back_up(parts.clients(), repository, settings).snapshot)
    (entry,) = [entry for entry in snapshot.models if entry.key.endswith(".pb")]
    target.write(f"blobs/{entry.digest[:2]}/{entry.digest}", io.BytesIO(b"two"), 3)
    with pytest.raises(Damaged, match=entry.digest):
        restore_models(snapshot.models, repository, tmp_path / "elsewhere")
    assert not (tmp_path / "elsewhere" / "lite" / "1").exists()
