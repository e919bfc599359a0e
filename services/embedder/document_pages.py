"""The pages of documents: those behind the first become images by batches of their own, which the embedder sends.

An embedder that decodes a file finds out how many pages it has. It does so before the file's segment is written, and
the numbers of the batches follow from the file's place: an attempt that runs again sends the same ones.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

from shared.errors import Unavailable
from shared.messaging.messages import BatchImage
from shared.messaging.worker import WorkerClients
from shared.storage import layout
from shared.storage.documents import Document, DocumentPage, Documents, PageFile

_AT_ONCE = 32  # pages of a batch
_MOST = 10**6  # batches of a job, and of the pages of a file
_WAIT_S = 5.0
_POLL_S = 0.05


@dataclass(frozen=True)
class FoundDocument:
    """A file of several pages: its image, how many pages, and its place in the batch."""

    image: BatchImage
    pages: int
    place: int


class DocumentPages:
    """Stores page files, and has the pages embedded; every call may run twice."""

    def __init__(self, clients: WorkerClients) -> None:
        self._store, self._state, self._queue = clients.store, clients.state, clients.queue
        self._documents = Documents(clients.store)

    def place_of(self, image: BatchImage, pages: int) -> DocumentPage | None:
        """Return which page of a document an image is; None if its file has one alone."""
        if pages == 1 and image.page == 1:
            return None
        file = self._documents.page_file(image.digest) if image.page > 1 else None
        return DocumentPage(file.document if file else image.digest, image.page, max(pages, image.page))

    def send(self, *, job: str, batch: int, collection: str, found: Sequence[FoundDocument]) -> None:
        """Have the pages behind the first of some documents embedded, as a part of the same job.

        Raises:
            Unavailable: A page file is being deleted at this moment, or a server is away.
        """
        for each in found:
            document = Document(each.image.digest, each.pages, each.image.size)
            self._documents.put(document)
            for number, start in enumerate(range(2, each.pages + 1, _AT_ONCE)):
                pages = range(start, min(start + _AT_ONCE, each.pages + 1))
                files = [document.page_file(page) for page in pages]
                self._send(job, _batch_of_pages(batch, each.place, number), collection, each.image, files)

    def _send(self, job: str, batch: int, collection: str, image: BatchImage, files: Sequence[PageFile]) -> None:
        self._state.jobs.add_pages(job, batch, len(files))
        if self._state.jobs.reported(job, batch):
            return
        for file in files:
            self._keep(file, job)
        items = [replace(image, digest=file.digest, page=file.page) for file in files]
        self._queue.embed(job=job, batch=batch, collection=collection, items=items)

    def _keep(self, file: PageFile, job: str) -> None:
        """Store a page file and have it stay, after waiting for whoever is just deleting it."""
        pins, until = self._state.pins, time.monotonic() + _WAIT_S
        pins.pin(file.digest, job)
        while pins.is_marked(file.digest):
            if time.monotonic() > until:
                raise Unavailable("a page that is to be added is being deleted at this moment")
            time.sleep(_POLL_S)
        self._store.put(layout.original_key(file.digest), file.data)


def _batch_of_pages(batch: int, place: int, number: int) -> int:
    """Return the number of a batch of pages, which no other batch of the job has."""
    return ((place + 1) * _MOST + number) * _MOST + batch
