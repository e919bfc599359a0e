"""Windows are made for all images of a collection, and for those that come later; whoever dies, none is there twice."""

from contextlib import suppress
from dataclasses import replace

import pytest

from services.embedder.embedder import Embedder, Options
from shared.errors import NotFound, Unavailable
from shared.images import DirectDecoder
from shared.state.outcomes import Outcome
from shared.storage import layout, segments
from tests.support import rows
from tests.support.deaths import moments
from tests.support.indexing import Died
from tests.support.regions import DIGESTS, LONG, SIDES, RegionSystem


def test_all_images_get_their_windows_and_the_job_tells_how_many(system: RegionSystem) -> None:
    system.switched_on(range(20))
    system.assert_windows(range(20))
    job = system.jobs.get("regions")
    assert job.done
    assert (job.total, job.steps) == (20, 20)
    assert job.counts.affected == system.state.claims.count(system.catalog.get("art~regions").name)
    assert job.counts.rejected == {}
    assert system.catalog.names() == ["art"]
    assert system.state.claims.count("art") == 20


def test_images_that_come_later_get_windows_too_and_nothing_is_embedded_twice(system: RegionSystem) -> None:
    system.switched_on(range(3))
    batches = []
    system.line.before_embed = lambda: batches.append(1)
    system.add([3, 4])
    system.line.run()
    system.assert_windows(range(5))
    assert len(batches) == 1
    system.switch(on=True, job="again")
    system.line.run()
    assert system.jobs.get("again").done
    assert len(batches) == 1
    system.assert_windows(range(5))


def test_new_images_go_before_windows_unless_somebody_waits_for_these(system: RegionSystem) -> None:
    system.switched_on(range(3))
    system.add([3])
    system.line.new_batches = 3
    system.line.run()
    system.assert_windows(range(3))
    system.switch(on=True, job="again")
    system.line.run()
    assert system.jobs.get("again").done
    system.assert_windows(range(4))
    system.add([4])
    system.line.run()
    system.assert_windows(range(4))
    system.line.new_batches = 2
    system.line.make_regions(collection="art")
    system.line.run()
    system.assert_windows(range(5))


def test_a_merge_of_the_collection_or_of_its_regions_changes_nothing(system: RegionSystem) -> None:
    system.switched_on(range(3))
    system.add([3])
    system.line.run()
    compactor = system.line.maintenance.compactor
    for collection in ("art", "art~regions"):
        system.jobs.create(f"merge-{collection}", collection, kind="compact")
        compactor.compact(collection=collection, job=f"merge-{collection}")
        assert len(system.catalog.segments(system.catalog.get(collection).name)) == 1
    batches = []
    system.line.before_embed = lambda: batches.append(1)
    system.line.make_regions(collection="art")
    system.line.run()
    assert batches == []
    system.assert_windows(range(4))


def test_an_image_that_cannot_be_read_is_named_and_the_others_get_windows(system: RegionSystem) -> None:
    system.add(range(4))
    system.parts.store.delete([layout.original_key(DIGESTS[1])])
    system.switch(on=True)
    system.line.run()
    (refusal,) = system.jobs.outcome("regions").rejected
    assert (refusal.name, refusal.code) == ("1.png", "original-missing")
    system.assert_windows([0, 2, 3])
    system.parts.store.put(layout.original_key(DIGESTS[1]), system.pictures[1])
    system.switch(on=True, job="again")
    system.line.run()
    assert system.jobs.outcome("again").rejected == ()
    system.assert_windows(range(4))


def test_an_image_whose_sides_are_not_known_keeps_no_other_from_its_windows(system: RegionSystem) -> None:
    """An import of an earlier version took one side without the other."""
    system.add(range(4))
    system.line.run()
    art = system.catalog.get("art")
    imported = [replace(rows.entry(1), width=100, height=0), replace(rows.entry(2), width=0, height=0)]
    data = segments.pack(
        imported, rows.embeddings([1, 2], art.dim), collection=art.name, model=art.model, version=art.version
    )
    system.parts.store.put(layout.segment_key(art.name, "0imported"), data)  # before all others
    system.state.claims.claim(art.name, "0imported", [entry.id for entry in imported])
    system.jobs.create("import", "art")
    system.jobs.extend("import", batches=1, total=2, closed=True)
    system.line.index(set_name=art.name, segment="0imported", job="import", batch=0, outcome=Outcome({"": 2}))
    system.line.make_regions(collection="art")
    system.line.run()
    system.assert_windows([LONG])
    system.switch(on=True)
    system.line.run()
    assert system.jobs.get("regions").done
    assert system.jobs.outcome("regions").rejected == ()
    system.assert_windows(range(4))


def test_a_collection_that_is_not_there_has_no_regions(system: RegionSystem) -> None:
    system.switch(on=True)
    (refusal,) = system.jobs.outcome("regions").rejected
    assert "'art'" in refusal.reason
    assert system.catalog.stored_names() == []


