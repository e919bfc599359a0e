"""The indexer on real servers: what it does twice, or dies in the middle of, ends as if it had been done once."""

from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

from services.indexer.indexer import Indexer
from shared.errors import NotFound
from shared.index.generations import Generation, collection_prefix
from shared.messaging.task_queue import TEND
from shared.state import IndexState, connect
from shared.state.jobs import Kind, Outcome
from shared.storage import layout, segments
from shared.storage.catalog import Collection, CurrentIndex
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
    monkeypatch.setattr("services.maintenance.tuning.costs.measure", lambda *_: TYPICAL)


# A new segment


def test_a_segment_indexed_twice_is_indexed_once(parts: Parts) -> None:
    art = parts.collection()
    parts.add(art, "a", range(10))
    parts.indexer().tender.tend(collection="art")
    outcome = parts.write(art, "b", range(10, 16))
    job = parts.job()
    for _ in range(3):
        parts.indexer().index(collection="art", segment="b", job=job, batch=0, outcome=outcome)
    parts.assert_indexed(art, range(16))
    assert parts.jobs.get(job).outcome == outcome
    assert parts.ledger.settled("art", ["a", "b"]) == [True, True]
    assert parts.ledger.size("art") == 16


def test_an_image_that_another_segment_claimed_is_buried_and_counted_as_a_duplicate(parts: Parts) -> None:
    """Two batches had it at the same time; both wrote it, and the ledger says whose it is."""
    art = parts.collection()
    parts.add(art, "a", range(10))
    parts.indexer().tender.tend(collection="art")
    outcome = parts.write(art, "b", [8, 9, 20, 21])
    job = parts.job()
    for _ in range(2):
        parts.indexer().index(collection="art", segment="b", job=job, batch=0, outcome=outcome)
    assert parts.catalog.dead_rows("art") == {("b", rows.image_id(8)), ("b", rows.image_id(9))}
    parts.assert_indexed(art, [*range(10), 20, 21])
    assert parts.ledger.holders("art", rows.ids([8, 20])) == ["a", "b"]
    done = parts.jobs.get(job)
    assert (done.added, done.outcome.duplicates) == (2, 2)
    assert done.outcome.added == dict(Counter(rows.entry(number).label or "" for number in (20, 21)))


def test_the_end_of_a_job_asks_for_a_fit_if_the_collection_has_outgrown_its_index(parts: Parts) -> None:
    art = parts.collection()
    for number, (batches, asked) in enumerate([(2, 0), (1, 1)]):  # in the middle of a job, and at its end
        outcome = parts.write(art, f"s{number}", range(10 * number, 10 * number + 10))
        job = parts.job(f"j{number}", batches=batches)
        parts.indexer().index(collection="art", segment=f"s{number}", job=job, batch=0, outcome=outcome)
        assert parts.queue.waiting()[TEND] == asked
    parts.indexer().tender.tend(collection="art")
    parts.add(art, "s2", range(20, 39))  # 39 images, not yet twice the 20
    assert parts.queue.waiting()[TEND] == 1
    parts.add(art, "s3", [39])
    assert parts.queue.waiting()[TEND] == 2


# Deletion


def test_a_deletion_takes_an_image_out_of_everything(parts: Parts) -> None:
    art = parts.collection()
    parts.add(art, "a", range(10))
    parts.add(art, "b", range(10, 14))
    parts.indexer().tender.tend(collection="art")
    position = parts.changes.position()
    job = parts.job(kind="delete")
    parts.indexer().delete(job=job, collection="art", ids=[*rows.ids([3, 11, 3]), 12345])
    parts.assert_indexed(art, [*range(3), *range(4, 11), 12, 13])
    assert parts.ledger.holders("art", rows.ids([3, 11])) == [None, None]
    assert parts.ledger.size("art") == 12
    assert parts.catalog.dead_rows("art") == {("a", rows.image_id(3)), ("b", rows.image_id(11))}
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
    if lost:
        parts.redis.flushall()
    parts.indexer().delete(job=parts.job("j1", kind="delete"), collection="art", ids=[rows.image_id(2)])
    assert parts.store.exists(original)
    if lost:
        parts.redis.flushall()
    parts.indexer().drop(job=parts.job("j2", kind="drop"), collection="art")
    assert parts.store.exists(original)
    assert parts.store.exists(layout.original_key(rows.digest(1)))
    parts.indexer().delete(job=parts.job("j3", kind="delete"), collection="other", ids=[rows.image_id(2)])
    assert not parts.store.exists(original)
    parts.indexer().drop(job=parts.job("j4", kind="drop"), collection="other")
    assert [item.key for item in parts.store.list("images/")] == [layout.original_key(rows.digest(9))]


