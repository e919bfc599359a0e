"""Re-ranking: the candidates of a query, ranked exactly by their embeddings in the replica."""

import numpy as np

from services.query.replica.mapped_segment import Vectors
from services.query.replica.view import RowFilter
from services.query.replica.window_filter import WindowFilter
from services.query.search.candidates import FetchedCandidates
from services.query.search.ranking import rank, with_score
from services.query.search.search_query import SearchQuery, SearchResult
from shared.state import most_seen


def rerank(
    query: Vectors,
    own_id: int | None,
    fetched: FetchedCandidates,
    place: int,
    search_query: SearchQuery,
    row_filter: RowFilter | WindowFilter,
) -> SearchResult:
    """Return the best of the candidates of a query, float32 [dim], whose place among the fetched ones is `place`.

    An image of the collection is a candidate for itself, even if its bucket is too full to name it or the budget is
    used up.
    """
    candidates = fetched.candidates[place]
    rows = row_filter.view.find(candidates.ids)
    passing = row_filter.passing(rows)
    rows = rows[passing]
    own_row = None if own_id is None else row_filter.view.row(own_id)
    own = np.array([] if own_row is None else [own_row], dtype=np.int64)
    own = own[row_filter.passing(own)]
    passed = len(np.union1d(rows, own))
    if fetched.budget is not None and passed > fetched.budget:
        kept = most_seen(candidates.counts[passing], candidates.first[passing], fetched.budget)
        if len(own) and own[0] not in rows[kept]:
            kept = most_seen(candidates.counts[passing], candidates.first[passing], fetched.budget - 1)
        rows = rows[kept]
    rows = np.union1d(rows, own)
    images = row_filter.images_of(rows)
    (hits,) = rank(
        row_filter.view,
        query[np.newaxis],
        rows,
        k=search_query.k,
        metric=search_query.metric,
        own_rows=[own_row],
        images=images,
    )
    return SearchResult(
        hits=with_score(hits, search_query.min_score),
        mode="lsh",
        candidates=len(rows),
        passed=passed,
        generation=fetched.generation,
        probed_buckets=fetched.probed_buckets[place],
        truncated_buckets=candidates.truncated,
        seen=len(candidates.ids),
        searched=[row_filter],
        ranked=row_filter.view.ids[rows] if images is None else images,
    )
