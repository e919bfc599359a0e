"""Images of a collection: upload, list, look up, delete."""

import time

from flask import request
from flask.typing import ResponseReturnValue

from services.web.api.inputs import CollectionPath, ImagePath, Listing, UploadFields, checked_texts
from services.web.api.openapi import BINARY, Answer, Body, Schema, flat_schema
from services.web.api.operations import api, reply
from services.web.clients import WebClients, web_clients
from services.web.problems import FieldError, Problem, invalid
from services.web.uploads import FILE_FIELDS, files_of, hand_in, upload_of
from shared.errors import NotFound
from shared.messaging.job_submission import submit, wait_for_end
from shared.schemas.images import DeletionAnswer, ImageAnswer, ImagesAnswer, UploadAnswer, image_answer
from shared.schemas.urls import job_url

_PATIENCE_S = 5.0
_POLL_S = 0.03

_UPLOAD: Schema = {
    "type": "object",
    "additionalProperties": False,
    "properties": {
        "images": {"type": "array", "items": BINARY, "minItems": 1, "description": "Files."},
        "image": {**BINARY, "description": "A single file."},
        **flat_schema(UploadFields)["properties"],
    },
    "anyOf": [{"required": ["images"]}, {"required": ["image"]}],
}


@api.operation(
    "POST",
    "/collections/{name}/images",
    path_model=CollectionPath,
    bodies={"multipart/form-data": Body(_UPLOAD, files=FILE_FIELDS)},
    answers={202: Answer("The files are stored and will be added.", UploadAnswer, headers={"Location": "The job."})},
    problems=(400, 413, 415, 422, 503),
)
def add_images(path: CollectionPath) -> ResponseReturnValue:
    """Add images to a collection, which is made if there is none of this name.

    Files that are no images are refused at once and listed; what becomes of the others, the job tells. An image that
    the collection already has counts as duplicate, which is no error.
    """
    if request.mimetype != "multipart/form-data":
        detail = f"{request.mimetype[:80]!r} is not taken: send a form (multipart/form-data) with files in `images`"
        raise Problem(415, "unsupported-media-type", detail)
    fields = checked_texts(UploadFields, request.form.to_dict(flat=False), "body")
    if len(request.files.getlist("image")) > 1:
        raise invalid([FieldError(field="body.image", message="is given more than once: send several files in images")])
    uploads = [upload_of(file, fields.label) for file in files_of(request.files, *FILE_FIELDS)]
    job, rejected = hand_in(web_clients(), path.name, uploads)
    answer = UploadAnswer(job=job, url=job_url(job), accepted=len(uploads) - len(rejected), rejected=rejected)
    response = reply(answer, 202)
    response.headers["Location"] = job_url(job)
    return response


@api.operation(
    "GET",
    "/collections/{name}/images",
    path_model=CollectionPath,
    query_model=Listing,
    answers={200: Answer("A part of the images.", ImagesAnswer)},
    problems=(404, 503),
)
def list_images(path: CollectionPath, query: Listing) -> ResponseReturnValue:
    """List the images of a collection, the latest added first."""
    found = web_clients().query.images(path.name, limit=query.limit, offset=query.offset, label=query.label)
    images = [image_answer(path.name, image) for image in found.images]
    return reply(ImagesAnswer(images=images, total=found.total, limit=query.limit, offset=query.offset))


@api.operation(
    "GET",
    "/collections/{name}/images/{id}",
    path_model=ImagePath,
    answers={200: Answer("The image's entry.", ImageAnswer)},
    problems=(404, 503),
)
def get_image(path: ImagePath) -> ResponseReturnValue:
    """Tell what the collection knows of an image."""
    return reply(image_answer(path.name, web_clients().query.image(path.name, path.id)))


@api.operation(
    "DELETE",
    "/collections/{name}/images/{id}",
    path_model=ImagePath,
    answers={
        202: Answer("It takes its time; the job tells.", DeletionAnswer, headers={"Location": "The job."}),
        204: Answer("The image is gone from searches, index and store."),
    },
    problems=(404, 503),
)
def delete_image(path: ImagePath) -> ResponseReturnValue:
    """Delete an image from a collection."""
    clients = web_clients()
    clients.query.image(path.name, path.id)
    job = submit(
        clients.state.jobs,
        "delete",
        path.name,
        lambda job: clients.queue.delete(job=job, collection=path.name, image_ids=[path.id]),
    )
    if _is_gone(clients, job, path):
        return "", 204
    response = reply(DeletionAnswer(job=job, url=job_url(job)), 202)
    response.headers["Location"] = job_url(job)
    return response


def _is_gone(clients: WebClients, job: str, path: ImagePath) -> bool:
    """Wait a while for a deletion to be done, and for the query service to notice."""
    until = time.monotonic() + _PATIENCE_S
    if wait_for_end(clients.state.jobs, job, deadline_s=_PATIENCE_S, poll_s=_POLL_S) is None:
        return False
    while time.monotonic() < until:
        try:
            clients.query.image(path.name, path.id)
        except NotFound:
            return True
        time.sleep(_POLL_S)
    return False
