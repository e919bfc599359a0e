"""Searches by windows: an image is as close as the closest of its whole and its windows, exactly and by the index."""

import gc
import weakref
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from services.query.grpc_service import QueryService
from services.query.live_recall import LiveRecall
from services.query.metrics import Metrics
from services.query.records.record_sync import RecordSync
from services.query.records.selection import Selections
from services.query.search.search_query import SearchQuery
from services.query.search.searcher import Searcher
from shared.errors import NotFound
from shared.images import DirectDecoder
from shared.records.model import Value
from shared.records.record_store import RecordStore
from shared.rpc.query import Metric
from shared.rpc.query import query_pb2 as messages
from shared.state import Change
from tests.support import rows
from tests.support.eventually import eventually
from tests.support.query_system import (
    COUNT,
    DIM,
    EVERY_BUCKET,
    EVERY_CELL,
    KINDS,
    METRICS,
    MODES,
    MakeSystem,
    System,
    let_through,
)
from tests.support.windows import EACH, NAME, Windows, box, found_of

HAVING = [*range(90), *range(97, COUNT)]  # the images of which there are windows


def service(system: System, folder: Path) -> QueryService:
    selections = Selections(RecordSync(system.catalog.store, system.state.record_changes, folder))
    return QueryService(system.searcher, system.replica_sync, selections)


def assert_found(found: Any, wanted: Any, *, within: float = 3e-11) -> None:
    assert [(image, region) for image, _, region in found] == [(image, region) for image, _, region in wanted]
    assert [one[1] for one in found] == pytest.approx([one[1] for one in wanted], abs=within)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("family", [EVERY_BUCKET, EVERY_CELL], ids=["p-stable", "voronoi"])
def test_the_best_of_image_and_windows_counts_exactly_and_with_every_bucket_probed(
    make: MakeSystem, kind: str, family: dict[str, Any]
) -> None:
    system = make(kind)
    windows = Windows(system, HAVING)
    system.fit(1, **family)
    windows.fit(1, **family)
    queries = [system.vectors[5], windows.vectors[40, 3], windows.vectors[299, 0], system.vectors[93]]
    queries.append(np.random.default_rng(8).standard_normal(DIM).astype(np.float32))
    for query in queries:
        for metric in METRICS:
            for k in (1, 10, 120, COUNT):
                wanted = windows.expected(query, metric, range(COUNT), k)
                for mode in MODES:
                    found = system.search(vector=query, k=k, metric=metric, mode=mode)
                    assert_found(found_of(found), wanted)
                    assert (found.candidates, found.windows) == (COUNT, EACH * len(HAVING))
                    assert found.mode == ("exact" if mode == "exact" else "lsh")
    (hit,) = system.search(vector=windows.vectors[40, 3], k=1).hits
    assert (hit.image_id, hit.region, hit.segment.entry(hit.row)) == (rows.image_id(40), box(3), rows.entry(40))


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("mode", ["exact", "lsh"])
def test_windows_of_images_that_do_not_pass_are_not_found(make: MakeSystem, metric: Metric, mode: str) -> None:
    system = make()
    windows = Windows(system, HAVING)
    system.fit(1, **EVERY_BUCKET)
    windows.fit(1, **EVERY_BUCKET)
    wishes: list[dict[str, Any]] = [
        {"labels": ["painting"]},
        {"among": np.array(rows.ids([3, 40, 95, 222]))},
        {"labels": ["drawing"], "among": np.array(rows.ids(range(0, 200, 2)))},
        {"labels": ["nothing"]},
    ]
    for wanted in wishes:
        for query in (windows.vectors[40, 3], system.vectors[9]):
            found = system.search(vector=query, k=30, metric=metric, mode=mode, **wanted)
            assert_found(found_of(found), windows.expected(query, metric, let_through(wanted), 30))
    query = windows.vectors[40, 3]
    near = windows.expected(query, metric, range(COUNT), COUNT)
    least = 1 - near[20][1] if metric == "cosine" else 1 / (1 + near[20][1])
    found = system.search(vector=query, k=COUNT, metric=metric, mode=mode, min_score=least - 1e-9)
    assert_found(found_of(found), [hit for hit in near if hit[1] <= near[20][1]])  # copies are equally near


