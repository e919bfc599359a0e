"""Removes evaluations that somebody no longer wants: report, rows, finished parts, and its hold on its query set."""

from shared.errors import NotFound
from shared.evaluation.evaluations import Evaluations
from shared.evaluation.query_sets import QuerySets
from shared.state import State
from shared.state.locks import evaluation_lock
from shared.storage import evaluation_layout
from shared.storage.object_store import ObjectStore

_WAIT_S = 5.0  # for the lock, which the evaluator holds for a moment after its report


def is_under_way(state: State, evaluation: str) -> bool:
    """Return whether an evaluation's job has not ended yet."""
    try:
        job = state.jobs.get(evaluation)
    except NotFound:  # its record was lost, or has expired
        return False
    return job.kind == "evaluate" and not job.done


def remove_evaluation(store: ObjectStore, state: State, evaluation: str) -> None:
    """Remove an evaluation that is not under way; its JSON goes last, so that one that was cut short is made anew.

    Raises:
        NotFound: There is no such evaluation.
        Locked: An evaluator is at it.
    """
    evaluations, sets = Evaluations(store), QuerySets(store, state)
    collection = evaluations.find(evaluation)
    with state.locks.hold(evaluation_lock(evaluation), wait_s=_WAIT_S):
        store.delete([item.key for item in store.list(evaluation_layout.evaluating_prefix(evaluation))])
        for digest in sets.used_by(evaluation):
            sets.release(digest, evaluation)
        evaluations.delete(collection, evaluation)
