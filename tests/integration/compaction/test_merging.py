"""Compaction on real servers: what it merges, and that nobody ever sees an image twice, not at all, or come back."""

import itertools
import logging

import numpy as np
import pytest

from services.maintenance import merge_plan
from shared.errors import Unavailable
from shared.messaging.task_queue import MAINTENANCE
from shared.state import Change
from shared.state.locks import segments_lock
from shared.state.outcomes import Outcome
from shared.storage import layout, segments
from shared.storage.trash import Trash
from tests.support import rows
from tests.support.compaction import assert_whole, compactor, delete, seen
from tests.support.indexing import DIM, Parts


def test_sixteen_segments_are_merged_into_one_and_every_image_stays(parts: Parts) -> None:
    art = parts.collection()
    for place in range(16):
        assert parts.queue.waiting()[MAINTENANCE] == place  # of the fits that each end of a job asks for
        parts.add(art, f"s{place:02}", range(4 * place, 4 * place + 4))
    assert parts.queue.waiting()[MAINTENANCE] == 17  # and of the compaction
    parts.maintenance().tuner.maintain(collection="art")
    delete(parts, [5])
    position = parts.changes.position()
    before = {number: rows.entry(number) for number in range(64)}
    compactor(parts).compact(collection="art")
    (merged,) = parts.catalog.segments("art")
    assert layout.is_merged(merged)
    left = [number for number in range(64) if number != 5]
    assert_whole(parts, "art", left)
    parts.assert_indexed(art, left)
    assert parts.catalog.tombstones("art") == set()
    assert parts.changes.since(position) == (parts.changes.position(), [Change("art", "merged", merged)])
    batch = segments.unpack(parts.store.get(layout.segment_key("art", merged)), verify=True)
    assert segments.inputs_of(batch) == tuple(f"s{place:02}" for place in range(16))
    assert [segments.entry_of(batch, row) for row in range(len(batch))] == [before[number] for number in left]
    assert np.array_equal(segments.vectors_of(batch), rows.embeddings(left, DIM))


def test_fewer_than_sixteen_are_left_unless_somebody_asks(parts: Parts) -> None:
    art = parts.collection()
    for place in range(15):
        parts.add(art, f"s{place}", [2 * place, 2 * place + 1])
    compactor(parts).compact(collection="art")
    assert len(parts.catalog.segments("art")) == 15
    delete(parts, [0, 1, 2])
    job = parts.job("c", kind="compact")
    compactor(parts).compact(collection="art", job=job)
    assert parts.jobs.outcome(job) == Outcome(affected=3)
    assert len(parts.catalog.segments("art")) == 1
    assert_whole(parts, "art", range(3, 30))
    compactor(parts).compact(collection="art", job=parts.job("c2", kind="compact"))  # nothing is left to do
    assert parts.jobs.outcome("c2") == Outcome()
    assert_whole(parts, "art", range(3, 30))


def test_a_segment_is_rewritten_alone_once_more_than_a_quarter_of_it_is_dead_and_removed_once_all_is(
    parts: Parts,
) -> None:
    art = parts.collection()
    parts.add(art, "a", range(200))
    parts.add(art, "b", range(200, 210))
    parts.add(art, "c", range(210, 220))
    delete(parts, range(30), "d1")
    compactor(parts).compact(collection="art")
    assert parts.catalog.segments("art") == ["a", "b", "c"]
    delete(parts, [*range(30, 90), *range(200, 210)], "d2")
    compactor(parts).compact(collection="art")
    listed = parts.catalog.segments("art")
    assert (len(listed), "a" in listed, "b" in listed, "c" in listed) == (2, False, False, True)
    assert parts.catalog.tombstones("art") == set()
    assert_whole(parts, "art", [*range(90, 200), *range(210, 220)])


def test_deletions_ask_for_a_compaction_once_they_are_many(parts: Parts) -> None:
    art = parts.collection()
    parts.add(art, "a", range(100))
    before = parts.queue.waiting()[MAINTENANCE]
    delete(parts, range(20), "d1")
    assert parts.queue.waiting()[MAINTENANCE] == before
    delete(parts, range(20, 40), "d2")
    assert parts.queue.waiting()[MAINTENANCE] == before + 1


