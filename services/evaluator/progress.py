"""The progress of an evaluation's job."""

from shared.state import Jobs


class Cancelled(Exception):
    """Somebody asked the job to end."""


class Progress:
    """Counts the steps of a job, and ends it where that is asked for."""

    def __init__(self, jobs: Jobs, job: str) -> None:
        self._jobs, self._job = jobs, job
        self._steps, self._total = 0, 0

    def begin(self, total: int) -> None:
        """Note how many steps there are."""
        self._steps, self._total = 0, total
        self._jobs.advance(self._job, steps=0, total=total)

    def check(self) -> None:
        """Raise `Cancelled` if somebody asked the job to end."""
        if self._jobs.cancelled(self._job):
            raise Cancelled

    def step(self, count: int = 1) -> None:
        """Count steps that are done; raises `Cancelled` likewise."""
        self.check()
        self._steps = min(self._total, self._steps + count)
        self._jobs.advance(self._job, steps=self._steps, total=self._total)
