"""The progress of an evaluation's job."""

from shared.state import Jobs
from shared.state.attempts import Attempt


class Cancelled(Exception):
    """Somebody asked the job to end."""


class Progress:
    """Counts the steps of a job, and ends the attempt at it where that is asked for, or another attempt has begun."""

    def __init__(self, jobs: Jobs, job: str, attempt: Attempt) -> None:
        self._jobs, self._job, self._attempt = jobs, job, attempt
        self._steps, self._total = 0, 0

    def begin(self, total: int) -> None:
        """Note how many steps there are."""
        self._steps, self._total = 0, total
        self._jobs.advance(self._job, steps=0, total=total)

    def check(self) -> None:
        """Raise `Cancelled` if somebody asked the job to end, and `Fenced` if another attempt has begun."""
        self._attempt.check()
        if self._jobs.cancelled(self._job):
            raise Cancelled

    def step(self, count: int = 1) -> None:
        """Count steps that are done; raises as `check` does."""
        self.check()
        self._steps = min(self._total, self._steps + count)
        self._jobs.advance(self._job, steps=self._steps, total=self._total)
