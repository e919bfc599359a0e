"""`artseek tune`, `artseek rebuild` and `artseek compact`: the index of a collection, and its segments."""

from typing import Any

import click

from cli.clients import System
from cli.command import command
from cli.options import as_json_option, checked_collection, in_collection
from cli.printing.console import out, print_error, print_json
from cli.printing.index import print_tuning
from cli.printing.progress import spinner
from shared.errors import ArtseekError, Unavailable
from shared.messaging.messages import TuningRequest
from shared.rpc.query import METRICS, Metric
from shared.schemas.index import index_answer, tuning_answer
from shared.tuning import FAMILIES, MAX_CANDIDATE_SHARE, MAX_LOOKUPS, RECALL_TARGET
from shared.tuning.report import IndexReport, TuningReport


@click.command()
@in_collection
@click.option(
    "--recall",
    type=click.FloatRange(0, 1, min_open=True),
    help=f"Share of the 10 nearest to be found.  [default: {RECALL_TARGET}]",
)
@click.option(
    "--max-lookups", type=click.IntRange(1), help=f"Buckets that a search may look into.  [default: {MAX_LOOKUPS}]"
)
@click.option(
    "--max-candidates",
    type=click.FloatRange(0, 1, min_open=True),
    help="Share of the collection that a search may rank, kept to even at the cost of recall.  "
    f"[default: {MAX_CANDIDATE_SHARE} if the recall allows]",
)
@click.option("--family", "families", multiple=True, type=click.Choice(FAMILIES), help="Only this family; repeatable.")
@click.option("--metric", type=click.Choice(list(METRICS)), default="cosine", show_default=True)
@click.option("--dry-run", is_flag=True, help="Only show what would be chosen; nothing is written.")
@as_json_option
@command
def tune(
    system: System,
    collection: str,
    recall: float | None,
    max_lookups: int | None,
    max_candidates: float | None,
    families: tuple[str, ...],
    metric: Metric,
    *,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Find the cheapest index of a collection that reaches a recall, and build it beside the one in use.

    Recall, candidates and cost of what is tried are predicted from a survey of the whole collection, and measured once
    it is built. The curve shows what can be had: nothing else finds more at the same cost.
    """
    system.catalog.get(collection)
    request = TuningRequest(
        recall=recall, max_lookups=max_lookups, max_candidates=max_candidates, families=families, metric=metric
    )
    with spinner(f"tuning the index of {collection}"):
        job = system.run_job(
            "tune",
            collection,
            lambda job: system.queue.tune(collection=collection, job=job, request=request, apply=not dry_run),
        )
    result: Any = system.state.jobs.result(job.id)
    if result is None:
        raise ArtseekError(f"what the tuning found was lost with its job {job.id}: run it again")
    if dry_run:
        report, built = TuningReport.from_json(result), None
    else:
        built = IndexReport.from_json(result)
        report = built.tuning
    if as_json:
        print_json(tuning_answer(report) if built is None else index_answer(built))
    else:
        print_tuning(report, built)


@click.command()
@click.option("--collection", default=None, callback=checked_collection, help="Only this collection.  [default: all]")
@click.option("--fit", is_flag=True, help="Fit the index to the collection anew instead of restoring it as it was.")
@as_json_option
@command
def rebuild(system: System, collection: str | None, *, fit: bool, as_json: bool) -> int:
    """Restore the index in Redis or Valkey from the object store alone."""
    names = [collection] if collection else system.catalog.names()
    if collection:
        system.catalog.get(collection)
    restored, failed = {}, False
    for name in names:
        try:
            job = system.run_job(
                "rebuild",
                name,
                lambda job, name=name: system.queue.rebuild(collection=name, job=job, fit=fit),  # type: ignore[misc]
            )
        except Unavailable:
            raise
        except ArtseekError as error:  # of this collection alone
            print_error(error)
            failed = True
            continue
        restored[name] = job.counts.affected
        if not as_json:
            out.print(f"{name}: {restored[name]} images")
    if as_json:
        print_json({"rebuilt": restored})
    return int(failed)


@click.command()
@click.option("--collection", default=None, callback=checked_collection, help="Only this collection.  [default: all]")
@as_json_option
@command
def compact(system: System, collection: str | None, *, as_json: bool) -> int:
    """Merge the segments of collections now, and drop the rows of deleted images for good.

    It is done by itself where it pays; this merges all that can be merged.
    """
    names = [collection] if collection else system.catalog.names()
    if collection:
        system.catalog.get(collection)
    done, failed = {}, False
    for name in names:
        try:
            set_name = system.catalog.get(name).name
            before = len(system.catalog.segments(set_name))
            job = system.run_job(
                "compact",
                name,
                lambda job, name=name: system.queue.compact(collection=name, job=job),  # type: ignore[misc]
            )
        except Unavailable:
            raise
        except ArtseekError as error:  # of this collection alone
            print_error(error)
            failed = True
            continue
        after = len(system.catalog.segments(set_name))
        done[name] = {"segments_before": before, "segments_after": after, "rows_dropped": job.counts.affected}
        if not as_json:
            out.print(f"{name}: {before} segments before, {after} after, {job.counts.affected} rows dropped")
    if as_json:
        print_json({"compacted": done})
    return int(failed)
