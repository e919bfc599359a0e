"""Reads what is in `deploy/monitoring`: the expressions of alerts and dashboards, and what they name."""

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from tests.support.paths import ROOT

FOLDER = ROOT / "deploy" / "monitoring"
DASHBOARDS = sorted((FOLDER / "dashboards").glob("*.json"))

# What Prometheus itself adds: whether a target answered, and the alerts.
OF_PROMETHEUS = {"up": {"job", "instance"}, "ALERTS": {"alertname", "alertstate"}}
OF_TARGETS = {"job", "instance"}

_WORDS = frozenset(
    {
        *(
            "sum",
            "min",
            "max",
            "avg",
            "count",
            "by",
            "without",
            "on",
            "ignoring",
            "and",
            "or",
            "unless",
            "bool",
            "offset",
        ),
        *("rate", "increase", "deriv", "min_over_time", "absent", "histogram_quantile"),
    }
)
_TOKEN = re.compile(r'"[^"]*"|[a-zA-Z_:][a-zA-Z0-9_:]*|\[[^\]]*\]|\d[\d.e]*[smhd]?|.')


@dataclass(frozen=True)
class Selector:
    """A metric in an expression, and the labels that the expression asks of it or groups it by."""

    metric: str
    labels: frozenset[str]


def read(name: str) -> Any:
    """Return a YAML file of the folder."""
    return yaml.safe_load((FOLDER / name).read_text("utf-8"))


def rules() -> list[dict[str, Any]]:
    """Return the alert rules."""
    return [rule for group in read("alerts.yml")["groups"] for rule in group["rules"]]


def panels(dashboard: Path) -> list[dict[str, Any]]:
    """Return the panels of a dashboard, headings left out."""
    return [panel for panel in json.loads(dashboard.read_text("utf-8"))["panels"] if panel["type"] != "row"]


def expressions() -> list[str]:
    """Return every expression of alerts and dashboards."""
    shown = [target["expr"] for path in DASHBOARDS for panel in panels(path) for target in panel["targets"]]
    return [rule["expr"] for rule in rules()] + shown


def selectors(expression: str) -> list[Selector]:
    """Return the metrics that an expression names; labels that it groups by are asked of each of them."""
    grouped: set[str] = set()
    for labels in re.findall(r"\b(?:by|without|on|ignoring) ?\(([^)]*)\)", expression):
        grouped.update(label.strip() for label in labels.split(","))
    bare = re.sub(r"\b(?:by|without|on|ignoring) ?\([^)]*\)", " ", expression)
    found: list[Selector] = []
    tokens = [token for token in _TOKEN.findall(bare) if not token.isspace()]
    inside: list[str] | None = None
    for place, token in enumerate(tokens):
        if token == "{":
            inside = []
        elif token == "}":
            assert inside is not None, expression
            found[-1] = Selector(found[-1].metric, found[-1].labels | frozenset(inside))
            inside = None
        elif re.match(r"[a-zA-Z_]", token) and inside is not None:
            inside.append(token)
        elif re.match(r"[a-zA-Z_]", token) and token not in _WORDS:
            assert tokens[place + 1 : place + 2] != ["("], f"{token} is a function that is not known here"
            found.append(Selector(token, frozenset(grouped)))
    assert found, expression
    return found
