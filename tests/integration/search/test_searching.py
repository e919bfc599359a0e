"""Searches: the index with every bucket probed equals the exact scan, and both equal a plain computation."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from services.query.search.search_query import SearchQuery
from shared.errors import IndexUnavailable, Invalid, NotFound, Unavailable
from shared.rpc.query import MAX_AMONG, MAX_EXAMPLES, MAX_K, MAX_PROBES, Metric, Mode
from shared.state import Change, FetchedBuckets
from tests.support import rows
from tests.support.query_system import (
    COUNT,
    DIM,
    EVERY_BUCKET,
    EVERY_CELL,
    KINDS,
    METRICS,
    MODES,
    MakeSystem,
    assert_same,
    hits,
)
from tests.support.rows import Vectors
from tests.support.servers import Servers


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("family", [EVERY_BUCKET, EVERY_CELL], ids=["p-stable", "voronoi"])
def test_with_every_bucket_probed_the_index_equals_the_exact_scan_and_both_the_plain_computation(
    make: MakeSystem, kind: str, family: dict[str, Any]
) -> None:
    system = make(kind)
    system.fit(1, **family)
    rng = np.random.default_rng(8)
    queries = [system.vectors[5], system.vectors[100], system.vectors[7] + system.vectors[90]]
    queries.append(rng.standard_normal(DIM).astype(np.float32))
    for query in queries:
        for metric in METRICS:
            for k in (1, 10, 40, COUNT, MAX_K):
                exact = system.search(vector=query, k=k, metric=metric, mode="exact")
                lsh = system.search(vector=query, k=k, metric=metric, mode="lsh")
                assert (exact.mode, exact.candidates, exact.generation) == ("exact", COUNT, 0)
                assert (lsh.mode, lsh.candidates, lsh.generation) == ("lsh", COUNT, 1)
                assert_same(exact, system.expected(query, metric, range(COUNT), k))
                assert hits(lsh) == hits(exact)


@pytest.mark.parametrize("metric", METRICS)
def test_the_index_ranks_exactly_what_its_buckets_hold(make: MakeSystem, metric: Metric) -> None:
    system = make()
    generation = system.fit(1, tables=2, hashes=4, probes=2)
    for number in range(0, COUNT, 17):
        query = system.vectors[number]
        near = set(system.buckets.candidates(generation.probed(query, 2)).ids.tolist())
        numbers = [other for other in range(COUNT) if rows.image_id(other) in near]
        assert 0 < len(numbers) < COUNT
        found = system.search(vector=query, k=10, metric=metric, mode="lsh")
        assert found.candidates == len(numbers)
        assert_same(found, system.expected(query, metric, numbers, 10))
        more = system.search(vector=query, k=10, metric=metric, mode="lsh", probes=16)
        assert more.candidates >= found.candidates


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("metric", METRICS)
def test_an_image_finds_itself_first(make: MakeSystem, mode: Mode, metric: Metric) -> None:
    system = make("raw")
    system.fit(1)
    for number in (0, 59, 60, 99, 299):
        found = system.search(image_id=rows.image_id(number), mode=mode, metric=metric, k=3)
        assert hits(found)[0] == (rows.image_id(number), 0)
        assert found.hits[0].score == pytest.approx(1)


def test_copies_come_in_the_order_of_their_ids(make: MakeSystem) -> None:
    system = make()
    same = sorted(rows.ids([100, *range(200, 230)]))
    for k in (5, 31):
        found = system.search(vector=system.vectors[100], k=k, mode="exact")
        assert [image for image, _ in hits(found)] == same[:k]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("metric", METRICS)
def test_of_thirty_copies_the_image_asked_for_comes_first(make: MakeSystem, mode: Mode, metric: Metric) -> None:
    system = make("raw")
    system.fit(1)
    same = rows.ids([100, *range(200, 230)])
    for image_id in same:
        found = [image for image, _ in hits(system.search(image_id=image_id, k=5, mode=mode, metric=metric))]
        assert found == [image_id, *sorted(set(same) - {image_id})[:4]]
    (batch, _) = system.searcher.search_batch(SearchQuery(collection="art", k=1, mode=mode, metric=metric), same)
    assert [hits(found)[0][0] for found in batch] == same


@pytest.mark.parametrize("budget", [None, 1, 5])
def test_an_image_finds_itself_past_full_buckets_and_a_small_budget(make: MakeSystem, budget: int | None) -> None:
    system = make()
    system.fit(1)
    system.buckets.limit = 2  # ids of a bucket
    for image_id in rows.ids([100, *range(200, 230)]):
        found = system.search(image_id=image_id, k=5, mode="lsh", budget=budget)
        assert hits(found)[0] == (image_id, 0)
        assert budget is None or found.candidates <= budget
    drawings = system.search(image_id=rows.image_id(100), mode="lsh", labels=("drawing",))  # which it is not
    assert rows.image_id(100) not in [hit.image_id for hit in drawings.hits]


def test_the_mode_is_chosen_by_size_and_by_what_there_is(make: MakeSystem) -> None:
    system = make(exact_below=COUNT)
    query = system.vectors[3]
    assert system.search(vector=query, mode="lsh").mode == "exact"  # there is no index yet
    system.fit(1, **EVERY_BUCKET)
    assert system.search(vector=query, mode="lsh").mode == "lsh"
    assert system.search(vector=query, mode="auto").mode == "lsh"
    assert system.search(vector=query, mode="exact").mode == "exact"
    system.searcher._exact_below = COUNT + 1
    assert system.search(vector=query, mode="auto").mode == "exact"


def test_too_few_candidates_make_auto_scan(make: MakeSystem) -> None:
    system = make()
    system.fit(1, tables=1, hashes=8, probes=1)
    query = -system.vectors[3] * np.float32(0.5)  # unlike anything
    lsh = system.search(vector=query, k=200, mode="lsh")
    assert (lsh.mode, lsh.generation) == ("lsh", 1)
    assert len(lsh.hits) == lsh.candidates < 200
    auto = system.search(vector=query, k=200, mode="auto")
    assert (auto.mode, auto.candidates, len(auto.hits), auto.generation) == ("exact", COUNT, 200, 0)


def test_a_deleted_image_is_in_no_answer_though_its_buckets_hold_it(make: MakeSystem) -> None:
    system = make()
    system.fit(1, **EVERY_BUCKET)
    image = rows.image_id(57)  # which two segments have
    for segment in ("s0", "s60"):
        system.catalog.add_tombstones("art", [(segment, image)])
        system.changes.announce(Change("art", "deleted", f"{segment}/{image}"))
    others = [number for number in range(COUNT) if number != 57]
    for mode in MODES:
        found = system.search(vector=system.vectors[57], mode=mode, k=20)
        assert_same(found, system.expected(system.vectors[57], "cosine", others, 20))
        assert found.candidates == COUNT - 1
    with pytest.raises(NotFound, match=str(image)):
        system.search(image_id=image)


def test_a_switch_to_another_generation_is_followed_within_a_search(make: MakeSystem) -> None:
    """The buckets of the old one are dropped at once: a search that has just probed them must not come out empty."""
    system = make()
    old = system.fit(1, **EVERY_BUCKET)
    system.search(vector=system.vectors[3], mode="lsh")
    fetch = system.buckets.fetch

    def switched_meanwhile(names: Sequence[bytes], *, streams: Sequence[str] = ()) -> FetchedBuckets:
        system.buckets.fetch = fetch  # type: ignore[method-assign]
        system.fit(2, **EVERY_BUCKET)
        system.buckets.drop(old.prefix)
        return fetch(names, streams=streams)

    system.buckets.fetch = switched_meanwhile  # type: ignore[method-assign]
    found = system.search(vector=system.vectors[3], mode="lsh")
    assert (found.generation, found.candidates) == (2, COUNT)


def test_without_the_index_lsh_says_so_and_the_others_scan(make: MakeSystem, servers: Servers) -> None:
    system = make()
    system.fit(1, **EVERY_BUCKET)
    query = system.vectors[3]
    assert system.search(vector=query, mode="lsh").mode == "lsh"
    servers.index.kill()
    with pytest.raises(IndexUnavailable):
        system.search(vector=query, mode="lsh")
    for mode in ("auto", "exact"):
        found = system.search(vector=query, mode=mode)
        assert (found.mode, found.candidates) == ("exact", COUNT)
    servers.index.start()
    system.wait_for_index()
    assert system.search(vector=query, mode="auto").mode == "lsh"


def test_an_unknown_collection_or_image_is_not_found(make: MakeSystem) -> None:
    system = make()
    with pytest.raises(NotFound, match="'nowhere'"):
        system.searcher.search(SearchQuery(collection="nowhere", vector=system.vectors[0]))
    with pytest.raises(NotFound, match="12345"):
        system.search(image_id=12345)


@pytest.mark.parametrize(
    "vector",
    [
        np.zeros(DIM - 1, np.float32),
        np.zeros(DIM + 1, np.float32),
        np.zeros((1, DIM), np.float32),
        np.empty(0, np.float32),
        np.full(DIM, np.nan, np.float32),
        np.full(DIM, np.inf, np.float32),
    ],
)
@pytest.mark.parametrize("mode", MODES)
def test_a_wrong_vector_is_refused(make: MakeSystem, vector: Vectors, mode: Mode) -> None:
    system = make()
    with pytest.raises(Invalid, match=f"expected {DIM} finite"):
        system.search(vector=vector, mode=mode)


@pytest.mark.filterwarnings("ignore:overflow", "ignore:invalid value")
@pytest.mark.parametrize("value", [0.0, 1e-30, 3e38])
@pytest.mark.parametrize("metric", METRICS)
def test_a_vector_of_any_length_is_answered(make: MakeSystem, value: float, metric: Metric) -> None:
    system = make()
    system.fit(1, **EVERY_BUCKET)
    for mode in MODES:
        found = system.search(vector=np.full(DIM, value, np.float32), metric=metric, mode=mode, k=7)
        assert len(found.hits) == 7
        assert all(np.isfinite([hit.score, hit.distance]).all() for hit in found.hits)


@pytest.mark.parametrize(
    ("wanted", "told"),
    [
        ({"k": 0}, "k is 0"),
        ({"k": MAX_K + 1}, f"1 to {MAX_K}"),
        ({"probes": 0}, "probes is 0"),
        ({"probes": MAX_PROBES + 1}, f"1 to {MAX_PROBES}"),
        ({"vector": None}, "nothing to search for"),
        ({"budget": 0}, "budget is 0, expected at least 1"),
        ({"min_score": float("nan")}, "min_score is nan"),
        ({"among": np.arange(MAX_AMONG + 1)}, f"ids in among is {MAX_AMONG + 1}, expected 0 to {MAX_AMONG}"),
        ({"like": [1] * (MAX_EXAMPLES + 1)}, f"ids in like is {MAX_EXAMPLES + 1}, expected 0 to {MAX_EXAMPLES}"),
        ({"unlike": [1] * (MAX_EXAMPLES + 1)}, "ids in unlike"),
        ({"labels": [str(number) for number in range(1001)]}, "number of labels is 1001"),
    ],
)
def test_a_parameter_that_does_not_fit_is_named(make: MakeSystem, wanted: dict[str, object], told: str) -> None:
    system = make()
    with pytest.raises(Invalid, match=told):
        system.search(**{"vector": system.vectors[0], **wanted})


@pytest.mark.parametrize("probes", [1, 2, MAX_PROBES])
def test_every_number_of_probes_that_is_allowed_is_taken(make: MakeSystem, probes: int) -> None:
    system = make()
    system.fit(1)
    found = system.search(image_id=rows.image_id(3), mode="lsh", probes=probes)
    assert hits(found)[0][0] == rows.image_id(3)


def test_a_collection_without_images_has_no_hits(make: MakeSystem) -> None:
    system = make()
    system.catalog.create("empty", model="lite", version=1, dim=DIM)
    system.changes.announce(Change("empty", "collection"))
    for mode in MODES:
        found, replica = system.searcher.search(SearchQuery(collection="empty", vector=system.vectors[0], mode=mode))
        assert (found.hits, found.candidates, found.mode, replica.view.images) == ([], 0, "exact", 0)


def test_stages_are_timed(make: MakeSystem) -> None:
    system = make()
    system.fit(1)
    found = system.search(image_id=rows.image_id(3), mode="lsh")
    assert set(found.timings_ms) == {"total", "probe", "fetch", "rank"}
    assert all(spent >= 0 for spent in found.timings_ms.values())
    assert found.timings_ms["total"] >= sum(found.timings_ms[stage] for stage in ("probe", "fetch", "rank"))


def test_a_query_image_without_a_model_server_is_unavailable_and_other_searches_go_on(make: MakeSystem) -> None:
    system = make()
    with pytest.raises(Unavailable):
        system.searcher.search(SearchQuery(collection="art", image=b"any"), time_left_s=0.5)
    assert system.search(image_id=rows.image_id(3)).hits
