"""The share of duplicates that a judged sample states."""

from collections.abc import Iterable
from math import comb

import numpy as np
import pytest

from shared.duplicates.pairs import Pair
from shared.duplicates.share import Verdict, interval, share_of

PAIRS = [Pair(number, 1000 + number, 0.5 + number / 400, 9, 0.8, ("cropped",)) for number in range(200)]


def judged(pairs: list[Pair], wrong: set[int], count: int) -> dict[tuple[int, int], Verdict]:
    """Judge so many pairs, one after the other, as the page asks."""
    verdicts: dict[tuple[int, int], Verdict] = {}
    for _ in range(count):
        following = share_of(pairs, verdicts, seed="s").next
        assert following is not None
        verdicts[following.ids] = "different" if following.a in wrong else "same"
    return verdicts


def probability(counts: Iterable[int], population: int, total: int, sample: int) -> float:
    """Return how likely a sample without replacement holds so many of `total` in the population."""
    ways = sum(comb(total, count) * comb(population - total, sample - count) for count in counts)
    return ways / comb(population, sample)


def test_the_interval_is_that_of_the_hypergeometric_distribution() -> None:
    for count, sample, population in ((0, 10, 50), (10, 10, 50), (7, 10, 50), (49, 50, 1000), (3, 3, 3)):
        low, high = interval(count, sample, population)
        inside = [
            total
            for total in range(population + 1)
            if probability(range(count, sample + 1), population, total, sample) > 0.025
            and probability(range(count + 1), population, total, sample) > 0.025
        ]
        assert (low, high) == (inside[0], inside[-1])


def test_the_stated_interval_covers_the_true_share_as_often_as_it_says() -> None:
    chance, covered, rounds = np.random.default_rng(0), 0, 300
    for _ in range(rounds):
        total = int(chance.integers(120, 201))
        count = int(chance.hypergeometric(total, 200 - total, 40))
        low, high = interval(count, 40, 200)
        covered += low <= total <= high
    assert covered / rounds >= 0.95


def test_pairs_that_are_different_are_shown_no_more_and_the_share_is_of_the_others() -> None:
    wrong = set(range(0, 200, 10))
    found = share_of(PAIRS, judged(PAIRS, wrong, 200), seed="s")
    assert (found.pairs, found.judged, found.same, found.next) == (180, 200, 180, None)
    assert (found.share, found.low, found.high) == (1.0, 1.0, 1.0)


def test_a_sample_tells_the_share_of_what_is_shown() -> None:
    wrong = set(range(0, 200, 10))
    verdicts = judged(PAIRS, wrong, 60)
    found = share_of(PAIRS, verdicts, seed="s")
    true = 180 / found.pairs
    assert found.low is not None
    assert found.high is not None
    assert found.low <= true <= found.high
    assert found.high - found.low < 0.2


def test_pairs_judged_at_a_higher_threshold_do_not_make_the_sample_of_a_lower_one_uneven() -> None:
    high = [pair for pair in PAIRS if pair.agreement >= 0.8]
    verdicts = judged(high, set(), len(high))
    found = share_of(PAIRS, verdicts, seed="s")
    assert found.next is not None
    first = next(pair for pair in PAIRS if pair.ids == found.next.ids)
    assert first.agreement < 0.8
    # Only those before the first that is not judged are a sample of all.
    assert found.judged < len(high)


def test_without_verdicts_nothing_is_stated() -> None:
    found = share_of(PAIRS, {}, seed="s")
    assert (found.share, found.low, found.high, found.judged) == (None, None, None, 0)
    assert share_of([], {}, seed="s").next is None


@pytest.mark.parametrize("seed", ["a", "b"])
def test_the_order_of_judging_is_the_same_for_a_report(seed: str) -> None:
    assert share_of(PAIRS, {}, seed=seed).next == share_of(PAIRS[::-1], {}, seed=seed).next
