"""Attempts at a job of the evaluator: one at a time, and given up when too many of their workers have died."""

from collections.abc import Iterator
from contextlib import contextmanager

from shared.errors import Invalid, Unavailable
from shared.state import State
from shared.state.attempts import Attempt
from shared.state.locks import LEASE_S, evaluation_lock

_DEATHS = 4  # attempts that may die before the job is given up


@contextmanager
def attempt_at(state: State, job: str, *, task: str) -> Iterator[Attempt | None]:
    """Hold a job while the block works at it; None if it is reported already. `task` is what attempts count under.

    Raises:
        Unavailable: Another worker is at it; or the block has raised it, and the attempt pauses.
    """
    if state.jobs.reported(job, 0):
        yield None
        return
    # The worker that holds the lock may have died, perhaps at this very task: then the lock is free soon.
    with state.locks.hold(evaluation_lock(job), wait_s=LEASE_S + 1):
        if state.jobs.reported(job, 0):
            yield None
            return
        with state.attempts.hold(task) as attempt:
            try:
                yield attempt
            except Unavailable:
                attempt.pause()
                raise


def check_deaths(attempt: Attempt) -> None:
    """Raise Invalid if the workers of too many attempts before have died."""
    if attempt.deaths >= _DEATHS:
        raise Invalid(f"its worker died {_DEATHS} times at it: is there enough memory? See the evaluator's log")
