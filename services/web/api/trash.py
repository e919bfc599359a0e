"""The trash of a collection: list, look at, restore; and deleting many images at once, into it or for good."""

from flask.typing import ResponseReturnValue

from services.web import quotas
from services.web.access import of_path
from services.web.access.auditing import note_images
from services.web.api.files import TAG, thumbnail_of
from services.web.api.inputs import CollectionPath, Deletion, ImagePath, TrashListing, checked
from services.web.api.openapi import Answer, Body, flat_schema
from services.web.api.operations import api, json_body, reply
from services.web.clients import web_clients
from services.web.thumbnails import MEDIA_TYPE, SIDE
from shared.index.restoring import restore, trash_page
from shared.schemas.images import DeletionAnswer
from shared.schemas.trash import RestorationAnswer, TrashAnswer, trash_answer
from shared.schemas.urls import job_url


@api.operation(
    "POST",
    "/collections/{name}/delete",
    rule=of_path("change"),
    path_model=CollectionPath,
    bodies={"application/json": Body(flat_schema(Deletion))},
    answers={202: Answer("They will be deleted; the job tells.", DeletionAnswer, headers={"Location": "The job."})},
    problems=(400, 404, 413, 415, 503),
)
def delete_images(path: CollectionPath) -> ResponseReturnValue:
    """Delete many images from a collection, into its trash or for good.

    The job counts as `affected` those that were there; its rejections name what could not be removed, and why.
    """
    wanted = checked(Deletion, json_body(), "body", texts=False)
    clients = web_clients()
    clients.catalog.get(path.name)
    note_images(wanted.ids)
    job = quotas.submit_counted(
        "delete",
        path.name,
        lambda job: clients.queue.delete(
            job=job, collection=path.name, image_ids=wanted.ids, purge=wanted.purge, from_trash=wanted.from_trash
        ),
    )
    response = reply(DeletionAnswer(job=job, url=job_url(job)), 202)
    response.headers["Location"] = job_url(job)
    return response


@api.operation(
    "GET",
    "/collections/{name}/trash",
    rule=of_path("change"),
    path_model=CollectionPath,
    query_model=TrashListing,
    answers={200: Answer("A part of the trash.", TrashAnswer)},
    problems=(404, 503),
)
def list_trash(path: CollectionPath, query: TrashListing) -> ResponseReturnValue:
    """List the images that were deleted from a collection and can be restored, the latest deleted first."""
    clients = web_clients()
    page = trash_page(clients, path.name, limit=query.limit, offset=query.offset)
    days = clients.settings.trash_days
    return reply(trash_answer(path.name, page, limit=query.limit, offset=query.offset, days=days))


@api.operation(
    "POST",
    "/collections/{name}/trash/{id}/restore",
    rule=of_path("change"),
    path_model=ImagePath,
    answers={202: Answer("It will be added again.", RestorationAnswer, headers={"Location": "The job."})},
    problems=(404, 503),
)
def restore_image(path: ImagePath) -> ResponseReturnValue:
    """Restore an image from the trash, with its label and the date on which it was added."""
    with quotas.room_for("restore") as room:
        job = restore(web_clients(), path.name, path.id)
        room.use(job)
    response = reply(RestorationAnswer(job=job, url=job_url(job)), 202)
    response.headers["Location"] = job_url(job)
    return response


@api.operation(
    "GET",
    "/collections/{name}/trash/{id}/thumbnail",
    rule=of_path("change"),
    path_model=ImagePath,
    answers={
        200: Answer(f"A JPEG of at most {SIDE} by {SIDE} pixels.", bytes, (MEDIA_TYPE,), TAG),
        304: Answer("As you have it.", headers=TAG),
    },
    problems=(404, 503),
)
def get_trash_thumbnail(path: ImagePath) -> ResponseReturnValue:
    """Return a small picture of an image in the trash."""
    clients = web_clients()
    entry = clients.trash.get(path.name, path.id)
    return thumbnail_of(clients, entry.digest, entry.size or clients.settings.max_query_bytes)
