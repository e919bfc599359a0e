"""Backups of a running system: whole whatever happens meanwhile, and no more than what is new is read."""

from pathlib import Path
from typing import Any

import pytest

from shared.backup.backing_up import back_up
from shared.backup.checking import check_repository
from shared.backup.repository import Repository
from shared.backup.target import Target
from shared.errors import Invalid
from shared.settings import Settings
from shared.state.locks import segments_lock
from shared.storage import layout
from shared.storage.trash import Trash
from tests.support import rows
from tests.support.backups import catalog_of, delete, digests, fill_art, live_images
from tests.support.indexing import Parts

# What is copied


def test_of_images_deleted_together_those_whose_originals_are_gone_are_left_out(
    parts: Parts, settings: Settings, target: Target
) -> None:
    fill_art(parts, index=False)
    delete(parts, 5, 6, 7, job="together")
    repository = Repository.create(target)
    whole = catalog_of(repository, back_up(parts.clients(), repository, settings).snapshot)
    assert set(Trash(whole.store).digests("art")) == digests([1, 5, 6, 7])
    parts.store.delete([layout.original_key(rows.digest(6))])
    unreadable = layout.trash_batch_key("other", "0" * 64)
    parts.store.put(unreadable, b"{")
    left = catalog_of(repository, back_up(parts.clients(), repository, settings).snapshot)
    assert set(Trash(left.store).digests("art")) == digests([1, 5, 7])
    assert Trash(left.store).get("art", rows.image_id(5)).name == rows.entry(5).name
    assert left.store.get(unreadable) == b"{"
    assert check_repository(repository).ok


def test_a_backup_holds_all_that_is_not_of_a_moment(parts: Parts, settings: Settings, target: Target) -> None:
    fill_art(parts)
    store = parts.store
    model = settings.models / "lite" / "1"
    (model / "assets.extra").mkdir(parents=True)
    (model / "assets.extra" / "artseek.json").write_text("{}")
    (model / "saved_model.pb").write_bytes(b"net")
    unfinished = settings.models / "lite" / "2"
    unfinished.mkdir()
    (unfinished / "saved_model.pb").write_bytes(b"half")
    kept = {
        "evaluations/art/e1.json": b"{}",
        "evaluations/art/e1.parquet": b"rows",
        "querysets/ab/queries.json": b"[]",
        "querysets/names/mine.json": b"{}",
        f"queries/{rows.digest(7)}": b"7",
        "embeddings/lite/1/ab": b"v",
        "set-aside/ab.json": b"{}",
        f"trash/art/{rows.digest(2)}.json": b"{}",
        "vectors/no-manifest/s.arrow": b"x",
        "records/art/1.json": b"what a later version stores",
    }
    passing = {
        "evaluating/e2/part": b"x",
        "embedding-sets/art.1.json": b"{}",
        f"kept-queries/art/{rows.digest(9)}/0123456789ab-01234567": b"9",
        "vectors/art.1/s.arrow": b"x",
        ".ready": b"",
        "system.json": b"{}",
    }
    for key, data in {**kept, **passing}.items():
        store.put(key, data)
    repository = Repository.create(target)
    result = back_up(parts.clients(), repository, settings)
    snapshot = repository.read_snapshot(result.snapshot)
    assert {entry.key for entry in snapshot.objects} == {item.key for item in store.list("")} - passing.keys()
    assert [entry.key for entry in snapshot.models] == ["lite/1/assets.extra/artseek.json", "lite/1/saved_model.pb"]
    assert (snapshot.header.collections, snapshot.header.images, result.models) == (("art",), 16, 1)
    assert check_repository(repository).ok
    catalog = catalog_of(repository, result.snapshot)
    assert set(live_images(catalog, "art")) == digests(range(16)) - digests([1])


def test_no_secret_is_in_a_backup_unless_it_is_asked_for(
    parts: Parts, settings: Settings, repository: Repository
) -> None:
    secrets = {value.get_secret_value() for value in (settings.s3_secret_key, settings.s3_access_key)}
    plain = back_up(parts.clients(), repository, settings)
    told = plain.header.settings
    assert told["ARTSEEK_S3_ENDPOINT"] == settings.s3_endpoint
    assert not secrets & set(told.values())
    names_of_files = {"ARTSEEK_GRPC_KEY"}
    assert not [name for name in told.keys() - names_of_files if "KEY" in name or name.endswith("_URL")]
    full = back_up(parts.clients(), repository, settings, with_secrets=True)
    assert secrets <= set(full.header.settings.values())
    assert full.header.settings["ARTSEEK_INDEX_URL"] == settings.index_url.get_secret_value()
    assert (plain.header.with_secrets, full.header.with_secrets) == (False, True)


