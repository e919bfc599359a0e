"""Rounds of judging: what was marked in a search, kept as queries to evaluate by or as files to train on."""

from collections.abc import Sequence
from functools import partial
from typing import Annotated

from flask import Response
from flask.typing import ResponseReturnValue
from pydantic import Field

from services.web import quotas
from services.web.access import of_path, require_use
from services.web.access.auditing import note_detail, note_images
from services.web.api.inputs import CollectionName, CollectionPath, ImageId, Input, Label, checked
from services.web.api.openapi import Answer, Body, flat_schema
from services.web.api.operations import api, json_body, reply
from services.web.api.search_inputs import Digest
from services.web.api.selections import ZIP_TYPE, attached
from services.web.clients import WebClients, web_clients
from services.web.originals_archive import ZippedFile, zip_of_files
from services.web.query_keeping import kept_query
from shared.evaluation.judging import JudgedFiles, JudgedPicture, JudgingRound, judging_round, keep_round
from shared.evaluation.query_sets import QuerySets
from shared.rpc.query.options import MAX_EXAMPLES, MAX_IMAGES
from shared.schemas.query_sets import KeptRoundAnswer, kept_set_answer
from shared.storage.original_files import OriginalFiles


class Judgement(Input):
    """What was marked in a search, and for which class."""

    label: Annotated[Label, Field(min_length=1, description="The class that was looked for.")]
    like: Annotated[
        list[ImageId],
        Field(
            max_length=MAX_EXAMPLES, description="Images that were marked as being of the class.", default_factory=list
        ),
    ]
    unlike: Annotated[
        list[ImageId],
        Field(
            max_length=MAX_EXAMPLES,
            description="Images that were marked as being of another class, or of none.",
            default_factory=list,
        ),
    ]
    id: Annotated[
        list[ImageId],
        Field(max_length=1, description="The image of the collection that was searched for.", default_factory=list),
    ]
    upload: Annotated[
        list[Digest],
        Field(
            max_length=MAX_IMAGES,
            description="SHA-256 of files that were searched for on the page and are kept.",
            default_factory=list,
        ),
    ]


class QueriesJudgement(Judgement):
    """The same, and the query set that it goes into."""

    queries: Annotated[CollectionName, Field(description="Name of the query set; without one of it, it is begun.")]


@api.operation(
    "POST",
    "/collections/{name}/judgements/queries",
    rule=of_path("change"),
    path_model=CollectionPath,
    bodies={"application/json": Body(flat_schema(QueriesJudgement))},
    answers={201: Answer("The set as it is now.", KeptRoundAnswer)},
    problems=(404, 503, 507),
)
def keep_judged_queries(path: CollectionPath) -> ResponseReturnValue:
    """Keep what was searched for and marked as being of a class, as labelled queries beside those that a set has."""
    given = checked(QueriesJudgement, json_body(), "body", texts=False)
    clients = web_clients()
    note_detail(f"query set {given.queries}")
    note_images([*given.id, *given.like])
    sets = QuerySets(clients.store, clients.state)
    require_use(sets, given.queries)
    judged = _round(clients, path.name, given)
    most = clients.settings.max_query_bytes
    quotas.check_room(sum(picture.size for picture in judged.like))
    with clients.memory.holding(min(most, max(picture.size for picture in judged.like))):
        queries, refused = keep_round(
            sets,
            clients.store,
            JudgedFiles(clients.store, clients.decoder),
            given.queries,
            judged,
            most_bytes=most,
        )
    of_class = clients.query.collection(path.name).classes.get(judged.label, 0)
    answer = KeptRoundAnswer(**kept_set_answer(given.queries, queries), rejected=refused, of_class=of_class)
    return reply(answer, 201)


@api.operation(
    "POST",
    "/collections/{name}/judgements/training",
    rule=of_path("originals"),
    path_model=CollectionPath,
    bodies={"application/json": Body(flat_schema(Judgement))},
    answers={200: Answer("The archive.", bytes, media_types=(ZIP_TYPE,))},
    problems=(404, 503),
)
def get_judged_files(path: CollectionPath) -> ResponseReturnValue:
    """Return what was searched for and marked as one ZIP file to train on.

    It has a folder for the class below `classes`, and what was marked against it in `background`. Of a page of a
    document but the first, it has the picture. Those whose files cannot be had are named in a text file.
    """
    return training_archive(path.name, checked(Judgement, json_body(), "body", texts=False))


def training_archive(collection: str, given: Judgement) -> Response:
    """Return the answer with the files of a round of judging as a ZIP file.

    Raises:
        NotFound: There is no such collection or image, or a file that was searched for is not kept any more.
        Invalid: The round is none.
    """
    clients = web_clients()
    judged = _round(clients, collection, given)
    judged_files = JudgedFiles(clients.store, clients.decoder)

    def zipped(path: str, picture: JudgedPicture) -> ZippedFile:
        is_original = picture.data is None and picture.page == 1
        read = None if is_original else partial(judged_files.read, picture)
        return ZippedFile(path, picture.digest, picture.added, picture.name, read)

    files = (zipped(path, picture) for path, picture in judged.training_files())
    parts = zip_of_files(OriginalFiles(clients.store), files)
    return attached(Response(parts, mimetype=ZIP_TYPE), f"{collection}-judged.zip")


def _round(clients: WebClients, collection: str, given: Judgement) -> JudgingRound:
    return judging_round(
        clients.query,
        collection,
        given.label,
        like=[*given.id, *given.like],
        unlike=given.unlike,
        files=_kept_files(clients, collection, given.upload),
    )


def _kept_files(clients: WebClients, collection: str, digests: Sequence[str]) -> list[JudgedPicture]:
    """Return files that were searched for and are kept; they are as few and small as those of one search."""
    found = (kept_query(clients, collection, digest) for digest in digests)
    return [JudgedPicture.of_file(kept.name, data) for kept, data in found]
