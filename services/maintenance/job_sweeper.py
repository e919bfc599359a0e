"""Finds the work of jobs that nobody has, since the broker lost its message or its submitter died; sends or ends it.

A batch that is not reported is sought in the queues, among what workers have taken, and among the attempts that are
alive. Two looks in a row that find it nowhere mean that it is lost: a message on its way from one place to another is
missed by one look at most.
"""

import logging

from shared.index.originals import Originals
from shared.messaging.lost_index import active_set_name
from shared.messaging.task_queue import EMBED_BATCH, INDEX_SEGMENT, RELABEL_IMAGES
from shared.messaging.worker import WorkerClients
from shared.state import Job, Rejection
from shared.state.outcomes import LOST, Outcome
from shared.state.sent_messages import SentMessage
from shared.storage import layout

_log = logging.getLogger(__name__)

INTERVAL_S = 30.0
"""Between two looks at the jobs."""
LOOKS = 2
"""In how many looks in a row a message has to be missing before it is sent again."""
SENDINGS = 3
"""How often a message is sent again before its batch is ended. A written segment's is sent until it is indexed."""


class JobSweeper:
    """Looks at all jobs that have not ended; every call may run twice."""

    name, every_s = "jobs", INTERVAL_S

    def __init__(self, clients: WorkerClients) -> None:
        self._queue, self._jobs, self._sent = clients.queue, clients.state.jobs, clients.state.jobs.sent
        self._attempts, self._pins = clients.state.attempts, clients.state.pins
        self._catalog, self._store = clients.catalog, clients.store
        self._originals = Originals(clients, clients.queue)

    def run(self) -> None:
        """Look at the jobs once.

        Raises:
            Unavailable: A server is away; what is found by then is done.
        """
        held = self._queue.held()  # before the reports: a batch that ends meanwhile is reported by then
        for job in self._jobs.unfinished():
            self._sweep_job(job, held)

    def _sweep_job(self, job: Job, held: set[tuple[str, int]]) -> None:
        submitted = job.closed or not self._sent.has_submitter(job.id)
        if submitted and not job.closed and self._sent.miss(job.id, _SUBMITTER) >= LOOKS:
            _log.warning("job %s: its submitter is gone; it is closed with what was handed in", job.id)
            self._jobs.close(job.id)
        for batch in self._jobs.unreported(job):
            if (job.id, batch) in held or self._attempts.is_alive(layout.batch_segment(job.id, batch)):
                self._sent.see(job.id, batch)
            elif self._sent.miss(job.id, batch) >= LOOKS:
                self._recover(job, batch, submitted=submitted)

    def _recover(self, job: Job, batch: int, *, submitted: bool) -> None:
        """Send a batch again that was lost, or end it."""
        if self._jobs.reported(job.id, batch):
            return
        message = self._sent.get(job.id, batch)
        if message is None:
            if submitted:  # else it is about to be sent
                self._end(job, batch, None)
        elif self._sent.resend(job.id, batch) > SENDINGS and not self._is_written(job, batch, message):
            self._end(job, batch, message)
        else:
            _log.warning("job %s: the message of batch %d was lost; it is sent again", job.id, batch)
            self._queue.send_again(message)

    def _is_written(self, job: Job, batch: int, message: SentMessage) -> bool:
        """Return whether the segment of a batch is in the store: then its images are to be indexed, come what may."""
        if message.task in {INDEX_SEGMENT, RELABEL_IMAGES}:
            return True
        if message.task != EMBED_BATCH:
            return False
        set_name = message.arguments.get("set_name") or active_set_name(job.collection, self._catalog)
        return self._store.exists(layout.segment_key(set_name, layout.batch_segment(job.id, batch)))

    def _end(self, job: Job, batch: int, message: SentMessage | None) -> None:
        """Report a batch that is lost, and delete the originals that came for it and that nothing holds."""
        _log.error("job %s: batch %d is ended, since its message was lost again and again", job.id, batch)
        if message is None or message.task != EMBED_BATCH or message.arguments.get("set_name"):
            self._jobs.report(job.id, batch, Outcome(rejected=(Rejection("", LOST, _reason(job)),)))
            return
        items = message.arguments["items"]
        digests = [str(item["digest"]) for item in items]
        # An attempt of its own fences off a worker that was stopped in the middle of the batch, should it wake.
        with self._attempts.hold(layout.batch_segment(job.id, batch)) as attempt:
            self._originals.delete_unheld(digests, job=job.id)
            rejected = tuple(Rejection(str(item["name"]), LOST, _reason(job)) for item in items)
            before = message.arguments.get("before")
            known = Outcome() if before is None else Outcome.from_json(before)
            self._jobs.report(job.id, batch, Outcome({}, known.duplicates, known.rejected + rejected))
            self._pins.unpin(digests, job.id)
            attempt.end()


_SUBMITTER = -1  # stands for a batch where the sweeper counts in how many looks a submitter was missing


def _reason(job: Job) -> str:
    remedy = "add the images again" if job.kind == "ingest" else "ask for it again"
    return f"its message was lost; {remedy}"