def test_segments_grow_by_tiers_up_to_the_largest(parts: Parts, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a small largest size, so that few rows fill one."""
    monkeypatch.setattr(merge_plan, "_LARGEST", 60_000)
    monkeypatch.setattr(merge_plan, "_MOST", 16)
    art = parts.collection()
    number = itertools.count()
    for place in range(160):
        parts.write(art, f"s{place:03}", list(itertools.islice(number, 4)))
        parts.state.indexed_segments.add("art", f"s{place:03}")
    compactor(parts).compact(collection="art")
    sizes = parts.catalog.segment_sizes("art")
    assert len(sizes) < 16
    assert max(sizes.values()) <= 60_000
    assert_whole(parts, "art", range(640))


def test_float16_stays_float16_and_mixed_becomes_float32(parts: Parts) -> None:
    art = parts.collection()
    for place in range(16):
        numbers = range(4 * place, 4 * place + 4)
        parts.write(art, f"s{place:02}", numbers)
        stored = rows.embeddings(numbers, DIM).astype(np.float16)
        parts.store.put(layout.segment_key("art", f"s{place:02}"), rows.segment(numbers, art, stored))
        parts.state.indexed_segments.add("art", f"s{place:02}")
    compactor(parts).compact(collection="art")
    (merged,) = parts.catalog.segments("art")
    batch = segments.unpack(parts.store.get(layout.segment_key("art", merged)))
    assert segments.vectors_of(batch).dtype == np.float16
    parts.add(art, "wide", [90])
    compactor(parts).compact(collection="art", job=parts.job("c", kind="compact"))
    (merged,) = parts.catalog.segments("art")
    batch = segments.unpack(parts.store.get(layout.segment_key("art", merged)))
    assert segments.vectors_of(batch).dtype == np.float32
    assert np.array_equal(segments.vectors_of(batch)[-1], rows.embedding(90, DIM))
    assert_whole(parts, "art", [*range(64), 90])


def test_deletions_from_a_merged_segment_leave_buckets_as_if_the_images_had_never_been(parts: Parts) -> None:
    art = parts.collection()
    for place in range(16):
        parts.add(art, f"s{place:02}", range(10 * place, 10 * place + 10))
    compactor(parts).compact(collection="art")
    parts.maintenance().tuner.maintain(collection="art")
    delete(parts, [7, 150, 3], "few")
    delete(parts, range(20, 120), "many")
    left = [number for number in range(160) if number not in {7, 150, 3, *range(20, 120)}]
    parts.assert_indexed(art, left)
    assert seen(parts, "art") == dict.fromkeys(rows.ids(left), 1)
    assert set(Trash(parts.store).digests("art")) == {rows.digest(n) for n in range(160) if n not in left}


def test_a_segment_whose_batch_is_not_reported_is_left(parts: Parts) -> None:
    art = parts.collection()
    parts.job("job", batches=20)
    for place in range(16):
        outcome = parts.write(art, f"job-{place:06}", [place])
        if place != 3:
            parts.indexer().segments.index(
                set_name="art", segment=f"job-{place:06}", job="job", batch=place, outcome=outcome
            )
    parts.state.indexed_segments.add("art", "job-000003")  # its indexer died before the report
    outcome = parts.write(art, "job-000016", [16])
    parts.indexer().segments.index(set_name="art", segment="job-000016", job="job", batch=16, outcome=outcome)
    compactor(parts).compact(collection="art")
    listed = parts.catalog.segments("art")
    assert len(listed) == 2
    assert "job-000003" in listed
    assert_whole(parts, "art", range(17))
    parts.indexer().segments.index(set_name="art", segment="job-000003", job="job", batch=3, outcome=Outcome({"": 1}))
    assert_whole(parts, "art", range(17))


def test_a_segment_of_a_job_that_is_no_longer_known_is_merged(parts: Parts) -> None:
    art = parts.collection()
    for place in range(16):
        parts.write(art, f"job-{place:06}", [place])
        parts.state.indexed_segments.add("art", f"job-{place:06}")
    compactor(parts).compact(collection="art")
    assert len(parts.catalog.segments("art")) == 1


def test_nothing_is_merged_while_another_is_at_all_segments(parts: Parts) -> None:
    art = parts.collection()
    for place in range(16):
        parts.add(art, f"s{place:02}", [place])
    with parts.state.locks.hold(segments_lock("art")), pytest.raises(Unavailable, match="another worker"):
        compactor(parts).compact(collection="art")
    assert len(parts.catalog.segments("art")) == 16


def test_a_collection_that_is_gone_or_lost_is_left_alone(parts: Parts) -> None:
    compactor(parts).compact(collection="art", job=parts.job("c", kind="compact"))
    assert parts.jobs.outcome("c") == Outcome()
    art = parts.collection()
    for place in range(16):
        parts.add(art, f"s{place:02}", [place])
    parts.redis.flushall()
    compactor(parts).compact(collection="art", job=parts.job("c", kind="compact"))
    assert len(parts.catalog.segments("art")) == 16


@pytest.mark.parametrize("how", ["damaged", "missing"])
def test_a_segment_that_cannot_be_read_is_named_and_left_and_the_rest_merged(
    parts: Parts, caplog: pytest.LogCaptureFixture, how: str
) -> None:
    art = parts.collection()
    for place in range(17):
        parts.add(art, f"s{place:02}", [2 * place, 2 * place + 1])
    key = layout.segment_key("art", "s05")
    broken = bytearray(parts.store.get(key))
    broken[len(broken) // 2] ^= 1
    if how == "damaged":
        parts.store.put(key, bytes(broken))
    else:
        parts.store.delete([key])
    with caplog.at_level(logging.ERROR):
        compactor(parts).compact(collection="art")
    assert any("s05" in record.getMessage() for record in caplog.records)
    listed = parts.catalog.segments("art")
    assert len(listed) == (2 if how == "damaged" else 1)
    if how == "damaged":
        assert parts.store.get(key) == broken
        parts.store.delete([key])
    assert seen(parts, "art") == {rows.image_id(number): 1 for number in range(34) if number not in {10, 11}}
    assert parts.state.claims.holders("art", rows.ids([10, 11])) == ["s05", "s05"]


def test_images_of_a_merged_segment_that_is_cut_off_can_be_deleted(parts: Parts) -> None:
    parts.originals = True  # whose sizes go to the trash
    art = parts.collection()
    for place in range(16):
        parts.add(art, f"s{place:02}", range(20 * place, 20 * place + 20))
    compactor(parts).compact(collection="art")
    (merged,) = parts.catalog.segments("art")
    key = layout.segment_key("art", merged)
    data = parts.store.get(key)
    for number, size in [(1, 100), (2, 4096), (3, segments.places_of(data).vectors + 40), (300, len(data) // 2)]:
        parts.store.put(key, data[:size])
        job = parts.job(f"d{number}", kind="delete")
        parts.indexer().deletion.delete(job=job, collection="art", image_ids=[rows.image_id(number)])
        assert parts.jobs.get(job).counts.affected == 1
        assert (merged, rows.image_id(number)) in parts.catalog.tombstones("art")
        assert Trash(parts.store).get("art", rows.image_id(number)).digest == rows.digest(number)


@pytest.mark.parametrize("how", ["damaged", "missing"])
def test_images_of_a_segment_that_cannot_be_read_can_be_deleted(parts: Parts, how: str) -> None:
    parts.originals = True  # whose sizes go to the trash
    art = parts.collection()
    parts.add(art, "a", range(10))
    parts.add(art, "b", range(10, 20))
    parts.maintenance().tuner.maintain(collection="art")
    key = layout.segment_key("art", "b")
    if how == "damaged":
        parts.store.put(key, parts.store.get(key)[:-100])
    else:
        parts.store.delete([key])
    position = parts.changes.position()
    job = parts.job("d", kind="delete")
    parts.indexer().deletion.delete(job=job, collection="art", image_ids=rows.ids([3, 12, 13]))
    assert parts.jobs.get(job).counts.affected == 3
    assert parts.state.claims.holders("art", rows.ids([3, 12, 13, 14])) == [None, None, None, "b"]
    assert parts.catalog.tombstones("art") == {
        ("a", rows.image_id(3)),
        *(("b", rows.image_id(one)) for one in (12, 13)),
    }
    assert set(Trash(parts.store).digests("art")) == {rows.digest(number) for number in (3, 12, 13)}
    since = parts.changes.since(position)
    assert since is not None
    told = [change.deleted_rows for change in since[1] if change.kind == "deleted"]
    assert {(segment, image) for segment, images in told for image in images} >= {
        ("b", rows.image_id(12)),
        ("a", rows.image_id(3)),
    }


def test_a_collection_with_a_damaged_segment_is_fitted_rebuilt_and_dropped_without_it(parts: Parts) -> None:
    art = parts.collection()
    parts.add(art, "a", range(10))
    parts.add(art, "b", range(10, 20))
    parts.store.put(layout.segment_key("art", "b"), b"broken")
    parts.maintenance().tuner.maintain(collection="art")
    parts.assert_indexed(art, range(10))
    parts.redis.flushall()
    parts.maintenance().rebuilder.rebuild(collection="art")
    parts.assert_indexed(art, range(10))
    parts.maintenance().dropper.drop(job=parts.job("j", kind="drop"), collection="art")
    assert parts.catalog.names() == []
