"""Duplicates: searching a collection for images that show the same, the groups found, verdicts, and merging."""

from contextlib import nullcontext
from typing import Annotated, Literal

from flask.typing import ResponseReturnValue
from pydantic import Field

from services.web import quotas
from services.web.access import of_path, requester
from services.web.access.auditing import note_images
from services.web.api.inputs import (
    MAX_ID,
    MAX_IDS,
    READ_FLOAT,
    READ_INTEGER,
    CollectionName,
    CollectionPath,
    ImageId,
    Input,
    checked,
)
from services.web.api.openapi import Answer, Body, flat_schema
from services.web.api.operations import api, json_body, reply
from services.web.clients import WebClients, web_clients
from services.web.problems import FieldError, Problem, invalid
from shared.duplicates.listing import LEAST, groups_page, latest_report
from shared.duplicates.merging import merge_into
from shared.duplicates.pairs import ordered
from shared.duplicates.store import Duplicates
from shared.errors import Invalid
from shared.messaging.job_submission import submit
from shared.records.record_store import RecordStore
from shared.schemas.duplicates import (
    DuplicateReportsAnswer,
    DuplicateSearchAnswer,
    GroupsAnswer,
    MergeAnswer,
    VerdictAnswer,
    report_answer,
)
from shared.schemas.urls import job_url


class DuplicateReportPath(Input):
    """Path of a report on duplicates."""

    name: CollectionName
    id: Annotated[
        str, Field(pattern=r"^[a-z0-9-]{1,64}$", description="Id of the report, or `latest`.", examples=["latest"])
    ]


class GroupsListing(Input):
    """Which groups of a report to list."""

    threshold: Annotated[
        float,
        Field(ge=-1, le=1, description="The least agreement of the pairs that groups are made of."),
        READ_FLOAT,
    ] = LEAST
    limit: Annotated[int, Field(ge=1, le=200, description="Number of groups."), READ_INTEGER] = 20
    offset: Annotated[int, Field(ge=0, le=MAX_ID, description="Number of groups to pass over."), READ_INTEGER] = 0


class NewVerdict(Input):
    """What somebody says of a pair of images."""

    a: ImageId
    b: ImageId
    verdict: Annotated[
        Literal["same", "different"] | None, Field(description="Null takes back what was said.", examples=["different"])
    ]


class Merge(Input):
    """Which images are to be merged into which."""

    keep: Annotated[ImageId, Field(description="Id of the image that gets what is known of the others.")]
    others: Annotated[list[ImageId], Field(min_length=1, max_length=MAX_IDS, description="Ids of the others.")]
    trash: Annotated[bool, Field(description="Whether the others then go to the trash.")] = False


@api.operation(
    "POST",
    "/collections/{name}/duplicates",
    rule=of_path("change"),
    path_model=CollectionPath,
    answers={202: Answer("It is on its way.", DuplicateSearchAnswer, headers={"Location": "The job."})},
    problems=(404, 503),
)
def find_duplicates(path: CollectionPath) -> ResponseReturnValue:
    """Search a collection for images that show the same; the job's `affected` counts the pairs found."""
    response = reply(start_search(web_clients(), path.name), 202)
    response.headers["Location"] = response.get_json()["url"]
    return response


@api.operation(
    "GET",
    "/collections/{name}/duplicates",
    rule=of_path("inspect"),
    path_model=CollectionPath,
    answers={200: Answer("The reports.", DuplicateReportsAnswer)},
    problems=(404, 503),
)
def list_duplicate_reports(path: CollectionPath) -> ResponseReturnValue:
    """List the reports on duplicates that are kept, the newest first."""
    clients = web_clients()
    clients.catalog.get(path.name)
    duplicates = Duplicates(clients.store)
    reports = [report_answer(duplicates.get(path.name, report_id)) for report_id in duplicates.ids(path.name)]
    return reply(DuplicateReportsAnswer(reports=reports))


