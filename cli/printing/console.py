"""The two consoles, and how text and JSON are written to them."""

import json
import sys
from functools import cached_property
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table


class Output:
    """A console that is made when something is printed: a command that has not got so far does not wait for Rich."""

    def __init__(self, *, stderr: bool = False) -> None:
        self._stderr = stderr

    @cached_property
    def console(self) -> "Console":
        """The console."""
        from rich.console import Console

        return Console(stderr=self._stderr, highlight=False)

    def print(self, *objects: object, **options: Any) -> None:
        """Print as `Console.print` does."""
        self.console.print(*objects, **options)


out, err = Output(), Output(stderr=True)


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


def framed_table(*headings: str) -> "Table":
    """Return an empty table with a frame."""
    from rich.table import Table

    return Table(*headings)


def compact_table(*headings: str, title: str | None = None) -> "Table":
    """Return an empty table without frame."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    return Table(*headings, title=title, box=SIMPLE_HEAD, padding=(0, 0), title_justify="left")
