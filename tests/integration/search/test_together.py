"""Searches that wait for their turn together find what each finds alone, and what was announced before it came."""

import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from shared.errors import IndexUnavailable
from tests.integration.search.test_following import LATER, calls, come, go, unfollowed
from tests.support import rows
from tests.support.eventually import PATIENCE_S, eventually
from tests.support.query_system import DIM, MakeSystem, System, hits
from tests.support.servers import Servers

if TYPE_CHECKING:
    from services.query.search.search_query import SearchResult

Come = Callable[..., "Future[SearchResult]"]


@contextmanager
def turn_held(system: System) -> Iterator[Come]:
    """Yield what has a search come and wait for its turn; at the end of the block, all get theirs."""
    system.searcher._turns._longest_wait_s = PATIENCE_S
    has_turn, goes_on, waiting = threading.Event(), threading.Event(), 0

    def hold(company: Sequence[object]) -> list[None]:
        has_turn.set()
        assert goes_on.wait(PATIENCE_S)
        return [None for _ in company]

    with ThreadPoolExecutor(20) as pool:

        def search(**wanted: object) -> "Future[SearchResult]":
            nonlocal waiting
            searching, waiting = pool.submit(system.search, mode="lsh", **wanted), waiting + 1
            eventually(lambda: len(system.searcher._turns._waiting) == waiting)
            return searching

        holding = pool.submit(system.searcher._turns.search, None, hold)  # type: ignore[arg-type]
        assert has_turn.wait(PATIENCE_S)
        try:
            yield search
        finally:
            goes_on.set()
            holding.result(PATIENCE_S)


@pytest.mark.parametrize("kind", ["normalised", "raw"])
def test_they_find_what_each_finds_alone_by_one_round_trip(make: MakeSystem, kind: str) -> None:
    system = make(kind)
    system.fit(1, tables=3, hashes=4, probes=5)
    alike: list[dict[str, object]] = [{"image_id": rows.image_id(number), "k": 7} for number in range(0, 200, 25)]
    alike += [{"vector": vector, "k": 7} for vector in system.vectors[::50]]
    others: list[dict[str, object]] = [
        {"image_id": rows.image_id(3), "k": 5},
        {"image_id": rows.image_id(3), "k": 7, "metric": "euclidean"},
        {"image_id": rows.image_id(3), "k": 7, "labels": rows.LABELS[:1]},
        {"image_id": rows.image_id(3), "k": 7, "budget": 9},
        {"image_id": rows.image_id(3), "k": 7, "min_score": 0.9},
    ]
    alone = [system.search(mode="lsh", **wanted) for wanted in [*alike, *others]]
    unfollowed(system)
    before = calls(system)
    with turn_held(system) as search:
        together = [search(**wanted) for wanted in [*alike, *others]]
    for searched, wanted in zip(together, alone, strict=True):
        result = searched.result(PATIENCE_S)
        assert hits(result) == hits(wanted)
        for name in ("mode", "candidates", "passed", "generation", "probed_buckets", "seen"):
            assert getattr(result, name) == getattr(wanted, name), name
        assert {"probe", "fetch", "rank", "total"} <= result.timings_ms.keys()
    filtered = 1  # which reads the streams before it chooses
    assert calls(system)["ping"] - before["ping"] == 1 + len(others) + filtered


def test_each_finds_what_was_announced_before_it_came(make: MakeSystem) -> None:
    system = make()
    generation = system.fit(1, tables=3, hashes=4, probes=4)
    unfollowed(system)
    for number in LATER:
        system.search(vector=rows.embedding(number, DIM), mode="lsh")  # its buckets are in memory now
    images, searching = [], []
    with turn_held(system) as search:
        for number in LATER:
            images.append(come(system, generation, number))
            searching.append(search(vector=rows.embedding(number, DIM), k=5))
        gone = go(system, generation, LATER[0])
        after = search(vector=rows.embedding(LATER[0], DIM), k=5)
    for image, searched in zip(images[1:], searching[1:], strict=True):
        assert hits(searched.result(PATIENCE_S))[0][0] == image
    assert gone not in [image for image, _ in hits(after.result(PATIENCE_S))]


def test_without_the_index_each_is_refused_and_the_next_has_the_turn(make: MakeSystem, servers: Servers) -> None:
    system = make()
    system.fit(1)
    with turn_held(system) as search:
        searching = [search(image_id=rows.image_id(number)) for number in range(3)]
        servers.index.kill()
    for searched in searching:
        with pytest.raises(IndexUnavailable):
            searched.result(PATIENCE_S)
    servers.index.start()
    system.wait_for_index()
    assert system.search(image_id=rows.image_id(1), mode="lsh").mode == "lsh"
