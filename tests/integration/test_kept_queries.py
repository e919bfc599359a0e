"""Pictures that were searched for: kept once, for some days, within what a requester may have kept."""

import pytest

from shared.errors import ObjectNotFound, TooNew
from shared.state import Client
from shared.state.rates import Allowance, Rates
from shared.storage.evaluation_layout import KEPT_QUERIES
from shared.storage.kept_queries import KeptQueries
from shared.storage.layout import digest_of
from shared.storage.object_store import ObjectStore

DAY = 24 * 3600.0


class Clock:
    def __init__(self) -> None:
        self.now = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def queries(store: ObjectStore, clock: Clock) -> KeptQueries:
    store.ensure_bucket()
    return KeptQueries(store, clock=clock)


def test_a_picture_is_found_in_its_collection_alone_until_its_days_are_over(
    queries: KeptQueries, store: ObjectStore, clock: Clock
) -> None:
    kept = queries.keep("works", b"picture", "mine.jpg")
    assert queries.find("works", digest_of(b"picture"), days=7) == kept
    assert queries.read(kept) == b"picture"
    assert queries.find("maps", kept.digest, days=7) is None
    assert kept.until(7) == clock.now + 7 * DAY
    clock.now += 5 * DAY
    again = queries.keep("works", b"picture", "other.jpg")
    clock.now += 3 * DAY
    assert queries.find("works", kept.digest, days=7) == again
    assert queries.tidy(days=7) == 2  # the first, with its JSON
    assert queries.find("works", kept.digest, days=7) == again
    with pytest.raises(ObjectNotFound):
        queries.read(kept)
    clock.now += 5 * DAY
    assert queries.find("works", kept.digest, days=7) is None
    queries.tidy(days=7)
    assert list(store.list(KEPT_QUERIES)) == []


def test_half_a_picture_is_none_and_goes_with_the_others(queries: KeptQueries, store: ObjectStore) -> None:
    kept = queries.keep("works", b"picture", "mine.jpg")
    store.delete([f"{kept.key}.json"])  # as if the web service had died before it wrote this
    assert queries.find("works", kept.digest, days=7) is None
    assert queries.tidy(days=0) == 1  # nothing is to be kept any more


def test_a_dropped_collection_keeps_none(queries: KeptQueries) -> None:
    kept = queries.keep("works", b"picture", "mine.jpg")
    other = queries.keep("works-2", b"picture", "mine.jpg")
    queries.drop("works")
    assert queries.find("works", kept.digest, days=7) is None
    assert queries.find("works-2", other.digest, days=7) == other


def test_what_a_newer_version_kept_is_refused_by_name(queries: KeptQueries, store: ObjectStore) -> None:
    kept = queries.keep("works", b"picture", "mine.jpg")
    store.put(f"{kept.key}.json", b'{"format": 2, "name": "mine.jpg", "stored": 1}')
    with pytest.raises(TooNew, match="upgrade"):
        queries.find("works", kept.digest, days=7)


@pytest.mark.parametrize("redis_answers", [True, False])
def test_half_of_an_allowance_may_come_at_once_and_each_has_their_own(redis: Client, *, redis_answers: bool) -> None:
    rates = Rates(redis)
    if not redis_answers:
        redis.connection_pool.connection_kwargs |= {"port": 1, "socket_timeout": 0.1}
        redis.connection_pool.disconnect()
    allowance = Allowance("bytes", 1000, 7 * DAY)
    assert rates.take(allowance, "ann", 501) > 0
    assert rates.take(allowance, "ann", 300) == 0
    assert rates.take(allowance, "ann", 200) == 0
    wait = rates.take(allowance, "ann", 100)
    assert wait == pytest.approx(100 / 500 * 7 * DAY, rel=1e-3)
    assert rates.take(allowance, "ben", 500) == 0