def test_an_index_of_regions_can_be_tuned_and_holds_all_windows(system: RegionSystem) -> None:
    system.switched_on(range(12))
    system.jobs.create("tune", "art~regions", kind="maintain")
    regions = system.catalog.get("art~regions")
    system.line.maintenance.rebuilder.rebuild(collection="art~regions", fit=True)
    current = system.catalog.current_index(regions.name)
    assert current is not None
    assert current.trained_on == system.state.claims.count(regions.name)
    held = set[int]().union(*system.parts.held(regions).values())
    assert held == {window for windows in system.rows().values() for window in windows}
    system.delete([3])
    held = set[int]().union(*system.parts.held(regions).values())
    assert held == {window for windows in system.rows().values() for window in windows}


def test_long_pictures_have_windows_wherever_regions_are_not_indexed(system: RegionSystem) -> None:
    system.add([0, 1])
    system.line.run()
    assert system.catalog.stored_names() == ["art"]
    system.add([2, 3])
    system.line.run()
    system.assert_windows([2])
    assert system.catalog.get("art~regions").windows_of == "long"
    system.switch(on=True)
    system.line.run()
    assert system.jobs.get("regions").done
    system.assert_windows(range(4))
    assert system.catalog.get("art~regions").windows_of == "all"
    system.switch(on=False, job="off")
    system.line.run()
    system.assert_windows([2])
    system.add([4, 5])
    system.line.run()
    system.assert_windows([2, 5])
    system.delete([2])
    system.line.run()
    system.assert_windows([5])


def test_long_pictures_from_before_get_their_windows(system: RegionSystem, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as older:  # a version that did not ask
        older.setattr(system.line, "make_regions", ignored)
        for numbers in ([0, 1], [2, 3]):
            system.add(numbers)
            system.line.run()
    assert system.catalog.stored_names() == ["art"]
    system.line.make_regions(collection="art")
    system.line.run()
    system.assert_windows([2])


def ignored(**_: object) -> None:
    pass


def test_regions_that_are_switched_off_leave_nothing_and_end_a_job_that_makes_them(system: RegionSystem) -> None:
    system.add([number for number in range(20) if number % len(SIDES) != LONG])
    system.line.run()
    before = {stored.key for stored in system.parts.store.list("")}
    keys = set(system.parts.redis.scan_iter(match="*regions*"))
    system.switch(on=True)
    system.line.embedder.embed = unavailable
    with pytest.raises(Unavailable):
        system.line.run()
    del system.line.embedder.embed
    system.switch(on=False, job="off")
    assert system.jobs.get("off").done
    system.line.make_regions(collection="art", job="regions")  # as its message comes back
    system.line.run()
    (refusal,) = system.jobs.outcome("regions").rejected
    assert "removed meanwhile" in refusal.reason
    assert {stored.key for stored in system.parts.store.list("")} == before
    looked_through = {b"regions:art"}  # for long pictures
    left = set(system.parts.redis.scan_iter(match="*regions*")) - keys - looked_through
    assert {key for key in left if not key.startswith((b"job", b"sent:", b"once:", b"lock:"))} == set()
    with pytest.raises(NotFound):
        system.catalog.get("art~regions")


def unavailable(**_: object) -> None:
    raise Unavailable("the embedder is away")


def test_a_worker_that_dies_at_any_call_leaves_no_window_missing_or_double(system: RegionSystem) -> None:
    system.add(range(6))
    system.line.run()
    real = system.line.indexer, system.line.maintenance
    life = [1_000_000]
    system.line.indexer, system.line.maintenance = system.parts.indexer(life), system.parts.maintenance(life)
    system.switch(on=True, job="counted")
    system.line.run()
    calls = 1_000_000 - life[0]
    for moment in moments(calls, 12):
        system.line.indexer, system.line.maintenance = real
        system.switch(on=False, job=f"off-{moment}")
        left = [moment]
        system.line.indexer, system.line.maintenance = system.parts.indexer(left), system.parts.maintenance(left)
        job = f"on-{moment}"
        with suppress(Died):
            system.switch(on=True, job=job)
            system.line.run()
        for key in system.parts.redis.scan_iter(match="lock:*"):  # they free themselves in seconds
            system.parts.redis.delete(key)
        system.line.indexer, system.line.maintenance = real
        system.line.later.clear()
        system.line.maintenance.region_maker.switch(job=job, collection="art", on=True)
        system.line.run()
        assert system.jobs.get(job).done
        system.assert_windows(range(6))


def test_an_embedder_that_dies_at_any_call_leaves_no_window_missing_or_double(system: RegionSystem) -> None:
    system.add(range(4))
    system.line.run()
    real, life = system.line.embedder, [1_000_000]

    def embedder(left: list[int]) -> Embedder:
        options = Options(model=("old", None), decoder=DirectDecoder(), program="test")
        return Embedder(system.parts.clients(left), options)

    system.line.embedder = embedder(life)
    system.switch(on=True, job="counted")
    system.line.run()
    for moment in moments(1_000_000 - life[0], 10):
        system.switch(on=False, job=f"off-{moment}")
        system.line.embedder = embedder([moment])
        with suppress(Died):
            system.switch(on=True, job=f"on-{moment}")
            system.line.run()
        for key in system.parts.redis.scan_iter(match="lock:*"):  # they free themselves in seconds
            system.parts.redis.delete(key)
        system.line.embedder = real
        system.line.later.clear()
        system.line.make_regions(collection="art", job=f"on-{moment}")
        system.line.run()
        assert system.jobs.outcome(f"on-{moment}").rejected == ()
        system.assert_windows(range(4))
