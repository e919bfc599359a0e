"""The indexer on real servers: what it does twice, or dies in the middle of, ends as if it had been done once."""

import functools
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import pytest

from services.indexer.indexer import Indexer
from shared import hashing, layout, segments
from shared.catalog import Catalog, Collection, CurrentIndex
from shared.errors import NotFound
from shared.generations import Generation, collection_prefix
from shared.index import BucketStore, Changes, Client, IndexState, Jobs, Ledger, connect
from shared.index.jobs import Kind, Outcome
from shared.queue import INDEX, Queue, make_app
from shared.store import ObjectStore
from tests import rows
from tests.integration.conftest import Servers

DIM = 8
SEED = 11


class Died(BaseException):
    """The process is gone; nothing but the end of the test catches it."""


class Mortal:
    """Passes every call on to a real part until a life is spent: the call after that dies, before or after its work."""

    def __init__(self, real: object, life: list[int]) -> None:
        self._real, self._life = real, life

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._real, name)
        if not callable(found):
            return found

        def call(*arguments: Any, **options: Any) -> Any:
            self._spend()
            answer = found(*arguments, **options)
            self._spend()
            return answer

        return call

    def _spend(self) -> None:
        self._life[0] -= 1
        if self._life[0] == 0:
            raise Died


@dataclass
class Parts:
    """The servers' clients, and indexers that use them."""

    store: Any
    redis: Client
    queue: Any

    def __post_init__(self) -> None:
        self.catalog = Catalog(self.store)
        self.buckets, self.ledger = BucketStore(self.redis), Ledger(self.redis)
        self.jobs, self.changes = Jobs(self.redis), Changes(self.redis)

    def indexer(self, life: list[int] | None = None) -> Indexer:
        """Return an indexer, which dies at some call to a server if it is given a life of so many calls."""
        left = life or [0]
        parts: dict[str, Any] = {
            name: Mortal(getattr(self, name), left)
            for name in ("store", "buckets", "ledger", "jobs", "changes", "queue")
        }
        return Indexer(**parts, new_seed=lambda: SEED)

    # What an embedder does before

    def collection(self, name: str = "art") -> Collection:
        self.ledger.set_state(name, IndexState())
        return self.catalog.create(name, model="lite", version=1, dim=DIM)

    def write(self, collection: Collection, segment: str, numbers: Sequence[int]) -> Outcome:
        """Store originals and a segment, claimed; returns the outcome that the indexer is to report."""
        for number in numbers:
            self.store.put(layout.original_key(rows.digest(number)), b"%d" % number)
        self.ledger.claim(collection.name, segment, rows.ids(numbers))
        self.store.put(layout.segment_key(collection.name, segment), rows.segment(numbers, collection))
        return Outcome(dict(Counter(rows.entry(number).label or "" for number in numbers)))

    def job(self, name: str = "j", *, batches: int = 1, kind: Kind = "ingest") -> str:
        self.jobs.create(name, "art", kind=kind)
        if kind == "ingest":
            self.jobs.extend(name, batches=batches, total=0, closed=True)
        return name

    def add(self, collection: Collection, segment: str, numbers: Sequence[int]) -> None:
        """Write a segment and have it indexed."""
        outcome = self.write(collection, segment, numbers)
        job = self.job(f"job-{collection.name}-{segment}")
        self.indexer().index(collection=collection.name, segment=segment, job=job, batch=0, outcome=outcome)

    # What is to be seen after

    def held(self, collection: Collection) -> dict[bytes, set[int]]:
        """Return the buckets of all generations: name without the collection's tag and the generation, and members."""
        prefix = collection_prefix(collection)
        names = [name for name in self.redis.scan_iter(count=2000) if name.startswith(prefix)]
        return {name[len(prefix) + 2 :]: {int(one) for one in self.redis.smembers(name)} for name in names}

    def generations(self, collection: Collection) -> set[int]:
        """Return the generations that have buckets."""
        prefix = collection_prefix(collection)
        names = [name for name in self.redis.scan_iter(count=2000) if name.startswith(prefix)]
        return {int.from_bytes(name[len(prefix) : len(prefix) + 2], "big") for name in names}

    def assert_indexed(self, collection: Collection, numbers: Sequence[int]) -> None:
        """Check that exactly these images are in the buckets of the generation in use, and in no others."""
        current = self.catalog.current_index(collection.name)
        assert current is not None
        state = self.ledger.state(collection.name)
        assert state == IndexState(current.generation, 0, current.trained_on)
        assert self.generations(collection) == {current.generation}
        generation = Generation.load(self.store, collection, current.generation)
        names = generation.buckets(rows.embeddings(numbers, DIM))
        tables = generation.family.tables
        wanted: dict[bytes, set[int]] = {}
        for place, name in enumerate(names):
            wanted.setdefault(name[len(generation.prefix) :], set()).add(rows.image_id(numbers[place // tables]))
        assert self.held(collection) == wanted

    def snapshot(self, collection: Collection) -> dict[str, Any]:
        """Return all that the servers know of a collection, but for what may differ from run to run."""
        name = collection.name
        state = self.ledger.state(name)
        return {
            "state": state and (bool(state.active), state.building, state.trained_on),
            "buckets": self.held(collection),
            "members": self.redis.hgetall(f"members:{name}"),
            "settled": self.redis.smembers(f"settled:{name}"),
            "objects": {item.key for item in self.store.list("") if not item.key.endswith(".npz")},
            "jobs": {
                key: Jobs(self.redis).get(key.decode().removeprefix("job:")).outcome
                for key in self.redis.scan_iter(match="job:*", count=1000)
                if not key.endswith(b":batches")
            },
        }


@pytest.fixture
def parts(servers: Servers) -> Parts:
    store = ObjectStore.from_settings(servers.settings)
    store.ensure_bucket()
    redis = connect(servers.settings.index_url.get_secret_value())
    return Parts(store, redis, Queue(make_app(servers.settings, name="test")))


@pytest.fixture(autouse=True)
def small_fits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Few tables: every test fits."""
    fit = hashing.fit
    monkeypatch.setattr("services.indexer.indexer.hashing.fit", functools.partial(fit, tables=3))


# A new segment


def test_a_segment_indexed_twice_is_indexed_once(parts: Parts) -> None:
    art = parts.collection()
    parts.add(art, "a", range(10))
    parts.indexer().tend(collection="art")
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
    parts.indexer().tend(collection="art")
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
        assert parts.queue.waiting()[INDEX] == asked
    parts.indexer().tend(collection="art")
    parts.add(art, "s2", range(20, 39))  # 39 images, not yet twice the 20
    assert parts.queue.waiting()[INDEX] == 1
    parts.add(art, "s3", [39])
    assert parts.queue.waiting()[INDEX] == 2


# Deletion


def test_a_deletion_takes_an_image_out_of_everything(parts: Parts) -> None:
    art = parts.collection()
    parts.add(art, "a", range(10))
    parts.add(art, "b", range(10, 14))
    parts.indexer().tend(collection="art")
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
    parts.indexer().tend(collection="art")
    parts.indexer().delete(job=parts.job(kind="delete"), collection="art", ids=[rows.image_id(3)])
    parts.add(art, "b", [3])
    parts.assert_indexed(art, range(10))
    parts.redis.flushall()
    parts.indexer().rebuild(collection="art")
    parts.assert_indexed(art, range(10))
    assert parts.ledger.holders("art", [rows.image_id(3)]) == ["b"]


def test_dropping_leaves_nothing_of_a_collection(parts: Parts) -> None:
    art, other = parts.collection(), parts.collection("art-2")
    parts.add(art, "a", range(10))
    parts.add(other, "a", range(5, 12))
    for name in ("art", "art-2"):
        parts.indexer().tend(collection=name)
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
    parts.indexer().tend(collection="art")
    assert parts.catalog.current_index("art") == CurrentIndex(1, 10)
    parts.assert_indexed(art, range(10))
    parts.indexer().tend(collection="art")  # nothing has changed
    assert parts.catalog.current_index("art") == CurrentIndex(1, 10)
    parts.add(art, "b", range(10, 25))
    parts.assert_indexed(art, range(25))
    job = parts.job(kind="tend")
    parts.indexer().tend(collection="art", job=job)
    assert parts.jobs.get(job).done
    assert parts.catalog.current_index("art") == CurrentIndex(2, 25)
    parts.assert_indexed(art, range(25))


def test_images_that_come_while_a_generation_is_filled_are_in_it(parts: Parts) -> None:
    art = parts.collection()
    for place in range(4):
        parts.add(art, f"s{place}", range(10 * place, 10 * place + 10))
    parts.indexer().tend(collection="art")
    for place in range(4, 9):
        parts.add(art, f"s{place}", range(10 * place, 10 * place + 10))
    parts.indexer().delete(job=parts.job(kind="delete"), collection="art", ids=[rows.image_id(7)])
    another = parts.indexer()  # in another process
    came: list[int] = []
    gone = {7}

    class Busy(ObjectStore):
        """Each read of a segment by the one that fits sees another segment come, and an image go."""

        def get(self, key: str) -> bytes:
            data = super().get(key)
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
    busy.indexer().tend(collection="art")
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
    monkeypatch.setattr("services.indexer.indexer._LOCK_S", 1.0)
    art = parts.collection()
    parts.add(art, "a", range(10))
    parts.redis.set("lock:fit:art", "of one that died", px=700)
    parts.indexer().tend(collection="art")
    parts.assert_indexed(art, range(10))


def test_of_several_that_are_to_fit_at_once_one_does(parts: Parts, servers: Servers) -> None:
    art = parts.collection()
    parts.add(art, "a", range(30))
    url = servers.settings.index_url.get_secret_value()
    with ThreadPoolExecutor(4) as threads:
        indexers = [Parts(parts.store, connect(url), parts.queue).indexer() for _ in range(4)]
        for done in [threads.submit(indexer.tend, collection="art") for indexer in indexers]:
            done.result()
    assert parts.catalog.current_index("art") == CurrentIndex(1, 30)
    parts.assert_indexed(art, range(30))


def test_a_collection_of_one_image_has_an_index(parts: Parts) -> None:
    art = parts.collection()
    parts.add(art, "a", [1])
    parts.indexer().tend(collection="art")
    parts.assert_indexed(art, [1])
    parts.indexer().delete(job=parts.job(kind="delete"), collection="art", ids=[rows.image_id(1)])
    assert parts.held(art) == {}
    parts.indexer().tend(collection="art")
    parts.indexer().rebuild(collection="art")
    assert parts.held(art) == {}


# Rebuilding


def test_an_emptied_index_is_rebuilt_as_it_was(parts: Parts) -> None:
    collections = [parts.collection("art"), parts.collection("other")]
    for collection in collections:
        parts.add(collection, "a", range(20))
        parts.indexer().tend(collection=collection.name)
        parts.add(collection, "b", range(20, 30))
        parts.indexer().delete(
            job=parts.job(f"d-{collection.name}", kind="delete"), collection=collection.name, ids=[rows.image_id(5)]
        )
    before = [{**parts.snapshot(collection), "jobs": None} for collection in collections]
    parts.redis.flushall()
    for collection in collections:
        job = parts.job(f"r-{collection.name}", kind="rebuild")
        parts.indexer().rebuild(collection=collection.name, job=job)
        assert parts.jobs.get(job).outcome.affected == 29
    assert [{**parts.snapshot(collection), "jobs": None} for collection in collections] == before


def test_a_rebuild_of_a_whole_index_changes_nothing_and_takes_out_what_does_not_belong(parts: Parts) -> None:
    art = parts.collection()
    parts.add(art, "a", range(20))
    parts.indexer().tend(collection="art")
    job = parts.job("r", kind="rebuild")
    before = {**parts.snapshot(art), "jobs": None}
    generation = Generation.load(parts.store, art, 1)
    parts.buckets.add([collection_prefix(art) + b"\x00\x07" + b"stale"], [1])
    parts.buckets.remove(generation.buckets(rows.embeddings([3], DIM)), [rows.image_id(3)] * 3)
    parts.indexer().rebuild(collection="art", job=job)
    assert {**parts.snapshot(art), "jobs": None} == before


def test_a_worker_that_finds_the_index_restored_already_does_not_restore_it_again(parts: Parts) -> None:
    art = parts.collection()
    parts.add(art, "a", range(20))
    parts.indexer().tend(collection="art")
    parts.buckets.remove(
        Generation.load(parts.store, art, 1).buckets(rows.embeddings([3], DIM)), [rows.image_id(3)] * 3
    )
    before = parts.snapshot(art)
    parts.indexer().rebuild(collection="art")
    assert parts.snapshot(art) == before


def test_a_rebuild_may_fit_anew(parts: Parts) -> None:
    art = parts.collection()
    parts.add(art, "a", range(20))
    parts.indexer().tend(collection="art")
    parts.redis.flushall()
    parts.indexer().rebuild(collection="art", fit=True)
    assert parts.catalog.current_index("art") == CurrentIndex(2, 20)
    parts.assert_indexed(art, range(20))


def test_of_an_image_in_two_segments_a_rebuild_keeps_one(parts: Parts) -> None:
    art = parts.collection()
    parts.add(art, "a", range(10))
    parts.store.put(layout.segment_key("art", "b"), rows.segment([9, 10], art))
    parts.redis.flushall()
    parts.indexer().rebuild(collection="art")
    assert parts.catalog.dead_rows("art") == {("b", rows.image_id(9))}
    parts.indexer().tend(collection="art")
    parts.assert_indexed(art, range(11))


def test_any_task_on_a_lost_index_restores_it_first(parts: Parts) -> None:
    art = parts.collection()
    parts.add(art, "a", range(20))
    parts.indexer().tend(collection="art")
    outcome = parts.write(art, "b", range(20, 25))
    parts.redis.flushall()
    parts.ledger.claim("art", "b", rows.ids(range(20, 25)))
    parts.indexer().index(collection="art", segment="b", job=parts.job(), batch=0, outcome=outcome)
    parts.assert_indexed(art, range(25))
    parts.redis.flushall()
    parts.indexer().delete(job=parts.job(kind="delete"), collection="art", ids=[rows.image_id(3)])
    parts.assert_indexed(art, [*range(3), *range(4, 25)])
    parts.redis.flushall()
    parts.indexer().tend(collection="art")
    parts.assert_indexed(art, [*range(3), *range(4, 25)])


def test_a_collection_that_was_never_fitted_is_rebuilt_and_fitted(parts: Parts) -> None:
    art = parts.collection()
    parts.add(art, "a", range(10))
    parts.redis.flushall()
    parts.indexer().rebuild(collection="art")
    parts.assert_indexed(art, range(10))


# Collections that are gone


def test_every_job_for_a_collection_that_was_dropped_reports(parts: Parts) -> None:
    outcome = Outcome({"painting": 2, "": 1}, duplicates=4)
    indexer = parts.indexer()
    indexer.index(collection="gone", segment="s", job=parts.job("j1"), batch=0, outcome=outcome)
    indexer.delete(job=parts.job("j2", kind="delete"), collection="gone", ids=[1])
    indexer.drop(job=parts.job("j3", kind="drop"), collection="gone")
    indexer.tend(job=parts.job("j4", kind="tend"), collection="gone")
    indexer.rebuild(job=parts.job("j5", kind="rebuild"), collection="gone")
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
    parts.indexer().tend(collection="art")
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
    "tend": ("tend", lambda indexer: indexer.tend(job="task", collection="art")),
    "rebuild": ("rebuild", lambda indexer: indexer.rebuild(job="task", collection="art")),
    "rebuild and fit": ("rebuild", lambda indexer: indexer.rebuild(job="task", collection="art", fit=True)),
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
    parts.indexer().tend(collection="art")
    parts.indexer().delete(job=parts.job(kind="delete"), collection="art", ids=rows.ids([1, 2]))
    parts.indexer().rebuild(collection="art", fit=True)
    assert parts.store.get(layout.segment_key("art", "a")) == data
    assert segments.ids_of(segments.unpack(data)).tolist() == rows.ids(range(10))
