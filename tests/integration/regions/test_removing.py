"""Windows go with their images, however an image goes, and follow their collection wherever it goes."""

from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from services.maintenance import region_making
from services.maintenance.region_making import RegionDuty
from shared.backup.backing_up import back_up
from shared.backup.folder_target import FolderTarget
from shared.backup.repository import Repository
from shared.backup.restoring import Restorer
from shared.errors import Locked, NotFound, Renamed
from shared.state.locks import regions_lock
from shared.storage import layout
from shared.storage.trash import Trash
from shared.verification import verifier
from shared.verification.verifier import Extent, Verifier
from tests.support.deaths import moments
from tests.support.indexing import Died
from tests.support.regions import DIGESTS, RegionSystem
from tests.support.servers import Servers


def findings(system: RegionSystem) -> list[str]:
    report = Verifier(system.parts.clients(), query=None).verify(Extent(sample=0))
    (name,) = system.catalog.names()
    assert (report.collections, report.images) == (1, system.state.claims.count(system.catalog.get(name).name))
    return [f"{finding.kind} {finding.collection} {sorted(finding.keys)[:2]}" for finding in report.findings]


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verifier, "_PAUSE_S", 0.0)


def test_the_windows_of_a_deleted_image_go_and_come_back_with_it(system: RegionSystem) -> None:
    system.switched_on(range(6))
    system.delete([1, 4])
    system.assert_windows([0, 2, 3, 5])
    assert findings(system) == []
    assert Trash(system.parts.store).digests("art") == sorted([DIGESTS[1], DIGESTS[4]])
    tombstones = [
        item.key for item in system.parts.store.list("tombstones/") if layout.is_regions(item.key.split("/")[1])
    ]
    assert len(tombstones) == len({key.split("/")[2] for key in tombstones}) > 0  # one for all windows in a segment
    assert all(layout.tombstone_list_of(key) for key in tombstones)
    system.add([4])
    system.line.run()
    system.assert_windows([0, 2, 3, 4, 5])
    assert findings(system) == []


def test_a_purge_leaves_no_embedding_of_any_window(system: RegionSystem) -> None:
    system.switched_on(range(6))
    system.delete([2])
    job = system.delete([2, 3], purge=True)
    system.line.run()
    assert system.jobs.outcome(job).rejected == ()
    assert system.digests_stored() == {DIGESTS[number] for number in (0, 1, 4, 5)}
    system.assert_windows([0, 1, 4, 5])
    assert findings(system) == []


@pytest.mark.parametrize("when", ["before it is embedded", "before it is indexed"])
def test_the_windows_of_an_image_that_is_purged_meanwhile_are_nowhere(system: RegionSystem, when: str) -> None:
    system.add(range(6))
    system.line.run()
    purged: list[str] = []

    def purge() -> None:
        if not purged:
            purged.append(system.delete([2], purge=True))

    if when == "before it is embedded":
        system.line.before_embed = purge
    else:
        index = system.line.index

        def purge_then_index(**message: Any) -> None:
            if layout.is_regions(message["set_name"]):
                purge()
            index(**message)

        system.line.index = purge_then_index  # type: ignore[method-assign]
    system.switch(on=True)
    system.line.run()
    assert purged
    assert system.jobs.outcome(purged[0]).rejected == ()
    assert system.jobs.outcome("regions").rejected == ()
    assert DIGESTS[2] not in system.digests_stored()
    system.assert_windows([0, 1, 3, 4, 5])
    assert findings(system) == []


def test_a_deletion_that_dies_anywhere_leaves_no_window_once_it_has_ended(system: RegionSystem) -> None:
    system.switched_on(range(3))
    real, life = system.line.indexer, [1_000_000]
    system.line.indexer = system.parts.indexer(life)
    system.delete([2])
    calls = 1_000_000 - life[0]
    system.line.indexer = real
    for moment in moments(calls, 10):
        system.add([2])
        system.line.run()
        system.assert_windows(range(3))
        system.line.indexer = system.parts.indexer([moment])
        job = f"at{moment}"
        with suppress(Died):
            system.delete([2], job=job)
        for key in system.parts.redis.scan_iter(match="lock:*"):  # they free themselves in seconds
            system.parts.redis.delete(key)
        system.line.indexer = real
        system.delete([2], job=job)  # as its message comes back
        assert system.jobs.get(job).counts.affected == 1, f"it died at call {moment} of {calls}"
        system.line.later.clear()
        system.assert_windows(range(2))
        assert findings(system) == []


