"""Records in the object store, and the index of the query service that follows them."""

import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, BinaryIO

import pytest

from services.query.records import record_sync
from services.query.records.record_sync import RecordSync
from shared.records.change_file import ImageChange
from shared.records.filters import RecordFilter
from shared.records.model import Cell, Value, values_of
from shared.records.paths import PathEntry
from shared.records.record_store import MERGE_AT, RecordStore
from shared.state import Client, State, connect
from shared.storage import layout
from shared.storage.object_store import ObjectStore
from tests.support.indexing import Died
from tests.support.processes import free_port


@pytest.fixture
def state(redis: Client) -> State:
    return State.of(redis)


@pytest.fixture
def records(store: ObjectStore, state: State) -> RecordStore:
    store.ensure_bucket()
    return RecordStore(store, state.record_changes)


@pytest.fixture
def sync(store: ObjectStore, state: State, tmp_path: Path) -> RecordSync:
    """What follows the records; it does so when it is asked."""
    return RecordSync(store, state.record_changes, tmp_path)


def said(**fields: str) -> dict[str, list[Value]]:
    return {name: [Value(text) for text in value.split("|")] for name, value in fields.items()}


def title(sync: RecordSync, image_id: int, field: str = "title") -> list[str]:
    index = sync.index("art")
    records = {} if index is None else index.records([image_id])
    cells = records[image_id].cells if image_id in records else {}
    return [value.text for value in values_of(cells, field) or ()]


class _Dying:
    """An object store whose connection breaks in the middle of an upload, or right behind it."""

    def __init__(self, store: ObjectStore, after: int) -> None:
        self._store, self._left = store, after

    def upload(self, key: str, file: BinaryIO, size: int, media_type: str) -> None:
        self._file = file
        self._store.upload(key, self, size, media_type)  # type: ignore[arg-type]
        raise Died

    def read(self, size: int = -1) -> bytes:
        data = self._file.read(min(size, 1000) if size >= 0 else 1000)
        self._left -= len(data)
        if self._left < 0:
            raise Died
        return data


def test_a_table_whose_import_dies_is_there_whole_or_not_at_all(
    records: RecordStore, state: State, store: ObjectStore, tmp_path: Path
) -> None:
    rows = {image: said(title=f"Work {image * 7919 % 10_007}") for image in range(1, 3001)}
    records.say("art", "csv", {1: said(title="Before")})
    for after, whole in ((0, False), (5_000, False), (10**9, True)):
        with pytest.raises(Died):
            RecordStore(_Dying(store, after)).say("art", "csv", rows)  # type: ignore[arg-type]
        late = RecordSync(store, state.record_changes, tmp_path / str(after))
        late.follow()
        found = [bool(title(late, image)) for image in (2, 1500, 3000)]
        assert found == [whole] * 3
        assert len(records.changes("art")) == 1 + whole
        assert title(late, 1) == (["Work 7919"] if whole else ["Before"])


class _Held:
    """An object store of which a change is read only when it is let go."""

    def __init__(self, store: ObjectStore) -> None:
        self._store = store
        self.is_read, self.let_go = threading.Event(), threading.Event()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    def stream(self, key: str) -> Iterator[bytes]:
        self.is_read.set()
        assert self.let_go.wait(60)
        yield from self._store.stream(key)


