"""Filters, examples, cut-off, budget and batches: each is compared with a plain computation."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from services.query.search.search_query import SearchQuery
from shared.errors import Invalid, NotFound
from shared.rpc.query import MAX_BATCH, Metric, Mode
from shared.state import Change
from tests.support import rows
from tests.support.query_system import (
    COUNT,
    DIM,
    EVERY_BUCKET,
    KINDS,
    METRICS,
    MODES,
    NUMBER_OF,
    MakeSystem,
    assert_same,
    hits,
    let_through,
)
from tests.support.rows import Vectors


def moved(query: Vectors | None, like: Vectors, unlike: Vectors) -> Vectors:
    """Return what Rocchio's formula gives, plainly; only its direction counts for the cosine."""
    terms = [(1.0, query[np.newaxis])] if query is not None else []
    terms += [(2.0, like)] if len(like) else []
    terms += [(-1.0, unlike)] if len(unlike) else []
    point = sum(
        weight * (points / np.linalg.norm(points.astype(np.float64), axis=1, keepdims=True)).mean(axis=0)
        for weight, points in terms
    )
    return np.asarray(point, dtype=np.float64)


def draw(chance: np.random.Generator) -> dict[str, Any]:
    """Return filters, a cut-off and a number of hits, each given or not."""
    wanted: dict[str, Any] = {"k": int(chance.choice([1, 5, 40, COUNT]))}
    if chance.random() < 0.5:
        names = ["painting", "drawing", "nothing"]
        wanted["labels"] = chance.choice(names, int(chance.integers(1, 3)), replace=False).tolist()
    if chance.random() < 0.5:
        some = chance.choice(COUNT, int(chance.choice([1, 30, 200])), replace=False).tolist()
        wanted["among"] = np.array([*rows.ids(some), *rows.ids(some[:3]), 77], dtype=np.int64)
    if chance.random() < 0.4:
        wanted["min_score"] = float(chance.choice([0.2, 0.5, 0.9]))
    return wanted


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("metric", METRICS)
def test_all_combinations_of_filters_and_examples_equal_a_plain_computation(
    make: MakeSystem, kind: str, metric: Metric
) -> None:
    system = make(kind)
    system.fit(1, **EVERY_BUCKET)
    chance = np.random.default_rng(5)
    for _ in range(60):
        wanted = draw(chance)
        numbers = let_through(wanted)
        query: Vectors | None = system.vectors[int(chance.integers(COUNT))]
        if chance.random() < 0.5:
            like, unlike = (chance.choice(COUNT, int(chance.integers(0, 4))).tolist() for _ in range(2))
            wanted |= {"like": rows.ids(like), "unlike": rows.ids(unlike)}
            if like and chance.random() < 0.5:
                query = None
            if like or unlike:
                direction = moved(query, system.vectors[like], system.vectors[unlike])
                given = system.vectors[like + unlike] if query is None else query[np.newaxis]
                length = np.linalg.norm(given.astype(np.float64), axis=1).mean()
                target = (direction / np.linalg.norm(direction) * length).astype(np.float32)
            else:
                target = query
        else:
            target = query
        assert target is not None
        plain = system.expected(target, metric, numbers, wanted["k"])
        least = wanted.get("min_score", -1.0)
        plain = [
            (image, distance)
            for image, distance in plain
            if (1 - distance if metric == "cosine" else 1 / (1 + distance)) >= least
        ]
        for mode in MODES:
            found = system.search(vector=query, mode=mode, metric=metric, **wanted)
            assert found.candidates == len(numbers)
            distances = [distance for _, distance in hits(found)]
            # The moved query differs in its last bit from the plain one: so may distances, and the order of copies.
            assert distances == pytest.approx([distance for _, distance in plain], abs=1e-5)
            assert {image for image, _ in hits(found)} <= set(rows.ids(numbers))
            if not wanted.get("like") and not wanted.get("unlike"):
                assert_same(found, plain)


def test_in_the_modes_that_choose_few_left_by_a_filter_are_scanned_and_many_are_not(make: MakeSystem) -> None:
    system = make(exact_below=50)
    system.fit(1)
    query = system.vectors[3]
    few = np.array(rows.ids(range(40)), dtype=np.int64)
    for wanted, mode, ranked in (
        ({"among": few}, "exact", 40),
        ({"labels": ["drawing"], "among": few}, "exact", 14),
        ({"labels": ["nothing"]}, "exact", 0),
        ({"k": 1}, "lsh", None),
        ({"k": 1, "labels": ["drawing"]}, "lsh", None),
    ):
        found = system.search(vector=query, mode="auto", **wanted)
        assert found.mode == mode
        assert ranked in {found.candidates, None}
    assert system.search(vector=query, mode="lsh", among=few).mode == "lsh"


def test_an_index_that_yields_too_few_through_the_filter_makes_auto_scan_what_passes(make: MakeSystem) -> None:
    system = make()
    generation = system.fit(1, tables=2, hashes=6, probes=1)
    number = 3
    near = system.buckets.candidates(generation.probed(system.vectors[number])).ids
    others = [other for other in range(COUNT) if rows.image_id(other) not in near]
    wanted = {"among": np.array(rows.ids([number, *others[:80]]), dtype=np.int64), "k": 5}
    lsh = system.search(vector=system.vectors[number], mode="lsh", **wanted)
    assert ([image for image, _ in hits(lsh)], lsh.candidates) == ([rows.image_id(number)], 1)
    assert (lsh.seen, lsh.probed_buckets) == (len(near), 2)
    auto = system.search(vector=system.vectors[number], mode="auto", **wanted)
    assert (auto.mode, auto.candidates) == ("exact", 81)
    assert_same(auto, system.expected(system.vectors[number], "cosine", [number, *others[:80]], 5))


