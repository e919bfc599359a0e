"""Live recall: what is measured in the background is what a plain computation gives, and no search waits for it."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from services.evaluator.class_field import ClassField
from services.evaluator.run_queries import _options
from services.evaluator.run_results import runs_of
from services.query import live_recall
from services.query.live_recall import _QUEUED, LiveRecall
from services.query.metrics import Metrics
from services.query.search.search_query import SearchQuery, SearchResult
from services.query.search.searcher import Searcher
from shared.images import DirectDecoder
from shared.rpc.query import Collection, QueryClient
from shared.state import Change, Client
from shared.state.recall_log import KEPT_DAYS, HourOfRecall, RecallLog, hour_of
from tests.support import rows
from tests.support.eventually import eventually
from tests.support.query_system import COUNT, DIM, METRICS, System, let_through
from tests.support.servers import Servers

POOR = {"tables": 2, "hashes": 4, "probes": 2}  # an index that misses some


class Watched:
    """A system whose index misses some, and its live recall, which has not begun to check."""

    def __init__(self, servers: Servers, folder: Path, *, share: float = 1.0) -> None:
        self.system = System(servers, folder, "normalised")
        self.system.fit(1, **POOR)
        self.metrics = Metrics(self.system.replica_sync)
        self.log = self.system.state.recall_log
        self.live = LiveRecall(share, self.log, self.metrics)
        self.searcher = Searcher(
            self.system.clients,
            self.system.replica_sync,
            decoder=DirectDecoder(),
            exact_below=0,
            live_recall=self.live,
        )

    def search(self, number: int, **wanted: Any) -> SearchResult:
        options = {"vector": self.system.vectors[number], "mode": "lsh", **wanted}
        return self.searcher.search(SearchQuery(collection="art", **options))[0]

    def value(self, name: str, collection: str = "art") -> float:
        return self.metrics.registry.get_sample_value(name, {"collection": collection}) or 0.0

    def wait_for(self, checked: int) -> None:
        eventually(lambda: self.value("artseek_live_recall_count") >= checked)

    def read(self) -> HourOfRecall:
        """All that is kept, in one; the full hour may have come in between."""
        hours = self.log.read("art", days=1)
        return HourOfRecall(
            0, *(sum(getattr(hour, name) for hour in hours) for name in ("sampled", "total", "dropped"))
        )


@pytest.fixture
def watched(servers: Servers, tmp_path: Path) -> Iterator[Watched]:
    made = Watched(servers, tmp_path)
    yield made
    made.system.replica_sync.stop()


def expected_recall(watched: Watched, number: int, found: SearchResult, wanted: dict[str, Any]) -> float | None:
    """The share of the nearest that was found, plainly: those at least as near as the last of them count."""
    metric, k, least = wanted.get("metric", "cosine"), wanted.get("k", 10), wanted.get("min_score")
    nearest = watched.system.expected(watched.system.vectors[number], metric, let_through(wanted), k)
    distances = [distance for _, distance in nearest]
    if least is not None:
        distances = [one for one in distances if (1 - one if metric == "cosine" else 1 / (1 + one)) >= least]
    if not distances:
        return None
    hits = sum(hit.distance <= distances[-1] + 1e-9 for hit in found.hits)
    return min(hits, len(distances)) / len(distances)


def test_it_is_what_a_plain_computation_gives(watched: Watched, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live_recall, "_BLOCK", 64 * DIM)  # the scan takes several
    watched.live.start()
    wishes: list[dict[str, Any]] = [
        {},
        {"k": 40},
        {"labels": ["painting"]},
        {"among": np.array(rows.ids(range(0, 200, 3)))},
        {"min_score": 0.75, "k": 30},
        {"min_score": 0.9999, "k": 5},
        {"min_score": 1.01},  # which nothing has: there is nothing to miss
        {"probes": 4, "budget": 12},
    ]
    recalls: list[float] = []
    for place, (metric, wanted) in enumerate((metric, wanted) for metric in METRICS for wanted in wishes):
        for number in (3 + place, 100 + place, 240 + place):  # those from 200 to 229 are copies of the 100th
            found = watched.search(number, metric=metric, **wanted)
            recall = expected_recall(watched, number, found, {"metric": metric, **wanted})
            recalls += [] if recall is None else [recall]
            watched.wait_for(len(recalls))
    assert 0.1 < np.mean(recalls) < 0.99
    assert len(set(recalls)) > 5
    assert watched.value("artseek_live_recall_sum") == pytest.approx(sum(recalls), abs=1e-9)
    assert watched.value("artseek_live_recall_count") == len(recalls)
    assert watched.value("artseek_live_recall_latest") == pytest.approx(np.mean(recalls), abs=1e-9)
    eventually(lambda: watched.read().sampled == len(recalls))
    assert watched.read().total == pytest.approx(sum(recalls), abs=1e-9)
    assert watched.read().dropped == 0


def test_it_compares_with_what_was_there_when_the_search_was_answered(watched: Watched) -> None:
    found = watched.search(7, k=20)
    before = expected_recall(watched, 7, found, {"k": 20})
    system, gone = watched.system, [hit.image_id for hit in found.hits]
    for image in gone:
        for start in range(0, COUNT, 60):
            system.catalog.add_tombstones("art", [(f"s{start}", image)])
            system.changes.announce(Change("art", "deleted", f"s{start}/{image}"))
    assert not set(gone) & {hit.image_id for hit in system.search(vector=system.vectors[7], k=20, mode="exact").hits}
    watched.live.start()
    watched.wait_for(1)
    assert watched.value("artseek_live_recall_sum") == before


def test_a_search_never_waits_and_what_is_too_much_is_counted(watched: Watched) -> None:
    for number in range(_QUEUED + 5):
        watched.search(number)  # which nobody checks yet
    assert watched.value("artseek_live_recall_dropped_total") == 5
    watched.live.start()
    watched.wait_for(_QUEUED)
    eventually(lambda: watched.read().sampled == _QUEUED)
    assert watched.read().dropped == 5


def test_only_live_answers_of_the_index_are_checked(watched: Watched) -> None:
    watched.search(3, for_evaluation=True)
    watched.search(3, mode="exact")
    assert watched.search(3, mode="auto", k=COUNT).mode == "exact"  # the index yielded too few
    watched.searcher.search_batch(SearchQuery(collection="art", mode="lsh", for_evaluation=True), [rows.image_id(4)])
    assert watched.live._waiting.qsize() == 0
    watched.searcher.search_batch(SearchQuery(collection="art", mode="lsh"), [rows.image_id(4), rows.image_id(5)])
    assert watched.search(3, mode="auto", k=2).mode == "lsh"
    assert watched.live._waiting.qsize() == 3


def test_the_share_is_that_of_the_setting(servers: Servers, tmp_path: Path) -> None:
    none, some = Watched(servers, tmp_path, share=0.0), LiveRecall(0.25, None, None)  # type: ignore[arg-type]
    none.system.replica_sync.stop()
    none.search(3)
    assert none.live._waiting.qsize() == 0
    some._waiting.maxsize = 0
    for _ in range(4000):
        some.offer(None)  # type: ignore[arg-type]
    assert 800 < some._waiting.qsize() < 1200


def test_while_the_index_is_away_what_was_measured_waits(watched: Watched, servers: Servers) -> None:
    watched.search(3)
    servers.index.kill()
    watched.live.start()
    watched.wait_for(1)
    servers.index.start()
    watched.system.wait_for_index()
    assert watched.read().sampled == 0
    watched.search(4)
    eventually(lambda: watched.read().sampled == 2)
    assert watched.read().total == pytest.approx(watched.value("artseek_live_recall_sum"))


def test_hours_add_up_over_writers_and_expire(redis: Client) -> None:
    one, other = RecallLog(redis), RecallLog(redis)
    now = hour_of(time.time())
    assert one.read("art", days=KEPT_DAYS) == []
    one.write("art", HourOfRecall(now, 2, 1.5, 1))
    one.write("art", HourOfRecall(now, 4, 3.5, 2))  # all of the hour so far, in place of that
    other.write("art", HourOfRecall(now, 4, 3.25))
    other.write("art", HourOfRecall(now - 24, dropped=3))
    other.write("art", HourOfRecall(now - 24 * KEPT_DAYS - 1, 1, 1.0))
    other.write("art-2", HourOfRecall(now, 1, 0.0))
    found = other.read("art", days=KEPT_DAYS)
    assert found == [HourOfRecall(now - 24, 0, 0.0, 3), HourOfRecall(now, 8, 6.75, 2)]
    assert [hour.recall for hour in found] == [None, 6.75 / 8]
    assert [hour.hour for hour in one.read("art", days=1)] == [now]
    assert all(0 < redis.ttl(key) <= (KEPT_DAYS + 1) * 86400 for key in redis.scan_iter(match="recall:*"))


def test_the_searches_of_evaluations_say_what_they_are() -> None:
    collection = Collection(name="art", images=3, labelled=1, classes={"drawing": 1})
    with QueryClient("127.0.0.1:1") as query:  # which is not asked
        for run in runs_of("lsh"):
            assert _options(run, collection, ClassField(query, "label"), 10).for_evaluation
