"""`artseek import`: images with embeddings that were made elsewhere, or that an export wrote."""

from pathlib import Path

import click

from cli.clients import System
from cli.command import command
from cli.options import as_json_option, in_collection
from cli.printing.console import out, print_json
from cli.printing.progress import job_bar
from shared.errors import ArtseekError, Invalid
from shared.messaging.job_submission import wait_for_end
from shared.messaging.vector_intake import DeclaredModel, VectorImport, VectorIntake
from shared.records.vector_files import read_embeddings

_PATIENCE_S = 3600.0  # for the indexer


@click.command("import")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@in_collection
@click.option("--model", "declared", default="", help="Model that made the embeddings, as NAME or NAME:VERSION.")
@click.option("--raw", is_flag=True, help="The model's embeddings are not of length 1.")
@click.option(
    "--rows",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Table of the images of a .npy file: CSV, JSON lines or Parquet.",
)
@as_json_option
@command
def import_vectors(
    system: System, *, file: Path, collection: str, declared: str, raw: bool, rows: Path | None, as_json: bool
) -> None:
    """Import the images of FILE with their embeddings: Parquet, or .npy with the table of its images.

    A file that an export wrote names its model; for others, say --model. Pictures are not in the file: without those
    in the store, images are found by id and by vector, and have no thumbnail.
    """
    embeddings = read_embeddings(file, rows)
    model = _model(declared, embeddings.model, embeddings.model_version, raw=raw)
    system.note_change("import embeddings", collection)
    intake = VectorIntake(system, vector_type=system.settings.vector_type)
    with job_bar(f"importing into {collection}") as on_progress:
        done = intake.run(
            collection, embeddings, model, on_progress=lambda count: on_progress(count, len(embeddings.images))
        )
    job = wait_for_end(system.state.jobs, done.job, deadline_s=_PATIENCE_S)
    if job is None:
        raise ArtseekError(f"the embeddings are written, but the job {done.job} has not ended within an hour")
    if job.counts.rejected:
        raise ArtseekError(job.counts.reason)
    added = job.added
    if as_json:
        print_json({**vars(done), "added": added, "duplicates": job.counts.duplicates})
    else:
        _print(done, added, job.counts.duplicates)


def _model(declared: str, named: str, version: int, *, raw: bool) -> DeclaredModel:
    """Return the model that is declared, or else the one that the file names."""
    name, _, number = declared.partition(":")
    if number and not (number.isdecimal() and int(number)):
        raise click.UsageError(f"--model {declared!r}: a version is a number from 1 on")
    if not (name or named):
        raise Invalid("the file does not say which model made its embeddings: name it by --model NAME:VERSION")
    given = int(number) if number else version if name in {"", named} else 0
    return DeclaredModel(name or named, given or 1, normalised=not raw)


def _print(done: VectorImport, added: int, duplicates: int) -> None:
    out.print(
        f"{done.images:,} images of {done.dim} numbers by {done.model} version {done.model_version}: {added:,} added, "
        f"{duplicates:,} duplicates",
        highlight=False,
    )
    if not done.served:
        out.print(
            f"{done.model} version {done.model_version} is not served: search by id and by vector works; search by a "
            "picture, uploads and `artseek ingest` into this collection do not until it is",
            style="yellow",
            markup=False,
        )
    if done.without_original:
        out.print(
            f"{done.without_original:,} pictures are not in the store: these images have no thumbnail and no download, "
            "and another model cannot embed them; add the same files by `artseek ingest` once the model is served",
            style="yellow",
            markup=False,
        )
