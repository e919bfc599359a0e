"""A message whose task failed for a reason that waiting does not mend: whose job it is, and how that job ends."""

import json
import logging
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from shared.errors import ArtseekError
from shared.state.jobs import Jobs
from shared.state.outcomes import Outcome, Rejection

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class FailedMessage:
    """A message as it came, which may have any fields of any types, and why its task failed.

    `batched`: its task is one of a batch of a job, rather than a whole job.
    """

    fields: Mapping[str, Any]
    error: Exception
    batched: bool

    @property
    def job(self) -> str | None:
        """The job; None if the message names none."""
        job = self.fields.get("job")
        return job if isinstance(job, str) and job else None

    @property
    def batch(self) -> int:
        """The number of the batch. One that the message does not tell is made up: the job is short of one batch."""
        if not self.batched:
            return 0
        batch = self.fields.get("batch")
        if isinstance(batch, int) and not isinstance(batch, bool) and batch >= 0:
            return batch
        return -1 - zlib.crc32(json.dumps(self.fields, sort_keys=True, default=repr).encode())

    @property
    def reason(self) -> str:
        """Why the task failed, in a sentence that can be shown."""
        error = self.error
        return str(error) if isinstance(error, ArtseekError) else f"{type(error).__name__}: {error}"

    def report(self, jobs: Jobs, outcome: Outcome) -> None:
        """Report the batch with an outcome; a message that names no job is logged, since nobody waits for it."""
        if self.job is None:
            _log.error("a message that names no job is dropped: %s", self.reason)
        else:
            jobs.report(self.job, self.batch, outcome)

    def report_failure(self, jobs: Jobs, *, worker: str) -> None:
        """Report the batch with one rejection that gives the reason."""
        self.report(jobs, Outcome(rejected=(Rejection("", "error", f"{worker} failed: {self.reason}"),)))
