"""The figures that the report itself gives, as they were typed in."""

import json
from importlib import resources
from typing import Any

Published = dict[str, Any]


def published() -> Published:
    """Return the report's own figures: the values of ``published.json``."""
    figures: Published = json.loads((resources.files("reproduction") / "published.json").read_text("utf-8"))
    return figures
