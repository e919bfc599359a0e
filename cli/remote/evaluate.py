"""Evaluates a collection of a remote system, by a folder of labelled queries or by what is kept there."""

import secrets
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from cli.job_ends import check_end
from cli.remote.api import Api
from cli.remote.files import parts_of, send_part
from cli.remote.interrupts import interrupts_deferred
from cli.remote.jobs import wait_for_job
from shared.errors import ArtseekError, Invalid, NotFound
from shared.evaluation.report import EvaluationReport
from shared.file_names import LONGEST_SENT
from shared.folders import Source, walk
from shared.messaging.messages import MOST_REJECTED, EvaluationRequest
from shared.schemas.jobs import JobSummaryAnswer
from shared.schemas.refusals import Refusal
from shared.state import Rejection


def evaluate(
    api: Api,
    collection: str,
    request: EvaluationRequest,
    *,
    folder: Path | None,
    max_bytes: int,
    on_progress: Callable[[JobSummaryAnswer], None],
) -> EvaluationReport:
    """Return what an evaluation found; Ctrl-C cancels it.

    `request` says how, and under which name the queries are kept, or those of `folder` are to be.

    Raises:
        ArtseekError: The system refuses it, or does not answer; or the evaluation failed.
    """
    name, rejected = request.kept, list[Rejection]()
    if folder is not None:
        name = request.kept or f"command-{secrets.token_hex(8)}"
        rejected = _send(api, folder, name, max_bytes)
    try:
        named = replace(request, rejected=tuple(rejected[:MOST_REJECTED]))
        report = _evaluate(api, collection, named, name, on_progress)
    finally:
        if folder is not None and request.kept is None:
            with suppress(ArtseekError):  # whoever looks for it finds its name among the sets
                api.delete(f"/querysets/{name}")
    return report.with_rejected(rejected[MOST_REJECTED:])


def _evaluate(
    api: Api,
    collection: str,
    request: EvaluationRequest,
    name: str | None,
    on_progress: Callable[[JobSummaryAnswer], None],
) -> EvaluationReport:
    values: dict[str, object] = {"collection": collection, "k": request.k, "seed": request.seed}
    if name is not None:
        values["queries"] = name
    if request.sample:
        values["sample"] = request.sample
    if request.field != "label":
        values["field"] = request.field
    if request.rejected:
        values["rejected"] = [
            Refusal(name=rejection.name[:LONGEST_SENT], code=rejection.code, reason=rejection.reason[:LONGEST_SENT])
            for rejection in request.rejected
        ]
    if request.grid:
        values["grid"] = [setting.to_json() for setting in request.grid]
    with interrupts_deferred() as raise_deferred:  # an evaluation whose job nobody knows could not be cancelled
        started = api.post("/evaluations", values)["job"]
    try:
        raise_deferred()
        job = wait_for_job(api, started, on_progress)
    except KeyboardInterrupt:
        with suppress(NotFound):
            api.delete(f"/evaluations/{started}")
        raise
    check_end(job, "the evaluation")
    return EvaluationReport.from_json(api.get(f"/evaluations/{started}"))


def _send(api: Api, folder: Path, name: str, max_bytes: int) -> list[Rejection]:
    """Keep the images of a folder as a query set under a name; returns which files are no queries.

    Raises:
        Invalid: None is.
    """
    sources = list(walk([folder], labels_from_folders=True, list_unreadable=True))
    rejected = [
        Refusal(
            name=source.name, code="no-label", reason="it is in no class folder; move it into a folder of its class"
        )
        for source in sources
        if _is_loose(source)
    ]
    answers: list[Any] = []
    labelled = (source for source in sources if not _is_loose(source))
    for part in parts_of(labelled, max_bytes=max_bytes, rejected=rejected):
        send_part(
            api,
            "/querysets",
            part,
            fields=lambda: [("name", name), ("add", "true" if answers else "false")],
            answers=answers,
            rejected=rejected,
        )
    if not answers:
        raise Invalid(f"{str(folder)!r}: there is no labelled query: put the images into a folder for each class")
    rejected += [refusal for answer in answers for refusal in answer["rejected"]]
    return [Rejection(**refusal) for refusal in rejected]


def _is_loose(source: Source) -> bool:
    return source.label is None and source.problem is None
