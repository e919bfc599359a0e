"""Tuning on real servers: what is predicted and measured, what is written, and what is left by a build that fails."""

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from services.maintenance.cost_measurement import measure
from shared.errors import Invalid, Unavailable
from shared.index.generations import Generation, collection_prefix
from shared.index.tuning_due import is_tuning_due
from shared.messaging.messages import TuningRequest
from shared.settings import EXACT_BELOW
from shared.state import BucketStore, IndexState
from shared.storage import layout
from shared.storage.catalog import EmbeddingSet
from shared.tuning import FAMILIES
from tests.support import rows
from tests.support.indexing import DIM, Parts, parts_of
from tests.support.servers import Servers
from tests.support.stack import Stack
from tests.support.web_client import Client, picture

COUNT = 300


@pytest.fixture
def parts(servers: Servers) -> Parts:
    return parts_of(servers.settings, originals=False)


@pytest.fixture
def art(parts: Parts) -> EmbeddingSet:
    made = parts.collection()
    for start in range(0, COUNT, 100):
        parts.add(made, f"s{start}", range(start, start + 100))
    return made


def tune(parts: Parts, request: TuningRequest | None = None, *, apply: bool = True, job: str = "t") -> dict[str, Any]:
    name = parts.job(job, kind="tune")
    parts.maintenance().tuner.tune(collection="art", job=name, request=request or TuningRequest(), apply=apply)
    result = parts.jobs.result(name)
    assert result is not None
    assert parts.jobs.get(name).done
    return result


def recall(parts: Parts, generation: Generation) -> tuple[float, float]:
    """Return recall@10 of 100 images as queries, by the buckets as they are, and the share of candidates."""
    vectors = rows.embeddings(range(COUNT), DIM)
    ids = np.array(rows.ids(range(COUNT)))
    found, shares = [], []
    for number in range(0, COUNT, 4):
        near = np.argsort(-(vectors @ vectors[number]), kind="stable")
        wanted = ids[near[near != number][:10]]
        candidates = parts.buckets.candidates(generation.probed(vectors[number])).best(generation.budget(COUNT))
        found.append(np.isin(wanted, candidates).mean())
        shares.append(len(candidates) / COUNT)
    return float(np.mean(found)), float(np.mean(shares))


def written(parts: Parts) -> set[bytes]:
    """Return the keys in the index but those of jobs, and of workers that say that they live."""
    return {key for key in parts.redis.scan_iter() if not key.startswith(b"job:")} - {b"heartbeats"}


@pytest.mark.usefixtures("art")
def test_what_would_be_chosen_is_told_without_writing_anything(parts: Parts) -> None:
    keys, objects = written(parts), {item.key for item in parts.store.list("")}
    report = tune(parts, apply=False)
    assert "generation" not in report
    assert set(report["families"]) == set(FAMILIES)
    assert report["chosen"]["recall"] >= 0.95
    costs_of, recalls = ([trial[name] for trial in report["pareto"]] for name in ("cost_ms", "recall"))
    assert costs_of == sorted(costs_of)
    assert recalls == sorted(set(recalls))
    assert {item.key for item in parts.store.list("")} == objects
    assert written(parts) == keys


@pytest.mark.parametrize("family", FAMILIES)
def test_an_index_keeps_what_was_predicted_of_it(parts: Parts, art: EmbeddingSet, family: str) -> None:
    report = tune(parts, TuningRequest(families=(family,), recall=0.9))
    assert report["chosen"]["family"] == family
    current = parts.catalog.current_index("art")
    assert current is not None
    assert (current.generation, current.trained_on) == (report["generation"], COUNT)
    parts.assert_indexed(art, range(COUNT))
    found, share = recall(parts, Generation.load(parts.store, art, current.generation))
    assert found == pytest.approx(report["chosen"]["recall"], abs=0.04)
    assert share == pytest.approx(report["chosen"]["candidate_share"], abs=0.05)
    assert report["measured"]["recall"] == pytest.approx(found, abs=0.04)
    assert report["measured"]["queries"] == 200
    stored = parts.catalog.current_report("art")
    assert stored is not None
    assert stored.to_json() == report


