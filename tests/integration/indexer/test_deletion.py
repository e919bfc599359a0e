"""Deletion on real servers: an image leaves everything, and may come back."""

from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Any

import pytest

from shared.errors import IndexLost, Locked
from shared.index import deletion
from shared.messaging.task_queue import MAINTENANCE
from shared.storage import layout, segments
from shared.storage.catalog import Catalog
from shared.storage.trash import Trash
from tests.support import rows
from tests.support.indexing import Parts


def test_a_deletion_that_lost_its_lock_is_not_reported(parts: Parts, monkeypatch: pytest.MonkeyPatch) -> None:
    art = parts.collection()
    parts.add(art, "a", [0, 1])
    add_tombstones = Catalog.add_tombstones

    def stop(catalog: Catalog, set_name: str, places: Iterable[tuple[str, int]]) -> None:
        add_tombstones(catalog, set_name, places)
        parts.redis.delete("lock:claims:art")  # as it runs out

    monkeypatch.setattr(Catalog, "add_tombstones", stop)
    parts.job("d", kind="delete")
    task = parts.indexer().deletion
    with pytest.raises(Locked, match="lost its lock"):
        task.delete(job="d", collection="art", image_ids=[rows.image_id(0)])
    assert not parts.jobs.reported("d", 0)
    monkeypatch.undo()
    task.delete(job="d", collection="art", image_ids=[rows.image_id(0)])
    assert parts.jobs.reported("d", 0)
    assert parts.state.claims.holders("art", rows.ids([0, 1])) == [None, "a"]


@pytest.mark.parametrize("ids_a_read", [1e-9, 1e9])  # the embeddings say where images are, or the buckets
def test_a_deletion_takes_an_image_out_of_everything(
    parts: Parts, monkeypatch: pytest.MonkeyPatch, ids_a_read: float
) -> None:
    monkeypatch.setattr(deletion, "_IDS_A_READ", ids_a_read)
    monkeypatch.setattr(deletion, "_BUCKETS_A_READ", ids_a_read)
    art = parts.collection()
    parts.add(art, "a", range(10))
    parts.add(art, "b", range(10, 14))
    parts.maintenance().tuner.maintain(collection="art")
    position = parts.changes.position()
    job = parts.job(kind="delete")
    parts.indexer().deletion.delete(job=job, collection="art", image_ids=[*rows.ids([3, 11, 3]), 12345])
    parts.assert_indexed(art, [*range(3), *range(4, 11), 12, 13])
    assert parts.state.claims.holders("art", rows.ids([3, 11])) == [None, None]
    assert parts.state.claims.count("art") == 12
    assert parts.catalog.tombstones("art") == {("a", rows.image_id(3)), ("b", rows.image_id(11))}
    for number in range(14):
        assert parts.store.exists(layout.original_key(rows.digest(number)))  # the trash holds those of 3 and 11
    trash = Trash(parts.store)
    assert {entry.id for entry in trash.entries("art", trash.digests("art"))} == set(rows.ids([3, 11]))
    done = parts.jobs.get(job)
    assert (done.done, done.counts.affected) == (True, 2)  # each once, though one was named twice
    since = parts.changes.since(position)
    assert since is not None
    assert {change.value for change in since[1]} == {f"a/{rows.image_id(3)}", f"b/{rows.image_id(11)}"}


def test_images_that_are_deleted_together_are_noted_together(parts: Parts) -> None:
    art = parts.collection()
    parts.add(art, "a", range(20))
    parts.add(art, "b", range(20, 30))
    before, position = {item.key for item in parts.store.list("")}, parts.changes.position()
    wanted = rows.ids([*range(15), *range(25, 30)])
    parts.delete("art", wanted)
    written = sorted(item.key.rpartition("/")[0] for item in parts.store.list("") if item.key not in before)
    assert written == ["tombstones/art/a", "tombstones/art/b", "trash/art/batches"]
    assert {image for _, image in parts.catalog.tombstones("art")} == set(wanted)
    assert {layout.image_id(digest) for digest in Trash(parts.store).digests("art")} == set(wanted)
    since = parts.changes.since(position)
    assert since is not None
    assert [change.deleted_rows for change in since[1]] == [
        ("a", sorted(rows.ids(range(15)))),
        ("b", sorted(rows.ids(range(25, 30)))),
    ]