@api.operation(
    "GET",
    "/collections/{name}/duplicates/reports/{id}",
    rule=of_path("inspect"),
    path_model=DuplicateReportPath,
    query_model=GroupsListing,
    answers={200: Answer("A part of the groups.", GroupsAnswer)},
    problems=(404, 503),
)
def list_duplicates(path: DuplicateReportPath, query: GroupsListing) -> ResponseReturnValue:
    """List groups of images that show the same: every pair of a group is verified."""
    clients = web_clients()
    duplicates = Duplicates(clients.store)
    report = latest_report(duplicates, path.name, "" if path.id == "latest" else path.id)
    page = groups_page(
        duplicates,
        clients.query,
        path.name,
        report,
        threshold=query.threshold,
        limit=query.limit,
        offset=query.offset,
    )
    return reply(page)


@api.operation(
    "POST",
    "/collections/{name}/duplicates/verdicts",
    rule=of_path("change"),
    path_model=CollectionPath,
    bodies={"application/json": Body(flat_schema(NewVerdict))},
    answers={200: Answer("It is noted.", VerdictAnswer)},
    problems=(400, 404, 413, 415, 503),
)
def judge_pair(path: CollectionPath) -> ResponseReturnValue:
    """Say whether two images are duplicates; a pair that is `different` is shown no more, by later searches neither."""
    said = checked(NewVerdict, json_body(), "body", texts=False)
    if said.a == said.b:
        raise invalid([FieldError(field="body.b", message="is the same image as body.a: a pair has two")])
    clients = web_clients()
    clients.catalog.get(path.name)
    note_images([said.a, said.b])
    a, b = ordered(said.a, said.b)
    Duplicates(clients.store).judge(path.name, (a, b), said.verdict, by=str(requester()))
    return reply(VerdictAnswer(a=a, b=b, verdict=said.verdict))


@api.operation(
    "POST",
    "/collections/{name}/duplicates/merge",
    rule=of_path("change"),
    path_model=CollectionPath,
    bodies={"application/json": Body(flat_schema(Merge))},
    answers={
        200: Answer("It is done.", MergeAnswer),
        202: Answer("It is done, and the others go to the trash.", MergeAnswer, headers={"Location": "The job."}),
    },
    problems=(400, 404, 413, 415, 422, 503),
)
def merge_duplicates(path: CollectionPath) -> ResponseReturnValue:
    """Give an image the paths, labels and values of others that it lacks; only with `trash` do these leave."""
    wanted = checked(Merge, json_body(), "body", texts=False)
    answer = merge(web_clients(), path.name, wanted)
    if answer["url"] is None:
        return reply(answer)
    response = reply(answer, 202)
    response.headers["Location"] = answer["url"]
    return response


def start_search(clients: WebClients, collection: str) -> DuplicateSearchAnswer:
    """Have a collection searched for duplicates.

    Raises:
        NotFound: There is no such collection.
        Problem: The requester has too much under way.
        Unavailable: A server does not answer.
    """
    clients.catalog.get(collection)
    job = quotas.submit_counted(
        "duplicates", collection, lambda job: clients.queue.find_duplicates(job=job, collection=collection)
    )
    return DuplicateSearchAnswer(job=job, url=job_url(job), report=job)


def merge(clients: WebClients, collection: str, wanted: Merge) -> MergeAnswer:
    """Merge images as wanted: what is known of them first, so that nothing is lost if the trash has to wait.

    Raises:
        Problem: They cannot be merged, or the requester has too much under way.
        NotFound: The collection lacks one of them.
        Unavailable: A server does not answer.
    """
    clients.catalog.get(collection)
    with quotas.room_for("delete") if wanted.trash else nullcontext() as room:
        note_images([wanted.keep, *wanted.others])
        records = RecordStore(clients.store, clients.state.record_changes)
        try:
            merged = merge_into(records, clients.query, collection, wanted.keep, wanted.others)
        except Invalid as error:
            raise Problem(422, "invalid", str(error)) from error
        job = None
        if room is not None:
            job = submit(
                clients.state.jobs,
                "delete",
                collection,
                lambda job: clients.queue.delete(job=job, collection=collection, image_ids=wanted.others),
            )
            room.use(job)
    return MergeAnswer(
        keep=wanted.keep,
        merged=list(wanted.others),
        paths=list(merged.paths),
        labels=list(merged.labels),
        fields=list(merged.fields),
        job=job,
        url=None if job is None else job_url(job),
    )
