"""Sections, tables and plots: what a report consists of, however it is shown."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

THEIRS = "report"
"""The label of rows that hold the report's own figures."""


@dataclass(frozen=True)
class Table:
    """A table; its first column names the rows.

    Attributes:
        title: Stands above it.
        columns: The names of the columns.
        rows: Cells as text. A row is the report's own if its second cell is `THEIRS`, or its first ends in it.
        groups: How many rows belong together, from the first on; 0: all.
    """

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    groups: int = 0

    def to_json(self) -> dict[str, Any]:
        """Return the table as JSON values."""
        return {"title": self.title, "columns": list(self.columns), "rows": [list(row) for row in self.rows]}


@dataclass(frozen=True)
class Plot:
    """A PNG in the report's folder: its name there, and what it shows."""

    name: str
    shows: str


@dataclass(frozen=True)
class Section:
    """A section, numbered and titled as the report's is: paragraphs, then tables, then plots."""

    number: str
    title: str
    paragraphs: Sequence[str] = field(default_factory=tuple)
    tables: Sequence[Table] = field(default_factory=tuple)
    plots: Sequence[Plot] = field(default_factory=tuple)
    pending: bool = False

    def to_json(self) -> dict[str, Any]:
        """Return the section as JSON values."""
        return {
            "number": self.number,
            "title": self.title,
            "paragraphs": list(self.paragraphs),
            "tables": [table.to_json() for table in self.tables],
            "pictures": [plot.name for plot in self.plots],
        }


def number(value: float | None, digits: int = 3) -> str:
    """Return a figure as a cell shows it; a dash for none."""
    return "–" if value is None or math.isnan(value) else f"{value:,.{digits}f}"
