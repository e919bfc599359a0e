"""The collection whose evaluation the pages of quality show, and where they are."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from tests.support.stack import Stack
from tests.support.web_client import picture

NAME, K = "web-evaluated", 4
HOSTILE = "'\"><img src=x onerror=document.title='owned'><script>document.title='owned'"
CLASSES = (HOSTILE, "lines", "waves")
GRID = [{"tables": [2, 4], "hashes": [2, 4, 6], "width": 0.6, "probes": 1}]
PATHS = {"exact": "exact-cosine-all", "grid": "grid0-cosine-all"}
Report = dict[str, Any]


def make_report(stack: Stack, folder: Path) -> Report:
    """Make an evaluation with a grid, by queries one of which the collection holds, and a file that is none."""
    for place, label in enumerate(CLASSES):
        for part, numbers in (("images", range(8)), ("queries", range(8, 12))):
            (folder / part / label).mkdir(parents=True)
            for number in numbers:
                (folder / part / label / f"{HOSTILE}{number}.jpg").write_bytes(picture(20_000 + 100 * place + number))
    twin = folder / "queries" / "waves" / "twin.jpg"
    twin.write_bytes((folder / "images" / "waves" / f"{HOSTILE}0.jpg").read_bytes())
    near = Image.open(folder / "images" / HOSTILE / f"{HOSTILE}0.jpg").transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    near.save(folder / "queries" / HOSTILE / f"{HOSTILE}9.jpg", quality=40)  # in the place of another query
    (folder / "queries" / HOSTILE / f"{HOSTILE}.jpg").write_bytes(picture(20_999)[:300])  # cut off
    (folder / "noise").mkdir()
    for number in range(8):
        (folder / "noise" / f"{number}.jpg").write_bytes(picture(21_000 + number))
    stack.artseek("ingest", str(folder / "images"), "--collection", NAME, "--labels-from-folders")
    stack.artseek("ingest", str(folder / "noise"), "--collection", NAME)
    (folder / "grid.json").write_text(json.dumps(GRID))
    return evaluated(stack, folder / "queries", "--keep", NAME, "--grid", str(folder / "grid.json"))


def evaluated(stack: Stack, queries: Path, *options: str) -> Report:
    """Judge the collection; 3, its exit status, says that some files are no queries."""
    arguments = ("evaluate", str(queries), "--collection", NAME, "-k", str(K), "--json", *options)
    made: Report = json.loads(stack.artseek(*arguments, check=False))
    return made


def address(report: Report, run: str = "") -> str:
    return f"/evaluations/{NAME}/{report['id']}" + (f"?run={run}" if run else "")


def figures(one: dict[str, Any]) -> list[str]:
    return [f"{one[name]:.3f}" for name in ("p_at_k", "ap_at_k", "recall_at_k")]


def pages_of(report: Report) -> Sequence[str]:
    return (
        f"/collections/{NAME}/quality",
        "/evaluations",
        address(report),
        f"/evaluations/compare?a={report['id']}&b={report['id']}&run_a={PATHS['exact']}&run_b={PATHS['grid']}",
    )
