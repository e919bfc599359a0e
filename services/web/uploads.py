"""Uploads: files of a form are looked at, and those that pass are handed to the intake as one job."""

import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from flask import request
from werkzeug.datastructures import FileStorage, MultiDict

from services.web.clients import WebClients
from services.web.problems import FieldError, Problem, invalid
from shared.errors import NotFound, Unavailable
from shared.file_names import clean_name, clean_path
from shared.images import ImageRefused
from shared.messaging.intake import Intake, IntakeOptions
from shared.messaging.lost_index import ensure_known
from shared.messaging.messages import BatchImage
from shared.messaging.original_intake import HELD_BYTES
from shared.records.duplicates import DuplicateFile, note_duplicates
from shared.records.record_store import RecordStore
from shared.schemas.refusals import Refusal
from shared.state import Rejection
from shared.storage.documents import Documents
from shared.unique_names import UniqueNames

_log = logging.getLogger(__name__)

FILE_FIELDS = ("images", "image")
_SMALL = 8 * 2**20  # bytes; larger files are stored one after the other
_THREADS = 4
_PATIENCE_S = 5.0  # somebody waits for the answer
_COPIES = 2  # of a file's bytes while it is stored


@dataclass(frozen=True)
class Upload:
    """A file of a form, with the label it is to have and its size in bytes."""

    file: FileStorage
    name: str
    label: str | None
    size: int

    def read(self) -> bytes:
        """Return the file's bytes."""
        self.file.stream.seek(0)
        return self.file.stream.read()


def require_form() -> None:
    """Make sure that the request is a form with files.

    Raises:
        Problem: It is something else.
    """
    if request.mimetype != "multipart/form-data":
        detail = f"{request.mimetype[:80]!r} is not taken: send a form (multipart/form-data) with files in `images`"
        raise Problem(415, "unsupported-media-type", detail)


def files_of(files: Mapping[str, FileStorage] | MultiDict[str, FileStorage], *fields: str) -> list[FileStorage]:
    """Return the files of a form in these fields; those that a browser left empty are passed over.

    Raises:
        Problem: There are files in other fields, or none at all.
    """
    form = MultiDict(files)
    if unknown := [name for name in form if name not in fields]:
        raise invalid([FieldError(field=f"body.{name[:80]}", message="is not known here") for name in unknown])
    found = [file for field in fields for file in form.getlist(field) if file.filename or size_of(file)]
    if not found:
        raise invalid([FieldError(field=f"body.{fields[0]}", message="a file is needed in this field of a form")])
    return found


def size_of(file: FileStorage) -> int:
    """Return the size of a file in bytes."""
    size = file.stream.seek(0, os.SEEK_END)
    file.stream.seek(0)
    return size


def uploads_of(files: Sequence[FileStorage], label: str, names: Sequence[str] = ()) -> list[Upload]:
    """Return files of a form as uploads of which each has its own name; an empty label is none.

    Raises:
        Problem: There are names, and not as many as files.
    """
    if names and len(names) != len(files):
        message = f"are {len(names)}, of {len(files)} files: one is needed for each, or none at all"
        raise invalid([FieldError(field="body.names", message=message)])
    unique = UniqueNames()
    known_by = [clean_path(name) for name in names] or [clean_name(file.filename) for file in files]
    return [
        Upload(file, unique.take(name), label.strip() or None, size_of(file))
        for file, name in zip(files, known_by, strict=True)
    ]


def hand_in(
    clients: WebClients, collection: str, uploads: Sequence[Upload], *, keep_labels: bool = False
) -> tuple[str, list[Refusal]]:
    """Store the uploads that are images and have them added to a collection; returns the job and what was refused.

    With `keep_labels`, images that are there keep their labels if they are handed in with others.

    Raises:
        Problem: None of them is an image that is taken.
        Unavailable: A server that is needed does not answer.
    """
    taken, refused = sort_out(clients, uploads)
    ensure_known(collection, catalog=clients.catalog, state=clients.state, queue=clients.queue)
    largest = max(upload.size for upload in taken)
    threads = _THREADS if largest <= _SMALL else 1
    note = partial(_note, clients, collection, keep_labels=keep_labels)
    options = IntakeOptions(
        batch_size=clients.settings.batch_size,
        threads=threads,
        patience_s=_PATIENCE_S,
        keep_labels=keep_labels,
        before_relabelling=note,
    )
    with (
        clients.memory.holding(_COPIES * min(threads * (largest + HELD_BYTES), sum(upload.size for upload in taken))),
        Intake(collection, clients, options) as intake,
    ):
        for refusal in refused:
            rejection = Rejection(refusal["name"], refusal["code"], refusal["reason"])
            intake.add(rejection.name, None, lambda rejection=rejection: rejection)  # type: ignore[misc]
        for upload in taken:
            intake.add(upload.name, upload.label, upload.read)
    note(intake.found)
    return intake.job, refused


def _note(clients: WebClients, collection: str, found: Sequence[BatchImage], *, keep_labels: bool) -> None:
    """Note paths and labels of the files whose contents the collection has already; the upload counts without, too."""
    files = [DuplicateFile(image.digest, image.name, label=image.label) for image in found]
    if not files:
        return
    records = RecordStore(clients.store, clients.state.record_changes)
    try:
        note_duplicates(records, clients.query, Documents(clients.store), collection, files, keep_labels=keep_labels)
    except (NotFound, Unavailable) as error:
        _log.warning("%s: paths of an upload are not noted: %s", collection, error)


def sort_out(clients: WebClients, uploads: Sequence[Upload]) -> tuple[list[Upload], list[Refusal]]:
    """Return the uploads that may be images, going by their headers, and why the others are refused.

    Raises:
        Problem: None of them may be one.
    """
    refusals = [_refusal(clients, upload) for upload in uploads]
    refused = [refusal for refusal in refusals if refusal]
    taken = [upload for upload, refusal in zip(uploads, refusals, strict=True) if not refusal]
    if not taken:
        detail = f"none of the {len(uploads)} files can be taken: {refused[0]['name']}: {refused[0]['reason']}"
        raise Problem(422, "refused" if len(refused) > 1 else refused[0]["code"], detail, rejected=refused)
    return taken, refused


def _refusal(clients: WebClients, upload: Upload) -> Refusal | None:
    """Return why a file is not taken, going by its header; None if it may be an image."""
    limit = clients.limits.max_bytes
    if upload.size > limit:
        reason = f"the file has {upload.size:,} bytes, at most {limit:,} are taken: save it smaller or compressed"
        return Refusal(name=upload.name, code="too-large", reason=reason)
    try:
        with clients.memory.holding(upload.size):
            clients.decoder.identify(upload.read())
    except ImageRefused as error:
        return Refusal(name=upload.name, code=error.reason, reason=error.message)
    return None
