"""Compaction on real servers: what it merges, and that nobody ever sees an image twice, not at all, or come back."""

import functools
import itertools
import logging
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from services.embedder.embedder import Embedder, Options, _Task
from services.indexer import app
from services.maintenance import merge_plan
from services.maintenance.compaction import Compactor
from shared.errors import ObjectNotFound, Unavailable
from shared.images import Limits
from shared.index import compaction_due
from shared.messaging.messages import BatchImage
from shared.messaging.task_queue import MAINTENANCE
from shared.state import Change, IndexState
from shared.state.indexed_segments import IndexedSegments
from shared.state.jobs import Outcome
from shared.state.locks import segments_lock
from shared.storage import layout, segments
from shared.storage.catalog import EmbeddingSet
from shared.storage.object_store import ObjectStore
from tests.support import rows
from tests.support.eventually import PATIENCE_S
from tests.support.indexing import DIM, Died, Parts, parts_of
from tests.support.servers import Servers


@pytest.fixture
def parts(servers: Servers) -> Parts:
    return parts_of(servers.settings)


def compactor(parts: Parts, life: list[int] | None = None) -> Compactor:
    """Return a compactor, which dies at some call to a server if it is given a life."""
    return Compactor(parts.clients(life))


def seen(parts: Parts, name: str) -> Counter[int]:
    """Return the images that a reader of the store has now, and how often: a merged segment stands for its inputs."""
    batches = {
        segment: segments.unpack(parts.store.get(layout.segment_key(name, segment)), verify=True)
        for segment in parts.catalog.segments(name)
    }
    hidden = {segment for batch in batches.values() for segment in segments.inputs_of(batch)}
    deleted = parts.catalog.tombstones(name)
    found: Counter[int] = Counter()
    for segment, batch in batches.items():
        if segment in hidden:
            continue
        inputs, origins = segments.inputs_of(batch), segments.origins_of(batch)
        for row, image in enumerate(segments.ids_of(batch).tolist()):
            origin = inputs[origins[row]] if origins is not None else segment
            if not {(segment, image), (origin, image)} & deleted:
                found[image] += 1
    return found


def assert_whole(parts: Parts, name: str, numbers: Sequence[int]) -> None:
    """Check that a collection has exactly these images, by the store and by the state, and has nothing left over."""
    ids = rows.ids(numbers)
    listed = parts.catalog.segments(name)
    assert seen(parts, name) == dict.fromkeys(ids, 1)
    assert parts.state.claims.count(name) == len(ids)
    for image, holder in zip(ids, parts.state.claims.holders(name, ids), strict=True):
        assert holder in listed
        assert image in held_by(parts, name, str(holder))
    assert parts.state.indexed_segments.all(name) == set(listed)
    assert parts.catalog.merges(name) == {}
    assert {segment for segment, _ in parts.catalog.tombstones(name)} <= set(listed)


def held_by(parts: Parts, name: str, segment: str) -> list[int]:
    ids: list[int] = segments.ids_of(segments.unpack(parts.store.get(layout.segment_key(name, segment)))).tolist()
    return ids


def delete(parts: Parts, numbers: Sequence[int], job: str = "d") -> None:
    parts.indexer().deletion.delete(job=parts.job(job, kind="delete"), collection="art", image_ids=rows.ids(numbers))


# What is merged


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
    assert parts.jobs.get(job).outcome == Outcome(affected=3)
    assert len(parts.catalog.segments("art")) == 1
    assert_whole(parts, "art", range(3, 30))
    compactor(parts).compact(collection="art", job=parts.job("c2", kind="compact"))  # nothing is left to do
    assert parts.jobs.get("c2").outcome == Outcome()
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
    for number in range(160):
        assert parts.store.exists(layout.original_key(rows.digest(number))) == (number in left)


# What is not merged


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
    assert parts.jobs.get("c").outcome == Outcome()
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
        assert parts.jobs.get(job).outcome.affected == 1
        assert (merged, rows.image_id(number)) in parts.catalog.tombstones("art")
        assert not parts.store.exists(layout.original_key(rows.digest(number)))


