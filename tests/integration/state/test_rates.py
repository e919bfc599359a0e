"""Rates: each requester has its own allowance, over all processes, and without Redis in each of them."""

from shared.state import Client, connect
from shared.state.rates import Rate, Rates
from tests.support.processes import free_port

RATE = Rate("tries", per_minute=6)  # three at once, then one in ten seconds


def check_allowances(rates: Rates) -> None:
    """Half of what a minute allows may come at once; others have an allowance of their own."""
    assert [rates.take(RATE, "a") for _ in range(3)] == [0, 0, 0]
    wait = rates.take(RATE, "a")
    assert 0 < wait <= RATE.interval_s
    assert rates.take(RATE, "a") <= wait  # what was refused is not counted
    assert rates.take(RATE, "b") == 0
    assert rates.take(Rate("others", per_minute=6), "a") == 0


def test_each_requester_has_an_allowance(redis: Client) -> None:
    check_allowances(Rates(redis))


def test_without_redis_a_process_counts_for_itself() -> None:
    check_allowances(Rates(connect(f"redis://127.0.0.1:{free_port()}/0", timeout_s=0.1, retries=0)))


def test_processes_count_together(redis: Client) -> None:
    first, second = Rates(redis), Rates(redis)
    answers = [rates.take(RATE, "a") for rates in (first, second, first, second)]
    assert answers[:3] == [0, 0, 0]
    assert answers[3] > 0


def test_an_allowance_comes_back_with_time(redis: Client) -> None:
    rates, key = Rates(redis), "rate:tries:a"
    while not rates.take(RATE, "a"):
        pass
    assert 0 < redis.pttl(key) <= 30_000
    redis.set(key, float(redis.get(key)) - RATE.interval_s)  # as if that time had passed
    assert rates.take(RATE, "a") == 0
    assert rates.take(RATE, "a") > 0
