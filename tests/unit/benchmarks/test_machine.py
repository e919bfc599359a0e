"""Rates are told beside the best of as many cores."""

from benchmarks.machine import shares_of_best


def test_each_rate_is_told_beside_the_best_of_as_many_cores() -> None:
    rates = {(1, "a"): 5.0, (1, "b"): 10.0, (2, "a"): 40.0, (2, "b"): 10.0}
    assert shares_of_best(rates, lambda setting: setting[0]) == {
        (1, "a"): 0.5,
        (1, "b"): 1.0,
        (2, "a"): 1.0,
        (2, "b"): 0.25,
    }
