"""Adds the images of folders to a collection of a remote system."""

import time
from collections import Counter, deque
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final

from cli.remote.api import Api
from cli.remote.files import Part, parts_of, send_part
from cli.remote.jobs import wait_for_job
from services.producer.ingest import IngestAnswer, RejectedFile
from shared.file_names import sent_name
from shared.folders import Source, readable
from shared.timestamps import rfc3339

if TYPE_CHECKING:
    from shared.schemas.images import UploadAnswer
    from shared.schemas.jobs import JobAnswer
    from shared.schemas.refusals import Refusal

_JOBS_AT_ONCE: Final = 4


class RemoteIngestion:
    """Sends files in requests of a few, each of which the system makes a job of, and adds up what became of them."""

    def __init__(self, api: Api, collection: str, *, max_bytes: int, keep_labels: bool) -> None:
        """Take a limit for the bytes of a file, and whether images that are there keep their labels."""
        self._api, self._collection = api, collection
        self._max_bytes, self._keep_labels = max_bytes, keep_labels
        self._under_way: deque[str] = deque()
        self._ended: list[JobAnswer] = []
        self._rejected: list[Refusal] = []

    def run(self, sources: Sequence[Source], on_progress: Callable[[int], None]) -> IngestAnswer:
        """Send files, and wait until all are accounted for; `on_progress` gets how many are.

        Raises:
            ArtseekError: The system refuses them, or does not answer.
        """
        started = time.time()
        for part in parts_of(sources, max_bytes=self._max_bytes, rejected=self._rejected):
            self._send(part)
            while len(self._under_way) >= _JOBS_AT_ONCE:
                self._wait()
            on_progress(self.finished)
        while self._under_way:
            self._wait()
            on_progress(self.finished)
        return self._answer(sources, started)

    @property
    def finished(self) -> int:
        """How many files are accounted for."""
        return len(self._rejected) + sum(job["finished"] for job in self._ended)

    def _send(self, part: Part) -> None:
        answers: list[UploadAnswer] = []
        send_part(
            self._api,
            f"/collections/{self._collection}/images",
            part,
            fields=lambda: [("keep_labels", "true")] if self._keep_labels else [],
            answers=answers,
            rejected=self._rejected,
            with_sidecars=True,
        )
        self._under_way += [answer["job"] for answer in answers]

    def _wait(self) -> None:
        job = wait_for_job(self._api, self._under_way[0])
        self._under_way.popleft()
        self._ended.append(job)

    def _answer(self, sources: Sequence[Source], started: float) -> IngestAnswer:
        """Return the sum of all jobs."""
        seconds, jobs = time.time() - started, self._ended
        classes: Counter[str] = Counter()
        for job in jobs:
            classes.update(job["classes"])
        added = sum(job["added"] for job in jobs)
        by_name = {source.name: source for source in sources} | {sent_name(source.name): source for source in sources}
        rejected = [*self._rejected, *(refusal for job in jobs for refusal in job["rejected"])]
        return {
            "id": jobs[-1]["id"] if jobs else "",
            "job": jobs[-1]["id"] if jobs else "",
            "jobs": [job["id"] for job in jobs],
            "kind": "ingest",
            "collection": self._collection,
            "state": "cancelled" if any(job["state"] == "cancelled" for job in jobs) else "done",
            "created": jobs[0]["created"] if jobs else rfc3339(started),
            "total": len(sources),
            "files": len(sources),
            "finished": self.finished,
            "added": added,
            "duplicates": sum(job["duplicates"] for job in jobs),
            "affected": sum(job["affected"] for job in jobs),
            "relabelled": sum(job["relabelled"] for job in jobs),
            "labels_kept": sum(job["labels_kept"] for job in jobs),
            "damaged": [name for job in jobs for name in job["damaged"]],
            "restored": 0,
            "rejected": [_rejected_file(by_name.get(item["name"]), item) for item in rejected],
            "classes": dict(classes),
            "unlabelled": added - sum(classes.values()),
            "skipped": {},
            "seconds": round(seconds, 3),
            "images_per_second": round(len(sources) / seconds, 2) if seconds else 0.0,
        }


def _rejected_file(source: Source | None, refusal: "Refusal") -> RejectedFile:
    """Return a refusal with the file that it is of, which the system may know by a cleaned name."""
    if source is None:
        return RejectedFile(file=refusal["name"], **refusal)
    return RejectedFile(
        file=readable(str(source.path)), name=source.name, code=refusal["code"], reason=refusal["reason"]
    )