class Counted:
    """Passes every call on to a real part, and notes the names of methods and their first arguments."""

    def __init__(self, real: object, calls: list[tuple[str, Any]]) -> None:
        self._real, self._calls = real, calls

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._real, name)

        def call(*arguments: Any, **options: Any) -> Any:
            self._calls.append((name, arguments[0] if arguments else None))
            return found(*arguments, **options)

        return call if callable(found) else found


def test_only_what_is_new_is_read_and_written(parts: Parts, settings: Settings, target: Target) -> None:
    fill_art(parts)
    calls: list[tuple[str, Any]] = []
    clients = parts.wrapped(lambda part: Counted(part, calls) if part is parts.store else part)
    repository = Repository.create(target)
    first = back_up(clients, repository, settings)
    assert first.new_blobs == len(repository.blobs()) > 20
    calls.clear()
    again = back_up(clients, repository, settings)
    assert (again.new_blobs, again.new_bytes, again.objects) == (0, 0, first.objects)
    assert [key for name, key in calls if name == "stream"] == []
    parts.add(parts.catalog.get("art"), "new", [40, 41])
    calls.clear()
    more = back_up(clients, repository, settings)
    assert sorted(key for name, key in calls if name == "stream") == sorted(
        ["vectors/art/new.arrow", *(layout.original_key(rows.digest(number)) for number in (40, 41))]
    )
    assert (more.new_blobs, more.objects) == (3, first.objects + 3)


def test_an_object_that_was_overwritten_by_one_of_the_same_size_is_read_again(
    parts: Parts, settings: Settings, repository: Repository
) -> None:
    parts.store.put("querysets/names/mine.json", b'{"set": "ab"}')
    back_up(parts.clients(), repository, settings)
    parts.store.put("querysets/names/mine.json", b'{"set": "cd"}')
    catalog = catalog_of(repository, back_up(parts.clients(), repository, settings).snapshot)
    assert catalog.store.get("querysets/names/mine.json") == b'{"set": "cd"}'


def test_a_blob_that_is_damaged_in_length_is_written_again(
    parts: Parts, settings: Settings, repository: Repository, tmp_path: Path
) -> None:
    fill_art(parts)
    back_up(parts.clients(), repository, settings)
    for digest in repository.blobs():
        (tmp_path / "backup" / "blobs" / digest[:2] / digest).write_bytes(b"")
    back_up(parts.clients(), repository, settings)
    assert check_repository(repository).ok


def test_a_damaged_original_is_named_and_copied_as_it_is(
    parts: Parts, settings: Settings, repository: Repository
) -> None:
    fill_art(parts)
    key = layout.original_key(rows.digest(3))
    parts.store.put(key, b"rotten")
    result = back_up(parts.clients(), repository, settings)
    assert result.header.damaged == (key,)
    assert catalog_of(repository, result.snapshot).store.get(key) == b"rotten"
    assert check_repository(repository).ok


def test_all_sets_of_a_collection_whose_manifest_cannot_be_read_are_kept(
    parts: Parts, settings: Settings, repository: Repository
) -> None:
    fill_art(parts)
    parts.store.put("collections/art.json", b"{")
    result = back_up(parts.clients(), repository, settings)
    assert result.header.damaged == ("collections/art.json",)
    catalog = catalog_of(repository, result.snapshot)
    assert set(live_images(catalog, "art")) == digests(range(16)) - digests([1])


def test_a_half_restored_system_is_not_backed_up(parts: Parts, settings: Settings, repository: Repository) -> None:
    parts.store.put(layout.RESTORING, b"{}")
    with pytest.raises(Invalid, match="a restore has not ended"):
        back_up(parts.clients(), repository, settings)


def test_merges_wait_while_the_last_of_a_backup_is_listed(
    parts: Parts, settings: Settings, repository: Repository
) -> None:
    fill_art(parts)
    held: list[bool] = []

    class Watched:
        def __getattr__(self, name: str) -> Any:
            held.append(parts.state.locks.is_held(segments_lock("art")))
            return getattr(parts.store, name)

    back_up(parts.wrapped(lambda part: Watched() if part is parts.store else part), repository, settings)
    assert True in held
    assert not parts.state.locks.is_held(segments_lock("art"))
