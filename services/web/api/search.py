"""Search: by an image's bytes or by an image of the collection."""

from typing import Any

from flask import request
from flask.typing import ResponseReturnValue

from services.web.answers import SearchAnswer, search_answer
from services.web.api.table import api, reply
from services.web.inputs import MAX_JSON, CollectionPath, SearchById, SearchOptions, checked, checked_texts, read_json
from services.web.openapi import BINARY, IMAGE_TYPES, Answer, Body, image_form
from services.web.parts import parts
from services.web.problems import FieldError, Problem, invalid
from services.web.searching import check_size
from services.web.searching import search as run
from services.web.uploads import files_of, size_of

_MARGIN = 64 * 1024  # bytes of a form beside its file
_TAKES = "send JSON with an id, a form with a file in its field `image`, or the bytes of an image under its media type"


@api.operation(
    "POST",
    "/collections/{name}/search",
    path_model=CollectionPath,
    query_model=SearchOptions,
    bodies={
        "multipart/form-data": Body(image_form(SearchOptions), files=("image",)),
        "application/json": Body(SearchById),
        **{kind: Body(BINARY) for kind in IMAGE_TYPES},
    },
    answers={200: Answer("The images found.", SearchAnswer)},
    problems=(400, 404, 413, 415, 422, 503),
)
def search(path: CollectionPath, given: SearchOptions) -> ResponseReturnValue:
    """Find the images most similar to one.

    The one is a file, or an image of the collection named by its id. Options may stand in the query or in the body;
    those in the body count.
    """
    here = parts()
    image, image_id = None, 0
    if request.mimetype == "application/json":
        request.max_content_length = MAX_JSON
        asked = checked(SearchById, read_json(request.get_data()), "body", texts=False)
        options, image_id = _merged(given, asked), asked.id
    elif request.mimetype == "multipart/form-data":
        request.max_content_length = here.settings.max_file_bytes + _MARGIN
        options = _merged(given, checked_texts(SearchOptions, request.form.to_dict(flat=False), "body"))
        files = files_of(request.files, "image")
        if len(files) > 1:
            raise invalid([FieldError(field="body.image", message="is given more than once")])
        check_size(here, size_of(files[0]))
        image = files[0].stream.read()
    elif request.mimetype in IMAGE_TYPES:
        request.max_content_length = here.settings.max_file_bytes
        options, image = given, request.get_data(cache=False)
    else:
        raise Problem(415, "unsupported-media-type", f"{request.mimetype[:80]!r} is not taken: {_TAKES}")
    return reply(search_answer(path.name, run(here, path.name, options, image=image, image_id=image_id)))


def _merged(query: SearchOptions, body: SearchOptions) -> SearchOptions:
    values: dict[str, Any] = query.model_dump(exclude_unset=True)
    values |= body.model_dump(exclude_unset=True, include=set(SearchOptions.model_fields))
    return SearchOptions(**values)
