"""Prints what there is of a collection's regions, and what they cost."""

from collections.abc import Sequence

from cli.printing.console import err, out, plain
from shared.schemas.regions import RegionsAnswer
from shared.state import Rejection


def print_regions(answer: RegionsAnswer, rejected: Sequence[Rejection] = ()) -> None:
    """Print how far the index of regions is, and of which images there are none."""
    if not answer["regions"]:
        out.print("regions are not indexed: `artseek regions on` has them indexed")
        return
    out.print(
        f"{answer['windows']} windows of {answer['with_regions']} images are indexed, of {answer['images']} in all"
    )
    for rejection in rejected:
        out.print(f"{plain(rejection.name)}: {plain(rejection.reason)}", style="yellow")


def print_costs(answer: RegionsAnswer) -> None:
    """Print on standard error what it costs at most to index what is missing."""
    costs = answer["costs"]
    minutes = costs["minutes"]
    missing = answer["images"] - answer["with_regions"]
    took = "" if minutes is None else f", {max(1, round(minutes)):,} minutes as fast as the images were embedded"
    err.print(
        f"Windows of {missing:,} images, at most: {costs['embeddings']:,} embeddings{took}; "
        f"{costs['store_bytes'] / 2**20:,.0f} MiB in the store and on the disk of the query service, "
        f"{costs['redis_bytes'] / 2**20:,.1f} MiB of memory in Redis"
    )