def test_a_cap_on_candidates_is_kept_to(parts: Parts, art: EmbeddingSet) -> None:
    report = tune(parts, TuningRequest(families=("p-stable",), max_candidates=0.05))
    assert report["chosen"]["candidate_share"] <= 0.05
    assert report["misses"]  # so few images can hardly hold 95 % of ten neighbours
    generation = Generation.load(parts.store, art, report["generation"])
    assert recall(parts, generation)[1] <= 0.051


def test_another_tuning_takes_the_place_of_the_one_before(parts: Parts, art: EmbeddingSet) -> None:
    first = tune(parts, job="t1")["generation"]
    second = tune(parts, TuningRequest(recall=0.6), job="t2")["generation"]
    third = tune(parts, TuningRequest(families=("p-stable",), recall=0.6), job="t3")["generation"]
    assert (first, second, third) == (1, 2, 3)
    parts.assert_indexed(art, range(COUNT))
    kept = {layout.generation_of(item.key) for item in parts.store.list(layout.indexes_prefix("art"))}
    assert kept == {2, 3, None}  # the one before, for who is about to load it; the one in use


@pytest.mark.usefixtures("art")
def test_a_task_that_is_delivered_again_does_nothing(parts: Parts) -> None:
    report = tune(parts)
    parts.maintenance().tuner.tune(collection="art", job="t", request=TuningRequest(recall=0.5), apply=True)
    assert parts.jobs.result("t") == json.loads(json.dumps(report))
    assert parts.catalog.next_generation("art") == 2


def test_a_collection_without_an_image_cannot_be_tuned_to(parts: Parts) -> None:
    parts.collection()
    with pytest.raises(Invalid, match="no image to tune an index to"):
        tune(parts)


def broken_at(parts: Parts, method: str, error: Exception, *, after: int = 0) -> Parts:
    """Return parts whose bucket store fails at a method, after so many calls."""
    left = [after]

    def fail(*arguments: Any, **options: Any) -> Any:
        left[0] -= 1
        if left[0] < 0:
            raise error
        return getattr(BucketStore, method)(broken.buckets, *arguments, **options)

    broken = Parts(parts.store, parts.redis, parts.queue)
    setattr(broken.buckets, method, fail)
    return broken


@pytest.mark.parametrize("after", [0, 2])
def test_a_build_that_fails_leaves_no_buckets_and_the_old_one_in_use(
    parts: Parts, art: EmbeddingSet, after: int
) -> None:
    tune(parts, job="t1")
    before = parts.snapshot(art)
    with pytest.raises(ValueError, match="broken"):
        tune(broken_at(parts, "add", ValueError("broken"), after=after), job="t2")
    assert {**parts.snapshot(art), "jobs": None} == {**before, "jobs": None}
    parts.assert_indexed(art, range(COUNT))
    assert tune(parts, job="t3")["generation"] == 3  # its number is not used again: somebody may remember its family
    parts.assert_indexed(art, range(COUNT))


def test_an_index_that_finds_less_than_was_predicted_is_not_taken_into_use(parts: Parts, art: EmbeddingSet) -> None:
    tune(parts, job="t1")

    class Forgetful(Parts):
        def __post_init__(self) -> None:
            super().__post_init__()
            add = self.buckets.add
            self.buckets.add = lambda names, ids: add(names[::2], ids[::2])  # type: ignore[method-assign]

    with pytest.raises(Invalid, match=r"finds 0\.\d+ of the neighbours instead of 0\.9\d+.*not taken into use"):
        tune(Forgetful(parts.store, parts.redis, parts.queue), job="t2")
    parts.assert_indexed(art, range(COUNT))
    assert parts.catalog.current_index("art") is not None
    assert parts.generations(art) == {1}


def test_what_a_build_left_that_died_is_cleared_away(parts: Parts, art: EmbeddingSet) -> None:
    tune(parts, job="t1")
    parts.state.index_states.set("art", IndexState(1, 7, COUNT))
    parts.buckets.add([collection_prefix(art) + b"\x00\x07" + b"12345"], [1])
    tune(parts, job="t2")
    parts.assert_indexed(art, range(COUNT))


