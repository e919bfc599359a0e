"""Candidates: what the buckets of the index hold for queries, and their exact re-ranking."""

from dataclasses import dataclass

import numpy as np

from services.query.replica.mapped_segment import Vectors
from services.query.replica.view import RowFilter
from services.query.search.ranking import Ranked, rank
from services.query.search.search_query import SearchQuery, SearchResult
from shared.state import Candidates, most_seen


@dataclass(frozen=True)
class Probed:
    """What the index holds for some queries."""

    generation: int
    candidates: list[Candidates]
    buckets: list[int]  # how many were looked into for each query
    budget: int | None


def rerank(
    query: Vectors, probed: Probed, place: int, search_query: SearchQuery, row_filter: RowFilter
) -> SearchResult:
    """Return the best of the candidates of a query: float32 [dim], the query at `place` among those probed."""
    candidates = probed.candidates[place]
    rows = row_filter.view.find(candidates.ids)
    kept = row_filter.passing(rows)
    rows = rows[kept]
    passed = len(rows)
    if probed.budget is not None and passed > probed.budget:
        rows = rows[most_seen(candidates.counts[kept], candidates.first[kept], probed.budget)]
    hits = rank(row_filter.view, query[np.newaxis], np.sort(rows), k=search_query.k, metric=search_query.metric)[0]
    return SearchResult(
        hits=good_enough(hits, search_query),
        mode="lsh",
        candidates=len(rows),
        passed=passed,
        generation=probed.generation,
        probed=probed.buckets[place],
        truncated=candidates.truncated,
        seen=len(candidates.ids),
    )


def needs_scan(found: SearchResult, search_query: SearchQuery) -> bool:
    """Return whether what the index yielded is too little, so that all that may be found is compared."""
    return search_query.mode == "auto" and found.passed < search_query.k


def good_enough(hits: list[Ranked], search_query: SearchQuery) -> list[Ranked]:
    """Return the hits that reach the score asked for."""
    return hits if search_query.min_score is None else [hit for hit in hits if hit.score >= search_query.min_score]
