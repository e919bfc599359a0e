"""Restores that did not end: what is in their way is removed by another, and what was damaged is left out."""

from pathlib import Path

import pytest

from shared.backup.backing_up import back_up
from shared.backup.folder_target import FolderTarget
from shared.backup.model_files import RestoredModels, restore_models
from shared.backup.repository import Damaged, Repository
from shared.backup.restoring import Restorer
from shared.errors import IndexUnavailable, Invalid
from shared.settings import Settings
from shared.state import BucketStore
from shared.storage import layout
from tests.support import rows
from tests.support.backups import live_images
from tests.support.indexing import DIM, Parts
from tests.support.servers import Servers


def fill(parts: Parts) -> None:
    parts.add(parts.collection("art"), "a", range(8))
    parts.add(parts.collection("other"), "o", range(5, 9))


def restorer_of(parts: Parts, repository: Repository) -> Restorer:
    name = repository.find(None)
    return Restorer(parts.clients(), repository, name, repository.read_snapshot(name))


def destroy(parts: Parts, servers: Servers) -> None:
    servers.empty()
    parts.store.ensure_bucket()


def blob_of(repository: Repository, folder: Path, key: str) -> Path:
    snapshot = repository.read_snapshot(repository.find(None))
    (digest,) = [entry.digest for entry in snapshot.entries if entry.key == key]
    return folder / "blobs" / digest[:2] / digest


def test_a_collection_that_came_into_being_meanwhile_can_be_replaced(
    parts: Parts, servers: Servers, settings: Settings, repository: Repository
) -> None:
    fill(parts)
    back_up(parts.clients(), repository, settings)
    before = live_images(parts.catalog, "other")
    destroy(parts, servers)
    parts.catalog.create("other", model="lite", version=1, dim=DIM)
    with pytest.raises(Invalid, match=r"'other' came into being .* --replace"):
        restorer_of(parts, repository).restore()
    assert parts.catalog.names() == ["other"]  # none of the backup's is there without an index
    again = restorer_of(parts, repository)
    assert again.condition() == "occupied"
    again.clear()
    assert restorer_of(parts, repository).condition() == "begun"
    assert again.restore().collections == ("art", "other")
    assert restorer_of(parts, repository).condition() == "begun"
    assert live_images(parts.catalog, "other") == before


@pytest.mark.parametrize("damage", ["missing", "other"])
def test_a_damaged_manifest_is_named_before_any_is_written_and_left_out_if_asked(
    parts: Parts, servers: Servers, settings: Settings, repository: Repository, tmp_path: Path, damage: str
) -> None:
    fill(parts)
    back_up(parts.clients(), repository, settings)
    path = blob_of(repository, tmp_path / "backup", "collections/other.json")
    path.unlink() if damage == "missing" else path.write_bytes(b"x" * path.stat().st_size)
    destroy(parts, servers)
    with pytest.raises(Damaged, match=r"--without-damaged\.\n.*'collections/other.json'"):
        restorer_of(parts, repository).restore()
    assert parts.catalog.names() == []
    restored = restorer_of(parts, repository).restore(without_damaged=True)
    assert (restored.collections, len(restored.damaged)) == (("art",), 1)
    assert parts.catalog.names() == ["art"]


def test_a_damaged_model_is_left_out_if_asked(parts: Parts, settings: Settings, tmp_path: Path) -> None:
    for name in ("lite", "works"):
        folder = settings.models / name / "1"
        (folder / "assets.extra").mkdir(parents=True)
        (folder / "saved_model.pb").write_bytes(name.encode())
        (folder / "assets.extra" / "artseek.json").write_text("{}")
    repository = Repository.create(FolderTarget(tmp_path / "backup"))
    models = repository.read_snapshot(back_up(parts.clients(), repository, settings).snapshot).models
    blob_of(repository, tmp_path / "backup", "lite/1/saved_model.pb").unlink()
    elsewhere = tmp_path / "elsewhere"
    with pytest.raises(Damaged, match=r"lite/1 is damaged .* --without-damaged"):
        restore_models(models, repository, elsewhere)
    restored = restore_models(models, repository, elsewhere, without_damaged=True)
    assert restored == RestoredModels(("works/1",), (), (), restored.damaged)
    assert ["lite/1/saved_model.pb" in fault for fault in restored.damaged] == [True]
    assert sorted(path.name for path in elsewhere.iterdir()) == ["models.config", "works"]


def test_what_a_system_held_is_forgotten_though_redis_failed_while_it_was_cleared(
    parts: Parts, settings: Settings, repository: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(parts)
    back_up(parts.clients(), repository, settings)
    parts.add(parts.collection("newer"), "n", range(30, 40))
    parts.maintenance().tuner.maintain(collection="newer")
    newer = parts.catalog.get("newer")
    parts.add(parts.collection("unreadable"), "u", range(3))
    parts.store.put(layout.manifest_key("unreadable"), b"{")
    with monkeypatch.context() as meanwhile:

        def fail(*_: object, **__: object) -> int:
            raise IndexUnavailable("Redis does not answer")

        meanwhile.setattr(BucketStore, "drop", fail)
        with pytest.raises(IndexUnavailable):
            restorer_of(parts, repository).clear()
    restorer_of(parts, repository).restore()
    assert parts.held(newer) == {}
    for name in ("newer", "unreadable"):
        assert parts.state.claims.count(name) == 0
    parts.add(parts.collection("newer"), "again", range(30, 33))
    assert set(live_images(parts.catalog, "newer")) == {rows.digest(number) for number in range(30, 33)}
