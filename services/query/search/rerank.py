"""Re-ranking: the candidates of queries, ranked exactly by their embeddings in the replica."""

from collections.abc import Sequence

import numpy as np

from services.query.replica.id_index import distinct
from services.query.replica.mapped_segment import Rows, Vectors
from services.query.replica.view import RowFilter
from services.query.replica.window_filter import WindowFilter
from services.query.search.candidates import FetchedCandidates
from services.query.search.ranking import rank_each, with_score
from services.query.search.search_query import SearchQuery, SearchResult
from shared.state import Candidates, most_seen


def rerank(
    queries: Vectors,
    own_ids: Sequence[int | None],
    fetched: FetchedCandidates,
    search_query: SearchQuery,
    row_filter: RowFilter | WindowFilter,
) -> list[SearchResult]:
    """Return the best of the candidates of each of the first queries, float32 [q, dim]: those that have some fetched.

    An image of the collection is a candidate for itself, even if its bucket is too full or the budget is used up.
    """
    view, count = row_filter.view, len(fetched.candidates)
    found = view.find(fetched.held)
    all_live = not len(found) or int(found.min()) >= 0
    passing = row_filter.passing(found)
    all_pass = bool(passing.all())
    kept = found if all_pass else np.where(passing, found, -1)
    own_rows = [None if own_id is None else view.row(own_id) for own_id in own_ids[:count]]
    own_passing = row_filter.passing(np.array([-1 if row is None else row for row in own_rows], dtype=np.int64))
    results, rows_of_each = [], []
    for candidates, own_row, passes, probed in zip(
        fetched.candidates, own_rows, own_passing.tolist(), fetched.probed_buckets, strict=True
    ):
        rows = _distinct_rows(candidates.of(kept))
        seen = len(rows) if all_pass else _seen(candidates, found, all_live=all_live)
        own = own_row if passes else None
        lacks_own = own is not None and not _holds(rows, own)
        passed = len(rows) + lacks_own
        if fetched.budget is not None and passed > fetched.budget:
            rows = _within(fetched.budget, candidates, own, row_filter)
            lacks_own = own is not None and not _holds(rows, own)
        if own is not None and lacks_own:
            rows = np.sort(np.append(rows, own))
        rows_of_each.append(rows)
        results.append(
            SearchResult(
                mode="lsh",
                candidates=len(rows),
                passed=passed,
                generation=fetched.generation,
                probed_buckets=probed,
                truncated_buckets=candidates.truncated,
                seen=seen,
                searched=[row_filter],
            )
        )
    images_of_each = [row_filter.images_of(rows) for rows in rows_of_each]
    ranked = rank_each(
        view,
        queries[:count],
        rows_of_each,
        k=search_query.k,
        metric=search_query.metric,
        own_rows=own_rows,
        images=images_of_each,
    )
    for result, hits, rows, images in zip(results, ranked, rows_of_each, images_of_each, strict=True):
        result.hits = with_score(hits, search_query.min_score)
        result.ranked = view.ids[rows] if images is None else images
    return results


def _distinct_rows(rows: Rows) -> Rows:
    """Return the distinct rows, ascending, without -1."""
    rows = distinct(rows)
    return rows[1:] if len(rows) and rows[0] < 0 else rows


def _holds(rows: Rows, row: int) -> bool:
    """Return whether ascending rows have one among them."""
    place = int(np.searchsorted(rows, row))
    return place < len(rows) and int(rows[place]) == row


def _seen(candidates: Candidates, found: Rows, *, all_live: bool) -> int:
    """Return how many distinct ids the buckets of a query gave; `found` are the rows of all that were looked up."""
    return len(_distinct_rows(candidates.of(found))) if all_live else len(candidates.ids)


def _within(budget: int, candidates: Candidates, own_row: int | None, row_filter: RowFilter | WindowFilter) -> Rows:
    """Return the rows of the candidates that pass the filter and are worth most, ascending: `budget`, with the own."""
    rows = row_filter.view.find(candidates.ids)
    passing = row_filter.passing(rows)
    rows, counts, first = rows[passing], candidates.counts[passing], candidates.first[passing]
    best = rows[most_seen(counts, first, budget)]
    if own_row is not None and own_row not in best:
        best = rows[most_seen(counts, first, budget - 1)]
    return np.sort(best)