def test_a_deleted_image_may_come_back(parts: Parts) -> None:
    art = parts.collection()
    parts.add(art, "a", range(10))
    parts.indexer().tender.tend(collection="art")
    parts.indexer().delete(job=parts.job(kind="delete"), collection="art", ids=[rows.image_id(3)])
    parts.add(art, "b", [3])
    parts.assert_indexed(art, range(10))
    parts.redis.flushall()
    parts.indexer().tender.rebuild(collection="art")
    parts.assert_indexed(art, range(10))
    assert parts.ledger.holders("art", [rows.image_id(3)]) == ["b"]


def test_dropping_leaves_nothing_of_a_collection(parts: Parts) -> None:
    art, other = parts.collection(), parts.collection("art-2")
    parts.add(art, "a", range(10))
    parts.add(other, "a", range(5, 12))
    for name in ("art", "art-2"):
        parts.indexer().tender.tend(collection=name)
    parts.indexer().delete(job=parts.job("j1", kind="delete"), collection="art", ids=[rows.image_id(4)])
    job = parts.job("j2", kind="drop")
    parts.indexer().drop(job=job, collection="art")
    assert parts.jobs.get(job).outcome.affected == 9
    assert parts.catalog.names() == ["art-2"]
    assert parts.held(art) == {}
    assert (parts.ledger.state("art"), parts.ledger.size("art")) == (None, 0)
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
    parts.indexer().tender.tend(collection="art")
    assert parts.catalog.current_index("art") == CurrentIndex(1, 10)
    parts.assert_indexed(art, range(10))
    parts.indexer().tender.tend(collection="art")  # nothing has changed
    assert parts.catalog.current_index("art") == CurrentIndex(1, 10)
    parts.add(art, "b", range(10, 25))
    parts.assert_indexed(art, range(25))
    job = parts.job(kind="tend")
    parts.indexer().tender.tend(collection="art", job=job)
    assert parts.jobs.get(job).done
    assert parts.catalog.current_index("art") == CurrentIndex(2, 25)
    parts.assert_indexed(art, range(25))


def test_images_that_come_while_a_generation_is_filled_are_in_it(parts: Parts) -> None:
    art = parts.collection()
    for place in range(4):
        parts.add(art, f"s{place}", range(10 * place, 10 * place + 10))
    parts.indexer().tender.tend(collection="art")
    for place in range(4, 9):
        parts.add(art, f"s{place}", range(10 * place, 10 * place + 10))
    parts.indexer().delete(job=parts.job(kind="delete"), collection="art", ids=[rows.image_id(7)])
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
                    another.delete(
                        job=parts.job(f"d{number}", kind="delete"), collection="art", ids=[rows.image_id(number - 2)]
                    )
            return data

    busy = Parts(Busy(parts.store._client, parts.store._bucket), parts.redis, parts.queue)
    busy.indexer().tender.tend(collection="art")
    assert len(came) > 15
    live = [number for number in [*range(90), *came] if number not in gone]
    current = parts.catalog.current_index("art")
    assert current is not None
    assert current.generation == 2
    assert parts.ledger.size("art") == len(live)
    generation = Generation.load(parts.store, art, 2)
    for number in live:
        for name in generation.buckets(rows.embeddings([number], DIM)):
            assert parts.redis.sismember(name, rows.image_id(number)), number


def test_a_fit_waits_for_one_whose_indexer_died(parts: Parts, monkeypatch: pytest.MonkeyPatch) -> None:
    """The lock of the dead one is still there when its task is given to another."""
    monkeypatch.setattr("services.maintenance.tuning._LOCK_S", 1.0)
    art = parts.collection()
    parts.add(art, "a", range(10))
    parts.redis.set("lock:tend:art", "of one that died", px=700)
    parts.indexer().tender.tend(collection="art")
    parts.assert_indexed(art, range(10))


