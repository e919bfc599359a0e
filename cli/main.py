"""The `artseek` command.

Exit status: 0 success, 1 an error, 2 wrong usage, 3 `ingest`, `evaluate` or `models use` did its work but left images
out, 130 interrupted.
"""

import importlib
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table

from cli.command import System, as_json_option, checked_collection, command, err, in_collection, out, plain, print_json
from cli.evaluate import evaluate
from cli.models import models
from services.producer.ingest import Summary, ingest
from shared.errors import ArtseekError, Unavailable
from shared.folders import walk
from shared.health.readiness import Readiness
from shared.messaging.intake import Intake
from shared.messaging.messages import TuningRequest
from shared.rpc.query import METRICS, MODE_NAMES, MODES, STAGES, Metric, Mode, SearchRequest, SearchResponse
from shared.rpc.query import query_pb2 as messages
from shared.storage.layout import ID_BITS
from shared.tuning import FAMILIES, MAX_CANDIDATE_SHARE, MAX_LOOKUPS, RECALL_TARGET
from shared.tuning.report import IndexReport, Miss, TrialReport, TuningReport
from shared.tuning.views import index_answer, tuning_answer

_REJECTED = 3
_IMAGE_ID = click.IntRange(1, 2**ID_BITS - 1)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="artseek")
def main() -> None:
    """Find the images in a collection that look like the one you hold up.

    Commands reach the system that `artseek up --data DIR` started if ARTSEEK_DATA names the same folder (default
    ./data).
    """


@main.command()
@click.option(
    "--data", type=click.Path(file_okay=False, path_type=Path), help="Data folder  [default: $ARTSEEK_DATA or ./data]"
)
@click.option("--host", default="127.0.0.1", show_default=True, help="Address that the page listens at.")
@click.option("--port", type=click.IntRange(1, 65535), default=8080, show_default=True, help="Port of the page.")
def up(data: Path | None, host: str, port: int) -> None:
    """Run the whole system on this machine, in the foreground until Ctrl-C."""
    command = [sys.executable, "-m", "local", "--host", host, "--port", str(port)]
    if data is not None:
        command += ["--data", str(data)]
    os.execv(sys.executable, command)  # noqa: S606 -- the local system takes this process's place, and its Ctrl-C


def _of_training(module: str, command: str, arguments: tuple[str, ...]) -> None:
    """Run a command that needs TensorFlow, which is not wherever this one is."""
    try:
        found = importlib.import_module(module)
    except ImportError as error:
        err.print(
            f"artseek: training is not installed here ({error}): pip install 'artseek[training]'",
            style="red",
            markup=False,
        )
        sys.exit(1)
    getattr(found, command).main(list(arguments), prog_name=f"artseek {command}")


@main.command("train", add_help_option=False, context_settings={"ignore_unknown_options": True})
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def train_command(arguments: tuple[str, ...]) -> None:
    """Fine-tune a network for search, or for the classes of labelled images; needs no running system."""
    _of_training("training.command", "train", arguments)


@main.command("report", add_help_option=False, context_settings={"ignore_unknown_options": True})
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def report_command(arguments: tuple[str, ...]) -> None:
    """Reproduce the university report's tables from a folder of images; needs no running system."""
    _of_training("reproduction.command", "report", arguments)


main.add_command(evaluate)
main.add_command(models)


@main.command("ingest")
@click.argument("paths", nargs=-1, required=True, type=click.Path(path_type=Path))
@in_collection
@click.option("--labels-from-folders", is_flag=True, help="Label an image with the subfolder of PATH it is in.")
@as_json_option
@command
def ingest_command(
    system: System, paths: tuple[Path, ...], collection: str, *, labels_from_folders: bool, as_json: bool
) -> int:
    """Add the images at PATH… to a collection.

    Safe to interrupt and run again: what is already there counts as duplicate.
    """
    settings = system.settings
    sources = list(walk(paths, labels_from_folders=labels_from_folders))
    intake = Intake(
        collection,
        store=system.store,
        state=system.state,
        jobs=system.jobs,
        queue=system.queue,
        batch_size=settings.batch_size,
    )
    system.store.ensure_bucket()
    try:
        with _progress(len(sources)) as progress:
            summary = ingest(
                sources,
                intake=intake,
                jobs=system.jobs,
                max_bytes=settings.max_file_bytes,
                stalled_after_s=settings.visibility_timeout + 15.0,
                progress=progress,
            )
        untuned = _tend(system, collection)
    except KeyboardInterrupt:
        err.print(
            f"\nartseek: interrupted with {intake.finished} of {len(sources)} files done. What was sent goes on in the "
            "background; run the same command again for the rest."
        )
        return 130
    if as_json:
        print_json(summary.to_json())
    else:
        _print_summary(summary)
    if untuned:
        err.print(f"All is added and found by an exact scan, but the index was not tuned: {untuned}", markup=False)
        return 1
    return _REJECTED if summary.job.outcome.rejected else 0


