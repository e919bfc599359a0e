"""Ratios of a benchmark run beside those that were committed last, in `ratios.json`: which of them fell.

A ratio is a time or rate over another of the same run, so that it is the same on a slow machine, about. Each is larger
where Artseek is better.
"""

import json
import statistics
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from shared.errors import Invalid

FILE: Final = Path(__file__).with_name("ratios.json")
ALLOWED_FALL: Final = 0.2
"""Share of a committed ratio by which one is too low."""

_FORMAT: Final = 1


@dataclass(frozen=True)
class Ratio:
    """A ratio: its name, what is divided by what, and what each repetition gave."""

    name: str
    meaning: str
    values: Sequence[float]

    @property
    def median(self) -> float:
        """The median of the repetitions."""
        return statistics.median(self.values)


@dataclass(frozen=True)
class Comparison:
    """A ratio beside the committed one; None: there is none of this name."""

    ratio: Ratio
    committed: float | None

    @property
    def has_fallen(self) -> bool:
        """Whether the ratio is lower than it may be: by a fifth, or more."""
        return self.committed is not None and self.ratio.median <= self.committed * (1 - ALLOWED_FALL)

    @property
    def verdict(self) -> str:
        """What is said of it."""
        if self.committed is None:
            return "new"
        if self.has_fallen:
            return "FELL"
        return "rose: renew" if self.ratio.median > self.committed * (1 + ALLOWED_FALL) else "holds"


def compare(ratios: Sequence[Ratio], committed: Mapping[str, float]) -> list[Comparison]:
    """Return each ratio beside the committed one."""
    return [Comparison(ratio, committed.get(ratio.name)) for ratio in ratios]


def lines(comparisons: Sequence[Comparison]) -> Iterator[str]:
    """Yield the lines of a table: ratio, committed one, the lowest and highest of the repetitions, verdict, meaning."""
    yield f"{'':24} {'now':>8} {'committed':>10}  {'lowest to highest':20} {'':12}"
    for found in comparisons:
        ratio = found.ratio
        committed = "" if found.committed is None else f"{found.committed:.3g}"
        spread = f"{min(ratio.values):.3g} to {max(ratio.values):.3g}"
        yield f"{ratio.name:24} {ratio.median:8.3g} {committed:>10}  {spread:20} {found.verdict:12} {ratio.meaning}"


def failures(comparisons: Sequence[Comparison], expected: Iterable[str]) -> Iterator[str]:
    """Yield a line for each ratio that fell, and for each of the expected names that was not measured."""
    for found in comparisons:
        if found.has_fallen:
            yield (
                f"{found.ratio.name} fell from {found.committed:.3g} to {found.ratio.median:.3g}: {found.ratio.meaning}"
            )
    for name in sorted(set(expected) - {found.ratio.name for found in comparisons}):
        yield f"{name} is in {FILE.name} and was not measured"


def load(path: Path = FILE) -> dict[str, float]:
    """Return the committed ratios by their names; none if nothing was committed.

    Raises:
        Invalid: The file is not as this version writes it.
    """
    if not path.exists():
        return {}
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        if values["format"] != _FORMAT:
            raise Invalid(f"{path.name} has format {values['format']}, expected {_FORMAT}: renew it")
        return {str(name): float(value) for name, value in values["ratios"].items()}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise Invalid(f"{path.name} cannot be read ({error}): renew it") from error


def save(ratios: Sequence[Ratio], machine: Mapping[str, str], path: Path = FILE) -> None:
    """Write ratios in the place of those of the same names; others stay."""
    kept = load(path) | {ratio.name: float(f"{ratio.median:.3g}") for ratio in ratios}
    values = {"format": _FORMAT, "measured_on": dict(machine), "ratios": dict(sorted(kept.items()))}
    path.write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")
