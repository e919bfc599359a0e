"""The indexer on real servers: what it does twice, or dies in the middle of, ends as if it had been done once."""

from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any

import numpy as np
import pytest

from shared.errors import IndexLost, NotFound
from shared.index.generations import Generation, collection_prefix
from shared.messaging.task_queue import MAINTENANCE
from shared.state import IndexState, connect
from shared.state.jobs import Kind, Outcome
from shared.storage import layout, segments
from shared.storage.catalog import CurrentIndex, EmbeddingSet
from shared.storage.object_store import ObjectStore
from shared.tuning.cost_model import TYPICAL
from tests.support import rows
from tests.support.indexing import DIM, Died, Parts, parts_of
from tests.support.servers import Servers


@pytest.fixture
def parts(servers: Servers) -> Parts:
    return parts_of(servers.settings)


@pytest.fixture(autouse=True)
def fixed_costs(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is chosen does not depend on how busy the machine is."""
    monkeypatch.setattr("services.maintenance.cost_measurement.measure", lambda *_: TYPICAL)


# A new segment


def test_a_segment_indexed_twice_is_indexed_once(parts: Parts) -> None:
    art = parts.collection()
    parts.add(art, "a", range(10))
    parts.maintenance().tuner.maintain(collection="art")
    outcome = parts.write(art, "b", range(10, 16))
    job = parts.job()
    for _ in range(3):
        parts.indexer().segments.index(set_name="art", segment="b", job=job, batch=0, outcome=outcome)
    parts.assert_indexed(art, range(16))
    assert parts.jobs.get(job).outcome == outcome
    assert parts.state.indexed_segments.contain("art", ["a", "b"]) == [True, True]
    assert parts.state.claims.count("art") == 16


def test_an_image_that_another_segment_claimed_is_buried_and_counted_as_a_duplicate(parts: Parts) -> None:
    """Two batches had it at the same time; both wrote it, and the claims say whose it is."""
    art = parts.collection()
    parts.add(art, "a", range(10))
    parts.maintenance().tuner.maintain(collection="art")
    outcome = parts.write(art, "b", [8, 9, 20, 21])
    job = parts.job()
    for _ in range(2):
        parts.indexer().segments.index(set_name="art", segment="b", job=job, batch=0, outcome=outcome)
    assert parts.catalog.tombstones("art") == {("b", rows.image_id(8)), ("b", rows.image_id(9))}
    parts.assert_indexed(art, [*range(10), 20, 21])
    assert parts.state.claims.holders("art", rows.ids([8, 20])) == ["a", "b"]
    done = parts.jobs.get(job)
    assert (done.added, done.outcome.duplicates) == (2, 2)
    assert done.outcome.added == dict(Counter(rows.entry(number).label or "" for number in (20, 21)))


def test_the_end_of_a_job_asks_for_a_fit_if_the_collection_has_outgrown_its_index(parts: Parts) -> None:
    art = parts.collection()
    for number, (batches, asked) in enumerate([(2, 0), (1, 1)]):  # in the middle of a job, and at its end
        outcome = parts.write(art, f"s{number}", range(10 * number, 10 * number + 10))
        job = parts.job(f"j{number}", batches=batches)
        parts.indexer().segments.index(set_name="art", segment=f"s{number}", job=job, batch=0, outcome=outcome)
        assert parts.queue.waiting()[MAINTENANCE] == asked
    parts.maintenance().tuner.maintain(collection="art")
    parts.add(art, "s2", range(20, 39))  # 39 images, not yet twice the 20
    assert parts.queue.waiting()[MAINTENANCE] == 1
    parts.add(art, "s3", [39])
    assert parts.queue.waiting()[MAINTENANCE] == 2


# Deletion


def test_a_deletion_takes_an_image_out_of_everything(parts: Parts) -> None:
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
        assert parts.store.exists(layout.original_key(rows.digest(number))) == (number not in {3, 11})
    done = parts.jobs.get(job)
    assert (done.done, done.outcome.affected) == (True, 2)  # each once, though one was named twice
    since = parts.changes.since(position)
    assert since is not None
    assert {change.value for change in since[1]} == {f"a/{rows.image_id(3)}", f"b/{rows.image_id(11)}"}


@pytest.mark.parametrize("lost", [False, True])
def test_an_original_stays_while_another_collection_holds_it_though_the_index_lost_that_collection(
    parts: Parts, *, lost: bool
) -> None:
    for name in ("art", "other", "third"):
        parts.add(parts.collection(name), "a", [1, 2, 3] if name != "third" else [9])
    original = layout.original_key(rows.digest(2))
    tasks: list[Callable[[], None]] = [
        lambda: parts.indexer().deletion.delete(
            job=parts.job("j1", kind="delete"), collection="art", image_ids=[rows.image_id(2)]
        ),
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
    parts.indexer().deletion.delete(
        job=parts.job("j3", kind="delete"), collection="other", image_ids=[rows.image_id(2)]
    )
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
    assert parts.jobs.get(job).outcome.affected == 9
    assert parts.catalog.names() == ["art-2"]
    assert parts.held(art) == {}
    assert (parts.state.index_states.get("art"), parts.state.claims.count("art")) == (None, 0)
    keys = {item.key for item in parts.store.list("")}
    assert not [key for key in keys if "/art/" in key or "/art." in key]
    assert {key for key in keys if key.startswith("images/")} == {
        layout.original_key(rows.digest(number)) for number in range(5, 12)
    }
    parts.assert_indexed(other, range(5, 12))


# Fitting


def test_a_refit_switches_to_another_generation_and_drops_the_old_one(parts: Parts) -> None:
    art = parts.collection()
    parts.add(art, "a", range(10))
    parts.maintenance().tuner.maintain(collection="art")
    assert parts.catalog.current_index("art") == CurrentIndex(1, 10)
    parts.assert_indexed(art, range(10))
    parts.maintenance().tuner.maintain(collection="art")  # nothing has changed
    assert parts.catalog.current_index("art") == CurrentIndex(1, 10)
    parts.add(art, "b", range(10, 25))
    parts.assert_indexed(art, range(25))
    job = parts.job(kind="maintain")
    parts.maintenance().tuner.maintain(collection="art", job=job)
    assert parts.jobs.get(job).done
    assert parts.catalog.current_index("art") == CurrentIndex(2, 25)
    parts.assert_indexed(art, range(25))


def test_images_that_come_while_a_generation_is_filled_are_in_it(parts: Parts) -> None:
    art = parts.collection()
    for place in range(4):
        parts.add(art, f"s{place}", range(10 * place, 10 * place + 10))
    parts.maintenance().tuner.maintain(collection="art")
    for place in range(4, 9):
        parts.add(art, f"s{place}", range(10 * place, 10 * place + 10))
    parts.indexer().deletion.delete(job=parts.job(kind="delete"), collection="art", image_ids=[rows.image_id(7)])
    another = parts.indexer()  # in another process
    came: list[int] = []
    gone = {7}

    class Busy(ObjectStore):
        """Each read of a segment by the one that fits sees another segment come, and an image go."""

        def get(self, key: str, *, start: int = 0, size: int = 0) -> bytes:
            data = super().get(key, start=start, size=size)
            if key.startswith("vectors/") and len(came) < 30:
                number = 100 + len(came)
                came.append(number)
                parts.add(art, f"while-{number}", [number])
                if number % 3 == 0:
                    gone.add(number - 2)
                    another.deletion.delete(
                        job=parts.job(f"d{number}", kind="delete"),
                        collection="art",
                        image_ids=[rows.image_id(number - 2)],
                    )
            return data

    busy = Parts(Busy(parts.store._client, parts.store._bucket), parts.redis, parts.queue)
    busy.maintenance().tuner.maintain(collection="art")
    assert len(came) > 15
    live = [number for number in [*range(90), *came] if number not in gone]
    current = parts.catalog.current_index("art")
    assert current is not None
    assert current.generation == 2
    assert parts.state.claims.count("art") == len(live)
    generation = Generation.load(parts.store, art, 2)
    for number in live:
        for name in generation.buckets(rows.embeddings([number], DIM)):
            assert parts.redis.sismember(name, rows.image_id(number)), number


def test_a_fit_waits_for_one_whose_indexer_died(parts: Parts, monkeypatch: pytest.MonkeyPatch) -> None:
    """The lock of the dead one is still there when its task is given to another."""
    monkeypatch.setattr("shared.state.locks.LEASE_S", 1.0)
    art = parts.collection()
    parts.add(art, "a", range(10))
    parts.redis.set("lock:segments:art", "of one that died", px=700)
    parts.maintenance().tuner.maintain(collection="art")
    parts.assert_indexed(art, range(10))


def test_of_several_that_are_to_fit_at_once_one_does(parts: Parts, servers: Servers) -> None:
    art = parts.collection()
    parts.add(art, "a", range(30))
    url = servers.settings.index_url.get_secret_value()
    with ThreadPoolExecutor(4) as threads:
        workers = [Parts(parts.store, connect(url), parts.queue).maintenance() for _ in range(4)]
        for done in [threads.submit(worker.tuner.maintain, collection="art") for worker in workers]:
            done.result()
    assert parts.catalog.current_index("art") == CurrentIndex(1, 30)
    parts.assert_indexed(art, range(30))


def test_a_collection_of_one_image_has_an_index(parts: Parts) -> None:
    art = parts.collection()
    parts.add(art, "a", [1])
    parts.maintenance().tuner.maintain(collection="art")
    parts.assert_indexed(art, [1])
    parts.indexer().deletion.delete(job=parts.job(kind="delete"), collection="art", image_ids=[rows.image_id(1)])
    assert parts.held(art) == {}
    parts.maintenance().tuner.maintain(collection="art")
    parts.maintenance().rebuilder.rebuild(collection="art")
    assert parts.held(art) == {}


# Rebuilding


def test_an_emptied_index_is_rebuilt_as_it_was(parts: Parts) -> None:
    collections = [parts.collection("art"), parts.collection("other")]
    for collection in collections:
        parts.add(collection, "a", range(20))
        parts.maintenance().tuner.maintain(collection=collection.collection)
        parts.add(collection, "b", range(20, 30))
        parts.indexer().deletion.delete(
            job=parts.job(f"d-{collection.collection}", kind="delete"),
            collection=collection.collection,
            image_ids=[rows.image_id(5)],
        )
    before = [{**parts.snapshot(collection), "jobs": None} for collection in collections]
    parts.redis.flushall()
    for collection in collections:
        job = parts.job(f"r-{collection.collection}", kind="rebuild")
        parts.maintenance().rebuilder.rebuild(collection=collection.collection, job=job)
        assert parts.jobs.get(job).outcome.affected == 29
    assert [{**parts.snapshot(collection), "jobs": None} for collection in collections] == before


def test_a_rebuild_of_a_whole_index_changes_nothing_and_takes_out_what_does_not_belong(parts: Parts) -> None:
    art = parts.collection()
    parts.add(art, "a", range(20))
    parts.maintenance().tuner.maintain(collection="art")
    job = parts.job("r", kind="rebuild")
    before = {**parts.snapshot(art), "jobs": None}
    generation = Generation.load(parts.store, art, 1)
    parts.buckets.add([collection_prefix(art) + b"\x00\x07" + b"stale"], [1])
    generation.remove(parts.buckets, np.array([rows.image_id(3)]), rows.embeddings([3], DIM))
    parts.maintenance().rebuilder.rebuild(collection="art", job=job)
    assert {**parts.snapshot(art), "jobs": None} == before


def test_a_worker_that_finds_the_index_restored_already_does_not_restore_it_again(parts: Parts) -> None:
    art = parts.collection()
    parts.add(art, "a", range(20))
    parts.maintenance().tuner.maintain(collection="art")
    generation = Generation.load(parts.store, art, 1)
    generation.remove(parts.buckets, np.array([rows.image_id(3)]), rows.embeddings([3], DIM))
    before = parts.snapshot(art)
    parts.maintenance().rebuilder.rebuild(collection="art")
    assert parts.snapshot(art) == before


def test_a_rebuild_may_fit_anew(parts: Parts) -> None:
    art = parts.collection()
    parts.add(art, "a", range(20))
    parts.maintenance().tuner.maintain(collection="art")
    parts.redis.flushall()
    parts.maintenance().rebuilder.rebuild(collection="art", fit=True)
    assert parts.catalog.current_index("art") == CurrentIndex(2, 20)
    parts.assert_indexed(art, range(20))


def test_of_an_image_in_two_segments_a_rebuild_keeps_one(parts: Parts) -> None:
    art = parts.collection()
    parts.add(art, "a", range(10))
    parts.store.put(layout.segment_key("art", "b"), rows.segment([9, 10], art))
    parts.redis.flushall()
    parts.maintenance().rebuilder.rebuild(collection="art")
    assert parts.catalog.tombstones("art") == {("b", rows.image_id(9))}
    parts.maintenance().tuner.maintain(collection="art")
    parts.assert_indexed(art, range(11))


def test_a_task_on_a_lost_index_asks_for_a_rebuild_and_waits(parts: Parts) -> None:
    art = parts.collection()
    parts.add(art, "a", range(20))
    parts.maintenance().tuner.maintain(collection="art")
    outcome = parts.write(art, "b", range(20, 25))
    parts.redis.flushall()
    parts.state.claims.claim("art", "b", rows.ids(range(20, 25)))
    job = parts.job()
    tasks: list[Callable[[], None]] = [
        lambda: parts.indexer().segments.index(set_name="art", segment="b", job=job, batch=0, outcome=outcome),
        lambda: parts.indexer().deletion.delete(
            job=parts.job(kind="delete"), collection="art", image_ids=[rows.image_id(3)]
        ),
    ]
    for task in tasks:
        waiting = parts.queue.waiting()[MAINTENANCE]
        for _ in range(3):  # the request is made once in a while, not by every attempt
            with pytest.raises(IndexLost, match="is being rebuilt"):
                task()
        assert parts.queue.waiting()[MAINTENANCE] == waiting + 1
        parts.maintenance().rebuilder.rebuild(collection="art")
        task()
        parts.redis.flushall()
    parts.maintenance().rebuilder.rebuild(collection="art")
    parts.assert_indexed(art, [*range(3), *range(4, 25)])
    parts.redis.flushall()
    parts.maintenance().tuner.maintain(collection="art")
    parts.assert_indexed(art, [*range(3), *range(4, 25)])


def test_a_collection_that_was_never_fitted_is_rebuilt_and_fitted(parts: Parts) -> None:
    art = parts.collection()
    parts.add(art, "a", range(10))
    parts.redis.flushall()
    parts.maintenance().rebuilder.rebuild(collection="art")
    parts.assert_indexed(art, range(10))


# Collections that are gone


def test_every_job_for_a_collection_that_was_dropped_reports(parts: Parts) -> None:
    outcome = Outcome({"painting": 2, "": 1}, duplicates=4)
    indexer, maintenance = parts.indexer(), parts.maintenance()
    indexer.segments.index(set_name="gone", segment="s", job=parts.job("j1"), batch=0, outcome=outcome)
    indexer.deletion.delete(job=parts.job("j2", kind="delete"), collection="gone", image_ids=[1])
    maintenance.dropper.drop(job=parts.job("j3", kind="drop"), collection="gone")
    maintenance.tuner.maintain(job=parts.job("j4", kind="maintain"), collection="gone")
    maintenance.rebuilder.rebuild(job=parts.job("j5", kind="rebuild"), collection="gone")
    jobs = [parts.jobs.get(f"j{number}") for number in range(1, 6)]
    assert [job.done for job in jobs] == [True] * 5
    assert [job.outcome.affected for job in jobs] == [0] * 5
    ingested = jobs[0].outcome
    assert (ingested.added, ingested.duplicates, len(ingested.rejected)) == ({}, 4, 3)
    assert {one.code for one in ingested.rejected} == {"dropped"}
    with pytest.raises(NotFound):
        parts.catalog.get("gone")


def test_a_segment_of_a_collection_that_was_dropped_and_made_anew_reports(parts: Parts) -> None:
    art = parts.collection()
    outcome = parts.write(art, "a", range(3))
    parts.maintenance().dropper.drop(job=parts.job("j1", kind="drop"), collection="art")
    parts.collection()
    parts.indexer().segments.index(set_name="art", segment="a", job=parts.job("j2"), batch=0, outcome=outcome)
    done = parts.jobs.get("j2")
    assert (done.done, done.added, len(done.outcome.rejected)) == (True, 0, 3)
    assert parts.state.claims.count("art") == 0


# Deaths


def make_ready(parts: Parts) -> EmbeddingSet:
    """Make two collections that share images; the first has a generation, an unindexed segment and a deleted row."""
    art, other = parts.collection(), parts.collection("other")
    parts.add(art, "a", range(6))
    parts.add(other, "x", [4, 5])
    parts.maintenance().tuner.maintain(collection="art")
    parts.write(art, "b", [6, 7])
    parts.store.put(layout.segment_key("art", "b"), rows.segment([5, 6, 7], art))  # 5 is a's
    parts.catalog.add_tombstones("art", [("a", rows.image_id(0))])
    parts.state.claims.release("art", "a", [rows.image_id(0)])
    return art


LABELS = Outcome(dict(Counter(rows.entry(number).label or "" for number in (5, 6, 7))))

TASKS: dict[str, tuple[Kind, Callable[[Parts, list[int]], None]]] = {
    "index": (
        "ingest",
        lambda parts, life: parts.indexer(life).segments.index(
            set_name="art", segment="b", job="task", batch=0, outcome=LABELS
        ),
    ),
    "delete": (
        "delete",
        lambda parts, life: parts.indexer(life).deletion.delete(
            job="task", collection="art", image_ids=rows.ids([1, 4, 2])
        ),
    ),
    "drop": ("drop", lambda parts, life: parts.maintenance(life).dropper.drop(job="task", collection="art")),
    "maintain": (
        "maintain",
        lambda parts, life: parts.maintenance(life).tuner.maintain(job="task", collection="art"),
    ),
    "rebuild": (
        "rebuild",
        lambda parts, life: parts.maintenance(life).rebuilder.rebuild(job="task", collection="art"),
    ),
    "rebuild and fit": (
        "rebuild",
        lambda parts, life: parts.maintenance(life).rebuilder.rebuild(job="task", collection="art", fit=True),
    ),
}


@pytest.mark.parametrize("task", TASKS)
def test_a_task_that_dies_anywhere_and_runs_again_ends_as_if_it_had_run_once(
    parts: Parts, servers: Servers, task: str
) -> None:
    kind, run = TASKS[task]
    wanted: dict[str, Any] = {}
    lives = [0]
    for life in lives:
        art = make_ready(parts)
        if task == "maintain":
            parts.state.index_states.set("art", IndexState(1, 0, 3))  # outgrown
        parts.job("task", kind=kind)
        left = [life]
        try:
            run(parts, left)
        except Died:
            run(parts, [0])
        found = parts.snapshot(art)
        if task in {"delete", "drop"}:  # after a death at the very end, it is no longer known how many there were
            found["jobs"].pop(b"job:task")
        if life == 0:
            wanted = found
            calls = -left[0]
            lives += range(1, calls + 1, max(1, calls // 20))
        assert found == wanted, f"it died at call {life} of {calls}"
        servers.empty()
        parts.store.ensure_bucket()
    assert len(lives) > 10


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
