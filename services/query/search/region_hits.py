"""What is found among windows of images, joined with what is found among the images: the best of each image counts.

The best k images of both are among the best k of either, so that nothing is missed.
"""

from dataclasses import replace

import numpy as np

from services.query.replica.id_index import distinct
from services.query.replica.view import View
from services.query.search.ranking import Hit, best_of_images
from services.query.search.search_query import SearchResult
from shared.windows import box_of


def with_windows(images: SearchResult, windows: SearchResult, view: View, k: int, own_id: int | None) -> SearchResult:
    """Return the `k` best images of two results for one query: that of the images of a view, and that of windows.

    An image whose window is as close as the whole of it is found as a whole. `own_id` is the image that the query is.
    """
    candidates = images.candidates
    if images.ranked is not None and windows.ranked is not None:
        candidates = len(distinct(np.concatenate([images.ranked, windows.ranked])))
    hits = [*images.hits, *(_of_image(hit, view) for hit in windows.hits)]
    return replace(
        images,
        hits=best_of_images(hits, own_id)[:k],
        mode="lsh" if "lsh" in {images.mode, windows.mode} else "exact",
        candidates=candidates,
        generation=images.generation or windows.generation,
        probed_buckets=images.probed_buckets + windows.probed_buckets,
        truncated_buckets=images.truncated_buckets + windows.truncated_buckets,
        seen=images.seen + windows.seen,
        windows=windows.candidates,
        searched=[*images.searched, *windows.searched],
    )


def _of_image(hit: Hit, view: View) -> Hit:
    """Return the hit of a window as one of its image, which is live in the view."""
    row = view.row(hit.image_id)
    if row is None:
        raise LookupError(f"the image {hit.image_id} of a window that passed the filter is not in the view")
    segment, place = view.place(row)
    return replace(hit, segment=segment, row=place, region=box_of(hit.segment.columns.names[hit.row]))
