"""`artseek collections` and `artseek delete`: lists and deletes collections, deletes images."""

import click

from cli.clients import System
from cli.command import command
from cli.options import as_json_option, in_collection
from cli.printing.collections import print_collections
from cli.printing.console import out, print_json
from cli.printing.progress import spinner
from shared.errors import Invalid
from shared.schemas.collections import collections_answer
from shared.storage.layout import collection_name


@click.group(invoke_without_command=True)
@as_json_option
@click.pass_context
def collections(context: click.Context, *, as_json: bool) -> None:
    """List the collections with their sizes and classes, rename or delete one."""
    if context.invoked_subcommand is None:
        _list(as_json=as_json)


@command
def _list(system: System, *, as_json: bool) -> None:
    with system.query() as query:
        found = query.collections()
    if as_json:
        print_json(collections_answer(found))
        return
    print_collections(found)


@collections.command("delete")
@click.argument("name")
@click.option("--yes", is_flag=True, help="Do not ask.")
@as_json_option
@command
def delete_collection(system: System, name: str, *, yes: bool, as_json: bool) -> None:
    """Delete the collection NAME with all its images, for good; asks for its name first."""
    system.catalog.get(collection_name(name))
    if not yes and click.prompt(f"Type {name} to delete it with all its images", default="", err=True) != name:
        raise Invalid(f"that is not the name {name!r}: nothing was deleted")
    job = system.run_job("drop", name, lambda job: system.queue.drop(job=job, collection=name))
    if as_json:
        print_json({"collection": name, "deleted": job.counts.affected, "missing": 0})
    else:
        out.print(f"{name} is deleted, with {job.counts.affected} images")


@collections.command("rename")
@click.argument("old")
@click.argument("new")
@as_json_option
@command
def rename_collection(system: System, old: str, new: str, *, as_json: bool) -> None:
    """Give the collection OLD the name NEW, with its images, its trash and its evaluations."""
    system.catalog.get(collection_name(old))
    if system.catalog.is_there(collection_name(new)):
        raise Invalid(f"there is a collection {new!r} already: choose another name")
    with spinner("renaming"):
        job = system.run_job("rename", old, lambda job: system.queue.rename(job=job, collection=old, new=new))
    if as_json:
        print_json({"collection": new, "renamed_from": old, "images": job.counts.affected})
    else:
        out.print(f"{old} is called {new} now, with its {job.counts.affected} images")


@click.command()
@click.argument("ids", nargs=-1, type=int)
@in_collection
@click.option("--purge", is_flag=True, help="Remove the images for good, from the trash too.")
@click.option("--whole-collection", is_flag=True, help="Delete the collection with all its images, for good.")
@as_json_option
@command
def delete(
    system: System, ids: tuple[int, ...], collection: str, *, purge: bool, whole_collection: bool, as_json: bool
) -> int:
    """Move images by their IDs from a collection to its trash: `artseek trash` restores them for some weeks."""
    if bool(ids) == whole_collection:
        raise click.UsageError("give IDs, or --whole-collection")
    if purge and whole_collection:
        raise click.UsageError("--whole-collection leaves nothing in a trash: leave out --purge")
    system.catalog.get(collection)
    if whole_collection:
        job = system.run_job("drop", collection, lambda job: system.queue.drop(job=job, collection=collection))
    else:
        job = system.run_job(
            "delete",
            collection,
            lambda job: system.queue.delete(job=job, collection=collection, image_ids=ids, purge=purge),
        )
    deleted = job.counts.affected
    missing = 0 if whole_collection else len(set(ids)) - deleted
    if as_json:
        print_json({"collection": collection, "deleted": deleted, "missing": missing})
    else:
        out.print(f"{deleted} deleted" + (f", {missing} were not there" if missing else ""))
    return 1 if missing else 0
