"""What theory predicts of the p-stable family: how likely two points at a distance meet in a bucket.

Datar, Immorlica, Indyk, Mirrokni: Locality-Sensitive Hashing Scheme Based on p-Stable Distributions, SCG 2004, sections
3.1 and 3.2.
"""

import math
from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

_STEPS = 60  # halvings of the slot width's logarithm
_WIDEST = 1e6  # distances

_erf = np.vectorize(math.erf, otypes=[np.float64])


def collision(distances: npt.NDArray[np.floating[Any]], width: float) -> Floats:
    """Return the probability that a hash function of slot width w puts two points at distance c into the same slot.

    p(c) = 1 - 2 N(-w/c) - 2 / (√(2π) w/c) (1 - exp(-(w/c)² / 2)), N being the normal distribution's function. In the
    units of the distances; 1 at distance 0.
    """
    slots = width / np.maximum(np.asarray(distances, np.float64), width / _WIDEST)
    within = _erf(slots / math.sqrt(2))
    probabilities: Floats = within - 2 / (math.sqrt(2 * math.pi) * slots) * (1 - np.exp(-(slots**2) / 2))
    return probabilities


def meeting(distances: npt.NDArray[np.floating[Any]], *, width: float, hashes: int, tables: int) -> Floats:
    """Return the probability that two points at these distances meet in at least one table: 1 - (1 - p(c)^k)^L."""
    probabilities: Floats = 1 - (1 - collision(distances, width) ** hashes) ** tables
    return probabilities


def width_for(distances: Floats, *, hashes: int, tables: int, recall: float) -> float:
    """Return the narrowest slot width at which points at these distances meet with this mean probability, below 1."""
    typical = float(distances.mean()) or 1.0
    low, high = math.log(typical / _WIDEST), math.log(typical * _WIDEST)
    for _ in range(_STEPS):
        middle = (low + high) / 2
        if meeting(distances, width=math.exp(middle), hashes=hashes, tables=tables).mean() < recall:
            low = middle
        else:
            high = middle
    return math.exp(high)
