"""Uploads: files of a form are looked at, and those that pass are handed to the intake as one job."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from werkzeug.datastructures import FileStorage, MultiDict

from services.web.clients import WebClients
from services.web.file_names import clean_name
from services.web.problems import FieldError, Problem, invalid
from shared.images import ImageRefused, identify
from shared.messaging.intake import Intake, IntakeOptions
from shared.messaging.lost_index import ensure_known
from shared.schemas.jobs import Refusal
from shared.state import Rejection

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


def upload_of(file: FileStorage, label: str) -> Upload:
    """Return a file of a form as an upload; an empty label is none."""
    return Upload(file, clean_name(file.filename), label.strip() or None, size_of(file))


def hand_in(clients: WebClients, collection: str, uploads: Sequence[Upload]) -> tuple[str, list[Refusal]]:
    """Store the uploads that are images and have them added to a collection; returns the job and what was refused.

    Raises:
        Problem: None of them is an image that is taken.
        Unavailable: A server that is needed does not answer.
    """
    refusals = [_refusal(clients, upload) for upload in uploads]
    refused = [refusal for refusal in refusals if refusal]
    taken = [upload for upload, refusal in zip(uploads, refusals, strict=True) if not refusal]
    if not taken:
        detail = f"none of the {len(uploads)} files can be taken: {refused[0]['name']}: {refused[0]['reason']}"
        raise Problem(422, "refused" if len(refused) > 1 else refused[0]["code"], detail, rejected=refused)
    ensure_known(collection, catalog=clients.catalog, state=clients.state, queue=clients.queue)
    largest = max(upload.size for upload in taken)
    threads = _THREADS if largest <= _SMALL else 1
    options = IntakeOptions(batch_size=clients.settings.batch_size, threads=threads, patience_s=_PATIENCE_S)
    with (
        clients.memory.holding(_COPIES * threads * largest),
        Intake(collection, clients, options) as intake,
    ):
        for refusal in refused:
            rejection = Rejection(refusal["name"], refusal["code"], refusal["reason"])
            intake.add(rejection.name, None, lambda rejection=rejection: rejection)  # type: ignore[misc]
        for upload in taken:
            intake.add(upload.name, upload.label, upload.read)
    return intake.job, refused


def _refusal(clients: WebClients, upload: Upload) -> Refusal | None:
    """Return why a file is not taken, going by its header; None if it may be an image."""
    limit = clients.limits.max_bytes
    if upload.size > limit:
        reason = f"the file has {upload.size:,} bytes, at most {limit:,} are taken: save it smaller or compressed"
        return Refusal(name=upload.name, code="too-large", reason=reason)
    try:
        with clients.memory.holding(upload.size):
            identify(upload.read(), clients.limits)
    except ImageRefused as error:
        return Refusal(name=upload.name, code=error.reason, reason=error.message)
    return None
