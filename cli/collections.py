"""`artseek collections` and `artseek delete`: lists collections, deletes images and collections."""

import click

from cli.command import System, as_json_option, command, in_collection
from cli.printing.collections import print_collections
from cli.printing.console import out, print_json
from shared.schemas.collections import collections_answer


@click.command()
@as_json_option
@command
def collections(system: System, *, as_json: bool) -> None:
    """List the collections with their sizes and classes."""
    with system.query() as query:
        found = query.collections()
    if as_json:
        print_json(collections_answer(found))
        return
    print_collections(found)


@click.command()
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
