"""The map of a collection: having it made, where its images lie, and which values they have."""

import hashlib
from collections import Counter
from typing import Annotated, Final

import numpy as np
from flask import request
from flask.typing import ResponseReturnValue
from pydantic import Field

from services.web import quotas
from services.web.access import of_path
from services.web.api.files import TAG
from services.web.api.inputs import READ_FLAG, CollectionPath, Input, RecordName
from services.web.api.openapi import Answer
from services.web.api.operations import api, reply
from services.web.clients import WebClients, web_clients
from shared.maps.image_map import ImageMap
from shared.maps.maps import Maps
from shared.records.editing import all_images
from shared.records.model import LABEL
from shared.rpc.query import Image
from shared.schemas.images import record_of, value_text
from shared.schemas.maps import MapAnswer, MapJobAnswer, MapValuesAnswer
from shared.schemas.urls import job_url
from shared.storage.layout import image_id
from shared.timestamps import rfc3339

FINEST: Final = 65_535
"""The greatest coordinate of a map."""

MOST_VALUES: Final = 9
"""Values of a field that a map tells apart: more colours nobody can."""


class MapOptions(Input):
    """How to make a map."""

    anew: Annotated[
        bool, Field(description="Whether to fit it again, so that all images get other places."), READ_FLAG
    ] = False


class MapField(Input):
    """Which field of the images is asked for."""

    field: Annotated[RecordName, Field(min_length=1, description="The field; `label` for the labels.")] = LABEL


@api.operation(
    "POST",
    "/collections/{name}/map",
    rule=of_path("change"),
    path_model=CollectionPath,
    query_model=MapOptions,
    answers={202: Answer("It is on its way.", MapJobAnswer, headers={"Location": "The job."})},
    problems=(404, 503),
)
def make_map(path: CollectionPath, query: MapOptions) -> ResponseReturnValue:
    """Have the map of a collection made, or images placed on it that came later; `affected` counts all on it."""
    response = reply(start_map(web_clients(), path.name, anew=query.anew), 202)
    response.headers["Location"] = response.get_json()["url"]
    return response


@api.operation(
    "GET",
    "/collections/{name}/map",
    rule=of_path("look"),
    path_model=CollectionPath,
    answers={200: Answer("The map.", MapAnswer, headers=TAG), 304: Answer("As you have it.", headers=TAG)},
    problems=(404, 503),
)
def get_map(path: CollectionPath) -> ResponseReturnValue:
    """Return where the images of a collection lie on its map."""
    clients = web_clients()
    count = clients.query.collection(path.name).images
    found = live_map(clients, path.name)
    places = np.rint((found.positions + 1) / 2 * FINEST).astype(int)
    answer = MapAnswer(
        model=found.model,
        model_version=found.version,
        created=rfc3339(found.created),
        fitted=int(found.fitted.sum()),
        missing=max(0, count - len(found.ids)),
        ids=found.ids.tolist(),
        x=places[:, 0].tolist(),
        y=places[:, 1].tolist(),
    )
    response = reply(answer)
    response.set_etag(hashlib.sha256(response.get_data()).hexdigest())
    response.headers["Cache-Control"] = "private, no-cache"
    return response.make_conditional(request)


@api.operation(
    "GET",
    "/collections/{name}/map/values",
    rule=of_path("look"),
    path_model=CollectionPath,
    query_model=MapField,
    answers={200: Answer("The values.", MapValuesAnswer)},
    problems=(404, 503),
)
def get_map_values(path: CollectionPath, query: MapField) -> ResponseReturnValue:
    """Return which values of a field the images of a map have."""
    clients = web_clients()
    ids = live_map(clients, path.name).ids.tolist()
    is_label = query.field in {LABEL, "labels"}
    images = all_images(clients.query, path.name, records=not is_label)
    values = {image.id: text for image in images if (text := _value_of(image, "" if is_label else query.field))}
    counts = Counter(values[known] for known in ids if known in values).most_common(MOST_VALUES)
    places = {text: place for place, (text, _) in enumerate(counts)}
    return reply(
        MapValuesAnswer(
            field=query.field,
            values=[text for text, _ in counts],
            counts=[count for _, count in counts],
            of=[places.get(values.get(known, ""), -1) for known in ids],
        )
    )


def _value_of(image: Image, field: str) -> str:
    """Return the first value of a field, or without a field the first label; empty for none."""
    if not field:
        return image.labels[0] if image.labels else ""
    found = record_of(image)["fields"].get(field, [])
    return value_text(found[0]["value"]) if found else ""


def live_map(clients: WebClients, collection: str) -> ImageMap:
    """Return the map of a collection, without images that lie in its trash.

    Raises:
        NotFound: There is no such collection, or it has no map.
        Unavailable: The store does not answer.
    """
    found = Maps(clients.store).get(clients.catalog.get(collection).name)
    gone = [image_id(digest) for digest in clients.trash.digests(collection)]
    return found.of(np.setdiff1d(found.ids, np.array(gone, np.int64))) if gone else found


def start_map(clients: WebClients, collection: str, *, anew: bool = False) -> MapJobAnswer:
    """Have the map of a collection made, or brought up to its images.

    Raises:
        NotFound: There is no such collection.
        Problem: The requester has too much under way.
        Unavailable: A server does not answer.
    """
    clients.catalog.get(collection)
    job = quotas.submit_counted(
        "map", collection, lambda job: clients.queue.map(job=job, collection=collection, anew=anew)
    )
    return MapJobAnswer(job=job, url=job_url(job))
