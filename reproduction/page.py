"""The report as an HTML page, as Markdown and as JSON, written anew whenever a section is made."""

import base64
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from reproduction.sections import THEIRS, Section, Table

_NOT_YET = "Not run yet."


def write(folder: Path, sections: Sequence[Section], about: dict[str, Any]) -> None:
    """Write report.html, report.md and report.json into a folder, each beside its place and moved there whole.

    Args:
        folder: Where the plots are, too.
        sections: In their order.
        about: What the figures depend on, by name.
    """
    environment = Environment(loader=PackageLoader("reproduction"), autoescape=True, undefined=StrictUndefined)
    html = environment.get_template("report.html").render(
        sections=sections,
        about=about,
        theirs=THEIRS,
        not_yet=_NOT_YET,
        png=lambda name: base64.b64encode((folder / name).read_bytes()).decode("ascii"),
    )
    values = {"about": about, "sections": [section.to_json() for section in sections if not section.pending]}
    for name, text in (
        ("report.html", html),
        ("report.md", markdown(sections, about)),
        ("report.json", json.dumps(values, indent=1, ensure_ascii=False) + "\n"),
    ):
        part = folder / f"{name}.part"
        part.write_text(text, "utf-8")
        part.replace(folder / name)


def markdown(sections: Sequence[Section], about: dict[str, Any]) -> str:
    """Return the report as Markdown, which shows the plots beside it."""
    blocks = ["# The report, reproduced", _table(Table("", ("", ""), tuple((k, str(v)) for k, v in about.items())))]
    for section in sections:
        blocks.append(f"## {section.number} {_text(section.title)}")
        if section.pending:
            blocks.append(_NOT_YET)
            continue
        blocks += [_text(paragraph) for paragraph in section.paragraphs]
        for table in section.tables:
            blocks += [f"**{_text(table.title)}**", _table(table)]
        blocks += [f"![{_text(plot.shows)}]({plot.name})" for plot in section.plots]
    return "\n\n".join(blocks) + "\n"


def _table(table: Table) -> str:
    lines = [table.columns, ["---"] + ["---:"] * (len(table.columns) - 1), *table.rows]
    return "\n".join("| " + " | ".join(_cell(cell) for cell in line) + " |" for line in lines)


def _cell(text: str) -> str:
    return _text(text).replace("\\", "\\\\").replace("|", "\\|").replace("\n", " ")


def _text(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;")