@pytest.mark.parametrize("how", ["damaged", "missing"])
def test_images_of_a_segment_that_cannot_be_read_can_be_deleted(parts: Parts, how: str) -> None:
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
    assert parts.jobs.get(job).outcome.affected == 3
    assert parts.state.claims.holders("art", rows.ids([3, 12, 13, 14])) == [None, None, None, "b"]
    assert parts.catalog.tombstones("art") == {
        ("a", rows.image_id(3)),
        *(("b", rows.image_id(one)) for one in (12, 13)),
    }
    for number in range(20):
        assert parts.store.exists(layout.original_key(rows.digest(number))) == (number not in {3, 12, 13})
    since = parts.changes.since(position)
    assert since is not None
    assert {change.value for change in since[1]} >= {f"b/{rows.image_id(12)}", f"a/{rows.image_id(3)}"}


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


# Dying anywhere


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    """Five segments are enough for a merge, so that fewer calls have to be died at."""
    for module in (merge_plan, compaction_due):
        monkeypatch.setattr(module, "FAN_IN", 5)


def make_ready(parts: Parts) -> list[int]:
    """Make a collection with six segments, some rows of which are deleted; returns the numbers of its images."""
    art = parts.collection()
    for place in range(5):
        parts.write(art, f"s{place}", [2 * place, 2 * place + 1])
        parts.state.indexed_segments.add("art", f"s{place}")
    parts.write(art, "s5", [99])
    parts.state.indexed_segments.add("art", "s5")
    delete(parts, [0, 1, 7, 99], "before")
    parts.store.put(layout.segment_key("art", "s2"), rows.segment([4, 5, 6], art))  # 6 is of s3
    return [number for number in range(10) if number not in {0, 1, 7}]


