"""What share of the pairs that are shown are duplicates, told from a sample that somebody has judged.

Pairs are judged in an order that chance has drawn. Of the pairs from a threshold on, those before the first that is not
judged yet are a sample drawn without replacement, whatever other pairs were judged: how many of all are duplicates then
lies within the exact interval of the hypergeometric distribution (Buonaccorsi: A note on confidence intervals for
proportions in finite populations, 1987).
"""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import exp, lgamma
from typing import Final, Literal

from shared.duplicates.pairs import Pair

Verdict = Literal["same", "different"]

CONFIDENCE: Final = 0.95


@dataclass(frozen=True)
class Share:
    """The share of duplicates among the pairs that are shown.

    Attributes:
        pairs: Pairs that are shown: those of the threshold, less those that were judged to be different.
        judged: Pairs of the sample.
        same: How many of these were judged to be duplicates.
        share: The estimate; None if nothing is judged, or nothing shown.
        low: The lower end of its interval.
        high: The upper end.
        next: The pair to judge next; None: all are judged.
    """

    pairs: int
    judged: int
    same: int
    share: float | None
    low: float | None
    high: float | None
    next: Pair | None


def share_of(pairs: Sequence[Pair], verdicts: Mapping[tuple[int, int], Verdict], *, seed: str) -> Share:
    """Return the share of duplicates among pairs, all that reach a threshold; `seed` draws the order of judging."""
    drawn = judging_order(pairs, seed)
    sample: list[Verdict] = []
    following: Pair | None = None
    for pair in drawn:
        verdict = verdicts.get(pair.ids)
        if verdict is None:
            following = pair
            break
        sample.append(verdict)
    same = sample.count("same")
    known = [verdicts[pair.ids] for pair in pairs if pair.ids in verdicts]
    shown = len(pairs) - known.count("different")
    if not sample or not shown:
        return Share(shown, len(sample), same, None, None, None, following)
    low, high = interval(same, len(sample), len(pairs))
    # Pairs that were judged to be different are shown no more: the duplicates among all found are those among fewer.
    least = known.count("same") / shown
    estimate, low_share, high_share = (
        max(least, min(1.0, count / shown)) for count in (same / len(sample) * len(pairs), low, high)
    )
    return Share(shown, len(sample), same, estimate, low_share, high_share, following)


def judging_order(pairs: Sequence[Pair], seed: str) -> list[Pair]:
    """Return pairs in the order in which they are to be judged; a part of them comes in the same order."""
    return sorted(pairs, key=lambda pair: _draw(seed, pair))


def interval(count: int, sample: int, population: int, confidence: float = CONFIDENCE) -> tuple[int, int]:
    """Return the least and the most that may be in a population, of which a sample without replacement holds `count`.

    Both ends are those for which each tail of the hypergeometric distribution has half of what is left of certainty.
    """
    tail = (1 - confidence) / 2
    low, high = count, population - (sample - count)
    return (
        _first(low, high, lambda total: _at_least(count, sample, total, population) > tail),
        -_first(-high, -low, lambda total: _at_most(count, sample, -total, population) > tail),
    )


def _first(low: int, high: int, holds: Callable[[int], bool]) -> int:
    """Return the first whole number from which something holds, which it does at `high`."""
    while low < high:
        middle = (low + high) // 2
        if holds(middle):
            high = middle
        else:
            low = middle + 1
    return low


def _at_least(count: int, sample: int, total: int, population: int) -> float:
    return sum(_probability(drawn, sample, total, population) for drawn in range(count, min(sample, total) + 1))


def _at_most(count: int, sample: int, total: int, population: int) -> float:
    return sum(_probability(drawn, sample, total, population) for drawn in range(count + 1))


def _probability(drawn: int, sample: int, total: int, population: int) -> float:
    """Return how probable it is that a sample holds exactly so many of `total`."""
    if not max(0, sample - (population - total)) <= drawn <= min(sample, total):
        return 0.0
    ways = _log_choose(total, drawn) + _log_choose(population - total, sample - drawn)
    return exp(ways - _log_choose(population, sample))


def _log_choose(of: int, chosen: int) -> float:
    return lgamma(of + 1) - lgamma(chosen + 1) - lgamma(of - chosen + 1)


def _draw(seed: str, pair: Pair) -> bytes:
    return hashlib.sha256(f"{seed} {pair.a} {pair.b}".encode()).digest()
