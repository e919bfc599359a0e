"""The least values of rows that come in blocks, such as the distances of queries to more vectors than memory holds."""

import numpy as np
import numpy.typing as npt

Values = npt.NDArray[np.float32]


def keep_least(best: Values, values: Values) -> None:
    """Put the least of `best`, [q, count], and of `values`, [q, n], into `best`, in no order.

    After a few blocks hardly any value is among the least, so most rows cost a comparison of each value and no more.
    """
    count = best.shape[1]
    near = values < best.max(axis=1, keepdims=True)
    for row in np.flatnonzero(near.any(axis=1)):
        candidates = np.concatenate([best[row], values[row][near[row]]])
        best[row] = np.partition(candidates, count - 1)[:count]
