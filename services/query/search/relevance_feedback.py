"""Relevance feedback: a query that is moved towards some examples and away from others."""

import numpy as np
import numpy.typing as npt

from services.query.replica.mapped_segment import Vectors

# J. J. Rocchio, Relevance feedback in information retrieval (1971). The weights usual for texts, 0.75 and 0.25, gain a
# third less here: docs/benchmarks.md.
_QUERY, _LIKE, _UNLIKE = 1.0, 2.0, 1.0

Floats = npt.NDArray[np.float64]


def moved(query: Vectors | None, like: Vectors, unlike: Vectors, *, weight: float = 1.0) -> Vectors:
    """Return a query, float32 [dim], moved by examples, float32 [n, dim] each.

    q' = weight·q + 2·mean(like) − 1·mean(unlike), with all vectors scaled to length 1. A term without vectors is left
    out; an example that is given twice counts twice. The result has the length of the query; without a query, the mean
    length of the examples. So Euclidean distances to it compare with distances to an image.
    """
    if query is not None and not len(like) and not len(unlike):
        return query
    target: Floats = np.zeros((like if query is None else query).shape[-1])
    if query is not None:
        target += weight * _QUERY * _unit(query[np.newaxis])[0]
    if len(like):
        target += _LIKE * _unit(like).mean(axis=0)
    if len(unlike):
        target -= _UNLIKE * _unit(unlike).mean(axis=0)
    given = np.concatenate([like, unlike]) if query is None else query[np.newaxis]
    length = np.linalg.norm(given.astype(np.float64), axis=1).mean()
    return np.asarray(_unit(target[np.newaxis])[0] * length, dtype=np.float32)


def _unit(points: Vectors | Floats) -> Floats:
    """Return rows scaled to length 1; a row of zeros stays as it is."""
    values = points.astype(np.float64)
    lengths = np.linalg.norm(values, axis=1, keepdims=True)
    unit: Floats = np.divide(values, lengths, out=np.zeros_like(values), where=lengths > 0)
    return unit
