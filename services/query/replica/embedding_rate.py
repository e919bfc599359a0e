"""How fast the images of a collection were embedded, by the times at which they were added."""

from typing import Final

import numpy as np

from services.query.replica.view import View

_ROWS: Final = 20_000  # the latest: the machine may have been another one before
_PAUSE_S: Final = 10.0  # after which nothing was embedded for a while
_LEAST_S: Final = 1.0


def images_per_second(view: View) -> float:
    """Return how many images were embedded in a second while images were added; 0 if there are too few to tell."""
    added, rows = [np.empty(0)], 0
    for mapped in reversed(view.mapped_segments):
        if rows >= _ROWS:
            break
        added.append(mapped.added)
        rows += len(mapped)
    times, images = np.unique(np.concatenate(added), return_counts=True)  # those of a batch are added together
    gaps = np.diff(times)
    busy = gaps < _PAUSE_S
    seconds = float(gaps[busy].sum())
    return float(images[1:][busy].sum()) / seconds if seconds >= _LEAST_S else 0.0
