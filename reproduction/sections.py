"""What a report is made of, however it is shown."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

THEIRS = "report"
"""What the rows of the report's own figures are called."""


@dataclass(frozen=True)
class Table:
    """A table; its first column names the rows.

    Attributes:
        title: Above it.
        columns: Their names.
        rows: Cells as text; those whose first or second cell is `THEIRS` are the report's own.
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
class Picture:
    """A PNG in the report's folder: its name there, and what it shows."""

    name: str
    shows: str


@dataclass(frozen=True)
class Section:
    """A section, numbered and titled as the report's is: paragraphs, then tables, then pictures."""

    number: str
    title: str
    paragraphs: Sequence[str] = field(default_factory=tuple)
    tables: Sequence[Table] = field(default_factory=tuple)
    pictures: Sequence[Picture] = field(default_factory=tuple)
    pending: bool = False

    def to_json(self) -> dict[str, Any]:
        """Return the section as JSON values."""
        return {
            "number": self.number,
            "title": self.title,
            "paragraphs": list(self.paragraphs),
            "tables": [table.to_json() for table in self.tables],
            "pictures": [picture.name for picture in self.pictures],
        }


def number(value: float | None, digits: int = 3) -> str:
    """Return a figure as a cell shows it; a dash for none."""
    return "–" if value is None or math.isnan(value) else f"{value:,.{digits}f}"
