"""Tasks of segments that were merged meanwhile, and everything at the same time."""

import functools
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest

from services.embedder.decoded import Decoded
from services.embedder.embedder import Embedder, Options, _Task
from services.embedder.image_embedding import EmbeddedImages
from services.indexer import app
from services.maintenance.compaction import Compactor
from shared.errors import ObjectNotFound, Unavailable
from shared.images import DirectDecoder, ImageInfo
from shared.messaging.messages import BatchImage
from shared.state import IndexState
from shared.state.claims import Claims
from shared.state.indexed_segments import IndexedSegments
from shared.state.outcomes import Outcome
from shared.storage import layout
from tests.support import rows
from tests.support.compaction import assert_whole, compactor, delete, seen
from tests.support.eventually import PATIENCE_S
from tests.support.indexing import Parts, parts_of
from tests.support.servers import Servers


def embedder(parts: Parts) -> Embedder:
    """Return an embedder whose model server does not answer: what is not embedded need not ask it."""
    return Embedder(parts.clients(), Options(model=("lite", 1), decoder=DirectDecoder(), program="test"))


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
        parts.jobs.forget("job")
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
    assert parts.jobs.outcome(job) == Outcome(duplicates=2)
    assert_whole(parts, "art", range(16))


@pytest.mark.parametrize("live", [True, False])
def test_no_deletion_finds_a_segment_that_is_about_to_go(parts: Parts, *, live: bool) -> None:
    """It would write tombstones for a segment that is gone by then."""
    art = parts.collection()
    parts.add(art, "a", range(4))
    parts.add(art, "b", range(4, 8))
    delete(parts, range(4) if live else range(8), "d1")
    refused = []

    class Going(IndexedSegments):
        def remove(self, set_name: str, segments: Sequence[str]) -> None:
            try:
                delete(parts, [5], "d2")
            except Unavailable as error:
                refused.append(str(error))
            super().remove(set_name, segments)

    clients = replace(parts.clients(), state=replace(parts.state, indexed_segments=Going(parts.redis)))
    Compactor(clients).compact(collection="art", job=parts.job("c", kind="compact"))
    assert len(refused) == 1
    delete(parts, [5], "d2")
    assert_whole(parts, "art", [4, 6, 7] if live else [])


@pytest.mark.parametrize("deleted", ["before the segment is there", "as the segment comes"])
def test_an_image_that_is_deleted_at_the_moment_its_segment_is_written_stays_deleted(
    parts: Parts, monkeypatch: pytest.MonkeyPatch, deleted: str
) -> None:
    """The deletion finds no segment, and its claim alone is released: whoever comes second sees what the other did."""
    art, job = parts.collection(), parts.job("job")
    parts.state.claims.claim("art", "job-000000", rows.ids([1, 2]))
    images = [
        Decoded(item, np.zeros((8, 8, 3), np.uint8), ImageInfo("JPEG", "image/jpeg", 8, 8)) for item in items([1, 2])
    ]
    found = EmbeddedImages(images, rows.embeddings([1, 2], art.dim), {})
    task = _Task(job, 0, "job-000000", Outcome(), moving=False, attempt=parts.state.attempts.begin("0"))
    put = parts.store.put

    def put_after_deletion(key: str, data: bytes, media_type: str = "application/octet-stream") -> None:
        if key == layout.segment_key("art", "job-000000"):
            delete(parts, [2])
        put(key, data, media_type)

    class Late(Claims):
        def release(self, set_name: str, segment: str, image_ids: Iterable[int]) -> None:
            parts.state = state
            embedder(parts)._write(task, art, found)
            super().release(set_name, segment, image_ids)

    state = parts.state
    if deleted == "before the segment is there":
        monkeypatch.setattr(parts.store, "put", put_after_deletion)
        embedder(parts)._write(task, art, found)
    else:
        parts.state = replace(state, claims=Late(parts.redis))
        delete(parts, [2])
    outcome = Outcome({rows.entry(number).label or "": 1 for number in (1, 2)})
    parts.indexer().segments.index(set_name="art", segment="job-000000", job=job, batch=0, outcome=outcome)
    assert seen(parts, "art") == {rows.image_id(1): 1}
    assert parts.state.claims.holders("art", rows.ids([1, 2])) == ["job-000000", None]


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
    task = _Task(job, 0, "job-000000", Outcome(), moving=False, attempt=parts.state.attempts.begin("0"))
    embedder(parts)._give_up(task, "art", items([1, 2, 3]), RuntimeError("odd"))
    assert parts.state.claims.holders("art", rows.ids([1, 2, 3])) == ["job-000000", "job-000000", None]
    assert parts.queue.waiting()["index"] == 1
    assert not parts.jobs.reported(job, 0)
    task = _Task(job, 1, "job-000001", Outcome(), moving=False, attempt=parts.state.attempts.begin("1"))
    embedder(parts)._give_up(task, "art", items([3]), RuntimeError("odd"))
    parts.jobs.extend(job, batches=2, total=4, closed=True)
    assert [rejection.code for rejection in parts.jobs.outcome(job).rejected] == ["error"]


def test_a_task_that_fails_says_so_in_its_job(parts: Parts, monkeypatch: pytest.MonkeyPatch) -> None:
    """The index generation in use is missing from the object store."""
    monkeypatch.setattr(app, "indexer", parts.indexer)
    monkeypatch.setattr(app, "_clients", parts.clients)
    art = parts.collection()
    parts.add(art, "a", range(3))
    parts.state.index_states.set("art", IndexState(7, 0, 3))
    outcome = parts.write(art, "b", [5, 6])
    parts.job("j1")
    app.index(set_name="art", segment="b", job="j1", batch=0, outcome=outcome.to_json())
    app.delete(job=parts.job("j2", kind="delete"), collection="art", image_ids=[rows.image_id(1)])
    added, deleted = parts.jobs.get("j1"), parts.jobs.get("j2")
    assert (added.done, added.added, sum(added.counts.rejected.values())) == (True, 0, 2)
    assert deleted.done
    for one in (*parts.jobs.outcome("j1").rejected, *parts.jobs.outcome("j2").rejected):
        assert "generation 7" in one.reason
        assert "--fit" in one.reason


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
    own = functools.partial(parts_of, servers.settings, originals=False)
    with ThreadPoolExecutor(5) as threads:
        background = [threads.submit(task, own()) for task in (compact, read)]
        try:
            for inserted in [threads.submit(insert_and_delete, own(), start) for start in starts]:
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