def test_examples_batches_and_images_are_searched_for_too(make: MakeSystem) -> None:
    system = make()
    windows = Windows(system, HAVING)
    system.fit(1, **EVERY_BUCKET)
    windows.fit(1, **EVERY_BUCKET)
    own = system.search(image_id=rows.image_id(100), k=40)  # which has copies, and is the first of its equals
    assert own.hits[0].image_id == rows.image_id(100)
    assert_found(
        found_of(own)[1:],
        [
            window
            for window in windows.expected(system.vectors[100], "cosine", range(COUNT), 40)
            if window[0] != rows.image_id(100)
        ],
    )
    unit = system.vectors[[7, 9]].astype(np.float64).mean(axis=0)
    moved = system.search(like=rows.ids([7, 9]), k=25)
    assert_found(found_of(moved), windows.expected(unit, "cosine", range(COUNT), 25), within=1e-7)
    some = [windows.vectors[40, 3], windows.vectors[2, 1], system.vectors[95]]
    answers, _ = system.searcher.search_batch(SearchQuery(collection="art", k=9, mode="lsh"), some)
    for query, answer in zip(some, answers, strict=True):
        assert_found(found_of(answer), windows.expected(query, "cosine", range(COUNT), 9))


def test_without_regions_or_with_windows_of_another_model_whole_images_are_found(make: MakeSystem) -> None:
    system = make()
    alone = found_of(system.search(vector=system.vectors[5] + system.vectors[60], k=30))
    windows = Windows(system, HAVING)
    query = windows.vectors[40, 3]
    assert found_of(system.search(vector=query, k=1))[0][2] == box(3)
    whole = system.search(vector=query, k=30, regions=False)
    assert (whole.windows, {hit.region for hit in whole.hits}) == (0, {None})
    assert alone == found_of(system.search(vector=system.vectors[5] + system.vectors[60], k=30, regions=False))
    system.catalog.store.delete([key.key for key in system.catalog.store.list(f"collections/{NAME}")])
    system.changes.announce(Change(NAME, "dropped"))
    assert found_of(system.search(vector=query, k=30)) == found_of(whole)
    Windows(system, HAVING, model="another")
    assert found_of(system.search(vector=query, k=30)) == found_of(whole)


def test_windows_of_deleted_images_do_not_count(make: MakeSystem) -> None:
    system = make()
    windows = Windows(system, HAVING)
    query = windows.vectors[41, 2]
    assert found_of(system.search(vector=query, k=1))[0][::2] == (rows.image_id(41), box(2))
    for segment in system.catalog.segments("art"):
        if rows.image_id(41) in system.replica_sync.replica("art").view.ids:
            system.catalog.add_tombstones("art", [(segment, rows.image_id(41))])
            system.changes.announce(Change("art", "deleted", f"{segment}/{rows.image_id(41)}"))
    left = [number for number in range(COUNT) if number != 41]
    for mode in MODES:
        assert_found(
            found_of(system.search(vector=query, k=50, mode=mode)), windows.expected(query, "cosine", left, 50)
        )


def test_a_set_of_windows_is_no_collection(make: MakeSystem, tmp_path: Path) -> None:
    system = make()
    query_service = service(system, tmp_path)
    (before,) = query_service.ListCollections(messages.ListCollectionsRequest(), None).collections  # type: ignore[arg-type]
    assert (before.regions, before.with_regions, before.windows) == (False, 0, 0)
    windows = Windows(system, HAVING)
    (one,) = query_service.ListCollections(messages.ListCollectionsRequest(), None).collections  # type: ignore[arg-type]
    assert (one.name, one.images, one.regions) == ("art", COUNT, True)
    assert (one.with_regions, one.windows) == (len(HAVING), EACH * len(HAVING))
    assert set(system.replica_sync.replicas) == {"art"}
    with pytest.raises(NotFound):
        system.replica_sync.replica(NAME)
    with pytest.raises(NotFound):
        system.searcher.search(SearchQuery(collection=NAME, vector=windows.vectors[0, 0]))
    asked = messages.SearchRequest(collection="art", k=2)
    asked.vector.values.extend(windows.vectors[40, 3].tolist())

    class Context:
        def time_remaining(self) -> None:
            return None

    answer = query_service.Search(asked, Context())  # type: ignore[arg-type]
    region = answer.hits[0].region
    assert (answer.collection_size, answer.windows) == (COUNT, EACH * len(HAVING))
    assert (region.x, region.y, region.width, region.height) == box(3)
    asked.regions = False
    assert not any(hit.HasField("region") for hit in query_service.Search(asked, Context()).hits)  # type: ignore[arg-type]