def test_an_index_that_is_lost_while_another_is_built_is_not_taken_for_known(parts: Parts, art: EmbeddingSet) -> None:
    """What was claimed is lost too, so a generation that is filled must not make the collection look whole."""
    tune(parts, job="t1")

    class Losing(Parts):
        def __post_init__(self) -> None:
            super().__post_init__()
            candidates = self.buckets.candidates

            def lose(names: Any) -> Any:
                self.redis.flushall()
                return candidates(names)

            self.buckets.candidates = lose  # type: ignore[method-assign]

    parts.job("t2", kind="tune")
    with pytest.raises((Invalid, Unavailable)):
        Losing(parts.store, parts.redis, parts.queue).maintenance().tuner.tune(
            collection="art", job="t2", request=TuningRequest(), apply=True
        )
    parts.maintenance().rebuilder.rebuild(collection="art")
    parts.assert_indexed(art, range(COUNT))
    assert parts.state.claims.count("art") == COUNT


@pytest.mark.parametrize(
    ("state", "size", "at_the_end", "underway"),
    [
        (IndexState(), 0, False, False),
        (IndexState(), 5, True, False),
        (IndexState(1, 0, 50), 99, False, False),
        (IndexState(1, 0, 50), 100, True, False),
        (IndexState(), 20_000, True, True),
        (IndexState(1, 0, 19_000), 19_999, False, False),
        (IndexState(1, 0, 19_000), 20_000, True, True),  # the size from which on the index answers
        (IndexState(2, 0, 20_000), 79_999, False, False),
        (IndexState(2, 0, 20_000), 80_000, True, True),
    ],
)
def test_an_index_is_tuned_when_it_begins_to_answer_and_each_time_it_has_grown_fourfold(
    state: IndexState, size: int, *, at_the_end: bool, underway: bool
) -> None:
    assert is_tuning_due(state, size, exact_below=EXACT_BELOW) == at_the_end
    assert is_tuning_due(state, size, exact_below=EXACT_BELOW, more_to_come=True) == underway


def test_a_job_that_goes_on_has_the_index_tuned_as_soon_as_it_is_to_answer(servers: Servers) -> None:
    sent: list[str] = []

    class Listening:
        def __getattr__(self, name: str) -> Callable[..., None]:
            return lambda **_: sent.append(name)

    parts = parts_of(servers.settings)
    parts.queue = Listening()
    art = parts.collection()
    job = parts.job(batches=100)
    for batch in range(4):
        outcome = parts.write(art, f"s{batch}", range(10 * batch, 10 * batch + 10))
        parts.indexer(exact_below=25).segments.index(
            set_name="art", segment=f"s{batch}", job=job, batch=batch, outcome=outcome
        )
        assert sent.count("maintain") == (1 if batch >= 2 else 0)  # not asked for again at once


def test_costs_are_measured_on_the_store_and_leave_nothing_there(servers: Servers) -> None:
    parts = parts_of(servers.settings)
    model = measure(parts.buckets, 64)
    assert list(parts.redis.scan_iter()) == []
    assert model.candidate_ms > 0
    assert model.hash_ms > 0
    assert model.of(products=0, lookups=64, members=64 * 32, candidates=0) > 0


# On the running system


def test_the_command_the_api_and_the_page_tell_how_well_the_index_finds(stack: Stack) -> None:
    client = Client(stack.url)
    client.upload("tuned", [(f"work {number}.jpg", picture(number)) for number in range(30)])
    client.wait_for_index("tuned")
    shown = stack.artseek("tune", "--collection", "tuned", "--dry-run")
    assert "voronoi" in shown
    assert "Nothing was written" in shown
    report = json.loads(stack.artseek("tune", "--collection", "tuned", "--family", "p-stable", "--json"))
    answer = client.call("GET /collections/{name}/index", name="tuned")
    assert answer.status == 200
    assert answer.json == report
    assert report["generation"] > 1
    missing = client.call("GET /collections/{name}/index", name="nothing-there")
    assert missing.status == 404
    failed = stack.artseek("tune", "--collection", "nothing-there", check=False)
    assert failed == ""