def test_a_cut_off_makes_no_scan_of_what_the_index_answers(make: MakeSystem) -> None:
    system = make()
    system.fit(1, **EVERY_BUCKET)
    found = system.search(vector=system.vectors[3], mode="auto", k=10, min_score=0.9999999)
    assert found.mode == "lsh"
    assert [image for image, _ in hits(found)] == [rows.image_id(3)]


@pytest.mark.parametrize("budget", [1, 5, 20, 60, 10_000])
def test_a_budget_keeps_those_seen_most_and_of_these_the_ones_probed_first(make: MakeSystem, budget: int) -> None:
    system = make()
    generation = system.fit(1, tables=4, hashes=3, probes=3)
    labels = {"painting"}
    for number in range(0, COUNT, 23):
        query = system.vectors[number]
        seen: dict[int, list[int]] = {}
        for place, name in enumerate(generation.probed(query)):
            for image in system.buckets.candidates([name]).ids.tolist():
                seen.setdefault(image, []).append(place)
        passed = [image for image in seen if rows.entry(NUMBER_OF[image]).label in labels]
        kept = sorted(passed, key=lambda image: (-len(seen[image]), seen[image][0], image))[:budget]
        found = system.search(vector=query, mode="lsh", k=10, budget=budget, labels=labels)
        assert (found.candidates, found.seen) == (len(kept), len(seen))
        assert_same(found, system.expected(query, "cosine", [NUMBER_OF[image] for image in kept], 10))


def test_an_answer_tells_of_the_buckets_that_were_cut(make: MakeSystem) -> None:
    system = make()
    generation = system.fit(1, tables=1, hashes=1, width=2.0, probes=3)
    query = system.vectors[3]
    sizes = [len(system.buckets.candidates([name]).ids) for name in generation.probed(query)]
    limit = sorted(sizes)[-2]
    system.buckets.limit = limit
    found = system.search(vector=query, mode="lsh")
    assert found.probed_buckets == len(sizes)
    assert found.truncated_buckets == sum(size > limit for size in sizes) > 0
    assert found.seen == sum(min(size, limit) for size in sizes)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("metric", METRICS)
def test_a_batch_finds_what_each_query_finds_alone(make: MakeSystem, mode: Mode, metric: Metric) -> None:
    system = make("raw")
    system.fit(1, tables=2, hashes=5, probes=2)  # some find too few by the index
    chance = np.random.default_rng(1)
    queries: list[int | Vectors] = [rows.image_id(number) for number in range(0, COUNT, 11)]
    queries += [*system.vectors[::40], -system.vectors[3], system.vectors[100]]
    for _ in range(6):
        wanted = draw(chance) | {"mode": mode, "metric": metric}
        if chance.random() < 0.5:
            wanted |= {"budget": 20, "like": rows.ids([7, 9])}
        results, _ = system.searcher.search_batch(SearchQuery(collection="art", **wanted), queries)
        for query, found in zip(queries, results, strict=True):
            alone = system.search(**wanted, **({"image_id": query} if isinstance(query, int) else {"vector": query}))
            assert hits(found) == hits(alone)
            assert replace(found, hits=[], timings_ms={}) == replace(alone, hits=[], timings_ms={})


def test_a_batch_is_checked(make: MakeSystem) -> None:
    system = make()
    cases: list[tuple[list[int | Vectors], str]] = [
        ([], f"number of queries is 0, expected 1 to {MAX_BATCH}"),
        ([rows.image_id(1)] * (MAX_BATCH + 1), f"number of queries is {MAX_BATCH + 1}"),
        ([rows.image_id(1), np.zeros(DIM + 1, np.float32)], "vector of query 1"),
    ]
    for queries, told in cases:
        with pytest.raises(Invalid, match=told):
            system.searcher.search_batch(SearchQuery(collection="art"), queries)
    with pytest.raises(NotFound, match="12345"):
        system.searcher.search_batch(SearchQuery(collection="art"), [12345])


def test_an_example_that_is_not_there_is_named_and_one_that_is_may_be_found(make: MakeSystem) -> None:
    system = make()
    for wanted in ({"like": [12345]}, {"unlike": [2**62]}):
        with pytest.raises(NotFound, match=str(next(iter(wanted.values()))[0])):
            system.search(vector=system.vectors[0], **wanted)
    found = system.search(like=[rows.image_id(5)], k=1)
    assert [image for image, _ in hits(found)] == [rows.image_id(5)]
    found = system.search(image_id=rows.image_id(8), k=1)
    assert hits(found) == [(rows.image_id(8), 0.0)]


def test_searches_at_the_same_time_do_not_disturb_each_other(make: MakeSystem) -> None:
    """While images come and go; each finds what it would alone, but for these."""
    system = make()
    system.fit(1, **EVERY_BUCKET)
    queries = list(range(0, 200, 7))
    alone = {number: hits(system.search(vector=system.vectors[number], k=5, mode="exact")) for number in queries}
    extra = SearchQuery(collection="art", like=rows.ids([1, 2]), k=50)

    def search(number: int) -> None:
        for mode in ("lsh", "exact"):
            assert hits(system.search(vector=system.vectors[number], k=5, mode=mode)) == alone[number]
        system.searcher.search(extra)

    with ThreadPoolExecutor(4) as threads:
        running = [threads.submit(search, number) for number in queries * 3]
        for step in range(20):
            system.put(f"copy{step}", range(step, step + 40))  # the same images once more
            system.changes.announce(Change("art", "segment", f"copy{step}"))
            system.changes.announce(Change("art", "deleted", f"copy{step}/{rows.image_id(step)}"))
        for each in running:
            each.result()
