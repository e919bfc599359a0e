"""Fitting one hash family to a sample, with some of its parameters given."""

from shared.hashing.families import voronoi
from shared.hashing.types import FloatArray, HashFamily, HashingError
from shared.search_limits import Metric
from shared.tuning.cost_model import TYPICAL, CostModel
from shared.tuning.goal import MAX_CANDIDATE_SHARE, MAX_LOOKUPS, RECALL_TARGET, Goal
from shared.tuning.sampling import survey_vectors
from shared.tuning.tuner import tune


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
    max_lookups: int = MAX_LOOKUPS,
    max_share: float = MAX_CANDIDATE_SHARE,
    keep_share: bool = False,
    size: int | None = None,
    metric: Metric = "cosine",
    costs: CostModel = TYPICAL,
) -> HashFamily:
    """Fit a hash family to a sample of a collection: the same for the same sample and seed.

    Args:
        vectors: float32 [n, dim], n ≥ 1.
        seed: Of all that is drawn.
        family: Name of the family.
        tables: L. This and the next four are as in `FamilyParameters`: None lets the sample decide.
        cells: Cells of a table of the Voronoi family.
        hashes: k of the p-stable family.
        width: w of the p-stable family, in units of the length that points are scaled to.
        probes: Buckets of a table that a query looks into.
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
    return tune(survey_vectors(vectors, seed=seed, size=size, metric=metric), goal, costs=costs).family
