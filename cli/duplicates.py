"""`artseek duplicates`: finds the images of a collection that show the same, in groups."""

import sys
from collections.abc import Iterator
from typing import Final, cast

import click

from cli.clients import System
from cli.command import RemoteSystem, command_anywhere
from cli.job_ends import check_end
from cli.options import as_json_option, in_collection
from cli.printing.console import err, out, plain, print_json
from cli.printing.progress import job_bar
from cli.remote.jobs import wait_for_cancellable_job
from shared.duplicates.listing import LEAST, groups_page, latest_report
from shared.duplicates.store import Duplicates
from shared.errors import Unavailable
from shared.records.tables import csv_lines, join
from shared.schemas.duplicates import GroupAnswer, GroupsAnswer
from shared.schemas.jobs import read_job_answer
from shared.state.job_ids import new_job_id

_PATIENCE_S: Final = 24 * 3600.0
_PAGE: Final = 200  # groups of one request
_ALL: Final = 10_000_000
_COLUMNS: Final = (
    *("group", "id", "name", "keep", "reason", "ways", "agreement"),
    *("width", "height", "media_type", "size", "labels", "paths"),
)


@click.command("duplicates")
@in_collection
@click.option(
    "--threshold",
    default=LEAST,
    show_default=True,
    type=click.FloatRange(-1, 1),
    help="Least agreement of the pairs that groups are made of.",
)
@click.option("--last", is_flag=True, help="Print what the last search found instead of searching anew.")
@click.option("--csv", "as_csv", is_flag=True, help="Print a CSV file, a row for each image of each group.")
@as_json_option
@command_anywhere
def duplicates(
    system: System | RemoteSystem, *, collection: str, threshold: float, last: bool, as_csv: bool, as_json: bool
) -> int | None:
    """Find the images of a collection that show the same, and say which of each group to keep.

    They may be re-encoded, resized, cropped, mirrored or retouched. Every pair of a group was compared. Nothing is
    merged or deleted; the collection's page can do that. Ctrl-C cancels the search, and nothing is left behind.
    """
    if as_csv and as_json:
        raise click.UsageError("give --csv or --json, one of the two")
    try:
        if isinstance(system, RemoteSystem):
            report = "latest" if last else _search_remotely(system, collection)
            found = _of_remote(system, collection, report, threshold)
        else:
            found = _of_system(system, collection, "" if last else _search(system, collection), threshold)
    except KeyboardInterrupt:
        err.print("\nartseek: cancelled")
        return 130
    if as_json:
        print_json(found)
    elif as_csv:
        sys.stdout.writelines(csv_lines(_COLUMNS, _rows(found["groups"])))
    else:
        _print(found)
    return None


def _search(system: System, collection: str) -> str:
    """Search a collection, wait for the end, and return the id of the report; Ctrl-C cancels it.

    Raises:
        ArtseekError: It failed, was cancelled, or has not ended within a day.
    """
    system.catalog.get(collection)
    job_id = new_job_id()
    with job_bar(f"searching {collection}") as on_progress:
        job = system.run_cancellable_job(
            job_id,
            "duplicates",
            collection,
            lambda job: system.queue.find_duplicates(job=job, collection=collection),
            deadline_s=_PATIENCE_S,
            on_progress=lambda job: on_progress(job.steps, job.total),
        )
    if job is None:
        raise Unavailable(f"the search {job_id} has not ended within a day; `artseek duplicates --last` shows it later")
    check_end(read_job_answer(system.state.jobs, job_id), "the search")
    return job_id


def _of_system(system: System, collection: str, report: str, threshold: float) -> GroupsAnswer:
    store = Duplicates(system.store)
    with system.query() as query:
        return groups_page(
            store,
            query,
            collection,
            latest_report(store, collection, report),
            threshold=threshold,
            limit=_ALL,
            offset=0,
        )


def _search_remotely(system: RemoteSystem, collection: str) -> str:
    started = system.api.post(f"/collections/{collection}/duplicates", {})["job"]
    with job_bar(f"searching {collection}") as on_progress:
        job = wait_for_cancellable_job(system.api, started, lambda job: on_progress(job["finished"], job["total"]))
    check_end(job, "the search")
    return str(started)


def _of_remote(system: RemoteSystem, collection: str, report: str, threshold: float) -> GroupsAnswer:
    found: GroupsAnswer | None = None
    offset = 0
    while found is None or offset < found["total"]:
        options = f"threshold={threshold}&limit={_PAGE}&offset={offset}"
        page = cast("GroupsAnswer", system.api.get(f"/collections/{collection}/duplicates/reports/{report}?{options}"))
        report = page["report"]["id"]  # should another be written meanwhile
        groups = [*found["groups"], *page["groups"]] if found else page["groups"]
        found = {**page, "groups": groups, "offset": 0}
        offset += _PAGE
    return {**found, "limit": max(1, found["total"])}


def _rows(groups: list[GroupAnswer]) -> Iterator[list[str]]:
    for number, group in enumerate(groups, 1):
        for image in group["images"]:
            pair = image["pair"]
            yield [
                str(number),
                str(image["id"]),
                join([image["name"]]),
                "keep" if image["keep"] else "",
                join([group["reason"]]) if image["keep"] else "",
                join(pair["ways"]) if pair else "",
                f"{pair['agreement']:.3f}" if pair else "",
                *(str(image[side]) for side in ("width", "height")),
                image["media_type"],
                str(image["size"]),
                join(image["labels"]),
                join(image["paths"]),
            ]


def _print(found: GroupsAnswer) -> None:
    for number, group in enumerate(found["groups"], 1):
        out.print(f"{number}. keep {group['keep']}: {group['reason']}", highlight=False, markup=False)
        for image in group["images"]:
            pair = image["pair"]
            ways = f"{', '.join(pair['ways'])} ({pair['agreement']:.2f})" if pair else "keep"
            text = f"   {image['id']}  {plain(image['name'])}  {image['width']}x{image['height']}  {ways}"
            out.print(text, highlight=False, markup=False, soft_wrap=True)
    report, share = found["report"], found["share"]
    out.print(
        f"{len(found['groups']):,} groups of {share['pairs']:,} pairs that show the same, among {report['images']:,} "
        f"images; {report['compared']:,} pairs were compared in {report['seconds']:,.0f} s",
        highlight=False,
    )
    if report["unreadable"]:
        out.print(f"{report['unreadable']:,} images cannot be read, and were left out", highlight=False)
    if share["share"] is not None:
        low, high = (100 * (share[end] or 0.0) for end in ("low", "high"))
        told = f"{100 * share['share']:.0f} % of the pairs are duplicates ({low:.0f} to {high:.0f} %"
        out.print(f"{told}, by {share['judged']:,} that were judged)", highlight=False)
