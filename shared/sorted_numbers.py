"""Looks numbers up among ascending ones. `numpy.isin` sorts what it looks among, at each call."""

from typing import Any

import numpy as np
import numpy.typing as npt


def places_among(ascending: npt.NDArray[Any], wanted: npt.NDArray[Any]) -> npt.NDArray[np.int64]:
    """Return the place of each wanted number or word among ascending ones, -1 where it is not there.

    Args:
        ascending: Where to look, [n], ascending.
        wanted: What to look for, of any shape, which is that of the result too.
    """
    if not len(ascending):
        return np.full(wanted.shape, -1, dtype=np.int64)
    places = np.minimum(np.searchsorted(ascending, wanted), len(ascending) - 1)
    return np.where(ascending[places] == wanted, places, -1)
