"""A collection changes to another model on real servers: under query load, under changes, and killed at any call."""

import itertools
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from services.query.search.search_query import SearchQuery
from shared.errors import Locked, NotFound, Unavailable
from shared.messaging.messages import BatchImage
from shared.state.claims import Claims
from shared.state.model_changes import ModelChangeState
from shared.state.outcomes import Outcome
from shared.storage import layout
from shared.storage.catalog import EmbeddingSet
from shared.storage.trash import Trash
from tests.support.indexing import Died, parts_of
from tests.support.model_changes import DIMS, IDS, IMAGES, PICTURES, Reader, System, item, serving_both
from tests.support.model_servers import ModelServerProcess
from tests.support.servers import Servers


@pytest.fixture(scope="module")
def model_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ModelServerProcess]:
    """A server of the models `old` and `new`, whose embeddings differ in length."""
    with serving_both(tmp_path_factory.mktemp("models")) as running:
        yield running


@pytest.fixture
def system(servers: Servers, model_server: ModelServerProcess) -> System:
    return System(servers, model_server)


@pytest.fixture
def reader(system: System, tmp_path: Path) -> Iterator[Reader]:
    made = Reader(system, tmp_path)
    yield made
    made.replica_sync.stop()


def test_no_query_fails_and_no_answer_is_mixed_while_a_collection_changes(system: System, reader: Reader) -> None:
    numbers = list(range(IMAGES))
    system.add(numbers)
    system.line.run()
    order = {}
    for model in DIMS:
        vectors = system.embeddings(model, numbers)
        order[model] = np.argsort(-(vectors @ vectors.T), axis=1, kind="stable")[:, :5]
    assert (order["old"] != order["new"]).any()  # else nothing could be mixed
    ended, answered = threading.Event(), Counter[str]()
    failures: list[str] = []

    def ask(seed: int) -> None:
        rng = np.random.default_rng(seed)
        while not ended.is_set():
            number = int(rng.integers(IMAGES))
            by_file, mode = bool(rng.integers(2)), ("exact", "lsh")[int(rng.integers(2))]
            query: dict[str, Any] = {"image": PICTURES[number]} if by_file else {"image_id": IDS[number]}
            try:
                found, replica = reader.searcher.search(SearchQuery("art", **query, k=5, mode=mode))  # type: ignore[arg-type]
            except Exception as error:
                failures.append(repr(error))
                return
            model = replica.embedding_set.model
            ids = [int(hit.segment.ids[hit.row]) for hit in found.hits]
            if mode == "exact" and ids != [IDS[int(place)] for place in order[model][number]]:
                failures.append(f"{model}: {ids}")
            if (
                len(ids) != 5
                or ids[0] != IDS[number]
                or {hit.segment.vectors.shape[1] for hit in found.hits} != {DIMS[model]}
            ):
                failures.append(f"{model} {mode}: {ids}")
            answered[model] += 1

    threads = [threading.Thread(target=ask, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    try:
        for model in ("new", "old", "new"):
            system.change(model, job=f"to-{model}-{len(answered)}-{answered.total()}")
            before = answered[model]
            while answered[model] < before + 20 and not failures:
                ended.wait(0.01)
    finally:
        ended.set()
        for thread in threads:
            thread.join()
    assert not failures, failures[:3]
    system.assert_moved(numbers)
    assert list(reader.replica_sync.replicas) == ["art"]
    system.line.run()


def test_what_is_added_and_deleted_meanwhile_ends_up_right(system: System, reader: Reader) -> None:
    numbers = list(range(IMAGES))
    system.add(numbers)
    times = iter(range(100))

    def change() -> None:
        match next(times):
            case 0:
                system.delete([0, 40])  # the one is on its way into the new embedding set, the other is not yet
                system.add([70, 71])
            case 1:
                system.delete([1, 41])
                system.add([1, 41], label="b")  # which come back as something else
            case 2:
                system.delete([70])

    system.line.before_embed = change
    system.change()
    kept = [number for number in [*numbers, 71] if number not in {0, 40}]
    system.assert_moved(kept, {1: "b", 41: "b"})
    assert Trash(system.parts.store).get("art", IDS[0]).digest == layout.digest_of(PICTURES[0])
    view = reader.replica_sync.replica("art").view
    assert view.images == len(kept)
    report = system.jobs.result("change")
    assert report == {
        "changed": True, "from": {"model": "old", "version": 1}, "images": len(kept),
        "model": "new", "version": 1, "dim": 9,
    }  # fmt: skip


def test_what_settles_too_late_is_embedded_again_and_counted_once(system: System) -> None:
    system.add(range(IMAGES))
    broken = BatchImage(layout.digest_of(b"no image"), "broken.png", None, 8)
    system.parts.store.put(layout.original_key(broken.digest), b"no image")
    system.line.held = []
    job = system.add([80, 81, 3])
    system.jobs.create("mixed", "art")
    system.jobs.extend("mixed", batches=1, total=3, closed=True)
    system.parts.store.put(layout.original_key(layout.digest_of(PICTURES[82])), PICTURES[82])
    system.line.embedder.embed(job="mixed", batch=0, collection="art", items=[item(82), item(4), broken])
    held, system.line.held = system.line.held, None
    assert len(held) == 2
    real = system.state.model_changes.pending_deletes
    refused = []

    def pending_deletes(set_name: str) -> list[int]:
        assert system.state.indexed_segments.is_closed("art")
        for run in held:
            with pytest.raises(Unavailable):
                run()
            refused.append(run)
        with pytest.raises(Unavailable):
            system.delete([5])
        return real(set_name)

    system.state.model_changes.pending_deletes = pending_deletes  # type: ignore[method-assign]
    system.line.later.clear()
    system.begin()
    system.line.later.popleft()()
    assert len(refused) == 2
    assert system.catalog.get("art").model == "new"
    for run in held:  # as the queue gives them back; once more, as it may
        run()
        run()
    system.line.run()
    system.assert_moved([*range(IMAGES), 80, 81, 82])
    assert system.jobs.outcome(job) == Outcome({"a": 2}, 1)
    outcome = system.jobs.outcome("mixed")
    assert (outcome.added, outcome.duplicates, [rejection.name for rejection in outcome.rejected]) == (
        {"a": 1},
        1,
        ["broken.png"],
    )


def test_a_worker_that_dies_at_any_call_leaves_nothing_double_lost_or_closed(system: System) -> None:
    numbers = range(40)
    system.add(numbers)
    system.line.run()
    real = system.line.indexer, system.line.maintenance
    models = itertools.cycle(["new", "old"])
    life, model, calls = 1, next(models), 0
    while True:
        job = system.begin(model, job=f"at-{life}")
        left = [life]
        system.line.indexer, system.line.maintenance = system.parts.indexer(left), system.parts.maintenance(left)
        with suppress(Died):
            system.line.run()
        died = left[0] <= 0
        for key in system.parts.redis.scan_iter(match="lock:*"):  # they free themselves in seconds
            system.parts.redis.delete(key)
        system.line.indexer, system.line.maintenance = real
        if died:
            # For the moment in which the one set gives way to the other, all wait; else nobody does.
            if not system.state.indexed_segments.is_closed(system.catalog.get("art").name):
                system.add([90 + life % 30])
                system.delete([90 + life % 30])
            system.line.later.clear()
            system.line.change_model(collection="art", job=job, model=model, version=None)
            system.line.run()
        system.assert_moved(numbers, model=model)
        assert system.jobs.get(job).done
        if not died:
            break
        life, model, calls = life + 1 + life // 3, next(models), calls + 1
    assert calls > 10


def test_a_worker_that_was_stopped_until_another_made_the_change_deletes_nothing_of_it(
    system: System, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It wakes as it compares the two sets, and finds that the previous one, which is dropped, holds nothing."""
    system.add(range(IMAGES))
    system.line.run()
    scan, other = Claims.scan, parts_of(system.settings)
    stopped: list[str] = []
    other.queue, other.connect_model = system.line, system.connect
    changer = other.maintenance().model_changer

    def scan_and_stop(claims: Claims, set_name: str) -> Iterator[dict[int, str]]:
        found = list(scan(claims, set_name))
        if not stopped:
            stopped.append(set_name)
            other.redis.delete("lock:segments:art")  # as it runs out
            while not other.jobs.reported("change", 0):
                changer.change(collection="art", job="change", model="new", version=None)
        yield from found

    monkeypatch.setattr(Claims, "scan", scan_and_stop)
    system.jobs.create("change", "art", kind="change-model")
    with pytest.raises(Locked, match="lost its lock"):
        system.line.maintenance.model_changer.change(collection="art", job="change", model="new", version=None)
    assert stopped
    system.line.run()
    system.assert_moved(range(IMAGES))


def test_a_model_that_is_not_served_is_refused_and_nothing_is_changed(system: System) -> None:
    system.add(range(5))
    system.line.run()
    before = {entry.key for entry in system.parts.store.list("")}
    for number, (model, version, said) in enumerate([("newer", None, "newer"), ("new", 7, "new version 7")]):
        system.begin(model, version, job=f"refused-{number}")
        system.line.run()
        (refusal,) = system.jobs.outcome(f"refused-{number}").rejected
        assert refusal.code == "not-served"
        assert said in refusal.reason
    system.change("old", job="same")
    assert system.jobs.result("same") == {"changed": False, "model": "old", "version": 1, "dim": 6}
    assert {entry.key for entry in system.parts.store.list("")} == before
    system.jobs.create("none", "nothere", kind="change-model")
    system.line.maintenance.model_changer.change(collection="nothere", job="none", model="new", version=None)
    assert "nothere" in system.jobs.outcome("none").rejected[0].reason


def test_images_that_cannot_be_embedded_are_left_out_by_name_but_not_many(system: System) -> None:
    system.add(range(IMAGES))
    lost = [layout.original_key(layout.digest_of(PICTURES[number])) for number in range(11)]
    system.parts.store.delete(lost[:2])
    system.change()
    kept = list(range(2, IMAGES))
    system.assert_moved(kept)
    outcome = system.jobs.outcome("change")
    assert sorted((rejection.name, rejection.code) for rejection in outcome.rejected) == [
        ("0.png", "original-missing"), ("1.png", "original-missing")
    ]  # fmt: skip
    assert outcome.affected == len(kept)
    for number in kept[:11]:
        system.parts.store.delete([layout.original_key(layout.digest_of(PICTURES[number]))])
    system.change("old", job="back")
    (refusal,) = system.jobs.outcome("back").rejected
    assert (refusal.code, "11 images cannot be embedded" in refusal.reason) == ("refused", True)
    used = system.catalog.get("art")
    assert used.model == "new"
    system.assert_nothing_left(used)


def test_a_change_can_be_cancelled_and_keeps_others_out_until_then(system: System) -> None:
    system.add(range(IMAGES))
    seen: list[EmbeddingSet | None] = []

    def other() -> None:
        if not seen:
            seen.append(system.catalog.filling(system.catalog.get("art")))
            system.jobs.cancel("change")

    system.line.before_embed = other
    system.change()
    assert seen[0] is not None
    # All was embedded in the one turn, and the change made; what is asked for earlier is kept to.
    system.jobs.create("again", "art", kind="change-model")
    system.jobs.cancel("again")
    target = "old" if system.catalog.get("art").model == "new" else "new"
    system.line.change_model(collection="art", job="again", model=target, version=None)
    system.line.run()
    assert [rejection.code for rejection in system.jobs.outcome("again").rejected] == ["cancelled"]
    system.assert_nothing_left(system.catalog.get("art"))
    system.state.model_changes.set("art", ModelChangeState(model="new", version=9, job="live"))
    system.jobs.create("live", "art", kind="change-model")
    system.change(target, job="third")
    assert "under way, by the job live" in system.jobs.outcome("third").rejected[0].reason


def test_a_segment_of_another_model_is_refused(system: System, reader: Reader) -> None:
    system.add(range(5))
    used = system.catalog.get("art")
    strange = EmbeddingSet("art", used.tag, "old", 2, used.dim, used.created)
    from tests.support import rows  # noqa: PLC0415

    system.parts.store.put(layout.segment_key("art", "strange-000000"), rows.segment([1, 2], strange))
    system.jobs.create("strange", "art")
    with pytest.raises(Exception, match="'old' version 2, the collection's of 'old' version 1"):
        system.line.indexer.segments.index(
            set_name="art", segment="strange-000000", job="strange", batch=0, outcome=Outcome({"": 2})
        )
    replica = reader.replica_sync.replica("art")
    replica.synchronise()
    assert replica.damaged == ["strange-000000"]
    assert replica.view.images == 5


def test_a_collection_whose_model_is_gone_takes_nothing_until_it_is_served(system: System) -> None:
    system.catalog.create("lost", model="older", version=3, dim=6)
    system.jobs.create("j", "lost")
    system.jobs.extend("j", batches=1, total=1, closed=True)
    system.parts.store.put(layout.original_key(layout.digest_of(PICTURES[1])), PICTURES[1])
    with pytest.raises(Unavailable, match="older"):
        system.line.embedder.embed(job="j", batch=0, collection="lost", items=[item(1)])
    with pytest.raises(NotFound):
        system.catalog.embedding_set("lost.1")