def test_stray_windows_are_found_once_a_day(system: RegionSystem, monkeypatch: pytest.MonkeyPatch) -> None:
    system.switched_on(range(4))
    with monkeypatch.context() as broken:  # as of a deletion whose worker died, and whose segment was merged since
        broken.setattr("shared.index.deletion.ImageDeleter.delete_windows", lambda *_: None)
        system.delete([1])
    system.assert_windows(range(4))
    monkeypatch.setattr(region_making, "_CHECKED_S", 0.001)
    for key in system.parts.redis.scan_iter(match="once:*"):
        system.parts.redis.delete(key)
    system.line.make_regions(collection="art")
    system.line.run()
    system.assert_windows([0, 2, 3])


def test_a_drop_removes_nothing_while_windows_are_made_and_tells_how_many_images_went(system: RegionSystem) -> None:
    system.switched_on(range(3))
    dropper, job = system.parts.maintenance().dropper, system.parts.job("drop", kind="drop")
    with system.parts.state.locks.hold(regions_lock("art"), wait_s=1.0), pytest.raises(Locked):
        dropper.drop(job=job, collection="art")
    system.assert_windows(range(3))
    dropper.drop(job=job, collection="art")
    assert system.jobs.get("drop").counts.affected == 3


def test_a_dropped_collection_takes_its_regions_along(system: RegionSystem) -> None:
    system.switched_on(range(4))
    system.jobs.create("drop", "art", kind="drop")
    system.line.maintenance.dropper.drop(job="drop", collection="art")
    assert system.jobs.get("drop").counts.affected == 4
    assert system.catalog.stored_names() == []
    assert [stored.key for stored in system.parts.store.list("vectors/")] == []
    kept = [key for key in system.parts.redis.scan_iter(match="*art*") if not key.startswith((b"once:", b"job"))]
    assert kept == []
    assert list(system.parts.redis.scan_iter(match="b:*")) == []


def test_a_rename_that_dies_anywhere_takes_the_regions_along(system: RegionSystem) -> None:
    system.switched_on(range(4))
    system.line.maintenance.rebuilder.rebuild(collection="art~regions", fit=True)
    names, life = ("art", "prints"), [1_000_000]

    def rename(job: str, old: str, new: str, left: list[int]) -> None:
        system.jobs.create(job, old, kind="rename")
        with suppress(Died):
            system.parts.maintenance(left).renamer.rename(job=job, collection=old, new=new)
        for key in system.parts.redis.scan_iter(match="lock:*"):  # they free themselves in seconds
            system.parts.redis.delete(key)
        if left[0] <= 0:
            system.line.maintenance.renamer.rename(job=job, collection=old, new=new)
        assert system.jobs.outcome(job).rejected == ()
        system.assert_windows(range(4), collection=new)
        assert findings(system) == []
        with pytest.raises(Renamed):
            system.catalog.get(layout.regions_of(old))
        assert not [key for key in system.parts.store.list("vectors/") if f"/{old}" in key.key]

    rename("counted", *names, life)
    calls = 1_000_000 - life[0]
    for moment in moments(calls, 8):
        names = names[::-1]
        rename(f"at-{moment}", *names, [moment])
    regions = system.catalog.get(layout.regions_of(names[1]))
    held = set[int]().union(*system.parts.held(regions).values())
    assert held == {window for windows in system.rows(names[1]).values() for window in windows}


