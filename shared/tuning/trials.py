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

_COUNTED = 8_192  # rows that candidates are counted among
_COUNTING = 192  # queries whose candidates are counted
_RANKS = 1 << 25  # of queries, rows and tables, at most: 64 MB
_ONE_SIDED = 1.645  # standard errors: the normal distribution has 95 % of its mass above -1.645
_QUERY_BATCH = 1 << 14  # bucket keys computed at a time


@dataclass(frozen=True, eq=False)
class Trial:
    """A family with a number of probes, and what it does on the sample.

    Attributes:
        family: The family.
        probes: Buckets of a table that a query looks into.
        budget_share: The most that is ranked, as a share of the collection; None: all candidates.
        recall: Mean share of a query's neighbours among its candidates.
        error: Its standard error.
        share: Share of the collection that is ranked.
        seen_share: Ids that the buckets give, as a share of the collection; one in two buckets counts twice.
        cost_ms: What the cost model says.
    """

    family: SpaceFamily
    probes: int
    budget_share: float | None
    recall: float
    error: float
    share: float
    seen_share: float
    cost_ms: float

    @property
    def lookups(self) -> int:
        """Buckets that a query looks into."""
        return self.family.tables * self.probes

    @property
    def sure_recall(self) -> float:
        """What the recall is at least with 95 % confidence: the queries are themselves but a sample."""
        return self.recall - _ONE_SIDED * self.error

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
            recall_error=round(self.error, 4),
            candidate_share=round(self.share, 6),
            cost_ms=round(self.cost_ms, 4),
        )


