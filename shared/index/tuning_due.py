"""When the index of a collection is due to be tuned."""

from shared.state import IndexState

_GROWN_SMALL, _GROWN = 2, 4  # times what the index was tuned to, below the size for exact scans and above it


def is_tuning_due(state: IndexState, size: int, *, exact_below: int, more_to_come: bool = False) -> bool:
    """Return whether a collection of this size is to be tuned; `more_to_come`: more images are about to be added.

    A collection is tuned when it first passes `exact_below`, up to which searches scan exactly, and each time it has
    grown fourfold since. A smaller collection has an index too, for searches that ask for it; it costs seconds at the
    end of a job, and is made anew when the collection has doubled.
    """
    if size < exact_below:
        return size > 0 and not more_to_come and (not state.active or size >= _GROWN_SMALL * state.trained_on)
    return not state.active or state.trained_on < exact_below or size >= _GROWN * state.trained_on
