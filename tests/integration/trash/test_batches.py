"""Batches of the trash: what is deleted together is one object, of which images leave one by one."""

import json

import pytest

from shared.errors import Invalid, NotFound
from shared.index.originals import ELSEWHERE
from shared.state.outcomes import LEFT
from shared.storage import layout
from shared.storage.object_store import ObjectStore
from shared.storage.trash import Trash, TrashEntry
from tests.support import rows
from tests.support.indexing import Parts
from tests.support.trash import in_trash, outcome


def entry(number: int, *, deleted: float = 1.0, name: str = "") -> TrashEntry:
    return TrashEntry(rows.digest(number), name, None, 1, "image/jpeg", 2, 3, 4.0, deleted)


def objects(store: ObjectStore) -> list[str]:
    return [item.key for item in store.list(layout.TRASH)]


def test_what_is_put_together_is_read_one_by_one(store: ObjectStore) -> None:
    trash = Trash(store)
    entries = [entry(number, deleted=float(number)) for number in range(5)]
    for _ in range(2):  # it may run twice
        trash.put("art", entries, origin="there")
        assert len(objects(store)) == 1
    trash.put("art", [entry(7, deleted=0.0)])
    for reader in (trash, Trash(store)):
        assert set(reader.digests("art")) == {rows.digest(number) for number in (*range(5), 7)}
        batched = [digest for digest in reader.digests("art") if digest != rows.digest(7)]
        assert batched == [rows.digest(number) for number in reversed(range(5))]  # the latest deleted first
        assert list(reader.entries("art", [rows.digest(3), rows.digest(9), rows.digest(7)])) == [
            entries[3],
            entry(7, deleted=0.0),
        ]
        assert reader.get("art", rows.image_id(2)) == entries[2]
        assert reader.of_image("art", rows.image_id(7)) == [rows.digest(7)]
        assert reader.having("art", [rows.digest(number) for number in (1, 7, 8)], few=9) == {
            rows.digest(1),
            rows.digest(7),
        }
        assert reader.having("art", [rows.digest(number) for number in (1, 7, 8)], few=0) == {
            rows.digest(1),
            rows.digest(7),
        }
        assert reader.collections() == ["art"]
        with pytest.raises(NotFound):
            reader.get("art", rows.image_id(8))


def test_many_images_are_some_batches(store: ObjectStore) -> None:
    trash = Trash(store)
    trash.put("art", [entry(number) for number in range(1100)])
    assert len(objects(store)) == 3
    assert len(trash.digests("art")) == 1100
    trash.remove("art", [rows.digest(number) for number in range(600)])
    assert len(objects(store)) == 2
    assert set(Trash(store).digests("art")) == {rows.digest(number) for number in range(600, 1100)}


def test_the_latest_entry_of_an_image_counts_and_all_of_them_go(store: ObjectStore) -> None:
    trash = Trash(store)
    trash.put("art", [entry(1, name="first"), entry(2)])
    trash.put("art", [entry(1, deleted=2.0, name="second")])
    assert trash.get("art", rows.image_id(1)).name == "second"
    trash.put("art", [entry(1, deleted=3.0, name="third"), entry(3)])
    assert trash.get("art", rows.image_id(1)).name == "third"
    assert trash.digests("art").count(rows.digest(1)) == 1
    trash.remove("art", [rows.digest(1)])
    assert set(trash.digests("art")) == {rows.digest(2), rows.digest(3)}
    assert not any(rows.digest(1).encode() in store.get(key) for key in objects(store))


def test_a_batch_that_is_rewritten_while_it_is_read_is_not_missed(store: ObjectStore) -> None:
    Trash(store).put("art", [entry(1), entry(2)])
    moves = [True]

    class Moving(ObjectStore):
        def get(self, key: str, *, start: int = 0, size: int = 0) -> bytes:
            if moves.pop() if moves else False:
                Trash(store).remove("art", [rows.digest(1)])
            return super().get(key, start=start, size=size)

    moving = Moving(store._client, store._bucket)
    assert Trash(moving).having("art", [rows.digest(1), rows.digest(2)], few=9) == {rows.digest(2)}
    assert not moves


def test_a_batch_of_a_newer_version_is_refused_by_name(store: ObjectStore) -> None:
    Trash(store).put("art", [entry(1), entry(2)])
    (key,) = objects(store)
    value = json.loads(store.get(key))
    for changed in ({**value, "format": 2}, {**value, "entries": [{"colour": "blue"}]}):
        store.put(key, json.dumps(changed).encode())
        with pytest.raises(Invalid, match=key):
            Trash(store).digests("art")


def test_nothing_is_deleted_that_an_unreadable_batch_may_hold(parts: Parts, caplog: pytest.LogCaptureFixture) -> None:
    parts.add(parts.collection(), "a", [1, 2])
    parts.collection("other")
    parts.store.put(layout.trash_batch_key("other", "0" * 64), b"{")
    job = parts.purge("art", [rows.image_id(1)])
    assert outcome(parts, job) == (True, 0, [LEFT])
    assert parts.jobs.outcome(job).rejected[0].reason == f"its original stays: {ELSEWHERE}"
    assert "the trash of the collection 'other' may hold it" in caplog.text
    assert parts.store.exists(layout.original_key(rows.digest(1)))


def test_the_trash_of_an_earlier_version_is_emptied_with_the_batches(parts: Parts) -> None:
    parts.add(parts.collection(), "a", range(6))
    for number in (1, 2):  # one by one, as an earlier version wrote all
        parts.delete("art", [rows.image_id(number)], job=f"d{number}")
    parts.delete("art", rows.ids([3, 4]), job="both")
    assert sorted(in_trash(parts, "art")) == sorted(rows.ids([1, 2, 3, 4]))
    parts.maintenance(trash_days=0).trash_cleaner.clean()
    assert in_trash(parts, "art") == []
    assert objects(parts.store) == []
    assert not any(parts.store.exists(layout.original_key(rows.digest(number))) for number in (1, 2, 3, 4))
