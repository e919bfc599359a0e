"""`artseek models`: lists the model versions, checks what is served, changes a collection to another model."""

import math

import click

from cli.clients import System
from cli.command import command
from cli.model_versions import check_version, exported_versions, model_versions
from cli.options import SOME_REJECTED, as_json_option, in_collection
from cli.printing.console import err, print_json
from cli.printing.models import print_change, print_checks, print_models
from cli.printing.progress import job_bar
from shared.errors import ArtseekError, NotFound
from shared.messaging.job_submission import submit, wait_for_end
from shared.schemas.jobs import refusal
from shared.state.model_changes import ModelChangeResult


@click.group("models", invoke_without_command=True)
@as_json_option
@click.pass_context
def models(context: click.Context, *, as_json: bool) -> None:
    """List the models: what each was found to be worth, whether it is served, and which collections use it."""
    if context.invoked_subcommand is None:
        _list(as_json=as_json)


@command
def _list(system: System, *, as_json: bool) -> None:
    found = model_versions(system.settings.models, system.connect_model, system.catalog)
    if as_json:
        print_json(found)
    else:
        print_models(found)


@models.command("check")
@click.argument("model", metavar="[NAME[:VERSION]]", required=False)
@as_json_option
@command
def check(system: System, model: str | None, *, as_json: bool) -> int:
    """Ask the model server for each exported version's golden vectors: whether what is served is what was trained.

    Exit status 1: some version is not served, or gives something else.
    """
    name, number = _parse_version(model) if model is not None else (None, None)
    folder = system.settings.models
    chosen = [
        (exported, version)
        for exported, version in sorted(exported_versions(folder))
        if name in (None, exported) and number in (None, version)
    ]
    if not chosen:
        raise NotFound(
            f"no version of {model or 'any model'} is exported to {str(folder)!r}; `artseek models` lists them"
        )
    checks = [check_version(folder / exported / str(version), system.connect_model) for exported, version in chosen]
    if as_json:
        print_json(checks)
    else:
        print_checks(checks)
    return int(any(check["error"] for check in checks))


@models.command("use")
@click.argument("model", metavar="NAME[:VERSION]")
@in_collection
@as_json_option
@command
def use(system: System, model: str, collection: str, *, as_json: bool) -> int:
    """Change a collection to another model: embed its images anew, while it keeps answering, then switch.

    Without VERSION, the latest one served is taken. Interrupting the command does not stop the change; the same command
    follows it again.
    """
    name, version = _parse_version(model)
    system.catalog.get(collection)
    jobs = system.state.jobs
    system.note_change("change-model", collection)
    job_id = submit(
        jobs,
        "change-model",
        collection,
        lambda job_id: system.queue.change_model(collection=collection, job=job_id, model=name, version=version),
    )
    try:
        with job_bar(f"embedding {collection} with {model}") as on_progress:
            job = wait_for_end(
                jobs, job_id, deadline_s=math.inf, on_progress=lambda job: on_progress(job.steps, job.total)
            )
    except KeyboardInterrupt:
        err.print("\nartseek: interrupted; the change goes on in the background, and the same command follows it")
        return 130
    failed = jobs.outcome(job_id).rejected if job else ()
    values = jobs.result(job_id)
    if values is None:
        raise ArtseekError(failed[0].reason if failed else f"the job {job_id} failed")
    result = ModelChangeResult.from_json(values)
    if as_json:
        failures = [refusal(rejection) for rejection in failed]
        print_json({"collection": collection, **result.to_json(), "failed": failures, "job": job_id})
    else:
        print_change(collection, result, failed)
    return SOME_REJECTED if failed else 0


def _parse_version(model: str) -> tuple[str, int | None]:
    """Return a model's name and version, None for no particular one."""
    name, colon, number = model.partition(":")
    if not name or (colon and not (number.isascii() and number.isdigit() and int(number))):
        raise click.BadParameter(f"{model!r} does not name a model: expected NAME or NAME:VERSION", param_hint="NAME")
    return name, int(number) if number else None
