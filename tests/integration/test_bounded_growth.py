"""What Redis and the object store hold depends on the images there are, not on how much was done."""

import pytest

from shared.state import Change, Changes, changes
from shared.storage.trash import Trash
from tests.support import rows
from tests.support.indexing import Parts, parts_of
from tests.support.servers import Servers


@pytest.fixture
def parts(servers: Servers) -> Parts:
    return parts_of(servers.settings)


def work(parts: Parts, number: int) -> None:
    """Add, trash, purge, search for what is due, compact, tune and rebuild: nothing of it is to be left."""
    art = parts.catalog.get("art")
    numbers = range(1000 + 4 * number, 1004 + 4 * number)
    parts.add(art, f"s{number}", numbers)
    for purge, some in ((False, numbers[:2]), (True, numbers)):
        parts.indexer().deletion.delete(
            job=parts.job(f"d{number}{purge}", kind="delete"),
            collection="art",
            image_ids=rows.ids(some),
            purge=purge,
        )
    maintenance = parts.maintenance()
    maintenance.purger.purge(job=parts.job(f"p{number}", kind="delete"), collection="art", image_ids=rows.ids(numbers))
    maintenance.compactor.compact(collection="art", job=parts.job(f"c{number}", kind="compact"))
    maintenance.rebuilder.rebuild(collection="art", job=parts.job(f"r{number}", kind="rebuild"), fit=number % 2 == 0)


def lasting(parts: Parts) -> set[bytes]:
    """Return the keys of Redis that do not expire by themselves, but for buckets, whose number is that of the index."""
    return {key for key in parts.redis.scan_iter(count=2000) if parts.redis.ttl(key) < 0 and not key.startswith(b"b:")}


def objects(parts: Parts) -> int:
    return sum(1 for _ in parts.store.list(""))


def test_what_is_stored_does_not_grow_with_what_is_done(parts: Parts) -> None:
    parts.add(parts.collection(), "kept", range(20))
    parts.maintenance().tuner.maintain(collection="art")
    for number in range(2):
        work(parts, number)
    parts.maintenance().trash_cleaner.clean()
    keys, stored = lasting(parts), objects(parts)

    for number in range(2, 8):
        work(parts, number)
    parts.maintenance().trash_cleaner.clean()

    assert lasting(parts) == keys
    assert objects(parts) == stored
    assert Trash(parts.store).collections() == []
    parts.assert_indexed(parts.catalog.get("art"), range(20))


def test_the_stream_of_changes_keeps_so_many(parts: Parts, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(changes, "KEPT", 100)
    stream = Changes(parts.redis)
    for number in range(1000):
        stream.announce(Change("art", "segment", str(number)))
    assert parts.redis.xlen("changes") < 300  # the server cuts whole nodes of a hundred
