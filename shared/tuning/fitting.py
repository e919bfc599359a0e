"""Fitting one hash family to a sample, with some of its parameters given."""

from shared.hashing import voronoi
from shared.hashing.types import FloatArray, HashFamily, HashingError
from shared.similarity import Metric
from shared.tuning.cost_model import TYPICAL, CostModel
from shared.tuning.sampling import sample_of
from shared.tuning.tuner import Goal, tune

RECALL_TARGET = 0.95


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
