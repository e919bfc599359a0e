"""The two consoles, and how text and JSON are written to them."""

import json
import sys

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

out = Console(highlight=False)
err = Console(stderr=True, highlight=False)


def print_json(value: object) -> None:
    """Print a result as JSON."""
    sys.stdout.write(json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def print_error(message: object) -> None:
    """Print why a command failed."""
    err.print(f"artseek: {message}", style="red", markup=False)


def plain(text: str) -> str:
    """Return text that the terminal shows as it is: no markup, no control characters."""
    shown = "".join(character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in text)
    return shown.replace("[", r"\[")


def compact_table(*headings: str, title: str | None = None) -> Table:
    """Return an empty table without frame."""
    return Table(*headings, title=title, box=SIMPLE_HEAD, padding=(0, 0), title_justify="left")