def test_of_several_that_are_to_fit_at_once_one_does(parts: Parts, servers: Servers) -> None:
    art = parts.collection()
    parts.add(art, "a", range(30))
    url = servers.settings.index_url.get_secret_value()
    with ThreadPoolExecutor(4) as threads:
        indexers = [Parts(parts.store, connect(url), parts.queue).indexer() for _ in range(4)]
        for done in [threads.submit(indexer.tender.tend, collection="art") for indexer in indexers]:
            done.result()
    assert parts.catalog.current_index("art") == CurrentIndex(1, 30)
    parts.assert_indexed(art, range(30))


def test_a_collection_of_one_image_has_an_index(parts: Parts) -> None:
    art = parts.collection()
    parts.add(art, "a", [1])
    parts.indexer().tender.tend(collection="art")
    parts.assert_indexed(art, [1])
    parts.indexer().delete(job=parts.job(kind="delete"), collection="art", ids=[rows.image_id(1)])
    assert parts.held(art) == {}
    parts.indexer().tender.tend(collection="art")
    parts.indexer().tender.rebuild(collection="art")
    assert parts.held(art) == {}


# Rebuilding


def test_an_emptied_index_is_rebuilt_as_it_was(parts: Parts) -> None:
    collections = [parts.collection("art"), parts.collection("other")]
    for collection in collections:
        parts.add(collection, "a", range(20))
        parts.indexer().tender.tend(collection=collection.name)
        parts.add(collection, "b", range(20, 30))
        parts.indexer().delete(
            job=parts.job(f"d-{collection.name}", kind="delete"), collection=collection.name, ids=[rows.image_id(5)]
        )
    before = [{**parts.snapshot(collection), "jobs": None} for collection in collections]
    parts.redis.flushall()
    for collection in collections:
        job = parts.job(f"r-{collection.name}", kind="rebuild")
        parts.indexer().tender.rebuild(collection=collection.name, job=job)
        assert parts.jobs.get(job).outcome.affected == 29
    assert [{**parts.snapshot(collection), "jobs": None} for collection in collections] == before


def test_a_rebuild_of_a_whole_index_changes_nothing_and_takes_out_what_does_not_belong(parts: Parts) -> None:
    art = parts.collection()
    parts.add(art, "a", range(20))
    parts.indexer().tender.tend(collection="art")
    job = parts.job("r", kind="rebuild")
    before = {**parts.snapshot(art), "jobs": None}
    generation = Generation.load(parts.store, art, 1)
    parts.buckets.add([collection_prefix(art) + b"\x00\x07" + b"stale"], [1])
    generation.remove(parts.buckets, np.array([rows.image_id(3)]), rows.embeddings([3], DIM))
    parts.indexer().tender.rebuild(collection="art", job=job)
    assert {**parts.snapshot(art), "jobs": None} == before


def test_a_worker_that_finds_the_index_restored_already_does_not_restore_it_again(parts: Parts) -> None:
    art = parts.collection()
    parts.add(art, "a", range(20))
    parts.indexer().tender.tend(collection="art")
    generation = Generation.load(parts.store, art, 1)
    generation.remove(parts.buckets, np.array([rows.image_id(3)]), rows.embeddings([3], DIM))
    before = parts.snapshot(art)
    parts.indexer().tender.rebuild(collection="art")
    assert parts.snapshot(art) == before


def test_a_rebuild_may_fit_anew(parts: Parts) -> None:
    art = parts.collection()
    parts.add(art, "a", range(20))
    parts.indexer().tender.tend(collection="art")
    parts.redis.flushall()
    parts.indexer().tender.rebuild(collection="art", fit=True)
    assert parts.catalog.current_index("art") == CurrentIndex(2, 20)
    parts.assert_indexed(art, range(20))


def test_of_an_image_in_two_segments_a_rebuild_keeps_one(parts: Parts) -> None:
    art = parts.collection()
    parts.add(art, "a", range(10))
    parts.store.put(layout.segment_key("art", "b"), rows.segment([9, 10], art))
    parts.redis.flushall()
    parts.indexer().tender.rebuild(collection="art")
    assert parts.catalog.dead_rows("art") == {("b", rows.image_id(9))}
    parts.indexer().tender.tend(collection="art")
    parts.assert_indexed(art, range(11))