def _tend(system: System, collection: str) -> str:
    """Have the index tuned to a collection that may have outgrown it; returns why that failed, empty if it did not."""
    with _waiting("tuning the index"):
        try:
            system.run_job("maintain", collection, lambda job: system.queue.maintain(collection=collection, job=job))
        except ArtseekError as error:
            return str(error)
    return ""


@main.command()
@click.argument("image", required=False, type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--id", "image_id", type=_IMAGE_ID, help="Search for an image of the collection instead of a file.")
@in_collection
@click.option("-k", default=10, show_default=True, type=click.IntRange(1, 1000), help="Number of hits.")
@click.option("--mode", type=click.Choice(list(MODES)), default="auto", show_default=True)
@click.option("--metric", type=click.Choice(list(METRICS)), default="cosine", show_default=True)
@click.option("--label", "labels", multiple=True, help="Only images of this class; repeatable.")
@click.option("--like", multiple=True, type=_IMAGE_ID, help="Id of an image that hits should be like; repeatable.")
@click.option("--unlike", multiple=True, type=_IMAGE_ID, help="Id of one that they should be unlike; repeatable.")
@click.option("--min-score", type=float, help="Only hits with at least this score.")
@click.option("--budget", type=click.IntRange(1, 2**31 - 1), help="Candidates of the index that are ranked at most.")
@as_json_option
@command
def search(  # noqa: PLR0913 -- its options
    system: System,
    *,
    image: Path | None,
    image_id: int | None,
    collection: str,
    k: int,
    mode: Mode,
    metric: Metric,
    labels: tuple[str, ...],
    like: tuple[int, ...],
    unlike: tuple[int, ...],
    min_score: float | None,
    budget: int | None,
    as_json: bool,
) -> None:
    """Print the images of a collection that look most like IMAGE, or like the examples given."""
    if image is not None and image_id is not None:
        raise click.UsageError("give an IMAGE file or --id, one of the two")
    if image is None and image_id is None and not like and not unlike:
        raise click.UsageError("give an IMAGE file, --id, or examples by --like and --unlike")
    request = SearchRequest(
        collection=collection,
        k=k,
        mode=MODES[mode],
        metric=METRICS[metric],
        labels=labels,
        like=like,
        unlike=unlike,
        min_score=min_score,
        budget=budget or 0,
    )
    if image is not None:
        request.image = image.read_bytes()
    elif image_id is not None:
        request.id = image_id
    with system.query() as query:
        answer = query.search(request)
    if as_json:
        print_json(_search_json(answer, metric))
    else:
        _print_hits(answer)


@main.command()
@as_json_option
@command
def collections(system: System, *, as_json: bool) -> None:
    """List the collections with their sizes and classes."""
    with system.query() as query:
        found = query.collections()
    if as_json:
        print_json([_collection_json(one) for one in found])
        return
    if not found:
        out.print("No collections yet. Add images with `artseek ingest FOLDER`.")
        return
    table = Table("collection", "images", "labelled", "classes", "model", "created")
    for one in found:
        classes = ", ".join(f"{label} {count}" for label, count in sorted(one.classes.items()))
        created = datetime.fromtimestamp(one.created, UTC).strftime("%Y-%m-%d %H:%M")
        model = f"{one.model} {one.model_version}"
        table.add_row(plain(one.name), str(one.images), str(one.labelled), plain(classes), plain(model), created)
    out.print(table)
    for one in found:
        if one.HasField("change"):
            change = one.change
            out.print(
                f"{one.name}: changing to {plain(change.model)} version {change.model_version}, {change.images} of "
                f"{one.images} images are embedded"
            )
        if one.damaged:
            out.print(f"{one.name}: left out, since damaged or missing: {plain(', '.join(one.damaged))}", style="red")


@main.command()
@as_json_option
@command
def status(system: System, *, as_json: bool) -> int:
    """Tell which part of the system is up, and what waits in the queues."""
    readiness = Readiness(system.settings).ask()
    try:
        waiting = system.queue.waiting()
    except Unavailable:
        waiting = {}
    if as_json:
        print_json({**readiness, "waiting": waiting})
        return 0 if readiness["ready"] else 1
    table = Table("part", "state", "reason")
    for name, part in readiness["parts"].items():
        table.add_row(name, "[green]up[/]" if part["up"] else "[red]down[/]", plain(part["reason"] or ""))
    out.print(table)
    for queue, count in waiting.items():
        out.print(f"{count} tasks wait in the {queue} queue")
    return 0 if readiness["ready"] else 1


@main.command()
@click.argument("ids", nargs=-1, type=int)
@in_collection
@click.option("--whole-collection", is_flag=True, help="Delete the collection with all its images.")
@as_json_option
@command
def delete(system: System, ids: tuple[int, ...], collection: str, *, whole_collection: bool, as_json: bool) -> int:
    """Delete images by their IDs from a collection: from results, buckets and store."""
    if bool(ids) == whole_collection:
        raise click.UsageError("give IDs, or --whole-collection")
    system.catalog.get(collection)
    if whole_collection:
        job = system.run_job("drop", collection, lambda job: system.queue.drop(job=job, collection=collection))
    else:
        job = system.run_job(
            "delete", collection, lambda job: system.queue.delete(job=job, collection=collection, image_ids=ids)
        )
    deleted = job.outcome.affected
    missing = 0 if whole_collection else len(set(ids)) - deleted
    if as_json:
        print_json({"collection": collection, "deleted": deleted, "missing": missing})
    else:
        out.print(f"{deleted} deleted" + (f", {missing} were not there" if missing else ""))
    return 1 if missing else 0


@main.command()
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
    done = {}
    for name in names:
        set_name = system.catalog.get(name).name
        before = len(system.catalog.segments(set_name))
        job = system.run_job(
            "compact",
            name,
            lambda job, name=name: system.queue.compact(collection=name, job=job),  # type: ignore[misc]
        )
        after = len(system.catalog.segments(set_name))
        done[name] = {"segments_before": before, "segments_after": after, "rows_dropped": job.outcome.affected}
        if not as_json:
            out.print(f"{name}: {before} segments before, {after} after, {job.outcome.affected} rows dropped")
    if as_json:
        print_json({"compacted": done})
    return 0


@main.command()
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
    wish = TuningRequest(
        recall=recall, max_lookups=max_lookups, max_candidates=max_candidates, families=families, metric=metric
    )
    with _waiting(f"tuning the index of {collection}"):
        job = system.run_job(
            "tune",
            collection,
            lambda job: system.queue.tune(collection=collection, job=job, request=wish, apply=not dry_run),
        )
    result: Any = system.jobs.result(job.id)
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
        _print_tuning(report, built)


@main.command()
@click.option("--collection", default=None, callback=checked_collection, help="Only this collection.  [default: all]")
@click.option("--fit", is_flag=True, help="Fit the index to the collection anew instead of restoring it as it was.")
@as_json_option
@command
def rebuild(system: System, collection: str | None, *, fit: bool, as_json: bool) -> int:
    """Restore the index in Redis or Valkey from the object store alone."""
    names = [collection] if collection else system.catalog.names()
    if collection:
        system.catalog.get(collection)
    restored = {}
    for name in names:
        job = system.run_job(
            "rebuild",
            name,
            lambda job, name=name: system.queue.rebuild(collection=name, job=job, fit=fit),  # type: ignore[misc]
        )
        restored[name] = job.outcome.affected
        if not as_json:
            out.print(f"{name}: {restored[name]} images")
    if as_json:
        print_json({"rebuilt": restored})
    return 0


@contextmanager
def _waiting(what: str) -> Iterator[None]:
    """Show on a terminal that something goes on, and for how long it has."""
    columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    with Progress(*columns, console=err, disable=not err.is_terminal, transient=True) as bar:
        bar.add_task(what, total=None)
        yield


@contextmanager
def _progress(total: int) -> Iterator[Callable[[int], None]]:
    """Show a bar with rate and remaining time on a terminal, nothing elsewhere."""
    columns = (
        SpinnerColumn(),
        BarColumn(bar_width=None),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]} images/s"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=err, disable=not err.is_terminal) as bar:
        task = bar.add_task("ingest", total=total, rate="–")
        started = time.monotonic()

        def progress(done: int) -> None:
            bar.update(task, completed=done, rate=f"{done / max(time.monotonic() - started, 1e-3):.0f}")

        yield progress


