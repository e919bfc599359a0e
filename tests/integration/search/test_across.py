"""A search over several collections: ranked together as a plain computation does, and who is left out."""

from collections.abc import Sequence

import numpy as np
import pytest

from services.query.search.across import AcrossResult, AcrossSearcher
from services.query.search.search_query import SearchQuery
from shared.errors import Invalid, NotFound, Unavailable
from shared.rpc.query import METRICS, Metric, SkippedCollection
from shared.state import Change, IndexState
from shared.storage import layout
from tests.support import rows
from tests.support.eventually import eventually
from tests.support.query_system import COUNT, DIM, MakeSystem, System


def add(system: System, name: str, numbers: Sequence[int], *, model: str = "lite") -> None:
    """Make another collection, of images of the first."""
    made = system.catalog.create(name, model=model, version=1, dim=DIM)
    system.state.index_states.set(name, IndexState())
    data = rows.segment(numbers, made, system.vectors[list(numbers)])
    system.catalog.store.put(layout.segment_key(name, "s"), data)
    system.state.claims.claim(name, "s", rows.ids(numbers))
    system.changes.announce(Change(name, "collection"))
    eventually(lambda: name in system.replica_sync.replicas)


def across(system: System, *names: str, **wanted: object) -> AcrossResult:
    def query_of(collection: str) -> SearchQuery:
        return SearchQuery(collection=collection, **wanted)  # type: ignore[arg-type]

    return AcrossSearcher(system.searcher, system.replica_sync).search(names, query_of)


def skipped(found: AcrossResult) -> dict[str, int]:
    return {collection.collection: collection.reason for collection in found.skipped}


@pytest.mark.parametrize("metric", list(METRICS))
def test_hits_of_all_collections_are_ranked_together(make: MakeSystem, metric: Metric) -> None:
    system = make("raw")
    parts = {"art": range(COUNT), "maps": range(40, 120), "prints": range(100, 105)}
    add(system, "maps", parts["maps"])
    add(system, "prints", parts["prints"])
    query = system.vectors[7] + np.float32(0.1)
    found = across(system, *parts, vector=query, k=50, metric=metric)
    order = list(parts)
    wanted = sorted(
        (round(distance, 11), image, order.index(name))
        for name, numbers in parts.items()
        for image, distance in system.expected(query, metric, numbers, COUNT)
    )[:50]
    assert [(hit.image_id, order.index(name)) for name, hit in found.hits] == [(image, at) for _, image, at in wanted]
    assert [hit.distance for _, hit in found.hits] == pytest.approx([distance for distance, _, _ in wanted], abs=1e-10)
    assert {name: result.candidates for name, (result, _) in found.results.items()} == {
        name: len(numbers) for name, numbers in parts.items()
    }
    assert skipped(found) == {}


def test_who_cannot_be_searched_with_the_others_is_named(make: MakeSystem) -> None:
    system = make()
    add(system, "maps", range(40))
    add(system, "photos", range(50, 60), model="other")
    system.catalog.store.put(layout.manifest_key("broken"), b"{")
    system.changes.announce(Change("broken", "collection"))
    eventually(lambda: "broken" in system.replica_sync.faults)
    found = across(system, "art", "photos", "broken", "gone", "maps", vector=system.vectors[0], k=5)
    assert list(found.results) == ["art", "maps"]
    assert skipped(found) == {
        "photos": SkippedCollection.OTHER_MODEL,
        "broken": SkippedCollection.FAILED,
        "gone": SkippedCollection.UNKNOWN,
    }
    assert any("other, version 1" in collection.detail for collection in found.skipped)
    # The model is that of the collection that has the image.
    found = across(system, "maps", "photos", image_id=rows.image_id(55), k=3)
    assert found.embedding_set.model == "other"
    assert (found.hits[0][0], found.hits[0][1].image_id) == ("photos", rows.image_id(55))
    assert skipped(found) == {"maps": SkippedCollection.OTHER_MODEL}
    with pytest.raises(Unavailable, match="none of the collections can be searched: broken"):
        across(system, "broken", vector=system.vectors[0])
    with pytest.raises(NotFound, match="gone"):
        across(system, "gone", vector=system.vectors[0])


def test_an_image_and_examples_may_lie_in_different_collections(make: MakeSystem) -> None:
    system = make()
    add(system, "maps", range(200, 210))
    add(system, "prints", range(10))
    whole = system.search(image_id=rows.image_id(3), like=[rows.image_id(205)], k=5)
    found = across(system, "maps", "prints", "art", image_id=rows.image_id(3), like=[rows.image_id(205)], k=COUNT)
    assert [hit.image_id for name, hit in found.hits if name == "art"][:5] == [hit.image_id for hit in whole.hits]
    assert found.examples == {rows.image_id(205): "maps"}  # the first that has it: `art` does, too
    with pytest.raises(NotFound, match=f"no image {rows.image_id(50)} in any of the collections"):
        across(system, "maps", "prints", image_id=rows.image_id(50))


def test_the_model_is_one_that_has_all_images_that_are_named(make: MakeSystem) -> None:
    system = make()
    first, second, third = (rows.image_id(number) for number in (50, 250, 260))
    add(system, "photos", range(40, 60), model="other")
    add(system, "prints", range(250, 255))
    add(system, "scans", range(255, 265), model="third")
    # The first of the collections with an image may be of another model than the one that has all.
    found = across(system, "photos", "prints", "art", like=[first], unlike=[second])
    assert (found.embedding_set.model, found.examples) == ("lite", {first: "art", second: "prints"})
    assert skipped(found) == {"photos": SkippedCollection.OTHER_MODEL}
    with pytest.raises(Invalid, match=rf"{first}: 'photos' \(other:1\); {third}: 'scans' \(third:1\)"):
        across(system, "prints", "photos", "scans", like=[first], unlike=[third])
    with pytest.raises(NotFound, match=f"no image {rows.image_id(9)} in any"):
        across(system, "photos", "prints", like=[first, rows.image_id(9)])
