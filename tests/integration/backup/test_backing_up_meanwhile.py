"""Backups are whole whatever happens while they are made, and whoever dies at it."""

import math
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from services.maintenance.compaction import Compactor
from shared.backup.backing_up import back_up
from shared.backup.checking import check_repository
from shared.backup.cleaning import keep_latest
from shared.backup.contents import Contents
from shared.backup.folder_target import FolderTarget
from shared.backup.repository import Repository
from shared.errors import IndexUnavailable, Unavailable
from shared.messaging.worker import WorkerClients
from shared.settings import Settings
from shared.state.locks import Lock
from shared.storage import layout
from shared.storage.catalog import CurrentIndex
from shared.storage.trash import Trash
from tests.support import rows
from tests.support.backups import Perishable, catalog_of, delete, digests, fill_art, live_images, originals
from tests.support.deaths import pace
from tests.support.indexing import Died, Parts
from tests.support.servers import Servers

# What happens meanwhile


class NoLocks:
    """Redis does not answer, so the backup goes without locks: what happens then is harder on it."""

    def hold(self, lock: Lock, *, wait_s: float) -> None:
        raise IndexUnavailable(f"the lock {lock.name} cannot be had within {wait_s} s")


def without_locks(parts: Parts, wrap: Callable[[object], Any] = lambda store: store) -> WorkerClients:
    """Return clients of which Redis has no locks, and of which the store is wrapped."""

    def wrapped(part: object) -> Any:
        if part is parts.state.locks:
            return NoLocks()
        return wrap(part) if part is parts.store else part

    return parts.wrapped(wrapped)


class Interrupted:
    """Passes every call on to a real store, and lets something happen before one of the listings."""

    def __init__(self, real: object, at: list[float], happens: Callable[[], None]) -> None:
        self._real, self._at, self._happens = real, at, happens

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._real, name)

        def call(*arguments: Any, **options: Any) -> Any:
            self._at[0] -= name == "list"
            if self._at[0] == 0:
                self._at[0] = -math.inf
                self._happens()
            return found(*arguments, **options)

        return call


def delete_and_merge(parts: Parts) -> None:
    """Merge all segments; an image is deleted before, and one is purged after."""
    delete(parts, 5, job="d5")
    Compactor(parts.clients()).compact(collection="art", job=parts.job("c", kind="compact"))
    wanted = rows.ids([6])
    parts.indexer().deletion.delete(job=parts.job("d6", kind="delete"), collection="art", image_ids=wanted, purge=True)
    parts.maintenance().purger.purge(job="d6", collection="art", image_ids=wanted)


def delete_and_add(parts: Parts) -> None:
    delete(parts, 5, 6, job="d5")
    parts.add(parts.catalog.get("art"), "again", [5, 6, 90])
    parts.maintenance().trash_cleaner.clean()
    parts.write(parts.catalog.get("other"), "o", [92, 3])


def restore_from_trash(parts: Parts) -> None:
    parts.add(parts.catalog.get("art"), "back", [1])
    parts.maintenance().trash_cleaner.clean()


def drop(parts: Parts) -> None:
    parts.maintenance().dropper.drop(job=parts.job("drop", kind="drop"), collection="art")


HAPPENINGS = (delete_and_merge, delete_and_add, restore_from_trash, drop)
STEP = 5


