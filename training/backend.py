"""The library that Keras will compute with, found without importing any."""

import json
import os
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Final

from shared.errors import Invalid

TENSORFLOW: Final = "tensorflow"
VARIABLE: Final = "KERAS_BACKEND"
LIBRARIES: Final = (TENSORFLOW, "jax", "torch")
"""The libraries that networks can be trained with. These are Keras' names of them, and the names of their modules."""


def chosen_backend() -> str:
    """Return the library that Keras will compute with: what `KERAS_BACKEND` names, or Keras' own configuration.

    Raises:
        Invalid: That library cannot train, or is not installed.
    """
    name = os.environ.get(VARIABLE)
    source = VARIABLE if name else f"the backend in {_configuration()}"
    name = name or _configured()
    if name not in LIBRARIES:
        raise Invalid(f"{source} is {name!r}, expected {', '.join(LIBRARIES[:-1])} or {LIBRARIES[-1]}")
    if find_spec(name) is None:
        raise Invalid(
            f"{source} is {name!r}, which is not installed; install it ({sys.executable} -m pip install {name}), "
            f"or set {VARIABLE} to {TENSORFLOW}"
        )
    return name


def _configuration() -> Path:
    """Return where Keras looks for its configuration."""
    folder = os.environ.get("KERAS_HOME")
    return (Path(folder) if folder else Path.home() / ".keras") / "keras.json"


def _configured() -> str:
    try:
        return str(json.loads(_configuration().read_text("utf-8"))["backend"])
    except (OSError, ValueError, LookupError, TypeError):
        return TENSORFLOW  # as Keras does