def _print_summary(summary: Summary) -> None:
    values = summary.to_json()
    if values["rejected"]:
        table = Table("rejected", "why", title_justify="left")
        for one in values["rejected"]:
            table.add_row(plain(one["file"]), plain(one["reason"]))
        out.print(table)
    if values["classes"]:
        table = Table("class", "added")
        for label, count in values["classes"].items():
            table.add_row(plain(label), str(count))
        if values["unlabelled"]:
            table.add_row("[dim]no label[/]", str(values["unlabelled"]))
        out.print(table)
    out.print(
        f"{values['files']} files: {values['added']} added, {values['duplicates']} duplicates, "
        f"{len(values['rejected'])} rejected; {values['images_per_second']:.1f} images/s"
    )


_MISSED: dict[Miss, str] = {
    "recall": "no index within these limits reaches the recall",
    "lookups": "the recall takes more look-ups than were allowed",
    "share": "the recall takes more candidates than were allowed",
}


def _print_tuning(report: TuningReport, built: IndexReport | None) -> None:
    table = Table("", "family", "tables", "look-ups", "recall@10", "candidates", "cost")
    for trial in _thinned(report.pareto, report.chosen):
        size = f"{trial.hashes} hashes" if trial.cells is None else f"{trial.cells} cells"
        table.add_row(
            "▸" if trial == report.chosen else "",
            trial.family,
            f"{trial.tables} × {size}",
            str(trial.lookups),
            f"{trial.recall:.3f}",
            f"{100 * trial.candidate_share:.2f} %",
            f"{trial.cost_ms:.2f} ms",
            style="bold" if trial == report.chosen else None,
        )
    out.print(table)
    out.print(
        "Nothing tried finds more at the same cost. --json has all of it, and each family's own curve.", style="dim"
    )
    for missed in report.misses:
        out.print(f"[yellow]{_MISSED[missed]}[/]")
    if built is None:
        out.print("Nothing was written. Without --dry-run, the marked one is built.")
        return
    measured = built.measured
    if measured.recall is not None and measured.candidate_share is not None:
        out.print(
            f"Generation {built.generation} answers: measured on {measured.queries} images, recall@10 "
            f"{measured.recall:.3f} with {100 * measured.candidate_share:.2f} % of {built.images} images as candidates."
        )


