"""How often the decision of a comparison is wrong, as `benchmarks/proof.py` measured it; see docs/benchmarks.md."""

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True)
class FalseAlarms:
    """Pairs of pictures of one class that look alike and are no copies, and how many of them were called the same.

    `high` is the upper end of the 95 % interval of the share (Clopper and Pearson 1934).
    """

    pairs: int
    alarms: int
    high: float


FALSE_ALARMS: Final = FalseAlarms(pairs=5185, alarms=1, high=0.00107)