def trials(
    family: SpaceFamily,
    sample: Sample,
    counts: Sequence[int],
    *,
    products: float,
    costs: CostModel,
    budget_share: float | None = None,
) -> Iterator[Trial]:
    """Yield what a family of the sample's space does with each of these numbers of probes, which rise.

    Args:
        family: The family.
        sample: What it is tried on.
        counts: Numbers of probes.
        products: Multiplications that hashing a query takes.
        costs: What a search is priced by.
        budget_share: Also yield each number with candidates cut to this share of the collection, where there are more:
            those seen in the most buckets stay, and of these the ones whose first bucket was looked into earlier.
    """
    limit = counts[-1]
    near = _first_probes(family, sample.queries, sample.neighbours, limit)
    asked = spread(len(sample.queries), _COUNTING)
    rows = spread(len(sample.rows), min(_COUNTED, _RANKS // (family.tables * len(asked))))
    own = np.where(np.isin(sample.own[asked], rows), np.searchsorted(rows, sample.own[asked]), -1)
    seen = _Seen(family, sample.queries[asked], own, sample.rows[rows].astype(np.float64), limit)
    for count in counts:
        found = (near < count).mean(axis=1) if near.size else np.ones(len(near))
        share, seen_share = seen.shares(count)
        cost = costs.of(
            products=products,
            lookups=family.tables * count,
            members=seen_share * sample.size,
            candidates=share * sample.size,
        )
        error = float(found.std() / math.sqrt(len(found)))
        yield Trial(family.recording(probes=count), count, None, float(found.mean()), error, share, seen_share, cost)
        if budget_share is not None and share > budget_share and near.size:
            kept = _kept_share(family, sample, asked, seen, count, budget_share)
            cost = costs.of(
                products=products,
                lookups=family.tables * count,
                members=seen_share * sample.size,
                candidates=budget_share * sample.size,
            )
            yield Trial(
                family.recording(probes=count, budget_share=budget_share),
                count,
                budget_share,
                float(kept.mean()),
                float(kept.std() / math.sqrt(len(kept))),
                budget_share,
                seen_share,
                cost,
            )


def spread(size: int, most: int) -> npt.NDArray[np.intp]:
    """Return places spread evenly over `size`, `most` of them or all, rising."""
    return np.linspace(0, size - 1, min(size, most)).astype(np.intp)


def _batches(family: SpaceFamily, queries: WholeNumbers, limit: int) -> Iterator[tuple[int, BucketKeys]]:
    """Yield the probes of some queries at a time, and the place of the first: uint64 [some, tables, probes]."""
    step = max(1, _QUERY_BATCH // (family.tables * limit))
    for start in range(0, len(queries), step):
        yield start, family.probes_at(queries[start : start + step], limit)


def _first_probes(
    family: SpaceFamily, queries: WholeNumbers, neighbours: WholeNumbers, limit: int
) -> npt.NDArray[np.int64]:
    """Return the first probe, from 0, by which each query meets each of its neighbours in any table; `limit`: none."""
    many, size = neighbours.shape[1:]
    keys = family.keys_at(neighbours.reshape(-1, size)).reshape(len(queries), many, family.tables)
    first = np.full((len(queries), many), limit)
    for start, probes in _batches(family, queries, limit):
        some = slice(start, start + len(probes))
        for table in range(family.tables):
            equal = keys[some, :, table, None] == probes[:, None, table, :]
            np.minimum(first[some], np.where(equal.any(axis=2), equal.argmax(axis=2), limit), out=first[some])
    return first


class _Seen:
    """By which probes queries meet the rows of a sample in each table."""

    def __init__(
        self, family: SpaceFamily, queries: WholeNumbers, own: npt.NDArray[np.int64], rows: WholeNumbers, limit: int
    ) -> None:
        self.limit, self.queries, self.rows = limit, len(queries), len(rows)
        self._own = own
        keys = family.keys_at(rows)
        self.ranks = np.full((family.tables, len(queries), len(rows)), limit, dtype=np.uint16)
        tables = [np.unique(column, return_inverse=True) for column in keys.T]
        for start, probes in _batches(family, queries, limit):
            backwards = np.arange(probes.shape[2], dtype=np.uint16)[::-1]
            for table, (buckets, members) in enumerate(tables):
                places = np.minimum(np.searchsorted(buckets, probes[:, table]), len(buckets) - 1)
                query, probe = np.nonzero((buckets[places] == probes[:, table])[:, ::-1])
                first = np.full((len(probes), len(buckets)), limit, dtype=np.uint16)
                # The first probe of a bucket that comes twice is written last, and stays.
                first[query, places[:, ::-1][query, probe]] = backwards[probe]
                self.ranks[table, start : start + len(probes)] = np.take(first, members, axis=1)
        inside = np.flatnonzero((own >= 0) & (own < len(rows)))
        self.ranks[:, inside, own[inside]] = limit
        pairs = len(queries) * len(rows)
        self._met = np.bincount(self.ranks.min(axis=0).ravel(), minlength=limit + 1)[:limit].cumsum() / pairs
        often = np.zeros(limit + 1, dtype=np.int64)
        for ranks in self.ranks:  # one table at a time: counting takes 8 bytes of each
            often += np.bincount(ranks.ravel(), minlength=limit + 1)
        self._met_often = often[:limit].cumsum() / pairs

    def shares(self, count: int) -> tuple[float, float]:
        """Return the shares of the rows that are met, and met counting each table: means over the queries."""
        return float(self._met[count - 1]), float(self._met_often[count - 1])

    def scores(self, query: int, count: int) -> npt.NDArray[np.int64]:
        """Return what orders the rows by a query, the best highest; 0: not met. int64 [rows]."""
        return _scores(self.ranks[:, query], count)


def _scores(ranks: npt.NDArray[np.integer], count: int) -> npt.NDArray[np.int64]:
    """Return what orders rows that were first met by these probes in each table, [tables, n]: how often, how early."""
    tables = len(ranks)
    met = (ranks < count).sum(axis=0)
    # The first buckets of all tables are looked into before the second ones.
    first = (ranks.astype(np.int64) * tables + np.arange(tables)[:, None]).min(axis=0)
    return np.where(met > 0, met * count * tables - first, 0)


def _kept_share(
    family: SpaceFamily, sample: Sample, asked: npt.NDArray[np.intp], seen: _Seen, count: int, budget_share: float
) -> npt.NDArray[np.float64]:
    """Return the share of the neighbours of the queries asked that a cut to the best of their candidates leaves.

    Of rows that do not differ in what orders them, such as those of one bucket, each is as likely to stay.
    """
    many, size = sample.neighbours.shape[1:]
    near = family.keys_at(sample.neighbours[asked].reshape(-1, size)).reshape(-1, many, family.tables)
    kept = np.zeros(len(asked))
    budget = budget_share * seen.rows
    for start, probes in _batches(family, sample.queries[asked], count):
        equal = near[start : start + len(probes), :, :, None] == probes[:, None]
        ranks = np.where(equal.any(axis=3), equal.argmax(axis=3), count)  # [some, many, tables]
        for place, some in enumerate(ranks):
            own = _scores(some.T, count)
            scores = np.sort(seen.scores(start + place, count))
            above, upto = (seen.rows - np.searchsorted(scores, own, side=side) for side in ("right", "left"))
            stays = np.clip((budget - above) / np.maximum(upto - above, 1), 0, 1)
            kept[start + place] = np.where(own > 0, stays, 0).mean()
    return kept
