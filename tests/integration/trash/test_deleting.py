"""Deletion by the rows in the store, on real servers without a query service."""

import json
from dataclasses import replace

import pytest

from shared.index import deletion
from shared.index.originals import ELSEWHERE
from shared.state.outcomes import LEFT
from shared.storage import layout, segments
from shared.storage.documents import DocumentPage
from shared.storage.object_store import ObjectStore
from shared.storage.trash import Trash
from tests.support import rows
from tests.support.indexing import DIM, Died, Parts
from tests.support.trash import in_trash, live, outcome


def test_images_whose_claims_were_lost_are_deleted_all_the_same(parts: Parts) -> None:
    art = parts.collection()
    parts.add(art, "a", range(20))
    parts.maintenance().tuner.maintain(collection="art")
    parts.redis.hdel("claims:art", *(str(image) for image in rows.ids(range(10))))
    assert outcome(parts, parts.delete("art", rows.ids(range(10)))) == (True, 10, [])
    assert live(parts, "art") == set(rows.ids(range(10, 20)))
    parts.assert_indexed(art, range(10, 20))
    assert sorted(in_trash(parts, "art")) == sorted(rows.ids(range(10)))


def test_every_row_of_an_image_is_deleted_in_whatever_segment_it_is(parts: Parts) -> None:
    """Two segments have it live, as after claims that were lost and an image that was added once more."""
    art = parts.collection()
    parts.add(art, "a", [1, 2])
    parts.redis.hdel("claims:art", str(rows.image_id(1)))
    parts.add(art, "b", [1, 3])
    assert outcome(parts, parts.delete("art", [rows.image_id(1)])) == (True, 1, [])
    assert live(parts, "art") == set(rows.ids([2, 3]))


def test_a_manifest_that_cannot_be_read_hinders_no_deletion_in_another_collection(
    parts: Parts, caplog: pytest.LogCaptureFixture
) -> None:
    art = parts.collection()
    parts.add(art, "a", [1, 2])
    parts.add(parts.collection("newer"), "a", [2])
    manifest = json.loads(parts.store.get(layout.manifest_key("newer")))
    parts.store.put(layout.manifest_key("newer"), json.dumps({**manifest, "colour": "blue"}).encode())
    assert outcome(parts, parts.delete("art", [rows.image_id(1)])) == (True, 1, [])
    assert parts.state.claims.holders("art", [rows.image_id(1)]) == [None]
    parts.add(art, "b", [1])  # it comes back with its original
    assert parts.store.exists(layout.original_key(rows.digest(1)))
    # For good: whatever the other collection may hold stays, and the job says so.
    job = parts.purge("art", rows.ids([1, 2]))
    assert outcome(parts, job) == (True, 0, [LEFT, LEFT])
    assert {rejection.reason for rejection in parts.jobs.outcome(job).rejected} == {f"its original stays: {ELSEWHERE}"}
    assert "'newer' may hold it" in caplog.text  # the log alone names it
    assert live(parts, "art") == set()
    assert parts.store.exists(layout.original_key(rows.digest(2)))


@pytest.mark.parametrize("damage", ["damaged", "missing"])
def test_an_image_of_a_segment_that_cannot_be_read_is_in_the_trash_by_its_original(parts: Parts, damage: str) -> None:
    parts.add(parts.collection(), "a", [1, 2])
    key = layout.segment_key("art", "a")
    parts.store.put(key, b"damaged") if damage == "damaged" else parts.store.delete([key])
    assert outcome(parts, parts.delete("art", [rows.image_id(1)])) == (True, 1, [])
    assert parts.catalog.tombstones("art") == {("a", rows.image_id(1))}
    (entry,) = Trash(parts.store).entries("art", [rows.digest(1)])
    assert (entry.digest, entry.name) == (rows.digest(1), "")


@pytest.mark.parametrize("indexed", [False, True])
def test_the_entry_of_an_image_of_a_merged_segment_is_read_without_other_embeddings(
    parts: Parts, monkeypatch: pytest.MonkeyPatch, *, indexed: bool
) -> None:
    monkeypatch.setattr(deletion, "_IDS_A_READ", 1e-9)  # reading the buckets takes longer
    art = parts.collection()
    for place in range(16):
        parts.add(art, f"s{place:02}", range(13 * place, 13 * place + 13))
    if indexed:
        parts.maintenance().tuner.maintain(collection="art")
    parts.maintenance().compactor.compact(collection="art")
    (merged,) = parts.catalog.segments("art")
    vectors = segments.places_of(parts.store.get(layout.segment_key("art", merged))).vectors
    read: list[tuple[int, int]] = []

    class Watched(ObjectStore):
        def get(self, key: str, *, start: int = 0, size: int = 0) -> bytes:
            if key == layout.segment_key("art", merged) and start:
                read.append((start, size))
            return super().get(key, start=start, size=size)

    watched = Parts(Watched(parts.store._client, parts.store._bucket), parts.redis, parts.queue)
    watched.delete("art", rows.ids([7, 123]))
    entries = Trash(parts.store).entries("art", [rows.digest(7), rows.digest(123)])
    assert [(entry.name, entry.label) for entry in entries] == [
        ("7.jpg", rows.entry(7).label),
        ("123.jpg", rows.entry(123).label),
    ]
    size_of_vectors = 208 * 4 * DIM
    beside = [size for start, size in read if vectors <= start < vectors + size_of_vectors]
    assert sum(beside) == (2 * 4 * DIM if indexed else 0)


def test_a_deletion_that_dies_at_any_call_is_finished_by_the_next_attempt(parts: Parts) -> None:
    art = parts.collection()
    parts.add(art, "a", range(6))
    parts.add(art, "b", range(6, 9))
    parts.maintenance().tuner.maintain(collection="art")
    job, wanted = parts.job("deletion", kind="delete"), rows.ids([1, 2, 7])
    for life in range(1, 80):
        try:
            parts.indexer([life]).deletion.delete(job=job, collection="art", image_ids=wanted)
        except Died:
            continue
        break
    assert parts.jobs.get(job).done
    assert sorted(in_trash(parts, "art")) == sorted(wanted)
    assert len(list(parts.store.list(layout.TRASH))) == 1
    parts.assert_indexed(art, [0, 3, 4, 5, 6, 8])
    assert parts.state.claims.holders("art", wanted) == [None] * 3


def test_the_trash_says_of_an_image_of_a_merged_segment_that_it_is_damaged_and_which_page_it_is(parts: Parts) -> None:
    art = parts.collection()
    page = DocumentPage(rows.digest(2), 1, 3)
    known = [
        replace(rows.entry(1), flags=("damaged",)),
        replace(rows.entry(2), document=page),
        rows.entry(3),
    ]
    for number, entry in enumerate(known, 1):
        segment = f"s{number}"
        parts.add(art, segment, [number])
        vectors = rows.embeddings([number], DIM)
        data = segments.pack([entry], vectors, collection="art", model=art.model, version=art.version)
        parts.store.put(layout.segment_key("art", segment), data)
    parts.job("merge", kind="compact")
    parts.maintenance().compactor.compact(collection="art", job="merge")
    assert len(parts.catalog.segments("art")) == 1
    assert outcome(parts, parts.delete("art", rows.ids([1, 2, 3]))) == (True, 3, [])
    entries = Trash(parts.store).entries("art", [entry.digest for entry in known])
    assert [(tuple(entry.flags), entry.document) for entry in entries] == [
        (("damaged",), None),
        ((), page),
        ((), None),
    ]
