"""Images of a collection: upload, list, look up, delete."""

import time

from flask import request
from flask.typing import ResponseReturnValue

from services.web import quotas
from services.web.access import of_path
from services.web.api.inputs import CollectionPath, DeletionOptions, ImagePath, Listing, UploadFields, checked_texts
from services.web.api.openapi import Answer, Body, files_form
from services.web.api.operations import api, reply
from services.web.clients import WebClients, web_clients
from services.web.problems import FieldError, Problem, invalid
from services.web.sidecars import with_sidecars
from services.web.uploads import FILE_FIELDS, files_of, hand_in, require_form, uploads_of
from shared.errors import NotFound
from shared.messaging.job_submission import wait_for_end
from shared.records.record_store import RecordStore
from shared.schemas.images import DeletionAnswer, ImagesAnswer, UploadAnswer, image_answer
from shared.schemas.records import ImageRecordAnswer, image_record_answer
from shared.schemas.urls import job_url
from shared.storage.original_files import OriginalFiles

_PATIENCE_S = 5.0
_POLL_S = 0.03


@api.operation(
    "POST",
    "/collections/{name}/images",
    rule=of_path("change"),
    path_model=CollectionPath,
    bodies={"multipart/form-data": Body(files_form(UploadFields), files=FILE_FIELDS)},
    answers={202: Answer("The files are stored and will be added.", UploadAnswer, headers={"Location": "The job."})},
    problems=(400, 413, 415, 422, 503, 507),
)
def add_images(path: CollectionPath) -> ResponseReturnValue:
    """Add images to a collection, which is made if there is none of this name.

    Files that are no images are refused at once and listed by their names; a second file with the name `a.jpg` is
    known as `a (2).jpg`. What becomes of the others, the job tells. An image that
    the collection already has counts as duplicate, which is no error.

    An XMP file, `a.xmp` or `a.jpg.xmp`, is the sidecar of the image `a.jpg` of the same form: what it says goes into
    the image's record.
    """
    require_form()
    fields = checked_texts(UploadFields, request.form.to_dict(flat=False), "body")
    if len(request.files.getlist("image")) > 1:
        raise invalid([FieldError(field="body.image", message="is given more than once: send several files in images")])
    found = with_sidecars(uploads_of(files_of(request.files, *FILE_FIELDS), fields.label, fields.names))
    uploads = found.images
    if not uploads:
        raise Problem(
            422, "sidecar", "the form has sidecars alone: send each with its image", rejected=list(found.refused)
        )
    quotas.check_room(sum(upload.size for upload in uploads))
    clients = web_clients()
    with quotas.room_for("ingest", images=len(uploads)) as room:
        job, rejected = hand_in(clients, path.name, uploads, keep_labels=fields.keep_labels)
        accepted = len(uploads) - len(rejected)
        room.use(job, images=accepted)
    if found.said:
        RecordStore(clients.store, clients.state.record_changes).say(path.name, "sidecar", found.said)
    rejected = [*rejected, *found.refused]
    answer = UploadAnswer(job=job, url=job_url(job), accepted=accepted, rejected=rejected)
    response = reply(answer, 202)
    response.headers["Location"] = job_url(job)
    return response


@api.operation(
    "GET",
    "/collections/{name}/images",
    rule=of_path("look"),
    path_model=CollectionPath,
    query_model=Listing,
    answers={200: Answer("A part of the images.", ImagesAnswer)},
    problems=(404, 503),
)
def list_images(path: CollectionPath, query: Listing) -> ResponseReturnValue:
    """List the images of a collection, the latest added first, or in the order of a field."""
    found = web_clients().query.images(
        path.name,
        limit=query.limit,
        offset=query.offset,
        label=query.label,
        filter=query.filter,
        text=query.text,
        sort=query.sort,
        fields=query.fields,
    )
    images = [image_answer(path.name, image) for image in found.images]
    return reply(ImagesAnswer(images=images, total=found.total, limit=query.limit, offset=query.offset))


@api.operation(
    "GET",
    "/collections/{name}/images/{id}",
    rule=of_path("look"),
    path_model=ImagePath,
    answers={200: Answer("The image's entry.", ImageRecordAnswer)},
    problems=(404, 503),
)
def get_image(path: ImagePath) -> ResponseReturnValue:
    """Tell what the collection knows of an image."""
    clients = web_clients()
    image = clients.query.image(path.name, path.id)
    answer = image_record_answer(path.name, image)
    answer["flags"] += OriginalFiles(clients.store).flags(image.document.digest or image.digest)
    return reply(answer)


@api.operation(
    "DELETE",
    "/collections/{name}/images/{id}",
    rule=of_path("change"),
    path_model=ImagePath,
    query_model=DeletionOptions,
    answers={
        202: Answer("It takes its time; the job tells.", DeletionAnswer, headers={"Location": "The job."}),
        204: Answer("The image is gone from searches and index, and with `purge` from everywhere."),
    },
    problems=(404, 409, 503),
)
def delete_image(path: ImagePath, query: DeletionOptions) -> ResponseReturnValue:
    """Delete an image from a collection: into its trash, or with `purge` for good.

    An image that is in the trash already can be purged too. 409 says what could not be removed, and why.
    """
    clients = web_clients()
    try:
        clients.query.image(path.name, path.id)
    except NotFound:
        if not query.purge or not clients.trash.of_image(path.name, path.id):
            raise
    job = quotas.submit_counted(
        "delete",
        path.name,
        lambda job: clients.queue.delete(job=job, collection=path.name, image_ids=[path.id], purge=query.purge),
    )
    if _is_gone(clients, job, path):
        return "", 204
    response = reply(DeletionAnswer(job=job, url=job_url(job)), 202)
    response.headers["Location"] = job_url(job)
    return response


def _is_gone(clients: WebClients, job: str, path: ImagePath) -> bool:
    """Wait a while for a deletion to be done, and for the query service to notice.

    Raises:
        Problem: The job could not do all of it.
    """
    until = time.monotonic() + _PATIENCE_S
    ended = wait_for_end(clients.state.jobs, job, deadline_s=_PATIENCE_S, poll_s=_POLL_S)
    if ended is None:
        return False
    if ended.counts.rejected:
        reasons = clients.state.jobs.outcome(job).reasons
        raise Problem(409, "not-deleted", f"the image {path.id} is not deleted, or not wholly: {reasons}")
    while time.monotonic() < until:
        try:
            clients.query.image(path.name, path.id)
        except NotFound:
            return True
        time.sleep(_POLL_S)
    return False
