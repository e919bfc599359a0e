"""Prints the hits of a search."""

from rich.table import Table

from cli.printing.console import out, plain
from shared.rpc.query import MODE_NAMES, STAGES, SearchResponse


def print_hits(answer: SearchResponse) -> None:
    """Print a table of the hits, and how they were found."""
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
