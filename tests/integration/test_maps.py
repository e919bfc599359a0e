"""Maps on real servers: fitted once, later images placed, purged ones removed, and gone with their collection."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from click.testing import CliRunner

from cli.main import main
from services.maintenance.exclusive_access import ExclusiveAccess
from services.maintenance.mapping import MapDuty, Mapper
from shared.errors import Invalid, NotFound
from shared.maps.image_map import ImageMap
from shared.maps.maps import Maps
from shared.storage import layout
from shared.storage.catalog import EmbeddingSet
from tests.support import rows
from tests.support.eventually import eventually
from tests.support.indexing import Died, Parts, parts_of
from tests.support.servers import Servers

COUNT = 60


@pytest.fixture
def parts(servers: Servers) -> Parts:
    return parts_of(servers.settings)


@pytest.fixture
def art(parts: Parts) -> EmbeddingSet:
    made = parts.collection()
    parts.add(made, "s0", range(30))
    parts.add(made, "s1", range(30, COUNT))
    return made


def mapped(
    parts: Parts, job: str, *, anew: bool = False, life: list[int] | None = None, most: int | None = None
) -> ImageMap:
    """Have the map made; returns what is stored."""
    parts.job(job, kind="map")
    worker = parts.maintenance(life)
    mapper = worker.mapper
    if most is not None:
        clients = parts.clients(life)
        mapper = Mapper(clients, ExclusiveAccess(clients.state, worker.compactor), most_fitted=most)
    mapper.map(collection="art", job=job, anew=anew)
    assert parts.jobs.get(job).done
    found = Maps(parts.store).get("art")
    assert parts.jobs.get(job).counts.affected == len(found.ids)
    return found


def by_id(found: ImageMap) -> dict[int, tuple[float, float]]:
    return {image: (x, y) for image, (x, y) in zip(found.ids.tolist(), found.positions.tolist(), strict=True)}


@pytest.mark.usefixtures("art")
def test_all_images_are_on_the_map_those_alike_beside_each_other(parts: Parts) -> None:
    found = mapped(parts, "m")
    assert found.ids.tolist() == sorted(rows.ids(range(COUNT)))
    assert found.fitted.all()
    places = by_id(found)
    where = np.array([places[rows.image_id(number)] for number in range(COUNT)])
    apart = np.linalg.norm(where[:, None] - where[None], axis=2)
    same = np.equal.outer(np.arange(COUNT) % 20, np.arange(COUNT) % 20) & ~np.eye(COUNT, dtype=bool)
    assert apart[same].mean() < 0.6 * apart[~same].mean()
    parts.store.delete([layout.map_key("art")])
    assert by_id(mapped(parts, "again")) == places


def test_later_images_are_placed_and_no_other_moves(parts: Parts, art: EmbeddingSet) -> None:
    before = by_id(mapped(parts, "m", most=40))
    fitted = Maps(parts.store).get("art").fitted
    assert fitted.sum() == 40
    parts.add(art, "s2", range(COUNT, COUNT + 20))
    parts.delete("art", rows.ids(range(5)))
    duty = MapDuty(parts.clients())
    duty.run()
    (asked,) = [job for job in parts.jobs.unfinished() if job.kind == "map"]
    parts.maintenance().mapper.map(collection="art", job=asked.id)
    after = by_id(Maps(parts.store).get("art"))
    assert after.keys() == set(rows.ids(range(5, COUNT + 20)))
    assert {image: place for image, place in after.items() if image in before} == {
        image: place for image, place in before.items() if image in after
    }
    duty.run()
    assert not [job for job in parts.jobs.unfinished() if job.kind == "map"]
    # Fitted again, it has other images to go by.
    assert Maps(parts.store).get("art").fitted.sum() <= 40
    assert mapped(parts, "anew", anew=True).fitted.all()


@pytest.mark.usefixtures("art")
def test_a_purged_image_leaves_the_map_and_a_dropped_collection_its_whole(parts: Parts) -> None:
    mapped(parts, "m")
    parts.purge("art", rows.ids([3, 4]))
    assert not {rows.image_id(3), rows.image_id(4)} & set(Maps(parts.store).get("art").ids.tolist())
    assert len(Maps(parts.store).get("art").ids) == COUNT - 2
    parts.maintenance().dropper.drop(job=parts.job("d", kind="drop"), collection="art")
    with pytest.raises(NotFound, match="no map yet"):
        Maps(parts.store).get("art")


@pytest.mark.usefixtures("art")
def test_a_renamed_collection_keeps_its_map(parts: Parts) -> None:
    before = by_id(mapped(parts, "m"))
    parts.job("r", kind="rename")
    parts.maintenance().renamer.rename(job="r", collection="art", new="prints")
    assert by_id(Maps(parts.store).get(parts.catalog.get("prints").name)) == before
    assert not parts.store.exists(layout.map_key("art"))


def test_a_collection_without_images_has_no_map(parts: Parts) -> None:
    parts.collection()
    parts.job("m", kind="map")
    with pytest.raises(Invalid, match="add some first"):
        parts.maintenance().mapper.map(collection="art", job="m")


@pytest.mark.usefixtures("art")
def test_a_damaged_map_is_made_anew(parts: Parts) -> None:
    before = by_id(mapped(parts, "m"))
    parts.store.put(layout.map_key("art"), b"damaged")
    with pytest.raises(Invalid, match="cannot be read"):
        Maps(parts.store).get("art")
    assert by_id(mapped(parts, "again")) == before


@pytest.mark.usefixtures("art")
@pytest.mark.parametrize("calls", [3, 9, 15, 21, 27])
def test_a_worker_may_die_at_any_call_and_the_next_makes_the_same_map(parts: Parts, calls: int) -> None:
    try:
        mapped(parts, "m", life=[calls])
    except Died:
        parts.redis.delete("lock:segments:art")  # its lease runs out
        parts.maintenance().mapper.map(collection="art", job="m")
    found = Maps(parts.store).get("art")
    assert parts.jobs.get("m").done
    assert found.ids.tolist() == sorted(rows.ids(range(COUNT)))


@pytest.mark.parametrize("looks", [1, 2, 4])
@pytest.mark.usefixtures("art")
def test_a_map_that_is_cancelled_at_any_look_stays_as_it_was(
    parts: Parts, looks: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = by_id(mapped(parts, "m"))
    parts.delete("art", rows.ids(range(5)))
    parts.job("anew", kind="map")
    clients = parts.clients()
    mapper = Mapper(clients, ExclusiveAccess(clients.state, parts.maintenance().compactor))
    asked, is_cancelled = [], clients.state.jobs.cancelled

    def cancelled(job: str) -> bool:
        asked.append(job)
        if len(asked) == looks:
            parts.jobs.cancel(job)
        return is_cancelled(job)

    monkeypatch.setattr(clients.state.jobs, "cancelled", cancelled)
    mapper.map(collection="art", job="anew", anew=True)
    assert len(asked) == looks
    ended = parts.jobs.get("anew")
    assert (ended.state, ended.counts.rejected) == ("cancelled", {"cancelled": 1})
    assert by_id(Maps(parts.store).get("art")) == before


@pytest.mark.usefixtures("art")
def test_the_command_tells_that_somebody_else_cancelled_the_map(
    parts: Parts, servers: Servers, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {**servers.environment, "COLUMNS": "300"}.items():
        monkeypatch.setenv(name, value)

    def cancel() -> None:
        (job,) = eventually(lambda: [job for job in parts.jobs.unfinished() if job.kind == "map"])
        parts.jobs.cancel(job.id)
        parts.maintenance().mapper.map(collection="art", job=job.id)

    with ThreadPoolExecutor(1) as other:
        cancelling = other.submit(cancel)
        done = CliRunner().invoke(main, ["map", "--collection", "art"])
        cancelling.result()
    assert (done.exit_code, "was cancelled" in done.output) == (1, True), done.output
    with pytest.raises(NotFound):
        Maps(parts.store).get("art")
