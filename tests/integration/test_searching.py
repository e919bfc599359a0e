"""Searches: the index with every bucket probed equals the exact scan, and both equal a plain computation."""

import time
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest

from services.query.follower import Follower
from services.query.searching import MAX_K, MAX_PROBES, Found, Searcher, Wanted
from shared import hashing, layout
from shared.catalog import Catalog, CurrentIndex
from shared.errors import IndexUnavailable, Invalid, NotFound, Unavailable
from shared.generations import Generation
from shared.hashing import HashFamily
from shared.images import Limits
from shared.index import BucketStore, Change, Changes, connect
from shared.query import Metric, Mode
from shared.serving import ServingClient
from shared.store import ObjectStore
from tests import rows
from tests.conftest import free_port
from tests.integration.conftest import Servers
from tests.rows import Vectors

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
    return hashing.fit(make_vectors(kind), seed=seed, **dict(options))


class System:
    """A collection of `COUNT` images in five segments, two of which share images, with an index, and its searcher."""

    def __init__(self, servers: Servers, folder: Path, kind: str, *, exact_below: int = 0) -> None:
        self._kind, self.vectors = kind, make_vectors(kind)
        self.index = connect(servers.settings.index_url.get_secret_value(), retries=0)
        self.catalog = Catalog(ObjectStore.from_settings(servers.settings))
        self.changes, self.buckets = Changes(self.index), BucketStore(self.index)
        self.collection = self.catalog.create("art", model="lite", version=1, dim=DIM)
        for start in range(0, COUNT, 60):
            self.put(f"s{start}", range(max(0, start - 5), start + 60))
        self.follower = Follower(catalog=self.catalog, changes=self.changes, folder=folder)
        self.searcher = Searcher(
            follower=self.follower,
            buckets=self.buckets,
            connect_model=lambda model, version: ServingClient(f"127.0.0.1:{free_port()}", model, version=version),
            limits=Limits(),
            exact_below=exact_below,
        )
        self.follower.start()
        assert self.follower.listed.wait(60)
        self.wait_for_index()

    def wait_for_index(self) -> None:
        until = time.monotonic() + 60
        while not self.follower.connected:
            assert time.monotonic() < until
            time.sleep(0.02)

    def put(self, segment: str, numbers: Sequence[int]) -> None:
        data = rows.segment(numbers, self.collection, self.vectors[list(numbers)])
        self.catalog.store.put(layout.segment_key("art", segment), data)

    def fit(self, number: int, **options: float) -> Generation:
        """Make an index generation with every image in it, and the one in use."""
        family = fit_once(self._kind, number, tuple(options.items()))
        generation = Generation(self.collection, number, family)
        generation.save(self.catalog.store)
        images = np.repeat(rows.ids(range(COUNT)), family.tables)
        self.buckets.add(generation.buckets(self.vectors), images.tolist())
        self.catalog.set_current_index("art", CurrentIndex(number, COUNT))
        self.changes.announce(Change("art", "index"))
        return generation

    def search(self, **wanted: object) -> Found:
        return self.searcher.search(Wanted(collection="art", **wanted))[0]  # type: ignore[arg-type]

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

MakeSystem = Callable[..., System]


@pytest.fixture
def make(servers: Servers, tmp_path: Path) -> Iterator[MakeSystem]:
    made: list[System] = []

    def start(kind: str = "normalised", **options: int) -> System:
        made.append(System(servers, tmp_path, kind, **options))
        return made[-1]

    yield start
    for system in made:
        system.follower.stop()


def hits(found: Found) -> list[tuple[int, float]]:
    return [(int(hit.pack.ids[hit.row]), round(hit.distance, 12) + 0.0) for hit in found.hits]


def assert_same(found: Found, wanted: Sequence[tuple[int, float]]) -> None:
    assert [image for image, _ in hits(found)] == [image for image, _ in wanted]
    assert [distance for _, distance in hits(found)] == pytest.approx([distance for _, distance in wanted], abs=2e-12)


