"""Notices that Redis has lost a collection that the object store has, and asks for a rebuild."""

from shared.errors import IndexLost, NotFound
from shared.messaging.task_queue import TaskQueue
from shared.state import IndexState, State
from shared.storage.catalog import Catalog

_ASKED_S = 2.0  # between two requests to rebuild a collection


def ensure_known(collection: str, *, catalog: Catalog, state: State, queue: TaskQueue) -> IndexState:
    """Make sure that Redis knows a collection before anything is claimed in it; returns the state of its index.

    Raises:
        IndexLost: The object store has segments that Redis knows nothing of; a rebuild was put on the queue.
    """
    set_name = active_set_name(collection, catalog)
    known = state.index_states.get(set_name)
    if known is not None:
        return known
    if not catalog.segments(set_name):
        return state.index_states.create(set_name)
    known = state.index_states.get(set_name)  # the collection may be new, and its first segment just written
    if known is None:
        if state.locks.once(f"rebuild:{collection}", seconds=_ASKED_S):
            queue.rebuild(collection=collection)
        raise IndexLost(f"the index of {collection!r} was lost; it is being rebuilt from the object store")
    return known


def active_set_name(collection: str, catalog: Catalog) -> str:
    """Return the name of the embedding set that a collection uses, or will use if there is no such collection yet."""
    try:
        return catalog.get(collection).name
    except NotFound:
        return catalog.first_set_name(collection)
