"""Which hash families there are: fitting one, restoring one, and the bytes in which one is stored."""

import io
import json
import zipfile
from typing import Any

import numpy as np
import numpy.typing as npt

from shared.hashing.mixing import MAX_TABLES
from shared.hashing.probing import MAX_PROBES
from shared.hashing.pstable import FAMILY as P_STABLE
from shared.hashing.pstable import MAX_HASHES, PStableFamily
from shared.hashing.tuning import Goal, fit_pstable
from shared.hashing.types import FloatArray, HashFamily, HashingError

TABLES = 16
RECALL_TARGET = 0.96
"""A little above the 0.95 that is wanted: queries unlike the collection find a little less than its own vectors."""

_PARAMETERS = "parameters"


def fit(
    vectors: FloatArray,
    *,
    seed: int,
    family: str = P_STABLE,
    tables: int = TABLES,
    hashes: int | None = None,
    width: float | None = None,
    probes: int | None = None,
    recall_target: float = RECALL_TARGET,
    size: int | None = None,
) -> HashFamily:
    """Fit a hash family to a sample of a collection: the same for the same sample and seed.

    Args:
        vectors: float32 [n, dim], n ≥ 1. More than 6,144 are thinned out.
        seed: Of all that is drawn.
        family: The kind; "p-stable" is the one there is.
        tables: L, at most 256.
        hashes: k, the hash functions of a table, at most 64; None lets the sample decide.
        width: w, the slot width, in units of the length that points are scaled to; None lets the sample decide.
        probes: Buckets per table that a query looks into; None takes the fewest that reach the recall target.
        recall_target: Share of the 10 nearest by cosine that the candidates are to hold, above 0 and at most 1.
        size: Vectors that the collection has or will have, so that its buckets hold enough; None for those given.

    Returns:
        The family. Its parameters tell the recall that was measured, which a hard sample keeps below the target.

    Raises:
        HashingError: The sample is no [n, dim] of finite numbers, or an argument is out of its range.
    """
    for name, value, low, high in (
        ("seed", seed, 0, None),
        ("tables", tables, 1, MAX_TABLES),
        ("hashes", hashes, 1, MAX_HASHES),
        ("probes", probes, 1, MAX_PROBES),
        ("size", size, 1, None),
    ):
        if value is not None and (value < low or (high is not None and value > high)):
            raise HashingError(f"{name} is {value}, expected {f'{low} to {high}' if high else f'at least {low}'}")
    if not 0 < recall_target <= 1:
        raise HashingError(f"recall_target is {recall_target}, expected above 0 and at most 1")
    if family != P_STABLE:
        raise HashingError(_unknown(family))
    goal = Goal(
        seed=seed,
        tables=tables,
        hashes=hashes,
        width=width,
        probes=probes,
        recall_target=recall_target,
        size=size,
    )
    return fit_pstable(vectors, goal)


def from_parts(parameters: dict[str, Any], arrays: dict[str, npt.NDArray[Any]]) -> HashFamily:
    """Restore a family from its parameters and arrays: it gives the same keys, bit for bit, on every machine.

    Raises:
        HashingError: The family is unknown, or a part is missing or does not fit; the message names it.
    """
    family = parameters.get("family")
    if family != P_STABLE:
        raise HashingError(_unknown(family))
    return PStableFamily.from_parts(parameters, arrays)


def dumps(family: HashFamily) -> bytes:
    """Return a family as bytes: a NumPy ``.npz`` without pickles, of its arrays and its parameters as JSON."""
    parameters = np.frombuffer(json.dumps(family.parameters(), sort_keys=True).encode(), dtype=np.uint8)
    buffer = io.BytesIO()
    np.savez_compressed(buffer, allow_pickle=False, **{_PARAMETERS: parameters}, **family.arrays())
    return buffer.getvalue()


def loads(data: bytes) -> HashFamily:
    """Restore a family from what `dumps` gave.

    Raises:
        HashingError: These are other bytes, or cut short, or hold parts that do not fit.
    """
    try:
        with np.load(io.BytesIO(data), allow_pickle=False) as stored:
            arrays = {name: stored[name] for name in stored.files}
        parameters = json.loads(arrays.pop(_PARAMETERS).tobytes())
        if not isinstance(parameters, dict):
            raise HashingError(f"the parameters are a {type(parameters).__name__}, expected an object")
    except (AttributeError, EOFError, KeyError, OSError, TypeError, ValueError, zipfile.BadZipFile) as error:
        raise HashingError(
            f"{len(data)} bytes are no stored hash family ({error}): restore the object or rebuild"
        ) from error
    return from_parts(parameters, arrays)


def _unknown(family: object) -> str:
    return f"hash family {family!r} is unknown, expected {P_STABLE!r}"
