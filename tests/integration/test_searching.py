"""Searches: the index with every bucket probed equals the exact scan, and both equal a plain computation."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest

from services.query.replica.replica_sync import ReplicaSync
from services.query.search.search_query import SearchQuery, SearchResult
from services.query.search.searcher import Searcher
from shared import tuning
from shared.clients import Clients
from shared.errors import IndexUnavailable, Invalid, NotFound, Unavailable
from shared.hashing import HashFamily
from shared.images import Limits
from shared.index.generations import Generation
from shared.rpc.query import MAX_AMONG, MAX_BATCH, MAX_EXAMPLES, MAX_K, MAX_PROBES, Metric, Mode
from shared.rpc.serving import ServingClient
from shared.state import Change, State, connect
from shared.storage import layout
from shared.storage.catalog import Catalog, CurrentIndex
from shared.storage.object_store import ObjectStore
from tests.support import rows
from tests.support.eventually import PATIENCE_S, eventually
from tests.support.processes import free_port
from tests.support.rows import Vectors
from tests.support.servers import Servers

DIM = 16
COUNT = 300
METRICS: tuple[Metric, ...] = get_args(Metric)
MODES: tuple[Mode, ...] = get_args(Mode)
KINDS = ("normalised", "raw")


def make_vectors(kind: str) -> Vectors:
    vectors = rows.embeddings(range(COUNT), DIM)
    if kind == "raw":  # of many lengths, all in one corner as after a ReLU
        vectors = np.abs(vectors) * np.random.default_rng(3).lognormal(2, 0.7, (COUNT, 1)).astype(np.float32)
    vectors[200:230] = vectors[100]  # copies under other ids
    return vectors


@cache
def fit_once(kind: str, seed: int, options: tuple[tuple[str, Any], ...]) -> HashFamily:
    chosen = dict(options)
    if "hashes" in chosen:
        chosen["family"] = "p-stable"
    return tuning.fit(make_vectors(kind), seed=seed, **chosen)


class System:
    """A collection of `COUNT` images in five segments, two of which share images, with an index, and its searcher."""

    def __init__(self, servers: Servers, folder: Path, kind: str, *, exact_below: int = 0) -> None:
        self._kind, self.vectors = kind, make_vectors(kind)
        self.index = connect(servers.settings.index_url.get_secret_value(), retries=0)
        self.catalog = Catalog(ObjectStore.from_settings(servers.settings))
        self.state = State.of(self.index)
        self.changes, self.buckets = self.state.changes, self.state.buckets
        self.clients = Clients(
            store=self.catalog.store,
            state=self.state,
            connect_model=lambda model, version: ServingClient(f"127.0.0.1:{free_port()}", model, version=version),
        )
        self.collection = self.catalog.create("art", model="lite", version=1, dim=DIM)
        for start in range(0, COUNT, 60):
            self.put(f"s{start}", range(max(0, start - 5), start + 60))
        self.replica_sync = ReplicaSync(self.catalog, self.state, folder)
        self.searcher = Searcher(self.clients, self.replica_sync, limits=Limits(), exact_below=exact_below)
        self.replica_sync.start()
        assert self.replica_sync.listed.wait(PATIENCE_S)
        self.wait_for_index()

    def wait_for_index(self) -> None:
        eventually(lambda: self.replica_sync.connected)

    def put(self, segment: str, numbers: Sequence[int]) -> None:
        data = rows.segment(numbers, self.collection, self.vectors[list(numbers)])
        self.catalog.store.put(layout.segment_key("art", segment), data)

    def fit(self, number: int, **options: Any) -> Generation:
        """Make an index generation with every image in it, and the one in use."""
        family = fit_once(self._kind, number, tuple(options.items()))
        generation = Generation(self.collection, number, family)
        generation.save(self.catalog.store)
        images = np.repeat(rows.ids(range(COUNT)), family.tables)
        self.buckets.add(generation.buckets(self.vectors), images.tolist())
        self.catalog.set_current_index("art", CurrentIndex(number, COUNT))
        self.changes.announce(Change("art", "index"))
        return generation

    def search(self, **wanted: object) -> SearchResult:
        return self.searcher.search(SearchQuery(collection="art", **wanted))[0]  # type: ignore[arg-type]

    def expected(self, query: Vectors, metric: Metric, numbers: Sequence[int], k: int) -> list[tuple[int, float]]:
        """Return ids and distances of the nearest of these images, ties by id: plainly, in float64."""
        points, target = self.vectors[list(numbers)].astype(np.float64), query.astype(np.float64)
        if metric == "cosine":
            distances = 1 - points @ target / (np.linalg.norm(points, axis=1) * np.linalg.norm(target))
        else:
            distances = np.linalg.norm(points - target, axis=1)
        pairs = zip(np.round(distances, 12).tolist(), rows.ids(numbers), strict=True)
        return [(image, distance) for distance, image in sorted(pairs)[:k]]


# Slots so wide, and hashes so few, that the probes of a table are all its buckets.
EVERY_BUCKET = {"tables": 3, "hashes": 2, "width": 4.0, "probes": 9}
EVERY_CELL = {"family": "voronoi", "tables": 2, "cells": 6, "probes": 6}

MakeSystem = Callable[..., System]


@pytest.fixture
def make(servers: Servers, tmp_path: Path) -> Iterator[MakeSystem]:
    made: list[System] = []

    def start(kind: str = "normalised", **options: int) -> System:
        made.append(System(servers, tmp_path, kind, **options))
        return made[-1]

    yield start
    for system in made:
        system.replica_sync.stop()


def hits(found: SearchResult) -> list[tuple[int, float]]:
    return [(hit.image_id, round(hit.distance, 12) + 0.0) for hit in found.hits]


def assert_same(found: SearchResult, wanted: Sequence[tuple[int, float]]) -> None:
    assert [image for image, _ in hits(found)] == [image for image, _ in wanted]
    assert [distance for _, distance in hits(found)] == pytest.approx([distance for _, distance in wanted], abs=2e-12)


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
        found = system.search(image_id=rows.image_id(100), k=k, mode="exact")
        assert [image for image, _ in hits(found)] == same[:k]


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
    fetch = system.buckets.candidates_of

    def switched_meanwhile(queries: Sequence[Sequence[bytes]]) -> object:
        system.buckets.candidates_of = fetch  # type: ignore[method-assign]
        system.fit(2, **EVERY_BUCKET)
        system.buckets.drop(old.prefix)
        return fetch(queries)

    system.buckets.candidates_of = switched_meanwhile  # type: ignore[assignment, method-assign]
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


# Filters, examples, cut-off, budget, batches

NUMBER_OF = {rows.image_id(number): number for number in range(COUNT)}


def moved(query: Vectors | None, like: Vectors, unlike: Vectors) -> Vectors:
    """Return what Rocchio's formula gives, plainly; only its direction counts for the cosine."""
    terms = [(1.0, query[np.newaxis])] if query is not None else []
    terms += [(0.75, like)] if len(like) else []
    terms += [(-0.25, unlike)] if len(unlike) else []
    point = sum(
        weight * (points / np.linalg.norm(points.astype(np.float64), axis=1, keepdims=True)).mean(axis=0)
        for weight, points in terms
    )
    return np.asarray(point, dtype=np.float64)


def let_through(wanted: dict[str, Any]) -> list[int]:
    """Return the numbers of the images that pass the filters, plainly."""
    labels, among = wanted.get("labels", ()), wanted.get("among")
    return [
        number
        for number in range(COUNT)
        if (not labels or rows.entry(number).label in labels) and (among is None or rows.image_id(number) in among)
    ]


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
            assert vars(found) | {"hits": [], "timings_ms": {}} == vars(alone) | {"hits": [], "timings_ms": {}}


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
