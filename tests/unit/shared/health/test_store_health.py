"""The health of the object store: it is written to and read back, and its disk is looked at where that is ours."""

import shutil
from collections import namedtuple
from pathlib import Path

import pytest

from shared.errors import StoreUnavailable
from shared.health.store_health import PROBE_CONTENT, PROBE_KEY, StoreHealth
from shared.settings import SETTINGS_FILE, Settings
from shared.storage.object_store import ObjectStore

Disk = namedtuple("Disk", ["total", "used", "free"])
GIB = 2**30


class FakeStore(ObjectStore):
    """An object store in memory, which can be told to refuse writes."""

    def __init__(self) -> None:
        self.objects: dict[str, bytes] = {}
        self.puts = 0
        self.is_writable = True

    def put(self, key: str, data: bytes, media_type: str = "application/octet-stream") -> None:
        del media_type
        self.puts += 1
        if not self.is_writable:
            raise StoreUnavailable(f"cannot write {key!r}: no writable volumes")
        self.objects[key] = data

    def get(self, key: str, *, start: int = 0, size: int = 0) -> bytes:
        del start, size
        return self.objects[key]


class Clock:
    """A clock that the test sets."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def store() -> FakeStore:
    return FakeStore()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def health(store: FakeStore, clock: Clock, tmp_path: Path) -> StoreHealth:
    return StoreHealth(Settings(data=tmp_path, least_free_bytes=2 * GIB), store, clock=clock)  # type: ignore[call-arg]


def free(monkeypatch: pytest.MonkeyPatch, free_bytes: int, total: int = 100 * GIB) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Disk(total, total - free_bytes, free_bytes))


def test_it_is_written_to_every_five_seconds_and_read_each_time(
    health: StoreHealth, store: FakeStore, clock: Clock
) -> None:
    for tenth in range(100):
        clock.now = tenth / 10
        assert health.ask() is None
    assert store.puts == 2
    assert store.objects == {PROBE_KEY: PROBE_CONTENT}


def test_a_store_that_takes_no_writes_is_down_until_it_does(
    health: StoreHealth, store: FakeStore, clock: Clock
) -> None:
    health.ask()
    store.is_writable = False
    clock.now += 5
    for _ in range(2):
        with pytest.raises(StoreUnavailable, match=r"takes no writes.*no writable volumes"):
            health.ask()
    store.is_writable = True
    assert health.ask() is None


def test_what_is_read_back_must_be_what_was_written(health: StoreHealth, store: FakeStore) -> None:
    health.ask()
    store.objects[PROBE_KEY] = b"else"
    with pytest.raises(StoreUnavailable, match="gives back another"):
        health.ask()


@pytest.mark.parametrize(
    ("free_bytes", "total"), [(2 * GIB - 1, 10 * GIB), (GIB // 31, 10 * GIB), (19 * GIB, 1000 * GIB)]
)
def test_little_room_on_the_disk_of_a_local_system_is_told(
    health: StoreHealth, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, free_bytes: int, total: int
) -> None:
    (tmp_path / SETTINGS_FILE).touch()
    free(monkeypatch, free_bytes, total)
    note = health.ask()
    assert note is not None
    assert f"only {free_bytes / 2**20:.0f} MiB are free" in note
    assert str(tmp_path) in note


def test_a_full_disk_of_a_local_system_counts_as_down(
    health: StoreHealth, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / SETTINGS_FILE).touch()
    free(monkeypatch, GIB // 33)
    with pytest.raises(StoreUnavailable, match="free some space"):
        health.ask()


def test_the_disk_of_a_store_elsewhere_is_its_own_affair(health: StoreHealth, monkeypatch: pytest.MonkeyPatch) -> None:
    free(monkeypatch, 0)
    assert health.ask() is None