@pytest.mark.parametrize("happens", HAPPENINGS, ids=lambda it: str(it.__name__))
def test_a_backup_is_whole_whatever_happens_at_any_moment_of_it(
    parts: Parts, servers: Servers, settings: Settings, tmp_path: Path, happens: Callable[[Parts], None]
) -> None:
    always = digests(range(8)) - digests([1, 5, 6])
    moment = 1 + HAPPENINGS.index(happens) % STEP  # each takes other moments
    ended = False
    while not ended:
        fill_art(parts, 2, index=False)
        parts.collection("other")
        repository = Repository.create(FolderTarget(tmp_path / str(moment)))
        at: list[float] = [moment]
        result = back_up(
            without_locks(parts, lambda store, at=at: Interrupted(store, at, lambda: happens(parts))),  # type: ignore[misc]
            repository,
            settings,
        )
        ended = at[0] > 0
        catalog = catalog_of(repository, result.snapshot)
        assert check_repository(repository).ok
        found = live_images(catalog, "art") if "art" in catalog.names() else None
        if found is None:
            assert happens is drop
        else:
            assert set(found.values()) == {1}, moment
            assert always <= found.keys() <= always | digests([1, 5, 6, 90]), moment
            binned = set(Trash(catalog.store).digests("art"))
            assert found.keys() | binned <= originals(catalog), moment
            assert digests([1, 5]) <= found.keys() | binned, moment
            assert happens is delete_and_merge or digests([6]) <= found.keys() | binned, moment
        assert live_images(catalog, "other").keys() <= originals(catalog)
        servers.empty()
        parts.store.ensure_bucket()
        moment += pace(STEP)
    assert moment > 15


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is copied before all is listed."""
    monkeypatch.setattr(Contents, "_copy_most", lambda _: None)


class ChangedBefore:
    """Passes every call on to a real store, and lets something happen before an object is first read in some way."""

    def __init__(self, real: object, method: str, key: str, happens: Callable[[], None]) -> None:
        self._real, self._call, self._happens = real, (method, key), happens

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._real, name)

        def call(*arguments: Any, **options: Any) -> Any:
            if (name, arguments[0] if arguments else "") == self._call:
                self._call = ("", "")
                self._happens()
            return found(*arguments, **options)

        return call


@pytest.mark.usefixtures("at_once")
def test_the_index_in_use_is_there_though_it_changes_after_the_indexes_were_listed(
    parts: Parts, settings: Settings, repository: Repository
) -> None:
    fill_art(parts, 2)

    def rebuild() -> None:
        parts.maintenance().rebuilder.rebuild(collection="art", job=parts.job("r", kind="rebuild"), fit=True)

    change = ChangedBefore(parts.store, "stream", "indexes/art/current.json", rebuild)
    catalog = catalog_of(repository, back_up(without_locks(parts, lambda _: change), repository, settings).snapshot)
    assert catalog.current_index("art") == parts.catalog.current_index("art") == CurrentIndex(2, 7)
    assert catalog.store.get(layout.generation_key("art", 2))


@pytest.mark.usefixtures("at_once")
@pytest.mark.parametrize("method", ["stream", "get"])
def test_the_embedding_set_in_use_is_there_though_it_changes_after_the_manifests_were_listed(
    parts: Parts, settings: Settings, repository: Repository, method: str
) -> None:
    fill_art(parts, 2, index=False)
    active = parts.catalog.get("art")
    filled = parts.catalog.create_embedding_set(active, model="works", version=1, dim=8)
    parts.store.put(layout.segment_key(filled.name, "s"), rows.segment([0, 2], filled))
    change = ChangedBefore(parts.store, method, "collections/art.json", lambda: parts.catalog.activate(filled, active))
    catalog = catalog_of(repository, back_up(without_locks(parts, lambda _: change), repository, settings).snapshot)
    assert catalog.get("art") == filled
    assert set(live_images(catalog, filled.name)) == digests([0, 2])


def test_a_merge_that_died_anywhere_is_in_the_backup_as_it_is(
    parts: Parts, servers: Servers, settings: Settings, tmp_path: Path
) -> None:
    """The restored system finishes the merge: the backup holds its intent with what it needs."""
    life, died = 1, True
    while died:
        fill_art(parts, 2, index=False)
        died = False
        try:
            Compactor(parts.clients([life])).compact(collection="art", job=parts.job("c", kind="compact"))
        except Died:
            died = True
        delete_meanwhile(parts)
        repository = Repository.create(FolderTarget(tmp_path / str(life)))
        catalog = catalog_of(repository, back_up(without_locks(parts), repository, settings).snapshot)
        assert live_images(catalog, "art") == live_images(parts.catalog, "art"), life
        assert catalog.merges("art") == parts.catalog.merges("art")
        servers.empty()
        parts.store.ensure_bucket()
        life += pace(17)
    assert life > 40


def delete_meanwhile(parts: Parts) -> None:
    """Delete an image as the worker would that finds the lock on the claims free: the other's has run out."""
    parts.redis.delete("lock:claims:art")
    with suppress(Unavailable):
        delete(parts, 3, job="d3")


# Deaths


def test_a_backup_that_dies_at_any_step_leaves_older_ones_whole_and_the_next_one_goes_on(
    parts: Parts, settings: Settings, tmp_path: Path
) -> None:
    fill_art(parts, 2)
    folder = tmp_path / "backup"
    first = back_up(parts.clients(), Repository.create(FolderTarget(folder)), settings)
    parts.add(parts.catalog.get("art"), "new", [40, 41])
    life: list[float] = [math.inf]
    died, start = True, 1
    while died:
        life[0], died = start, False
        dying = Repository(Perishable(FolderTarget(folder), life))  # type: ignore[arg-type]
        try:
            back_up(parts.wrapped(lambda part: Perishable(part, life)), dying, settings)  # type: ignore[arg-type]
            keep_latest(dying, 1)
        except Died:
            died = True
        for lease in (folder / "leases").iterdir():  # it runs out
            lease.unlink()
        parts.redis.delete("lock:segments:art")
        repository = Repository.open(FolderTarget(folder))
        check = check_repository(repository)
        assert check.ok, start
        assert check.snapshots
        assert set(live_images(catalog_of(repository, repository.find(None)), "art")) >= digests([0, 2, 3, 4, 5, 6, 7])
        start += pace(11)
    assert start > 60
    (left,) = repository.snapshots()
    assert left != first.snapshot
    assert check_repository(repository).unused == 0
    assert not list((folder / "parts").iterdir())
    assert digests([40, 41]) <= set(live_images(catalog_of(repository, left), "art"))
