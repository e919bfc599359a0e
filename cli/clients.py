"""The clients by which commands reach the running system beside its servers."""

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass

from cli.command import QueriedSystem
from shared.access import open_to_all
from shared.access.audit import AuditLog
from shared.errors import ArtseekError, NotFound, Unavailable
from shared.messaging.celery_app import make_app
from shared.messaging.job_submission import submit, wait_for_end
from shared.messaging.worker import WorkerClients, connect_worker
from shared.settings import Settings
from shared.state import Job
from shared.state.jobs import Kind

_JOB_PATIENCE_S = 3600.0


@dataclass(frozen=True, kw_only=True)
class System(WorkerClients, QueriedSystem):
    """The clients of the running system, and the settings that say how to reach it."""

    def note_change(self, what: str, collection: str, images: Sequence[int] = ()) -> None:
        """Write into the audit log what is about to be changed, on a system where people are told apart.

        Raises:
            Unavailable: It cannot be written, so nothing must be changed.
        """
        if not open_to_all(self.settings):
            AuditLog(self.store).begin(who="command line", what=what, collection=collection, images=images)

    def run_job(self, kind: Kind, collection: str, send: Callable[[str], None]) -> Job:
        """Submit a job whose task `send` sends, and wait for its end.

        Raises:
            ArtseekError: The job failed, or has not ended within an hour.
        """
        self.note_change(kind, collection)
        job_id = submit(self.state.jobs, kind, collection, send)
        job = wait_for_end(self.state.jobs, job_id, deadline_s=_JOB_PATIENCE_S)
        if job is None:
            raise Unavailable(
                f"the {kind} job {job_id} has not ended within {_JOB_PATIENCE_S / 3600:g} h; see `artseek status`"
            )
        if job.counts.rejected:
            raise ArtseekError(job.counts.reason)
        return job

    def run_cancellable_job(
        self,
        job_id: str,
        kind: Kind,
        collection: str,
        send: Callable[[str], None],
        *,
        deadline_s: float,
        on_progress: Callable[[Job], None] | None = None,
    ) -> Job | None:
        """Submit a job under an id, and wait for its end; Ctrl-C cancels it. None: it has not ended within the time.

        Raises:
            ArtseekError: See `submit` and `wait_for_end`.
        """
        self.note_change(kind, collection)
        try:
            submit(self.state.jobs, kind, collection, send, job_id=job_id)
            return wait_for_end(self.state.jobs, job_id, deadline_s=deadline_s, on_progress=on_progress)
        except KeyboardInterrupt:
            with suppress(NotFound):
                self.state.jobs.cancel(job_id)
            raise


def connect_system(settings: Settings) -> System:
    """Return the clients of the system that the settings name; nothing is sent yet."""
    base = connect_worker(settings, make_app(settings, name="producer"))
    return System(
        store=base.store, state=base.state, connect_model=base.connect_model, queue=base.queue, settings=settings
    )
