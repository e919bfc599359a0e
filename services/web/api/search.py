"""Search: by an image's bytes, by an image of the collection, by an embedding or by examples; one, or many at once."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import combinations
from typing import Any, Generic, TypeVar

from flask import request
from flask.typing import ResponseReturnValue

from services.web.access import each, of_path
from services.web.api.inputs import MAX_BATCH_JSON, MAX_JSON, CollectionPath, Input, checked, checked_texts, read_json
from services.web.api.openapi import BINARY, IMAGE_TYPES, Answer, Body, flat_schema, image_form
from services.web.api.operations import api, reply
from services.web.api.search_inputs import (
    AcrossByJson,
    AcrossInput,
    NamedQuery,
    PictureSearchInput,
    RankingInput,
    SearchBatch,
    SearchByJson,
)
from services.web.clients import web_clients
from services.web.problems import FieldError, Problem, invalid
from services.web.search_requests import chosen_collections, fetched, prove, read_files
from services.web.search_requests import search as run
from services.web.search_requests import search_across as run_across
from services.web.search_requests import search_batch as run_batch
from services.web.uploads import files_of
from shared.schemas.across import AcrossAnswer, across_answer
from shared.schemas.search import SearchAnswer, SearchBatchAnswer, search_answer

_MARGIN = MAX_JSON  # bytes of a form beside its file
_MAX_HITS = 100_000  # of a batch: what an answer holds
_TAKES = (
    "send JSON with an id, a url or a vector, a form with a file in `image`, or the bytes of an image under its media "
    "type"
)


def _body(model: type[RankingInput], single: Sequence[str], *others: str) -> Body:
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


def _bodies(form: type[RankingInput], by_json: type[RankingInput]) -> dict[str, Body]:
    """Return the bodies of a search: a form with files, JSON that names what is searched for, or a file itself."""
    return {
        "multipart/form-data": Body(image_form(form), files=("image",)),
        "application/json": _body(by_json, ("id", "url", "vector"), "like", "unlike"),
        **{kind: Body(BINARY) for kind in IMAGE_TYPES},
    }


@api.operation(
    "POST",
    "/collections/{name}/search",
    rule=of_path("look"),
    path_model=CollectionPath,
    query_model=PictureSearchInput,
    bodies=_bodies(PictureSearchInput, SearchByJson),
    answers={200: Answer("The images found.", SearchAnswer)},
    problems=(400, 404, 413, 415, 422, 503),
)
def search(path: CollectionPath, given: PictureSearchInput) -> ResponseReturnValue:
    """Find the images most similar to one.

    The one is a file, an image of the collection named by its id, the picture at an address, an embedding, or what the
    examples have in common. Several files in a form are one query: what they have in common.
    Options may stand in the query or in the body; those in the body count.
    """
    asked = _asked(given, SearchByJson)
    with _images_of(asked) as images:
        how, named = asked.how.to_options(), asked.named
        box, proof = asked.how.box, asked.how.proof
        found = run(web_clients(), path.name, how, images=images, image_id=named.id, vector=named.vector, box=box)
        if proof:
            image = images[0] if images else None
            proofs = prove(web_clients(), found, how, collection=path.name, image=image, image_id=named.id, box=box)
            return reply(search_answer(path.name, found, proofs))
    return reply(search_answer(path.name, found))


@api.operation(
    "POST",
    "/search",
    rule=each("look"),
    query_model=AcrossInput,
    bodies=_bodies(AcrossInput, AcrossByJson),
    answers={200: Answer("The images found, those of all collections ranked together.", AcrossAnswer)},
    problems=(400, 404, 413, 415, 422, 503),
)
def search_across(given: AcrossInput) -> ResponseReturnValue:
    """Find the images most similar to one in several collections.

    The one is what it is in a search of one collection; an image that is named by its id may be in any of them.
    Collections of another model than the first that has it, and those that cannot be searched, are named as left out.
    """
    asked = _asked(given, AcrossByJson)
    collections = chosen_collections(asked.how.collections)
    with _images_of(asked) as images:
        named = asked.named
        found = run_across(
            web_clients(),
            collections,
            asked.how.to_options(),
            images=images,
            image_id=named.id,
            vector=named.vector,
            box=asked.how.box,
        )
        if asked.how.proof:
            image = images[0] if images else None
            options, box = asked.how.to_options(), asked.how.box
            proofs = prove(web_clients(), found, options, image=image, image_id=named.id, box=box)
            return reply(across_answer(found, proofs))
    return reply(across_answer(found))


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


Given = TypeVar("Given", PictureSearchInput, AcrossInput)


@dataclass(frozen=True)
class _Asked(Generic[Given]):
    """A search as a request asks for it: files, or what its JSON names."""

    how: Given
    images: Sequence[bytes] = ()
    named: NamedQuery = field(default_factory=NamedQuery)


def _asked(given: Given, by_json: type[SearchByJson] | type[AcrossByJson]) -> _Asked[Given]:
    """Return what a request searches for, given the options of its address.

    Raises:
        Problem: It is no search.
    """
    clients = web_clients()
    if request.mimetype == "application/json":
        request.max_content_length = MAX_JSON
        asked = checked(by_json, read_json(request.get_data()), "body", texts=False)
        how = _merged(given, asked)
        named = [name for name in ("id", "url", "vector") if getattr(asked, name)]
        if len(named) > 1:
            message = f"is given beside {'an id' if named[0] == 'id' else 'a url'}: one of the two is taken"
            raise invalid([FieldError(field=f"body.{named[1]}", message=message)])
        if not (named or how.like or how.unlike):
            message = "is missing, and so are `url`, `vector`, `like` and `unlike`"
            raise invalid([FieldError(field="body.id", message=message)])
        return _Asked(how, named=asked)
    if request.mimetype == "multipart/form-data":
        request.max_content_length = clients.settings.max_query_bytes + _MARGIN
        how = _merged(given, checked_texts(type(given), request.form.to_dict(flat=False), "body"))
        return _Asked(how, read_files(clients, files_of(request.files, "image"), box=how.box, proof=how.proof))
    if request.mimetype in IMAGE_TYPES:
        request.max_content_length = clients.settings.max_query_bytes
        return _Asked(given, [request.get_data(cache=False)])
    raise Problem(415, "unsupported-media-type", f"{request.mimetype[:80]!r} is not taken: {_TAKES}")


@contextmanager
def _images_of(asked: _Asked[Given]) -> Iterator[Sequence[bytes]]:
    """Hold the bytes of the pictures that are searched for; one that an address is given of is fetched."""
    if asked.named.url:
        with fetched(web_clients(), asked.named.url) as image:
            yield [image]
    else:
        yield asked.images


def _merged(query: Given, body: Input) -> Given:
    if not query.model_fields_set and isinstance(body, type(query)):
        return body
    values: dict[str, Any] = query.model_dump(exclude_unset=True)
    values |= body.model_dump(exclude_unset=True, include=set(type(query).model_fields))
    return type(query)(**values)