def test_requests_do_without_what_takes_long_to_apply(
    records: RecordStore, state: State, store: ObjectStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = _Held(store)
    sync = RecordSync(held, state.record_changes, tmp_path)  # type: ignore[arg-type]
    sync.follow()
    records.say("art", "csv", {1: said(title="A")})
    following = threading.Thread(target=sync.follow)
    following.start()
    assert held.is_read.wait(60)
    begun = time.monotonic()
    monkeypatch.setattr(record_sync, "_PATIENCE_S", 1000.0)
    monkeypatch.setattr(record_sync, "time", SimpleNamespace(monotonic=lambda: begun + 1001.0))
    found: list[list[str]] = []
    request = threading.Thread(target=lambda: found.append(title(sync, 1)))
    request.start()
    request.join(60)
    assert found == [[]]
    held.let_go.set()
    following.join(60)
    assert title(sync, 1) == ["A"]


def test_what_is_said_is_found_and_what_is_merged_says_the_same(
    records: RecordStore, sync: RecordSync, state: State, store: ObjectStore, tmp_path: Path
) -> None:
    sync.follow()
    records.say("art", "csv", {image: said(title=f"Work {image}") for image in range(1, 40)})
    assert title(sync, 7) == ["Work 7"]
    for number in range(MERGE_AT + 1):
        records.say("art", "edit", {7: said(title=f"Edited {number}")})
    assert title(sync, 7) == [f"Edited {MERGE_AT}"]
    assert records.merge("art", state.locks)
    assert not records.merge("art", state.locks)
    assert len(records.changes("art")) == 1
    assert title(sync, 7) == [f"Edited {MERGE_AT}"]
    late = RecordSync(store, state.record_changes, tmp_path / "another")
    late.follow()
    assert (title(late, 7), title(late, 8)) == ([f"Edited {MERGE_AT}"], ["Work 8"])


def test_writers_at_the_same_time_lose_nothing(records: RecordStore, sync: RecordSync) -> None:
    sync.follow()

    def write(image_id: int) -> None:
        for number in range(5):
            records.say("art", "edit", {image_id: said(title=f"{number}")})
            records.say("art", "csv", {1000: {f"own_{image_id}": [Value(f"{number}")]}})

    threads = [threading.Thread(target=write, args=(image_id,)) for image_id in range(1, 5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [title(sync, image_id) for image_id in range(1, 5)] == [["4"]] * 4
    assert [title(sync, 1000, f"own_{image_id}") for image_id in range(1, 5)] == [["4"]] * 4


def test_a_later_edit_counts_though_the_clock_of_its_writer_is_behind(records: RecordStore, sync: RecordSync) -> None:
    records.say("art", "edit", {1: said(title="first")}, after=2**62)
    sync.follow()
    index = sync.index("art")
    assert index is not None
    records.say("art", "edit", {1: said(title="second")}, after=index.stamp)
    assert title(sync, 1) == ["second"]


def test_what_is_erased_is_gone_from_store_and_index(
    records: RecordStore, sync: RecordSync, state: State, store: ObjectStore
) -> None:
    records.say("art", "exif", {1: said(creator="Ann"), 2: said(creator="Ben")})
    sync.follow()
    earlier = [(item.key, store.get(item.key)) for item in store.list(layout.records_prefix("art"))]
    records.erase("art", [1], state.locks)
    records.erase("art", [1], state.locks)
    index = sync.index("art")
    assert index is not None
    assert (title(sync, 1, "creator"), title(sync, 2, "creator")) == ([], ["Ben"])
    assert not index.matching(RecordFilter(text="ann"))[1:].any()
    for change in records.changes("art"):
        with records.reading("art", change.name) as changes:
            assert all("Ann" not in str(one) for one in changes)
    for key, data in earlier:  # as by a writer that was held up
        store.put(key, data)
    state.record_changes.announce(type(state.record_changes.since("0-0")[1][0])("art", "records"))  # type: ignore[index]
    assert (title(sync, 1, "creator"), title(sync, 2, "creator")) == ([], ["Ben"])


def test_what_was_said_by_a_clock_ahead_is_erased_too(
    records: RecordStore, sync: RecordSync, state: State, store: ObjectStore, tmp_path: Path
) -> None:
    ahead = time.time_ns() + 3600 * 10**9
    records.say("art", "edit", {2: said(creator="Ben")}, after=ahead)
    sync.follow()
    index = sync.index("art")
    assert index is not None
    # As an import does it: behind all that is known, in an object that is named by the clock of its writer.
    stamp = index.stamp + 1
    table = ImageChange(
        1, {"creator": {"csv": Cell(stamp, (Value("Ann"),))}}, paths={"/photos": {"a.jpg": PathEntry(stamp, "present")}}
    )
    records.restore("art", [table], [])
    assert (title(sync, 1, "creator"), title(sync, 2, "creator")) == (["Ann"], ["Ben"])
    records.erase("art", [1], state.locks)
    assert (title(sync, 1, "creator"), title(sync, 2, "creator")) == ([], ["Ben"])
    for change in records.changes("art"):
        with records.reading("art", change.name) as changes:
            assert all("Ann" not in str(one) and "a.jpg" not in str(one) for one in changes)
    late = RecordSync(store, state.record_changes, tmp_path / "another")
    late.follow()
    assert title(late, 1, "creator") == []
    # It comes back to the collection: what is said of it now counts, though the mark is ahead.
    records.say("art", "edit", {1: said(creator="Cid")}, after=index.stamp)
    assert title(sync, 1, "creator") == ["Cid"]


def test_without_redis_the_store_is_listed(records: RecordStore, store: ObjectStore, tmp_path: Path) -> None:
    records.say("art", "csv", {1: said(title="A")})
    away = State.of(connect(f"redis://127.0.0.1:{free_port()}", retries=0, timeout_s=0.2))
    sync = RecordSync(store, away.record_changes, tmp_path)
    sync.list_without_index()
    assert title(sync, 1) == ["A"]
    records.say("art", "csv", {1: said(title="B")})
    sync.list_without_index()
    assert title(sync, 1) == ["B"]


def test_a_collection_that_was_dropped_has_no_records(records: RecordStore, sync: RecordSync) -> None:
    records.say("art", "csv", {1: said(title="A")})
    sync.follow()
    records.drop("art")
    assert sync.index("art") is None
    records.say("art", "csv", {2: said(title="B")})
    assert (title(sync, 1), title(sync, 2)) == ([], ["B"])


def test_an_index_goes_on_where_it_ended(
    records: RecordStore, sync: RecordSync, store: ObjectStore, state: State, tmp_path: Path
) -> None:
    records.say("art", "csv", {1: said(title="A")})
    sync.follow()
    sync.close()
    records.say("art", "csv", {1: said(title="B"), 2: said(title="C")})
    again = RecordSync(store, state.record_changes, tmp_path)
    again.open_files()
    assert again.index("art") is not None
    again.follow()
    assert (title(again, 1), title(again, 2)) == (["B"], ["C"])