@pytest.mark.parametrize("kind", KINDS)
def test_with_every_bucket_probed_the_index_equals_the_exact_scan_and_both_the_plain_computation(
    make: MakeSystem, kind: str
) -> None:
    system = make(kind)
    system.fit(1, **EVERY_BUCKET)
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
        near = set(system.buckets.candidates(generation.probed(query, 2))[0].tolist())
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
        found = system.search(id=rows.image_id(number), mode=mode, metric=metric, k=3)
        assert hits(found)[0] == (rows.image_id(number), 0)
        assert found.hits[0].score == pytest.approx(1)


def test_copies_come_in_the_order_of_their_ids(make: MakeSystem) -> None:
    system = make()
    same = sorted(rows.ids([100, *range(200, 230)]))
    for k in (5, 31):
        found = system.search(id=rows.image_id(100), k=k, mode="exact")
        assert [image for image, _ in hits(found)] == same[:k]


def test_the_mode_is_chosen_by_size_and_by_what_there_is(make: MakeSystem) -> None:
    system = make(exact_below=COUNT)
    query = system.vectors[3]
    assert system.search(vector=query, mode="lsh").mode == "exact"  # there is no index yet
    system.fit(1)
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
        system.catalog.bury("art", [(segment, image)])
        system.changes.announce(Change("art", "deleted", f"{segment}/{image}"))
    others = [number for number in range(COUNT) if number != 57]
    for mode in MODES:
        found = system.search(vector=system.vectors[57], mode=mode, k=20)
        assert_same(found, system.expected(system.vectors[57], "cosine", others, 20))
        assert found.candidates == COUNT - 1
    with pytest.raises(NotFound, match=str(image)):
        system.search(id=image)


def test_a_switch_to_another_generation_is_followed_within_a_search(make: MakeSystem) -> None:
    """The buckets of the old one are dropped at once: a search that has just probed them must not come out empty."""
    system = make()
    old = system.fit(1, **EVERY_BUCKET)
    system.search(vector=system.vectors[3], mode="lsh")
    fetch = system.buckets.candidates

    def switched_meanwhile(names: Sequence[bytes]) -> object:
        system.buckets.candidates = fetch  # type: ignore[method-assign]
        system.fit(2, **EVERY_BUCKET)
        system.buckets.drop(old.prefix)
        return fetch(names)

    system.buckets.candidates = switched_meanwhile  # type: ignore[assignment, method-assign]
    found = system.search(vector=system.vectors[3], mode="lsh")
    assert (found.generation, found.candidates) == (2, COUNT)


def test_without_the_index_lsh_says_so_and_the_others_scan(make: MakeSystem, servers: Servers) -> None:
    system = make()
    system.fit(1)
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
        system.searcher.search(Wanted(collection="nowhere", vector=system.vectors[0]))
    with pytest.raises(NotFound, match="12345"):
        system.search(id=12345)


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
    found = system.search(id=rows.image_id(3), mode="lsh", probes=probes)
    assert hits(found)[0][0] == rows.image_id(3)


def test_a_collection_without_images_has_no_hits(make: MakeSystem) -> None:
    system = make()
    system.catalog.create("empty", model="lite", version=1, dim=DIM)
    system.changes.announce(Change("empty", "collection"))
    for mode in MODES:
        found, copy = system.searcher.search(Wanted(collection="empty", vector=system.vectors[0], mode=mode))
        assert (found.hits, found.candidates, found.mode, copy.counts().images) == ([], 0, "exact", 0)


def test_stages_are_timed(make: MakeSystem) -> None:
    system = make()
    system.fit(1)
    found = system.search(id=rows.image_id(3), mode="lsh")
    assert set(found.timings_ms) == {"total", "probe", "rank"}
    assert all(spent >= 0 for spent in found.timings_ms.values())
    assert found.timings_ms["total"] >= found.timings_ms["probe"] + found.timings_ms["rank"]


def test_a_query_image_without_a_model_server_is_unavailable_and_other_searches_go_on(make: MakeSystem) -> None:
    system = make()
    with pytest.raises(Unavailable):
        system.searcher.search(Wanted(collection="art", image=b"any"), time_left_s=0.5)
    assert system.search(id=rows.image_id(3)).hits
