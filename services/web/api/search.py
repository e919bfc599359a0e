"""Search: by an image's bytes, by an image of the collection, by an embedding or by examples; one, or many at once."""

from collections.abc import Sequence
from contextlib import nullcontext
from itertools import combinations
from typing import Any

from flask import request
from flask.typing import ResponseReturnValue

from services.web.access import of_path
from services.web.api.inputs import MAX_BATCH_JSON, MAX_JSON, CollectionPath, checked, checked_texts, read_json
from services.web.api.openapi import BINARY, IMAGE_TYPES, Answer, Body, flat_schema, image_form
from services.web.api.operations import api, reply
from services.web.api.search_inputs import PictureSearchInput, SearchBatch, SearchByJson, SearchInput
from services.web.clients import web_clients
from services.web.problems import FieldError, Problem, invalid
from services.web.search_requests import check_size, fetched, prove
from services.web.search_requests import search as run
from services.web.search_requests import search_batch as run_batch
from services.web.uploads import files_of, size_of
from shared.schemas.search import SearchAnswer, SearchBatchAnswer, search_answer

_MARGIN = MAX_JSON  # bytes of a form beside its file
_MAX_HITS = 100_000  # of a batch: what an answer holds
_TAKES = (
    "send JSON with an id, a url or a vector, a form with a file in `image`, or the bytes of an image under its media "
    "type"
)


def _body(model: type[SearchInput], single: Sequence[str], *others: str) -> Body:
    """Return a body of JSON that holds one of some fields, not two of them, or one of some other lists."""
    schema = flat_schema(model)
    for name in single:
        del schema["properties"][name]["default"]  # which means that there is none
    needed = [
        {"required": [name], **({"properties": {name: {"minItems": 1}}} if name in others else {})}
        for name in (*single, *others)
    ]
    both = [{"required": list(pair)} for pair in combinations(single, 2)]
    return Body({**schema, "anyOf": needed, "not": both[0] if len(both) == 1 else {"anyOf": both}})


@api.operation(
    "POST",
    "/collections/{name}/search",
    rule=of_path("look"),
    path_model=CollectionPath,
    query_model=PictureSearchInput,
    bodies={
        "multipart/form-data": Body(image_form(PictureSearchInput), files=("image",)),
        "application/json": _body(SearchByJson, ("id", "url", "vector"), "like", "unlike"),
        **{kind: Body(BINARY) for kind in IMAGE_TYPES},
    },
    answers={200: Answer("The images found.", SearchAnswer)},
    problems=(400, 404, 413, 415, 422, 503),
)
def search(path: CollectionPath, given: PictureSearchInput) -> ResponseReturnValue:
    """Find the images most similar to one.

    The one is a file, an image of the collection named by its id, the picture at an address, an embedding, or what the
    examples have in common.
    Options may stand in the query or in the body; those in the body count.
    """
    clients = web_clients()
    image, image_id, url, vector = None, 0, "", list[float]()
    if request.mimetype == "application/json":
        request.max_content_length = MAX_JSON
        asked = checked(SearchByJson, read_json(request.get_data()), "body", texts=False)
        options, image_id, url, vector = _merged(given, asked), asked.id, asked.url, asked.vector
        named = [name for name in ("id", "url", "vector") if getattr(asked, name)]
        if len(named) > 1:
            message = f"is given beside {'an id' if named[0] == 'id' else 'a url'}: one of the two is taken"
            raise invalid([FieldError(field=f"body.{named[1]}", message=message)])
        if not (named or options.like or options.unlike):
            message = "is missing, and so are `url`, `vector`, `like` and `unlike`"
            raise invalid([FieldError(field="body.id", message=message)])
    elif request.mimetype == "multipart/form-data":
        request.max_content_length = clients.settings.max_query_bytes + _MARGIN
        options = _merged(given, checked_texts(PictureSearchInput, request.form.to_dict(flat=False), "body"))
        files = files_of(request.files, "image")
        if len(files) > 1:
            raise invalid([FieldError(field="body.image", message="is given more than once")])
        check_size(clients, size_of(files[0]))
        image = files[0].stream.read()
    elif request.mimetype in IMAGE_TYPES:
        request.max_content_length = clients.settings.max_query_bytes
        options, image = given, request.get_data(cache=False)
    else:
        raise Problem(415, "unsupported-media-type", f"{request.mimetype[:80]!r} is not taken: {_TAKES}")
    with fetched(clients, url) if url else nullcontext(image) as data:
        how = options.to_options()
        found = run(clients, path.name, how, image=data, image_id=image_id, vector=vector, box=options.box)
        if options.proof:
            proofs = prove(clients, path.name, found, how, image=data, image_id=image_id, box=options.box)
            return reply(search_answer(path.name, found, proofs))
    return reply(search_answer(path.name, found))


@api.operation(
    "POST",
    "/collections/{name}/search-batch",
    rule=of_path("look"),
    path_model=CollectionPath,
    bodies={"application/json": _body(SearchBatch, ("ids", "vectors"))},
    answers={200: Answer("What was found for each query, in their order.", SearchBatchAnswer)},
    problems=(400, 404, 413, 415, 422, 503),
)
def search_batch(path: CollectionPath) -> ResponseReturnValue:
    """Find the images most similar to each of many.

    They are images of the collection named by their ids, or embeddings; the options are those of a search, for all.
    """
    request.max_content_length = MAX_BATCH_JSON
    if request.mimetype != "application/json":
        raise Problem(415, "unsupported-media-type", f"{request.mimetype[:80]!r} is not taken: send JSON")
    wanted = checked(SearchBatch, read_json(request.get_data()), "body", texts=False)
    if bool(wanted.ids) == bool(wanted.vectors):
        raise invalid([FieldError(field="body.ids", message="or else `vectors` is needed, one of the two")])
    if wanted.k * max(len(wanted.ids), len(wanted.vectors)) > _MAX_HITS:
        raise invalid([FieldError(field="body.k", message=f"times the queries is more than {_MAX_HITS:,} hits")])
    answers = run_batch(web_clients(), path.name, wanted)
    return reply(SearchBatchAnswer(answers=[search_answer(path.name, found) for found in answers]))


def _merged(query: PictureSearchInput, body: PictureSearchInput) -> PictureSearchInput:
    values: dict[str, Any] = query.model_dump(exclude_unset=True)
    values |= body.model_dump(exclude_unset=True, include=set(PictureSearchInput.model_fields))
    return PictureSearchInput(**values)
