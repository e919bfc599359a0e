"""The exact scan: queries are compared with every image that passes the filter."""

from services.query.replica.mapped_segment import Vectors
from services.query.replica.view import RowFilter
from services.query.search.ranking import rank, with_score
from services.query.search.search_query import SearchQuery, SearchResult


def exact_scan(queries: Vectors, search_query: SearchQuery, row_filter: RowFilter) -> list[SearchResult]:
    """Return the result for each query, float32 [q, dim]."""
    rows = row_filter.rows()
    ranked = rank(row_filter.view, queries, rows, k=search_query.k, metric=search_query.metric)
    return [
        SearchResult(with_score(hits, search_query.min_score), candidates=len(rows), passed=len(rows))
        for hits in ranked
    ]


def needs_scan(result: SearchResult, search_query: SearchQuery) -> bool:
    """Return whether the index yielded too little, so that an exact scan answers instead."""
    return search_query.mode == "auto" and result.passed < search_query.k