def test_nobody_holds_the_views_of_a_collection_that_was_dropped(make: MakeSystem, tmp_path: Path) -> None:
    """A view holds the columns of all rows, and files of which the names are gone."""
    system = make()
    windows = Windows(system, HAVING)
    system.fit(1, **EVERY_BUCKET)
    live = LiveRecall(1.0, system.state.recall_log, Metrics(system.replica_sync))
    searcher = Searcher(system.clients, system.replica_sync, decoder=DirectDecoder(), exact_below=0, live_recall=live)
    live.start()
    records = RecordStore(system.catalog.store, system.state.record_changes)
    records.say("art", "csv", {rows.image_id(number): {"title": [Value(f"Work {number}")]} for number in range(9)})
    record_sync = RecordSync(system.catalog.store, system.state.record_changes, tmp_path)
    record_sync.start()
    query_service = QueryService(searcher, system.replica_sync, Selections(record_sync))

    def answer() -> list[weakref.ref[Any]]:
        """Have the service look at all there is; returns what it looked at."""
        (one,) = query_service.ListCollections(messages.ListCollectionsRequest(), None).collections  # type: ignore[arg-type]
        assert (one.images, one.windows) == (COUNT, EACH * len(HAVING))
        asked = messages.ListImagesRequest(collection="art", limit=1, sort="title")
        (first,) = query_service.ListImages(asked, None).images  # type: ignore[arg-type]
        assert first.id == rows.image_id(0)
        searcher.search(SearchQuery(collection="art", vector=windows.vectors[3, 1], k=5, mode="lsh"))
        replica = system.replica_sync.replica("art")
        of_windows = system.replica_sync.windows(replica)
        assert of_windows is not None
        return [weakref.ref(seen) for seen in (replica.view, replica.view.ids, of_windows.view)]

    try:
        eventually(lambda: (index := record_sync.index("art")) is not None and "title" in index.field_types())
        seen = answer()
        assert all(one() is not None for one in seen)
        for name in (NAME, "art"):
            system.catalog.drop(system.catalog.get(name))
            system.changes.announce(Change(name, "dropped"))
        records.drop("art")
        eventually(lambda: gc.collect() >= 0 and all(one() is None for one in seen))
    finally:
        record_sync.stop()
        record_sync.close()


def test_live_recall_compares_with_images_and_windows(make: MakeSystem) -> None:
    system = make()
    windows = Windows(system, HAVING)
    system.fit(1, tables=1, hashes=8, probes=1)
    windows.fit(1, tables=1, hashes=8, probes=1)
    metrics = Metrics(system.replica_sync)
    live = LiveRecall(1.0, system.state.recall_log, metrics)
    searcher = Searcher(system.clients, system.replica_sync, decoder=DirectDecoder(), exact_below=0, live_recall=live)
    live.start()
    recalls = []
    for number in (3, 44, 120, 250, 299):
        query = windows.vectors[number, 1]
        found, _ = searcher.search(SearchQuery(collection="art", vector=query, k=20, mode="lsh"))
        last = windows.expected(query, "cosine", range(COUNT), 20)[-1][1]
        recalls.append(sum(hit.distance <= last + 1e-9 for hit in found.hits) / 20)

        def count() -> float:
            return metrics.registry.get_sample_value("artseek_live_recall_count", {"collection": "art"}) or 0.0

        eventually(lambda: count() == len(recalls))
    total = metrics.registry.get_sample_value("artseek_live_recall_sum", {"collection": "art"})
    assert total == pytest.approx(sum(recalls), abs=1e-9)
    assert 0.1 < np.mean(recalls) < 1
