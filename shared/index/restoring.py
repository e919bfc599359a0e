"""Restores images from the trash of a collection: they are embedded and indexed again, as a job."""

import time
from collections.abc import Sequence
from dataclasses import dataclass

from shared.clients import Clients
from shared.errors import Invalid, NotFound, Unavailable
from shared.messaging.lost_index import ensure_known
from shared.messaging.messages import BatchImage
from shared.messaging.worker import WorkerClients
from shared.state.job_ids import new_job_id
from shared.storage import layout
from shared.storage.documents import Documents
from shared.storage.original_files import OriginalFiles
from shared.storage.trash import TrashEntry

_WAIT_S = 5.0
_POLL_S = 0.05


@dataclass(frozen=True)
class TrashPage:
    """A part of a trash, the latest deleted first, and how many images are in it."""

    entries: list[TrashEntry]
    total: int


def present_images(clients: Clients, collection: str, digests: Sequence[str]) -> set[str]:
    """Return which images are in a collection: their claims are in an indexed segment.

    Raises:
        NotFound: There is no such collection.
        Invalid: Its manifest cannot be read.
    """
    set_name = clients.catalog.get(collection).name
    holders = clients.state.claims.holders(set_name, [layout.image_id(digest) for digest in digests])
    indexed = clients.state.indexed_segments.among(set_name, sorted({holder for holder in holders if holder}))
    return {digest for digest, holder in zip(digests, holders, strict=True) if holder in indexed}


def trash_page(clients: Clients, collection: str, *, limit: int, offset: int) -> TrashPage:
    """Return a part of the trash of a collection, without images that are in the collection again.

    Raises:
        NotFound: There is no such collection.
        Invalid: Its manifest or an entry cannot be read.
    """
    trash = clients.trash
    digests = trash.digests(collection)
    present = present_images(clients, collection, digests)
    listed = [digest for digest in digests if digest not in present]
    return TrashPage(list(trash.entries(collection, listed[offset : offset + limit])), len(listed))


def restore(clients: WorkerClients, collection: str, image_id: int) -> str:
    """Have an image of the trash added to its collection again, with its label and date; returns the job.

    With the first page of a document, all pages of it come back.

    The entry stays until the image is in the collection, so that an image that cannot be embedded is not lost.

    Raises:
        NotFound: There is no such collection, or its trash does not have the image.
        Invalid: The original is missing, so that only adding the file again helps.
        Unavailable: The original is being deleted at this moment, or a server is away.
    """
    clients.catalog.get(collection)
    entry = clients.trash.get(collection, image_id)
    if present_images(clients, collection, [entry.digest]):
        raise NotFound(f"the image {image_id} is in the collection {collection!r} again")
    ensure_known(collection, catalog=clients.catalog, state=clients.state, queue=clients.queue)
    job, pins = new_job_id(), clients.state.pins
    pins.pin(entry.digest, job)
    until = time.monotonic() + _WAIT_S
    while pins.is_marked(entry.digest):
        if time.monotonic() > until:
            pins.unpin([entry.digest], job)
            raise Unavailable("the original is being deleted at this moment; try again later")
        time.sleep(_POLL_S)
    if not OriginalFiles(clients.store).exists(entry.digest):
        pins.unpin([entry.digest], job)
        raise Invalid(f"the original of the image {image_id} is missing: add the same file again")
    clients.state.jobs.create(job, collection, kind="restore")
    file = Documents(clients.store).page_file(entry.digest)  # the entry may know nothing but the digest
    page = file.page if file else 1
    item = BatchImage(entry.digest, entry.name, entry.label, entry.size, entry.added, page)
    clients.queue.embed(job=job, batch=0, collection=collection, items=[item])
    return job
