"""Re-ranking: the candidates of a query, ranked exactly by their embeddings in the replica."""

import numpy as np

from services.query.replica.mapped_segment import Vectors
from services.query.replica.view import RowFilter
from services.query.search.candidates import FetchedCandidates
from services.query.search.ranking import rank, with_score
from services.query.search.search_query import SearchQuery, SearchResult
from shared.state import most_seen


def rerank(
    query: Vectors, fetched: FetchedCandidates, place: int, search_query: SearchQuery, row_filter: RowFilter
) -> SearchResult:
    """Return the best of the candidates of a query, float32 [dim], whose place among the fetched ones is `place`."""
    candidates = fetched.candidates[place]
    rows = row_filter.view.find(candidates.ids)
    passing = row_filter.passing(rows)
    rows = rows[passing]
    passed = len(rows)
    if fetched.budget is not None and passed > fetched.budget:
        rows = rows[most_seen(candidates.counts[passing], candidates.first[passing], fetched.budget)]
    (hits,) = rank(row_filter.view, query[np.newaxis], np.sort(rows), k=search_query.k, metric=search_query.metric)
    return SearchResult(
        hits=with_score(hits, search_query.min_score),
        mode="lsh",
        candidates=len(rows),
        passed=passed,
        generation=fetched.generation,
        probed_buckets=fetched.probed_buckets[place],
        truncated_buckets=candidates.truncated,
        seen=len(candidates.ids),
    )
