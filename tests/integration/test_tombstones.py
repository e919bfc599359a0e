"""Tombstones on a real store: a row has an object of its own, rows that are deleted together one that lists them."""

import pytest

from shared.errors import Invalid, StoreUnavailable, TooNew
from shared.storage import layout
from shared.storage.object_store import ObjectStore
from shared.storage.tombstones import Tombstones


def keys(store: ObjectStore) -> list[str]:
    return [item.key for item in store.list("tombstones/")]


def test_rows_that_are_deleted_together_have_one_object_for_each_segment(store: ObjectStore) -> None:
    tombstones = Tombstones(store)
    rows = [("a", 5), ("a", 2**53 - 1), ("b", 7), ("a", 6)]
    for _ in range(2):  # it may run twice
        tombstones.add("art", rows)
        assert [key.rpartition("/")[0] for key in keys(store)] == ["tombstones/art/a", "tombstones/art/b"]
    tombstones.add("art", [("a", 8)])
    for reader in (tombstones, Tombstones(store)):
        assert reader.of_set("art") == {"a": {5, 6, 8, 2**53 - 1}, "b": {7}}
        assert reader.of_segment("art", "a") == {5, 6, 8, 2**53 - 1}
        assert reader.of_segment("art", "c") == set()


def test_a_tombstone_of_an_earlier_version_is_read_beside_lists(store: ObjectStore) -> None:
    for image in (1, 2, 3):
        store.put(f"tombstones/art/a/{image}", b"")
    tombstones = Tombstones(store)
    tombstones.add("art", [("a", 3), ("a", 4)])
    assert tombstones.of_segment("art", "a") == {1, 2, 3, 4}
    tombstones.remove("art", [("a", 3), ("a", 1)])
    assert Tombstones(store).of_segment("art", "a") == {2, 4}


def test_what_is_removed_from_a_list_is_nowhere_and_the_rest_stays(store: ObjectStore) -> None:
    tombstones = Tombstones(store)
    tombstones.add("art", [("a", image) for image in range(1, 6)])
    tombstones.add("art", [("b", 1), ("b", 2)])
    for _ in range(2):
        tombstones.remove("art", [("a", 2), ("a", 9), ("b", 1), ("b", 2)])
        assert Tombstones(store).of_set("art") == {"a": {1, 3, 4, 5}}
    assert len(keys(store)) == 1
    assert b"2" not in store.get(keys(store)[0])
    tombstones.remove_all("art", ["a", "b"])
    assert keys(store) == []


def test_a_list_that_cannot_be_read_is_named_and_hides_no_row(store: ObjectStore) -> None:
    key = layout.tombstone_list_key("art", "a", "0" * 64)
    for broken in (b"", b"{}", b'{"format": 1, "ids": ["x"]}'):
        store.put(key, broken)
        with pytest.raises(Invalid, match=key):
            Tombstones(store).of_set("art")
    store.put(key, b'{"format": 2, "ids": [1]}')
    with pytest.raises(TooNew, match="upgrade"):
        Tombstones(store).of_segment("art", "a")


def test_a_list_that_moves_to_a_merged_segment_while_it_is_read_is_not_missed(store: ObjectStore) -> None:
    Tombstones(store).add("art", [("a", 1), ("a", 2)])
    moves = [True]

    class Moving(ObjectStore):
        def get(self, key: str, *, start: int = 0, size: int = 0) -> bytes:
            if moves.pop() if moves else False:
                Tombstones(store).add("art", [("merged-0", 1), ("merged-0", 2)])
                Tombstones(store).remove("art", [("a", 1), ("a", 2)])
            return super().get(key, start=start, size=size)

    moving = Moving(store._client, store._bucket)
    assert Tombstones(moving).of_set("art") == {"merged-0": {1, 2}}
    assert not moves


def test_a_list_that_is_listed_and_never_there_is_a_store_that_fails(store: ObjectStore) -> None:
    Tombstones(store).add("art", [("a", 1), ("a", 2)])

    class Failing(ObjectStore):
        def get(self, key: str, *, start: int = 0, size: int = 0) -> bytes:
            return super().get(f"{key}-gone", start=start, size=size)

    with pytest.raises(StoreUnavailable, match="tombstones/art/"):
        Tombstones(Failing(store._client, store._bucket)).of_set("art")
