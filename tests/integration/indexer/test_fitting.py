"""Index generations are fitted on real servers, while images come and workers die."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from services.maintenance.maintenance import Maintenance
from shared import tuning
from shared.errors import IndexUnavailable, Invalid
from shared.index import generations
from shared.index.generations import Generation, GenerationCache
from shared.state import BucketStore, connect
from shared.storage import layout
from shared.storage.catalog import CurrentIndex
from shared.storage.object_store import ObjectStore
from tests.support import rows
from tests.support.indexing import DIM, Parts
from tests.support.servers import Servers


def test_a_refit_switches_to_another_generation_and_drops_the_old_one(parts: Parts) -> None:
    art = parts.collection()
    parts.add(art, "a", range(10))
    parts.maintenance().tuner.maintain(collection="art")
    assert parts.catalog.current_index("art") == CurrentIndex(1, 10)
    parts.assert_indexed(art, range(10))
    parts.maintenance().tuner.maintain(collection="art")  # nothing has changed
    assert parts.catalog.current_index("art") == CurrentIndex(1, 10)
    parts.add(art, "b", range(10, 25))
    parts.assert_indexed(art, range(25))
    job = parts.job(kind="maintain")
    parts.maintenance().tuner.maintain(collection="art", job=job)
    assert parts.jobs.get(job).done
    assert parts.catalog.current_index("art") == CurrentIndex(2, 25)
    parts.assert_indexed(art, range(25))


def test_images_that_come_while_a_generation_is_filled_are_in_it(parts: Parts) -> None:
    art = parts.collection()
    for place in range(4):
        parts.add(art, f"s{place}", range(10 * place, 10 * place + 10))
    parts.maintenance().tuner.maintain(collection="art")
    for place in range(4, 9):
        parts.add(art, f"s{place}", range(10 * place, 10 * place + 10))
    parts.indexer().deletion.delete(job=parts.job(kind="delete"), collection="art", image_ids=[rows.image_id(7)])
    another = parts.indexer()  # in another process
    came: list[int] = []
    gone = {7}

    class Busy(ObjectStore):
        """Each read of a segment by the one that fits sees another segment come, and an image go."""

        def get(self, key: str, *, start: int = 0, size: int = 0) -> bytes:
            data = super().get(key, start=start, size=size)
            if key.startswith("vectors/") and len(came) < 30:
                number = 100 + len(came)
                came.append(number)
                parts.add(art, f"while-{number}", [number])
                if number % 3 == 0:
                    gone.add(number - 2)
                    another.deletion.delete(
                        job=parts.job(f"d{number}", kind="delete"),
                        collection="art",
                        image_ids=[rows.image_id(number - 2)],
                    )
            return data

    busy = Parts(Busy(parts.store._client, parts.store._bucket), parts.redis, parts.queue)
    busy.maintenance().tuner.maintain(collection="art")
    assert len(came) > 15
    live = [number for number in [*range(90), *came] if number not in gone]
    current = parts.catalog.current_index("art")
    assert current is not None
    assert current.generation == 2
    assert parts.state.claims.count("art") == len(live)
    generation = Generation.load(parts.store, art, 2)
    for number in live:
        for name in generation.buckets(rows.embeddings([number], DIM)):
            assert parts.redis.sismember(name, rows.image_id(number)), number


def test_a_fit_waits_for_one_whose_indexer_died(parts: Parts, monkeypatch: pytest.MonkeyPatch) -> None:
    """The lock of the dead one is still there when its task is given to another."""
    monkeypatch.setattr("shared.state.locks.LEASE_S", 1.0)
    art = parts.collection()
    parts.add(art, "a", range(10))
    parts.redis.set("lock:segments:art", "of one that died", px=700)
    parts.maintenance().tuner.maintain(collection="art")
    parts.assert_indexed(art, range(10))


def test_of_several_that_are_to_fit_at_once_one_does(parts: Parts, servers: Servers) -> None:
    art = parts.collection()
    parts.add(art, "a", range(30))
    url = servers.settings.index_url.get_secret_value()
    with ThreadPoolExecutor(4) as threads:
        workers = [Parts(parts.store, connect(url), parts.queue).maintenance() for _ in range(4)]
        for done in [threads.submit(worker.tuner.maintain, collection="art") for worker in workers]:
            done.result()
    assert parts.catalog.current_index("art") == CurrentIndex(1, 30)
    parts.assert_indexed(art, range(30))


def test_a_collection_of_one_image_has_an_index(parts: Parts) -> None:
    art = parts.collection()
    parts.add(art, "a", [1])
    parts.maintenance().tuner.maintain(collection="art")
    parts.assert_indexed(art, [1])
    parts.indexer().deletion.delete(job=parts.job(kind="delete"), collection="art", image_ids=[rows.image_id(1)])
    assert parts.held(art) == {}
    parts.maintenance().tuner.maintain(collection="art")
    parts.maintenance().rebuilder.rebuild(collection="art")
    assert parts.held(art) == {}


class UnavailableOnce:
    """Buckets that cannot be dropped the first time that those of one generation are kept."""

    def __init__(self, buckets: BucketStore) -> None:
        self._buckets, self._failed = buckets, False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._buckets, name)

    def drop(self, prefix: bytes, *, keep: bytes | None = None) -> int:
        """Delete buckets, or fail."""
        if keep is not None and not self._failed:
            self._failed = True
            raise IndexUnavailable("Redis does not answer")
        return self._buckets.drop(prefix, keep=keep)


def test_a_generation_that_the_store_has_in_use_is_taken_into_use_though_redis_failed_meanwhile(parts: Parts) -> None:
    art = parts.collection()
    parts.add(art, "a", range(10))
    parts.maintenance().tuner.maintain(collection="art")
    parts.add(art, "b", range(10, 25))
    clients = parts.wrapped(lambda part: UnavailableOnce(parts.buckets) if part is parts.buckets else part)
    with pytest.raises(IndexUnavailable):
        Maintenance.of(clients).tuner.maintain(collection="art")
    assert parts.catalog.current_index("art") == CurrentIndex(2, 25)
    parts.assert_indexed(art, range(25))


def test_a_generation_that_took_the_number_of_another_is_read_anew(
    parts: Parts, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As after the restore of a backup that was made before the other."""
    monkeypatch.setattr(generations, "_FRESH_S", 0.0)
    art, cache = parts.collection(), GenerationCache(parts.store)

    def write(seed: int) -> None:
        family = tuning.fit(rows.embeddings(range(20), DIM), seed=seed, tables=2, hashes=2, probes=2)
        Generation(art, 1, family).save(parts.store)

    write(1)
    kept = cache.get(art, 1)
    assert kept.family.parameters()["seed"] == 1
    assert cache.get(art, 1) is kept
    write(2)
    assert cache.get(art, 1).family.parameters()["seed"] == 2
    parts.store.delete([layout.generation_key("art", 1)])
    with pytest.raises(Invalid, match="--fit"):
        cache.get(art, 1)
