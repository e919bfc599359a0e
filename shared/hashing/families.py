"""Which hash families there are: fitting one, restoring one, and the bytes in which one is stored."""

import io
import json
import zipfile
from typing import Any

import numpy as np
import numpy.typing as npt

from shared.hashing import pstable, voronoi
from shared.hashing.costs import TYPICAL, CostModel
from shared.hashing.pstable import PStableFamily
from shared.hashing.sample import Metric, sample_of
from shared.hashing.tuning import Goal, tune
from shared.hashing.types import FloatArray, HashFamily, HashingError
from shared.hashing.voronoi import VoronoiFamily

RECALL_TARGET = 0.95

_PARAMETERS = "parameters"


def fit(  # noqa: PLR0913 -- the parameters of a family are many
    vectors: FloatArray,
    *,
    seed: int,
    family: str = voronoi.FAMILY,
    tables: int | None = None,
    cells: int | None = None,
    hashes: int | None = None,
    width: float | None = None,
    probes: int | None = None,
    recall_target: float = RECALL_TARGET,
    max_lookups: int = 64,
    max_share: float = 0.027,
    keep_share: bool = False,
    size: int | None = None,
    metric: Metric = "cosine",
    costs: CostModel = TYPICAL,
) -> HashFamily:
    """Fit a hash family to a sample of a collection: the same for the same sample and seed.

    Args:
        vectors: float32 [n, dim], n ≥ 1.
        seed: Of all that is drawn.
        family: The kind: "voronoi" or "p-stable".
        tables: L, at most 256. This and the next four: None lets the sample decide.
        cells: Cells of a table of the Voronoi family.
        hashes: k, the hash functions of a table of the p-stable family, at most 64.
        width: w, the slot width of the p-stable family, in units of the length that points are scaled to.
        probes: Buckets per table that a query looks into.
        recall_target: Share of the 10 nearest that the candidates are to hold, above 0 and at most 1.
        max_lookups: Buckets that a query may look into over all tables.
        max_share: Share of the collection that may be ranked.
        keep_share: Whether the share counts more than the recall where both cannot be had.
        size: Vectors that the collection has or will have, so that its buckets hold enough; None for those given.
        metric: Whose neighbours are to be found.
        costs: What a search is priced by.

    Returns:
        The family. Its parameters tell the recall that was measured, which a hard sample keeps below the target.

    Raises:
        HashingError: The sample is no [n, dim] of finite numbers, or an argument is out of its range.
    """
    if size is not None and size < 1:
        raise HashingError(f"size is {size}, expected at least 1")
    goal = Goal(
        seed=seed,
        recall=recall_target,
        max_lookups=max_lookups,
        max_share=max_share,
        keep_share=keep_share,
        families=(family,),
        tables=tables,
        cells=cells,
        hashes=hashes,
        width=width,
        probes=probes,
    )
    return tune(sample_of(vectors, seed=seed, size=size, metric=metric), goal, costs=costs).family


def from_parts(parameters: dict[str, Any], arrays: dict[str, npt.NDArray[Any]]) -> HashFamily:
    """Restore a family from its parameters and arrays: it gives the same keys, bit for bit, on every machine.

    Raises:
        HashingError: The family is unknown, or a part is missing or does not fit; the message names it.
    """
    family = parameters.get("family")
    if family == voronoi.FAMILY:
        return VoronoiFamily.from_parts(parameters, arrays)
    if family == pstable.FAMILY:
        return PStableFamily.from_parts(parameters, arrays)
    raise HashingError(
        f"hash family {family!r} is unknown, expected {voronoi.FAMILY!r} or {pstable.FAMILY!r}: "
        "it was made by another version; run `artseek rebuild --fit`"
    )


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