def test_any_task_on_a_lost_index_restores_it_first(parts: Parts) -> None:
    art = parts.collection()
    parts.add(art, "a", range(20))
    parts.indexer().tender.tend(collection="art")
    outcome = parts.write(art, "b", range(20, 25))
    parts.redis.flushall()
    parts.ledger.claim("art", "b", rows.ids(range(20, 25)))
    parts.indexer().index(collection="art", segment="b", job=parts.job(), batch=0, outcome=outcome)
    parts.assert_indexed(art, range(25))
    parts.redis.flushall()
    parts.indexer().delete(job=parts.job(kind="delete"), collection="art", ids=[rows.image_id(3)])
    parts.assert_indexed(art, [*range(3), *range(4, 25)])
    parts.redis.flushall()
    parts.indexer().tender.tend(collection="art")
    parts.assert_indexed(art, [*range(3), *range(4, 25)])


def test_a_collection_that_was_never_fitted_is_rebuilt_and_fitted(parts: Parts) -> None:
    art = parts.collection()
    parts.add(art, "a", range(10))
    parts.redis.flushall()
    parts.indexer().tender.rebuild(collection="art")
    parts.assert_indexed(art, range(10))


# Collections that are gone


def test_every_job_for_a_collection_that_was_dropped_reports(parts: Parts) -> None:
    outcome = Outcome({"painting": 2, "": 1}, duplicates=4)
    indexer = parts.indexer()
    indexer.index(collection="gone", segment="s", job=parts.job("j1"), batch=0, outcome=outcome)
    indexer.delete(job=parts.job("j2", kind="delete"), collection="gone", ids=[1])
    indexer.drop(job=parts.job("j3", kind="drop"), collection="gone")
    indexer.tender.tend(job=parts.job("j4", kind="tend"), collection="gone")
    indexer.tender.rebuild(job=parts.job("j5", kind="rebuild"), collection="gone")
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
    parts.indexer().drop(job=parts.job("j1", kind="drop"), collection="art")
    parts.collection()
    parts.indexer().index(collection="art", segment="a", job=parts.job("j2"), batch=0, outcome=outcome)
    done = parts.jobs.get("j2")
    assert (done.done, done.added, len(done.outcome.rejected)) == (True, 0, 3)
    assert parts.ledger.size("art") == 0


# Deaths


def make_ready(parts: Parts) -> Collection:
    """Make two collections that share images; the first has a generation, an unindexed segment and a deleted row."""
    art, other = parts.collection(), parts.collection("other")
    parts.add(art, "a", range(6))
    parts.add(other, "x", [4, 5])
    parts.indexer().tender.tend(collection="art")
    parts.write(art, "b", [6, 7])
    parts.store.put(layout.segment_key("art", "b"), rows.segment([5, 6, 7], art))  # 5 is a's
    parts.catalog.bury("art", [("a", rows.image_id(0))])
    parts.ledger.release("art", "a", [rows.image_id(0)])
    return art


LABELS = Outcome(dict(Counter(rows.entry(number).label or "" for number in (5, 6, 7))))

TASKS: dict[str, tuple[Kind, Callable[[Indexer], None]]] = {
    "index": (
        "ingest",
        lambda indexer: indexer.index(collection="art", segment="b", job="task", batch=0, outcome=LABELS),
    ),
    "delete": (
        "delete",
        lambda indexer: indexer.delete(job="task", collection="art", ids=rows.ids([1, 4, 2])),
    ),
    "drop": ("drop", lambda indexer: indexer.drop(job="task", collection="art")),
    "tend": ("tend", lambda indexer: indexer.tender.tend(job="task", collection="art")),
    "rebuild": ("rebuild", lambda indexer: indexer.tender.rebuild(job="task", collection="art")),
    "rebuild and fit": ("rebuild", lambda indexer: indexer.tender.rebuild(job="task", collection="art", fit=True)),
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
        if task == "tend":
            parts.ledger.set_state("art", IndexState(1, 0, 3))  # outgrown
        parts.job("task", kind=kind)
        left = [life]
        try:
            run(parts.indexer(left))
        except Died:
            run(parts.indexer([0]))
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
    parts.indexer().tender.tend(collection="art")
    parts.indexer().delete(job=parts.job(kind="delete"), collection="art", ids=rows.ids([1, 2]))
    parts.indexer().tender.rebuild(collection="art", fit=True)
    assert parts.store.get(layout.segment_key("art", "a")) == data
    assert segments.ids_of(segments.unpack(data)).tolist() == rows.ids(range(10))