@pytest.mark.parametrize("lost", [False, True])
def test_an_original_stays_while_another_collection_holds_it_though_the_index_lost_that_collection(
    parts: Parts, *, lost: bool
) -> None:
    for name in ("art", "other", "third"):
        parts.add(parts.collection(name), "a", [1, 2, 3] if name != "third" else [9])
    original = layout.original_key(rows.digest(2))
    tasks: list[Callable[[], Any]] = [
        lambda: parts.purge("art", [rows.image_id(2)], "j1"),
        lambda: parts.maintenance().dropper.drop(job=parts.job("j2", kind="drop"), collection="art"),
    ]
    for task in tasks:
        if lost:
            parts.redis.flushall()
            for name in ("art", "other", "third"):  # each time, one more is found to be lost, and rebuilt
                with suppress(IndexLost):
                    task()
                assert parts.store.exists(original)
                assert parts.queue.waiting()[MAINTENANCE] > 0
                parts.maintenance().rebuilder.rebuild(collection=name)
        task()
        assert parts.store.exists(original)
    assert parts.store.exists(layout.original_key(rows.digest(1)))
    parts.purge("other", [rows.image_id(2)], "j3")
    assert not parts.store.exists(original)
    parts.maintenance().dropper.drop(job=parts.job("j4", kind="drop"), collection="other")
    assert [item.key for item in parts.store.list("images/")] == [layout.original_key(rows.digest(9))]


def test_a_deleted_image_may_come_back(parts: Parts) -> None:
    art = parts.collection()
    parts.add(art, "a", range(10))
    parts.maintenance().tuner.maintain(collection="art")
    parts.indexer().deletion.delete(job=parts.job(kind="delete"), collection="art", image_ids=[rows.image_id(3)])
    parts.add(art, "b", [3])
    parts.assert_indexed(art, range(10))
    parts.redis.flushall()
    parts.maintenance().rebuilder.rebuild(collection="art")
    parts.assert_indexed(art, range(10))
    assert parts.state.claims.holders("art", [rows.image_id(3)]) == ["b"]


def test_dropping_leaves_nothing_of_a_collection(parts: Parts) -> None:
    art, other = parts.collection(), parts.collection("art-2")
    parts.add(art, "a", range(10))
    parts.add(other, "a", range(5, 12))
    for name in ("art", "art-2"):
        parts.maintenance().tuner.maintain(collection=name)
    parts.indexer().deletion.delete(job=parts.job("j1", kind="delete"), collection="art", image_ids=[rows.image_id(4)])
    job = parts.job("j2", kind="drop")
    parts.maintenance().dropper.drop(job=job, collection="art")
    assert parts.jobs.get(job).counts.affected == 9
    assert parts.catalog.names() == ["art-2"]
    assert parts.held(art) == {}
    assert (parts.state.index_states.get("art"), parts.state.claims.count("art")) == (None, 0)
    keys = {item.key for item in parts.store.list("")}
    assert not [key for key in keys if "/art/" in key or "/art." in key]
    assert {key for key in keys if key.startswith("images/")} == {
        layout.original_key(rows.digest(number)) for number in range(5, 12)
    }
    parts.assert_indexed(other, range(5, 12))


def test_the_original_segment_is_never_changed(parts: Parts) -> None:
    """Whatever is deleted or rebuilt, a segment stays as it was written."""
    art = parts.collection()
    parts.add(art, "a", range(10))
    data = parts.store.get(layout.segment_key("art", "a"))
    parts.maintenance().tuner.maintain(collection="art")
    parts.indexer().deletion.delete(job=parts.job(kind="delete"), collection="art", image_ids=rows.ids([1, 2]))
    parts.maintenance().rebuilder.rebuild(collection="art", fit=True)
    assert parts.store.get(layout.segment_key("art", "a")) == data
    assert segments.ids_of(segments.unpack(data)).tolist() == rows.ids(range(10))