def _thinned(curve: Sequence[TrialReport], chosen: TrialReport) -> list[TrialReport]:
    """Return the chosen trial and those of a curve that differ clearly from the one before."""
    shown: list[TrialReport] = []
    for trial in curve:
        if not shown or trial.cost_ms > 1.2 * shown[-1].cost_ms or trial.recall > shown[-1].recall + 0.05:
            shown.append(trial)
    return sorted([*(trial for trial in shown if trial != chosen), chosen], key=lambda trial: trial.cost_ms)


def _print_hits(answer: SearchResponse) -> None:
    table = Table("", "score", "label", "name", "id")
    for rank, hit in enumerate(answer.hits, 1):
        image = hit.image
        table.add_row(str(rank), f"{hit.score:.4f}", plain(image.label), plain(image.name), str(image.id))
    out.print(table)
    timings = answer.timings_ms
    stages = ", ".join(f"{stage} {timings[stage]:.1f} ms" for stage in STAGES if stage in timings)
    out.print(
        f"{MODE_NAMES[answer.mode]}: {answer.candidates} of {answer.collection_size} images ranked; {stages}",
        style="dim",
    )


def _search_json(answer: SearchResponse, metric: str) -> dict[str, Any]:
    return {
        "hits": [
            {
                "id": hit.image.id,
                "score": hit.score,
                "distance": hit.distance,
                "label": hit.image.label or None,
                "name": hit.image.name,
            }
            for hit in answer.hits
        ],
        "mode": MODE_NAMES[answer.mode],
        "metric": metric,
        "candidates": answer.candidates,
        "collection_size": answer.collection_size,
        "generation": answer.generation,
        "probed_buckets": answer.probed_buckets,
        "truncated_buckets": answer.truncated_buckets,
        "seen": answer.seen,
        "timings_ms": {stage: answer.timings_ms[stage] for stage in STAGES if stage in answer.timings_ms},
    }


def _collection_json(one: messages.Collection) -> dict[str, Any]:
    return {
        "name": one.name,
        "images": one.images,
        "labelled": one.labelled,
        "classes": dict(one.classes),
        "model": one.model,
        "model_version": one.model_version,
        "bytes": one.bytes,
        "created": datetime.fromtimestamp(one.created, UTC).isoformat(),
        "damaged": list(one.damaged),
        "change": {"model": one.change.model, "model_version": one.change.model_version, "images": one.change.images}
        if one.HasField("change")
        else None,
    }
