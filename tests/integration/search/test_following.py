"""Searches follow what is announced though no thread does, by one round trip, and buckets in memory hide nothing."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

from services.query.search.bucket_cache import BucketCache
from services.query.search.search_query import SearchQuery
from shared.errors import IndexUnavailable, Invalid, NotFound
from shared.index.generations import Generation
from shared.rpc.query import Mode
from shared.state import Change
from shared.storage import layout
from tests.support import rows
from tests.support.cluster_servers import ClusterServers
from tests.support.query_system import COUNT, DIM, EVERY_BUCKET, EVERY_CELL, MODES, MakeSystem, System, hits
from tests.support.servers import Servers

LATER = range(COUNT, COUNT + 12)


def come(system: System, generation: Generation, number: int) -> int:
    """Add an image as the indexer does: segment, buckets, announcement; returns its id."""
    vector = rows.embeddings([number], DIM)
    data = rows.segment([number], system.collection, vector)
    system.catalog.store.put(layout.segment_key("art", f"late-{number}"), data)
    generation.add(system.buckets, np.array(rows.ids([number])), vector)
    system.changes.announce(Change("art", "segment", f"late-{number}"))
    return rows.image_id(number)


def go(system: System, generation: Generation, number: int) -> int:
    """Delete an image as the indexer does; returns its id."""
    image = rows.image_id(number)
    system.catalog.add_tombstones("art", [(f"late-{number}", image)])
    generation.remove(system.buckets, np.array([image]), rows.embeddings([number], DIM))
    system.changes.announce(Change("art", "deleted", f"late-{number}/{image}"))
    return image


def unfollowed(system: System) -> System:
    """Return a system in which no thread follows the changes any more: a search has what it reads itself."""
    system.replica_sync.stop()
    return system


@pytest.mark.parametrize("where", ["a server", "a cluster"])
def test_the_first_search_after_an_announcement_finds_the_image_and_after_a_deletion_does_not(
    make: MakeSystem, cluster: ClusterServers, where: str
) -> None:
    system = make(**({"index_url": cluster.url} if where == "a cluster" else {}))
    generation = system.fit(1, tables=3, hashes=4, probes=4)
    unfollowed(system)
    searches: list[Callable[[int], list[int]]] = [
        *(lambda number, mode=mode: found(system, mode, vector=rows.embedding(number, DIM)) for mode in MODES),
        *(lambda number, mode=mode: found(system, mode, image_id=rows.image_id(number)) for mode in MODES),
        lambda number: batch(system, rows.embedding(number, DIM)),
        lambda number: batch(system, rows.image_id(number)),
    ]
    for number, search in zip(LATER, searches, strict=False):
        found(system, "lsh", vector=rows.embedding(number, DIM))  # its buckets are in memory now
        image = come(system, generation, number)
        assert search(number)[0] == image
        assert search(number)[0] == image
        go(system, generation, number)
        assert image not in remaining(search, number)


def remaining(search: Callable[[int], list[int]], number: int) -> list[int]:
    """Return what a search for an image that was deleted finds: nothing if it asks for the image itself."""
    try:
        return search(number)
    except NotFound:
        return []


def found(system: System, mode: Mode, **wanted: object) -> list[int]:
    return [image for image, _ in hits(system.search(mode=mode, k=5, **wanted))]


def batch(system: System, query: object) -> list[int]:
    options = SearchQuery(collection="art", mode="lsh", k=5)
    (results, _) = system.searcher.search_batch(options, [rows.image_id(3), query])  # type: ignore[list-item]
    return [image for image, _ in hits(results[1])]


def test_searches_on_several_threads_find_each_image_from_its_announcement_on(make: MakeSystem) -> None:
    """While others come and go: what one thread reads, and holds in memory, never hides an image from another."""
    system = make()
    generation = system.fit(1, tables=3, hashes=4, probes=4)
    known: list[int] = []
    missed: list[int] = []
    done = threading.Event()

    def search(seed: int) -> int:
        rng, searches = np.random.default_rng(seed), 0
        while not done.is_set() or searches < 20:
            if not known:
                continue
            number = known[-1] if searches % 2 else known[int(rng.integers(len(known)))]
            result = system.search(vector=rows.embedding(number, DIM), mode="lsh", k=1)
            if (result.mode, hits(result)[0][0]) != ("lsh", rows.image_id(number)):
                missed.append(number)
            searches += 1
        return searches

    with ThreadPoolExecutor(3) as threads:
        running = [threads.submit(search, seed) for seed in range(3)]
        try:
            for number in range(COUNT, COUNT + 60):
                come(system, generation, number)
                known.append(number)
                come(system, generation, number + 1000)
                go(system, generation, number + 1000)
        finally:
            done.set()
        assert min(thread.result() for thread in running) >= 20
    assert missed == []


def test_a_search_by_the_index_is_one_round_trip_and_fetches_no_bucket_that_is_in_memory(make: MakeSystem) -> None:
    system = make()
    system.fit(1)
    first = [system.search(image_id=rows.image_id(number), mode="lsh") for number in range(10)]
    unfollowed(system)
    before = calls(system)
    again = [system.search(image_id=rows.image_id(number), mode="lsh") for number in range(10)]
    after = calls(system)
    assert [hits(result) for result in again] == [hits(result) for result in first]
    assert [(result.candidates, result.seen) for result in again] == [
        (result.candidates, result.seen) for result in first
    ]
    assert {name: after.get(name, 0) - before.get(name, 0) for name in ("ping", "xrevrange")} == {
        "ping": 10,  # ends each round trip
        "xrevrange": 10,
    }
    for name in ("srandmember", "sscan", "smembers", "xrange", "xread"):
        assert after.get(name, 0) == before.get(name, 0), name


def calls(system: System) -> dict[str, int]:
    """Return how often the server has run each command."""
    stats = system.index.info("commandstats")
    return {name.removeprefix("cmdstat_"): stat["calls"] for name, stat in stats.items()}


def test_without_room_in_memory_answers_are_the_same(make: MakeSystem) -> None:
    system = make()
    system.fit(1, tables=2, hashes=4, probes=3)
    wanted = [system.search(image_id=rows.image_id(number), mode="lsh") for number in range(0, 60, 7)]
    system.searcher._candidates._reader._cache = BucketCache(0)
    for place, number in enumerate(range(0, 60, 7)):
        result = system.search(image_id=rows.image_id(number), mode="lsh")
        assert (hits(result), result.seen) == (hits(wanted[place]), wanted[place].seen)


def test_a_batch_finds_what_each_search_finds(make: MakeSystem) -> None:
    system = make("raw")
    families: list[dict[str, Any]] = [EVERY_BUCKET, EVERY_CELL, {"tables": 3, "hashes": 4, "probes": 5}]
    for number, family in enumerate(families, 1):
        system.fit(number, **family)
        queries = [*rows.ids(range(0, COUNT, 3)), *system.vectors[::50]]
        for budget in (None, 7):
            options = SearchQuery(collection="art", mode="lsh", k=7, budget=budget)
            (results, _) = system.searcher.search_batch(options, queries)
            for query, result in zip(queries, results, strict=True):
                kind = "image_id" if isinstance(query, int) else "vector"
                alone = system.search(**{kind: query}, mode="lsh", k=7, budget=budget)
                assert hits(result) == hits(alone)
                assert (result.candidates, result.seen) == (alone.candidates, alone.seen)


def test_a_switch_to_another_generation_and_another_dimension_is_seen_by_a_search_that_began_before(
    make: MakeSystem,
) -> None:
    system = make()
    system.fit(1)
    unfollowed(system)
    assert system.search(vector=system.vectors[3], mode="lsh").generation == 1
    system.fit(2, **EVERY_CELL)
    assert system.search(vector=system.vectors[3], mode="lsh").generation == 2
    system.catalog.drop(system.catalog.get("art"))
    system.changes.announce(Change("art", "dropped"))
    system.catalog.create("art", model="lite", version=1, dim=DIM + 1)
    system.changes.announce(Change("art", "collection"))
    longer = np.ones(DIM + 1, dtype=np.float32)
    assert system.search(vector=longer, mode="lsh").hits == []
    with pytest.raises(Invalid, match=f"expected {DIM + 1} finite"):
        system.search(vector=system.vectors[3], mode="lsh")


def test_buckets_in_memory_do_not_outlive_a_lost_connection(make: MakeSystem, servers: Servers) -> None:
    """What was announced while the query service was cut off is found once it answers from the index again."""
    system = make()
    generation = system.fit(1, tables=3, hashes=4, probes=4)
    number = LATER[0]
    query = rows.embedding(number, DIM)
    before = system.search(vector=query, mode="lsh")
    servers.index.kill()
    with pytest.raises(IndexUnavailable):  # though the buckets are in memory: nobody knows whether they still hold
        system.search(vector=query, mode="lsh")
    assert system.search(vector=query, mode="auto").mode == "exact"
    servers.index.start()
    image = come(system, generation, number)
    system.wait_for_index()
    after = system.search(vector=query, mode="lsh")
    assert after.mode == "lsh"
    assert hits(after)[0][0] == image
    assert image not in [hit for hit, _ in hits(before)]


def test_after_redis_has_lost_everything_no_bucket_in_memory_is_asked(make: MakeSystem) -> None:
    system = make()
    system.fit(1)
    assert system.search(vector=system.vectors[3], mode="lsh").mode == "lsh"
    unfollowed(system)
    system.index.flushall()
    system.changes.announce(Change("music", "collection"))
    result = system.search(vector=system.vectors[3], mode="lsh")
    assert (result.mode, result.candidates) == ("exact", COUNT)
    assert result.index_fault
