"""Trials: what a family does on a sample, for each number of probes, before anything is written."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from shared.hashing.space import WholeNumbers
from shared.hashing.space_family import SpaceFamily
from shared.hashing.types import BucketKeys
from shared.tuning.cost_model import CostModel
from shared.tuning.report import TrialReport
from shared.tuning.sampling import Sample

_COUNTED_ROWS = 8_192  # rows that candidates are counted among
_COUNTING_QUERIES = 192  # queries whose candidates are counted
_MAX_RANKS = 1 << 25  # of queries, rows and tables, at most: 64 MB
_ONE_SIDED = 1.645  # standard errors: the normal distribution has 95 % of its mass above -1.645
_KEYS_AT_ONCE = 1 << 14  # bucket keys computed at a time


@dataclass(frozen=True, eq=False, kw_only=True)
class Trial:
    """A family with a number of probes, and what it does on the sample.

    Attributes:
        family: The family.
        probes: Buckets of a table that a query looks into.
        budget_share: The most that is ranked, as a share of the collection; None: all candidates.
        recall: Mean share of a query's neighbours among its candidates.
        recall_error: Its standard error.
        candidate_share: Share of the collection that is ranked.
        member_share: Ids that the buckets give, as a share of the collection; one in two buckets counts twice.
        cost_ms: What the cost model says.
    """

    family: SpaceFamily
    probes: int
    budget_share: float | None
    recall: float
    recall_error: float
    candidate_share: float
    member_share: float
    cost_ms: float

    @property
    def lookups(self) -> int:
        """Buckets that a query looks into."""
        return self.family.tables * self.probes

    @property
    def recall_lower_bound(self) -> float:
        """What the recall is at least with 95 % confidence: the queries are themselves but a sample."""
        return self.recall - _ONE_SIDED * self.recall_error

    def report(self) -> TrialReport:
        """Return the trial as it is reported, its figures rounded."""
        parameters = self.family.parameters()
        return TrialReport(
            family=self.family.family,
            tables=self.family.tables,
            cells=parameters.get("cells"),
            hashes=parameters.get("hashes"),
            width=parameters.get("width"),
            probes=self.probes,
            lookups=self.lookups,
            budget_share=self.budget_share,
            recall=round(self.recall, 4),
            recall_error=round(self.recall_error, 4),
            candidate_share=round(self.candidate_share, 6),
            cost_ms=round(self.cost_ms, 4),
        )


def trials(
    family: SpaceFamily,
    sample: Sample,
    probe_counts: Sequence[int],
    *,
    products: float,
    costs: CostModel,
    budget_share: float | None = None,
) -> Iterator[Trial]:
    """Yield what a family of the sample's space does with each of these numbers of probes, which rise.

    Args:
        family: The family.
        sample: What it is tried on.
        probe_counts: Numbers of probes.
        products: Multiplications that hashing a query takes.
        costs: What a search is priced by.
        budget_share: Also yield each number with candidates cut to this share of the collection, where there are more:
            those seen in the most buckets stay, and of these the ones whose first bucket was looked into earlier.
    """
    neighbour_probes = _neighbour_probes(family, sample.queries, sample.neighbours, probe_counts[-1])
    counting = spread(len(sample.queries), _COUNTING_QUERIES)  # the queries whose candidates are counted
    row_probes = _row_probes(family, sample, counting, probe_counts[-1])

    def cost_ms(probes: int, member_share: float, candidate_share: float) -> float:
        return costs.of(
            products=products,
            lookups=family.tables * probes,
            members=member_share * sample.size,
            candidates=candidate_share * sample.size,
        )

    for probes in probe_counts:
        found = (neighbour_probes < probes).mean(axis=1) if neighbour_probes.size else np.ones(len(neighbour_probes))
        share, member_share = row_probes.shares(probes)
        yield Trial(
            family=family.with_parameters(probes=probes),
            probes=probes,
            budget_share=None,
            recall=float(found.mean()),
            recall_error=_standard_error(found),
            candidate_share=share,
            member_share=member_share,
            cost_ms=cost_ms(probes, member_share, share),
        )
        if budget_share is not None and share > budget_share and neighbour_probes.size:
            kept = _kept_shares(family, sample, counting, row_probes, probes, budget_share)
            yield Trial(
                family=family.with_parameters(probes=probes, budget_share=budget_share),
                probes=probes,
                budget_share=budget_share,
                recall=float(kept.mean()),
                recall_error=_standard_error(kept),
                candidate_share=budget_share,
                member_share=member_share,
                cost_ms=cost_ms(probes, member_share, budget_share),
            )


def _standard_error(values: npt.NDArray[np.float64]) -> float:
    return float(values.std() / math.sqrt(len(values)))


def spread(size: int, most: int) -> npt.NDArray[np.intp]:
    """Return places spread evenly over `size`, `most` of them or all, rising."""
    return np.linspace(0, size - 1, min(size, most)).astype(np.intp)


def _probe_batches(family: SpaceFamily, queries: WholeNumbers, limit: int) -> Iterator[tuple[int, BucketKeys]]:
    """Yield the place of a first query, and the probes of it and those after it: uint64 [batch, tables, probes]."""
    step = max(1, _KEYS_AT_ONCE // (family.tables * limit))
    for start in range(0, len(queries), step):
        yield start, family.probes_at(queries[start : start + step], limit)


def _neighbour_probes(
    family: SpaceFamily, queries: WholeNumbers, neighbours: WholeNumbers, limit: int
) -> npt.NDArray[np.int64]:
    """Return the first probe, from 0, by which each query meets each of its neighbours in any table; `limit`: none."""
    count, coordinates = neighbours.shape[1:]
    keys = family.keys_at(neighbours.reshape(-1, coordinates)).reshape(len(queries), count, family.tables)
    first = np.full((len(queries), count), limit)
    for start, probes in _probe_batches(family, queries, limit):
        batch = slice(start, start + len(probes))
        for table in range(family.tables):
            equal = keys[batch, :, table, None] == probes[:, None, table, :]
            np.minimum(first[batch], np.where(equal.any(axis=2), equal.argmax(axis=2), limit), out=first[batch])
    return first


def _row_probes(family: SpaceFamily, sample: Sample, counting: npt.NDArray[np.intp], limit: int) -> "_RowProbes":
    """Return by which probes the counting queries meet rows of the sample; the rows are thinned to bound the memory."""
    rows = spread(len(sample.rows), min(_COUNTED_ROWS, _MAX_RANKS // (family.tables * len(counting))))
    query_rows = sample.query_rows[counting]
    query_rows = np.where(np.isin(query_rows, rows), np.searchsorted(rows, query_rows), -1)
    return _RowProbes(family, sample.queries[counting], query_rows, sample.rows[rows].astype(np.float64), limit)


class _RowProbes:
    """The first probes by which queries meet the rows of a sample in each table.

    Attributes:
        ranks: By table, query and row, the first probe, from 0; `limit`: no probe meets it. uint16.
    """

    def __init__(
        self,
        family: SpaceFamily,
        queries: WholeNumbers,
        query_rows: npt.NDArray[np.int64],
        rows: WholeNumbers,
        limit: int,
    ) -> None:
        """Compute them.

        Args:
            family: The family.
            queries: Coordinates of the queries.
            query_rows: Which of the rows each query is, which it is not to meet; -1 where it is none of them.
            rows: Coordinates of the rows.
            limit: Probes of a table.
        """
        self.rows = len(rows)
        keys = family.keys_at(rows)
        self.ranks = np.full((family.tables, len(queries), len(rows)), limit, dtype=np.uint16)
        tables = [np.unique(column, return_inverse=True) for column in keys.T]
        for start, probes in _probe_batches(family, queries, limit):
            backwards = np.arange(probes.shape[2], dtype=np.uint16)[::-1]
            for table, (buckets, members) in enumerate(tables):
                places = np.minimum(np.searchsorted(buckets, probes[:, table]), len(buckets) - 1)
                query, probe = np.nonzero((buckets[places] == probes[:, table])[:, ::-1])
                first = np.full((len(probes), len(buckets)), limit, dtype=np.uint16)
                # The first probe of a bucket that comes twice is written last, and stays.
                first[query, places[:, ::-1][query, probe]] = backwards[probe]
                self.ranks[table, start : start + len(probes)] = np.take(first, members, axis=1)
        inside = np.flatnonzero(query_rows >= 0)
        self.ranks[:, inside, query_rows[inside]] = limit
        pairs = len(queries) * len(rows)
        self._met = np.bincount(self.ranks.min(axis=0).ravel(), minlength=limit + 1)[:limit].cumsum() / pairs
        members_met = np.zeros(limit + 1, dtype=np.int64)
        for ranks in self.ranks:  # one table at a time: counting takes 8 bytes of each
            members_met += np.bincount(ranks.ravel(), minlength=limit + 1)
        self._members_met = members_met[:limit].cumsum() / pairs

    def shares(self, probes: int) -> tuple[float, float]:
        """Return the shares of the rows that are met, and met counting each table: means over the queries."""
        return float(self._met[probes - 1]), float(self._members_met[probes - 1])

    def scores(self, query: int, probes: int) -> npt.NDArray[np.int64]:
        """Return what orders the rows by a query, the best highest; 0: not met. int64 [rows]."""
        return _scores(self.ranks[:, query], probes)


def _scores(ranks: npt.NDArray[np.integer], probes: int) -> npt.NDArray[np.int64]:
    """Return what orders rows that were first met by these probes in each table, [tables, n]: how often, how early."""
    tables = len(ranks)
    met = (ranks < probes).sum(axis=0)
    # The first buckets of all tables are looked into before the second ones.
    first = (ranks.astype(np.int64) * tables + np.arange(tables)[:, None]).min(axis=0)
    return np.where(met > 0, met * probes * tables - first, 0)


def _kept_shares(
    family: SpaceFamily,
    sample: Sample,
    counting: npt.NDArray[np.intp],
    row_probes: _RowProbes,
    count: int,
    budget_share: float,
) -> npt.NDArray[np.float64]:
    """Return the share of each counting query's neighbours that a cut to the best of its candidates leaves.

    Of rows that do not differ in what orders them, such as those of one bucket, each is as likely to stay.
    """
    neighbours, coordinates = sample.neighbours.shape[1:]
    keys = family.keys_at(sample.neighbours[counting].reshape(-1, coordinates)).reshape(-1, neighbours, family.tables)
    kept = np.zeros(len(counting))
    budget = budget_share * row_probes.rows
    for start, probes in _probe_batches(family, sample.queries[counting], count):
        equal = keys[start : start + len(probes), :, :, None] == probes[:, None]
        ranks = np.where(equal.any(axis=3), equal.argmax(axis=3), count)  # [batch, neighbours, tables]
        for query, neighbour_ranks in enumerate(ranks, start):
            neighbour_scores = _scores(neighbour_ranks.T, count)
            row_scores = np.sort(row_probes.scores(query, count))
            above, upto = (
                row_probes.rows - np.searchsorted(row_scores, neighbour_scores, side=side) for side in ("right", "left")
            )
            stays = np.clip((budget - above) / np.maximum(upto - above, 1), 0, 1)
            kept[query] = np.where(neighbour_scores > 0, stays, 0).mean()
    return kept
