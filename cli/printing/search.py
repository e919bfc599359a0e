"""Prints the hits of a search."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from cli.printing.console import framed_table, out, plain
from shared.rpc.query import STAGES
from shared.schemas.across import AcrossAnswer, SearchedCollection
from shared.schemas.images import FieldValue, ImagesAnswer, value_text
from shared.schemas.proof import ProofAnswer
from shared.schemas.search import HitAnswer, SearchAnswer

if TYPE_CHECKING:
    from rich.table import Table


def print_hits(answer: SearchAnswer) -> None:
    """Print a table of the hits, and how they were found."""
    out.print(_table(answer["hits"], []))
    stages = _stages(answer["timings_ms"])
    out.print(
        f"{answer['mode']}: {_ranked(answer)}; {stages}",
        style="dim",
    )


def print_across(answer: AcrossAnswer) -> None:
    """Print a table of the hits of several collections, how they were found, and which collections were left out."""
    out.print(_table(answer["hits"], [hit["collection"] for hit in answer["hits"]]))
    for searched in answer["collections"]:
        out.print(f"{searched['name']}: {searched['mode']}: {_ranked(searched)}", style="dim")
    out.print(f"{answer['model']}, version {answer['model_version']}; {_stages(answer['timings_ms'])}", style="dim")
    for left in answer["left_out"]:
        out.print(f"{left['name']} was left out: {plain(left['detail'])}", style="yellow")


def _table(hits: Sequence[HitAnswer], collections: Sequence[str]) -> "Table":
    """Return a table of hits; `collections` are theirs, empty where there is only one."""
    fields = list(dict.fromkeys(name for hit in hits for name in hit["fields"]))
    grouped = any("group" in hit for hit in hits)
    proved = any("proof" in hit for hit in hits)
    by_region = any("region" in hit for hit in hits)
    table = framed_table(
        "",
        "score",
        *(["collection"] if collections else []),
        *(["region"] if by_region else []),
        *(["same"] if proved else []),
        *(["group"] if grouped else []),
        "labels",
        *map(plain, fields),
        "name",
        "id",
    )
    for place, hit in enumerate(hits):
        table.add_row(
            str(place + 1),
            f"{hit['score']:.4f}",
            *(collections[place : place + 1]),
            *([_region(hit)] if by_region else []),
            *([same_text(hit.get("proof"))] if proved else []),
            *([plain(hit.get("group") or "")] if grouped else []),
            plain(" | ".join(hit["labels"])),
            *_values(hit["fields"], fields),
            plain(hit["name"]),
            str(hit["id"]),
        )
    return table


def _region(hit: HitAnswer) -> str:
    """Return the region of an image that is more like the query than the whole, as `--box` takes it; empty: none."""
    box = hit.get("region")
    return f"{box['x']},{box['y']},{box['w']},{box['h']}" if box else ""


def _ranked(answer: SearchAnswer | SearchedCollection) -> str:
    windows = f" and {answer['windows']} of their windows" if answer["windows"] else ""
    return f"{answer['candidates']} of {answer['collection_size']} images{windows} ranked"


def _stages(timings: Mapping[str, float]) -> str:
    return ", ".join(f"{stage} {timings[stage]:.1f} ms" for stage in STAGES if stage in timings)


def same_text(proof: ProofAnswer | None) -> str:
    """Return in a few words whether two pictures are the same: with how many inliers, and in which box of the hit."""
    if proof is None or not proof["same"]:
        return ""
    box = ",".join(map(str, proof["box"] or ()))
    return f"yes{', mirrored' if proof['mirrored'] else ''}: {proof['inliers']} inliers in {box}"


def print_images(answer: ImagesAnswer) -> None:
    """Print a table of images that were found by their records."""
    fields = list(dict.fromkeys(name for image in answer["images"] for name in image["fields"]))
    table = framed_table("labels", *map(plain, fields), "name", "id")
    for image in answer["images"]:
        labels = plain(" | ".join(image["labels"]))
        table.add_row(labels, *_values(image["fields"], fields), plain(image["name"]), str(image["id"]))
    out.print(table)
    out.print(f"{len(answer['images'])} of {answer['total']} images", style="dim")


def _values(given: Mapping[str, Sequence[FieldValue]], fields: Sequence[str]) -> list[str]:
    return [plain(" | ".join(value_text(cell["value"]) for cell in given.get(name, ()))) for name in fields]
