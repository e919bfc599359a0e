"""How what was measured grows with the number of vectors: as a power of it, by its exponent."""

import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from benchmarks.end_to_end import EndToEndResult
from benchmarks.results import END_TO_END, Results

_SCALED: Mapping[str, Callable[[EndToEndResult], float]] = {
    "share ranked, %": lambda result: 100 * (result.point.candidate_share or 0),
    "images ranked": lambda result: result.count * (result.point.candidate_share or 0),
    "median ms": lambda result: result.point.median_ms,
    "MB of the query service": lambda result: result.measurements.get("query_memory_mb", 0),
    "MB of Valkey": lambda result: result.measurements.get("valkey-index_memory_mb", 0),
    "s to restart the query service": lambda result: result.measurements.get("query_restart_s", 0),
}
"""What of Artseek end to end is shown as a power of the size, as it was tuned."""


def exponent(shares: Sequence[tuple[int, float]]) -> float | None:
    """Return b of the least-squares fit share = a · n^b on logarithms; None for fewer than two sizes.

    Args:
        shares: Numbers of vectors, and the share of them that is compared, above 0.
    """
    if len({count for count, _ in shares}) < 2:
        return None
    counts, parts = (np.log(np.array(values, dtype=np.float64)) for values in zip(*shares, strict=True))
    return float(np.polyfit(counts, parts, 1)[0])


def exponents(results: Results) -> dict[str, tuple[dict[int, float], float | None]]:
    """Return, for each of our indexes on simulated vectors, the shares by size at equal recall, and the exponent.

    A share is read off an index's curve at the target. Artseek end to end has no curve, so it counts as it was tuned.
    """
    simulated = {name for name, info in results.datasets.items() if info.simulated}
    shares: dict[str, list[tuple[int, float]]] = {}
    for index in results.indexes:
        share = index.candidate_share_at(results.target)
        if index.ours and index.dataset in simulated and share:
            shares.setdefault(index.index, []).append((index.count, share))
    for result in results.end_to_end:
        if result.dataset in simulated and result.point.candidate_share:
            name = f"{END_TO_END}, as tuned"
            shares.setdefault(name, []).append((result.count, result.point.candidate_share))
    return {name: (dict(by_size), exponent(by_size)) for name, by_size in shares.items()}


def growth_rows(results: Results) -> list[tuple[str, ...]]:
    """Return the rows of the shares at equal recall, a head first: an index, its shares by size, the exponent."""
    by_index = exponents(results)
    counts = sorted({count for shares, _ in by_index.values() for count in shares})
    rows: list[tuple[str, ...]] = [("share at equal recall", *(f"{count:,}" for count in counts), "exponent")]
    for name, (shares, slope) in by_index.items():
        cells = [f"{shares[count]:.2%}" if count in shares else "" for count in counts]
        rows.append((name, *cells, "" if slope is None else f"{slope:+.2f}"))
    return rows if counts else []


def scaling_rows(results: Results) -> list[tuple[str, ...]]:
    """Return how searches and memory grow with simulated collections, a head first: values by size, the exponent."""
    found = [result for result in results.end_to_end if results.datasets[result.dataset].simulated]
    rows: list[tuple[str, ...]] = [(f"{END_TO_END}, grown", *(f"{result.count:,}" for result in found), "exponent")]
    for name, value in _SCALED.items():
        values = [(result.count, value(result)) for result in found]
        if all(number > 0 for _, number in values):
            slope = exponent(values)
            cells = [number_text(number) for _, number in values]
            rows.append((name, *cells, "" if slope is None else f"{slope:+.2f}"))
    return rows if len(found) > 1 else []


def number_text(value: float) -> str:
    """Return a number to three digits, without an exponent."""
    if not math.isfinite(value):
        return f"{value:g}"
    if value == round(value):
        return f"{value:,.0f}"
    return f"{value:,.{max(0, 2 - math.floor(math.log10(abs(value))))}f}"
