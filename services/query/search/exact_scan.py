"""The exact scan: queries are compared with every image that passes the filter."""

from collections.abc import Sequence

from services.query.replica.mapped_segment import Vectors
from services.query.replica.view import RowFilter
from services.query.replica.window_filter import WindowFilter
from services.query.search.ranking import rank, with_score
from services.query.search.search_query import SearchQuery, SearchResult


def exact_scan(
    queries: Vectors,
    own_ids: Sequence[int | None],
    search_query: SearchQuery,
    row_filter: RowFilter | WindowFilter,
) -> list[SearchResult]:
    """Return the result for each query, float32 [q, dim], and the id of its image where it is one of the collection."""
    rows = row_filter.rows()
    view = row_filter.view
    own_rows = [None if own_id is None else view.row(own_id) for own_id in own_ids]
    images = row_filter.images_of(rows)
    ranked = rank(
        view,
        queries,
        rows,
        k=search_query.k,
        metric=search_query.metric,
        own_rows=own_rows,
        images=images,
    )
    return [
        SearchResult(
            with_score(hits, search_query.min_score),
            candidates=len(rows),
            passed=len(rows),
            ranked=images,
            searched=[row_filter],
        )
        for hits in ranked
    ]


def needs_scan(result: SearchResult, search_query: SearchQuery, row_filter: RowFilter | WindowFilter) -> bool:
    """Return whether the index yielded too little, so that an exact scan answers instead.

    Windows need none: there are hits enough among the whole images.
    """
    return isinstance(row_filter, RowFilter) and search_query.mode == "auto" and result.passed < search_query.k