def test_regions_that_a_lost_rename_left_behind_follow_their_collection(
    system: RegionSystem, monkeypatch: pytest.MonkeyPatch
) -> None:
    system.switched_on(range(4))
    with monkeypatch.context() as broken:
        broken.setattr("services.maintenance.renaming.Renamer._rename_regions", lambda *_: None)
        system.jobs.create("rename", "art", kind="rename")
        system.line.maintenance.renamer.rename(job="rename", collection="art", new="prints")
    assert system.catalog.stored_names() == ["art~regions", "prints"]
    RegionDuty(system.parts.clients()).run()
    system.line.run()
    assert system.catalog.stored_names() == ["prints", "prints~regions"]
    system.assert_windows(range(4), collection="prints")
    assert findings(system) == []


def test_a_backup_takes_the_regions_along(system: RegionSystem, servers: Servers, tmp_path: Path) -> None:
    system.switched_on(range(4))
    system.line.maintenance.rebuilder.rebuild(collection="art~regions", fit=True)
    repository = Repository.create(FolderTarget(tmp_path / "backup"))
    name = back_up(system.parts.clients(), repository, system.settings).snapshot
    snapshot = repository.read_snapshot(name)
    assert snapshot.header.collections == ("art",)
    servers.empty()
    system.parts.store.ensure_bucket()
    restorer = Restorer(system.parts.clients(), repository, name, snapshot)
    assert restorer.restore().collections == ("art",)
    system.line.maintenance.rebuilder.rebuild(collection="art", job=system.parts.job("r", kind="rebuild"))
    restorer.finish()
    system.assert_windows(range(4))
    assert findings(system) == []


def test_a_change_of_model_makes_the_windows_anew(system: RegionSystem) -> None:
    system.switched_on(range(5))
    before = system.catalog.get("art~regions")
    system.change("new")
    assert system.jobs.get("change").done
    system.assert_windows(range(5), model="new")
    after = system.catalog.get("art~regions")
    assert after.number > before.number
    assert {stored.key.split("/")[1] for stored in system.parts.store.list("vectors/")} == {
        system.catalog.get("art").name, after.name
    }  # fmt: skip
    assert not [key for key in system.parts.redis.scan_iter(match=f"*:{before.name}") if not key.startswith(b"once:")]
    assert findings(system) == []


def test_what_was_embedded_for_regions_that_are_gone_leaves_nothing(system: RegionSystem) -> None:
    system.add(range(3))
    system.line.run()
    late: list[dict[str, Any]] = []
    index = system.line.index

    def hold_back(**message: Any) -> None:
        if layout.is_regions(message["set_name"]) and not late:
            late.append(message)
            system.line.maintenance.dropper.drop_regions("art")
        index(**message)

    system.line.index = hold_back  # type: ignore[method-assign]
    system.switch(on=True)
    system.line.run()
    assert late
    (refusal,) = system.jobs.outcome("regions").rejected
    assert "removed meanwhile" in refusal.reason
    assert {stored.key.split("/")[1] for stored in system.parts.store.list("vectors/")} == {"art"}
    with pytest.raises(NotFound):
        system.catalog.get("art~regions")
    assert findings(system) == []


def test_a_redis_that_was_emptied_gets_the_windows_back_from_the_store(system: RegionSystem) -> None:
    system.switched_on(range(4))
    system.line.maintenance.rebuilder.rebuild(collection="art~regions", fit=True)
    embedded: list[int] = []
    system.line.before_embed = lambda: embedded.append(1)
    system.parts.redis.flushdb()
    system.line.make_regions(collection="art")
    system.line.run()
    assert embedded == []
    system.assert_windows(range(4))
    assert findings(system) == []


def test_windows_that_the_store_has_lost_are_made_anew(system: RegionSystem) -> None:
    system.switched_on(range(4))
    regions = system.catalog.get("art~regions")
    lost = system.catalog.segments(regions.name)
    system.parts.store.delete([layout.segment_key(regions.name, segment) for segment in lost])
    system.line.maintenance.rebuilder.rebuild(collection="art~regions", job=system.parts.job("r", kind="rebuild"))
    assert Trash(system.parts.store).digests("art") == []
    system.line.make_regions(collection="art")
    system.line.run()
    system.assert_windows(range(4))
