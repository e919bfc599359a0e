"""Jobs of a remote system."""

import time
from collections.abc import Callable
from contextlib import suppress
from typing import Final

from cli.remote.api import Api
from shared.errors import NotFound
from shared.schemas.jobs import JobAnswer, JobSummaryAnswer

_ENDED: Final = frozenset({"done", "cancelled"})
_SHORTEST_S: Final = 0.1
_LONGEST_S: Final = 2.0


def wait_for_job(api: Api, job: str, on_progress: Callable[[JobSummaryAnswer], None] = lambda _: None) -> JobAnswer:
    """Return a job once it has ended; `on_progress` gets it as it stands.

    Raises:
        ArtseekError: The system does not know it, or does not answer.
    """
    pause = _SHORTEST_S
    while True:
        summary: JobSummaryAnswer = api.get(f"/jobs/{job}/summary")
        on_progress(summary)
        if summary["state"] in _ENDED:
            answer: JobAnswer = api.get(f"/jobs/{job}")
            return answer
        time.sleep(pause)
        pause = min(1.5 * pause, _LONGEST_S)


def wait_for_cancellable_job(
    api: Api, job: str, on_progress: Callable[[JobSummaryAnswer], None] = lambda _: None
) -> JobAnswer:
    """Return a job as `wait_for_job` does; Ctrl-C cancels it.

    Raises:
        ArtseekError: The system does not know it, or does not answer.
    """
    try:
        return wait_for_job(api, job, on_progress)
    except KeyboardInterrupt:
        with suppress(NotFound):
            api.delete(f"/jobs/{job}")
        raise