@pytest.mark.usefixtures("few")
def test_a_compaction_that_dies_anywhere_shows_every_image_once_and_is_finished_by_the_next(
    parts: Parts, servers: Servers
) -> None:
    lives = [0]
    for life in lives:
        live = make_ready(parts)
        left = [life]
        shared = rows.image_id(6)
        try:
            compactor(parts, left).compact(collection="art", job=parts.job("c", kind="compact"))
        except Died:
            once = seen(parts, "art")
            once[shared] = 1  # its second row may still be there, as it was before
            assert once == dict.fromkeys(rows.ids(live), 1), f"it died at call {life}"
            compactor(parts).compact(collection="art", job="c")
        assert len(parts.catalog.segments("art")) == 1, f"it died at call {life}"
        assert_whole(parts, "art", live)
        if life == 0:
            lives += range(1, 1 - left[0], max(1, -left[0] // 24))
        servers.empty()
        parts.store.ensure_bucket()
    assert len(lives) > 15


@pytest.mark.usefixtures("few")
@pytest.mark.parametrize("task", ["drop", "rebuild", "rebuild a lost index", "maintain", "delete"])
def test_every_other_task_copes_with_a_merge_that_was_left(parts: Parts, servers: Servers, task: str) -> None:
    """After the merged segment was written, after the claims were handed over, and in between."""
    lives = [0]
    for life in lives:
        live = make_ready(parts)
        left = [life]
        with suppress(Died):
            compactor(parts, left).compact(collection="art")
        maintenance = parts.maintenance()
        if task == "drop":
            maintenance.dropper.drop(job=parts.job("j", kind="drop"), collection="art")
            assert {item.key for item in parts.store.list("")} == set()
        elif task == "delete":
            delete(parts, [4, 8], "j")
            compactor(parts).compact(collection="art", job=parts.job("c", kind="compact"))
            assert_whole(parts, "art", [number for number in live if number not in {4, 8}])
        else:
            if task == "rebuild a lost index":
                parts.redis.flushall()
            job = parts.job("j", kind="rebuild")
            if task == "maintain":
                maintenance.tuner.maintain(collection="art")
            else:
                maintenance.rebuilder.rebuild(collection="art", job=job)
            compactor(parts).compact(collection="art", job=parts.job("c", kind="compact"))
            assert_whole(parts, "art", live)
            parts.assert_indexed(parts.catalog.get("art"), live)
        if life == 0:
            lives += range(1, 1 - left[0], max(1, -left[0] // 8))
        servers.empty()
        parts.store.ensure_bucket()
    assert len(lives) > 7


class Interrupted:
    """Passes every call on to a real part, and lets something else happen before one of them."""

    def __init__(self, real: object, at: list[int], happens: Callable[[], None]) -> None:
        self._real, self._at, self._happens = real, at, happens

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._real, name)
        if not callable(found):
            return found

        def call(*arguments: Any, **options: Any) -> Any:
            self._at[0] -= 1
            if self._at[0] == 0:
                self._happens()
            return found(*arguments, **options)

        return call


@pytest.mark.usefixtures("few")
def test_an_image_that_is_deleted_or_comes_back_at_any_moment_of_a_merge_is_gone_or_there(
    parts: Parts, servers: Servers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("services.indexer.deletion._WAIT_S", 0.05)
    lives = [0]
    for life in lives:
        live = make_ready(parts)
        art = parts.catalog.get("art")
        done: list[int] = []

        def happens(art: EmbeddingSet = art, done: list[int] = done) -> None:
            try:
                delete(parts, [4, 9], "meanwhile")
            except Unavailable:  # it waits for the lock on the claims, that is: it comes after all this
                return
            done.append(4)
            gone = seen(parts, "art")
            assert not {rows.image_id(4), rows.image_id(9)} & gone.keys()
            parts.add(art, "back", [9])

        at = [life]
        clients = parts.wrapped(lambda part, at=at, happens=happens: Interrupted(part, at, happens))  # type: ignore[misc]
        Compactor(clients).compact(collection="art")
        if not done:
            happens()
        assert seen(parts, "art") == dict.fromkeys(rows.ids([number for number in live if number != 4]), 1), life
        assert_whole(parts, "art", [number for number in live if number != 4])
        if life == 0:
            lives += range(1, 1 - at[0], max(1, -at[0] // 20))
        servers.empty()
        parts.store.ensure_bucket()
    assert len(lives) > 15


@pytest.mark.usefixtures("few")
def test_a_merge_whose_worker_hung_until_another_withdrew_it_is_given_up(parts: Parts) -> None:
    live = make_ready(parts)
    other = compactor(parts)

    class Slow(ObjectStore):
        """While a merged segment is on its way, the lock runs out, and another worker does the work."""

        def put(self, key: str, data: bytes, media_type: str = "application/octet-stream") -> None:
            if "merged-" in key and key.startswith("vectors/"):
                parts.redis.delete("lock:segments:art")
                other.compact(collection="art")
                assert_whole(parts, "art", live)
            super().put(key, data, media_type)

    slow = Slow(parts.store._client, parts.store._bucket)
    with pytest.raises(Unavailable, match="withdrawn"):
        Compactor(replace(parts.clients(), store=slow)).compact(collection="art")
    assert_whole(parts, "art", live)
    assert len(parts.catalog.segments("art")) == 1


# Tasks that are delivered again


def embedder(parts: Parts) -> Embedder:
    """Return an embedder whose model server does not answer: what is not embedded need not ask it."""
    return Embedder(parts.clients(), Options(model=("lite", 1), limits=Limits(), program="test"))


def items(numbers: Sequence[int]) -> list[BatchImage]:
    return [BatchImage(rows.digest(number), f"{number}.jpg", rows.entry(number).label, 10) for number in numbers]


def merged_batch(parts: Parts) -> Outcome:
    """Have sixteen batches of a job embedded, indexed and merged; returns the outcome of batch 2: images 6, 7, 8."""
    art = parts.collection()
    job = parts.job("job", batches=16)
    outcomes = []
    for place in range(16):
        segment = f"job-{place:06}"
        outcomes.append(parts.write(art, segment, range(3 * place, 3 * place + 3)))
        parts.indexer().segments.index(set_name="art", segment=segment, job=job, batch=place, outcome=outcomes[-1])
    compactor(parts).compact(collection="art")
    assert len(parts.catalog.segments("art")) == 1
    return outcomes[2]


@pytest.mark.parametrize("known", [True, False])
def test_tasks_of_a_merged_segment_that_are_delivered_again_change_nothing(parts: Parts, *, known: bool) -> None:
    outcome = merged_batch(parts)
    before = parts.jobs.get("job")
    if not known:
        parts.redis.delete("job:job", "job:job:batches")
    for _ in range(2):
        parts.indexer().segments.index(set_name="art", segment="job-000002", job="job", batch=2, outcome=outcome)
        embedder(parts).embed(job="job", batch=2, collection="art", items=items([6, 7, 8]))
    assert_whole(parts, "art", range(48))
    assert len(parts.catalog.segments("art")) == 1
    if known:
        assert parts.jobs.get("job") == before


def test_a_merged_segment_that_a_worker_which_hung_writes_again_is_cleared_away(parts: Parts) -> None:
    outcome = merged_batch(parts)
    delete(parts, [7])
    art = parts.catalog.get("art")
    parts.store.put(layout.segment_key("art", "job-000002"), rows.segment([6, 7, 8], art))
    parts.indexer().segments.index(set_name="art", segment="job-000002", job="job", batch=2, outcome=outcome)
    assert_whole(parts, "art", [number for number in range(48) if number != 7])


def test_claims_that_a_merge_hands_over_while_they_are_looked_up_are_no_claims_of_the_dead(
    parts: Parts,
) -> None:
    """The segment was there when its claims were read, and is merged before anybody looks whether it exists."""
    art = parts.collection()
    for place in range(16):
        parts.write(art, f"s{place:02}", [place])
        parts.state.indexed_segments.add("art", f"s{place:02}")
    merging = compactor(parts)

    class Late(IndexedSegments):
        def contain(self, set_name: str, segments: Sequence[str]) -> list[bool]:
            merging.compact(collection="art")
            return super().contain(set_name, segments)

    state, parts.state = parts.state, replace(parts.state, indexed_segments=Late(parts.redis))
    job = parts.job("again")
    embedder(parts).embed(job=job, batch=0, collection="art", items=items([3, 4]))
    parts.state = state
    assert parts.jobs.get(job).outcome == Outcome(duplicates=2)
    assert_whole(parts, "art", range(16))


def test_what_was_deleted_before_its_batch_is_delivered_again_stays_deleted(parts: Parts) -> None:
    art = parts.collection()
    job = parts.job("job")
    outcome = parts.write(art, "job-000000", [1, 2, 3])
    parts.indexer().segments.index(set_name="art", segment="job-000000", job="other", batch=0, outcome=outcome)
    delete(parts, [2])
    embedder(parts).embed(job=job, batch=0, collection="art", items=items([1, 2, 3]))
    parts.indexer().segments.index(set_name="art", segment="job-000000", job=job, batch=0, outcome=outcome)
    assert seen(parts, "art") == dict.fromkeys(rows.ids([1, 3]), 1)
    assert parts.state.claims.holders("art", rows.ids([1, 2, 3])) == ["job-000000", None, "job-000000"]


def test_an_embedder_that_gives_up_keeps_the_claims_of_what_it_has_written(parts: Parts) -> None:
    art = parts.collection()
    job = parts.job("job")
    parts.write(art, "job-000000", [1, 2])
    parts.state.claims.claim("art", "job-000000", [rows.image_id(3)])
    task = _Task(job, 0, "job-000000", Outcome(), moving=False)
    embedder(parts)._give_up(task, "art", items([1, 2, 3]), RuntimeError("odd"))
    assert parts.state.claims.holders("art", rows.ids([1, 2, 3])) == ["job-000000", "job-000000", None]
    assert parts.queue.waiting()["index"] == 1
    assert not parts.jobs.reported(job, 0)
    task = _Task(job, 1, "job-000001", Outcome(), moving=False)
    embedder(parts)._give_up(task, "art", items([3]), RuntimeError("odd"))
    parts.jobs.extend(job, batches=2, total=4, closed=True)
    assert [one.code for one in parts.jobs.get(job).outcome.rejected] == ["error"]


# Tasks that cannot succeed


def test_a_task_that_fails_says_so_in_its_job(parts: Parts, monkeypatch: pytest.MonkeyPatch) -> None:
    """The index generation in use is missing from the object store."""
    monkeypatch.setattr(app, "indexer", parts.indexer)
    art = parts.collection()
    parts.add(art, "a", range(3))
    parts.state.index_states.set("art", IndexState(7, 0, 3))
    outcome = parts.write(art, "b", [5, 6])
    parts.job("j1")
    app.index(set_name="art", segment="b", job="j1", batch=0, outcome=outcome.to_json())
    app.delete(job=parts.job("j2", kind="delete"), collection="art", image_ids=[rows.image_id(1)])
    added, deleted = parts.jobs.get("j1"), parts.jobs.get("j2")
    assert (added.done, added.added, len(added.outcome.rejected)) == (True, 0, 2)
    assert deleted.done
    for one in (*added.outcome.rejected, *deleted.outcome.rejected):
        assert "generation 7" in one.reason
        assert "--fit" in one.reason


# All at once


def patiently(call: Callable[[], None]) -> None:
    """Do what a queue does for a task that cannot be done now."""
    while True:
        try:
            return call()
        except Unavailable:
            pass


def insert_and_delete(parts: Parts, start: int) -> None:
    """Add images from number `start` on, 25 times 4, and delete two of each twenty."""
    art = parts.catalog.get("art")
    for place in range(25):
        first, job = start + 4 * place, f"{start}x{place}"
        outcome = parts.write(art, f"{job}-000000", range(first, first + 4))
        parts.indexer().segments.index(
            set_name="art", segment=f"{job}-000000", job=parts.job(job), batch=0, outcome=outcome
        )
        if place % 5 == 4:
            patiently(functools.partial(delete, parts, [first - 8, first + 1], f"d{job}"))


def test_inserts_deletions_and_compactions_at_the_same_time_end_in_order(parts: Parts, servers: Servers) -> None:
    art = parts.collection()
    parts.add(art, "first", range(1000, 1040))
    parts.maintenance().tuner.maintain(collection="art")
    stop: list[bool] = []

    def compact(own: Parts) -> int:
        count = 0
        while not stop:
            patiently(lambda: compactor(own).compact(collection="art"))
            count += 1
        return count

    def read(own: Parts) -> int:
        count, always = 0, rows.ids(range(1000, 1040))
        while not stop:
            try:
                found = seen(own, "art")
            except ObjectNotFound:  # an input that is merged by now: a reader would wait for the announcement
                continue
            assert all(found[image] == 1 for image in always)
            count += 1
        return count

    starts = (0, 200, 400)
    with ThreadPoolExecutor(5) as threads:
        background = [threads.submit(task, parts_of(servers.settings)) for task in (compact, read)]
        try:
            for inserted in [threads.submit(insert_and_delete, parts_of(servers.settings), start) for start in starts]:
                inserted.result(timeout=PATIENCE_S)
        finally:
            stop.append(True)
        assert all(task.result() > 2 for task in background)
    gone = {start + 4 * place + more for start in starts for place in range(4, 25, 5) for more in (-8, 1)}
    live = [start + place for start in starts for place in range(100) if start + place not in gone]
    live += range(1000, 1040)
    compactor(parts).compact(collection="art", job=parts.job("c", kind="compact"))
    assert len(parts.catalog.segments("art")) == 1
    assert_whole(parts, "art", live)
    parts.assert_indexed(art, live)
