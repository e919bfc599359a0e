"""Writes the model config file of TensorFlow Serving."""

import json
import os
from collections.abc import Iterable
from pathlib import Path, PurePosixPath
from typing import Final

MANIFEST: Final = "assets.extra/artseek.json"
"""Where the manifest of a version lies in its folder; it is written last, so a version without it is not whole."""
MODEL_CONFIG: Final = "models.config"


def write_model_config(out: Path, base_path: str) -> None:
    """Write `out`/models.config for every exported model in `out`; servers see those models under `base_path`."""
    names = sorted({path.parents[2].name for path in out.glob(f"*/[0-9]*/{MANIFEST}")})
    text = model_config(names, base_path)
    path = out / MODEL_CONFIG
    if path.exists() and path.read_text("utf-8") == text:
        return
    part = path.with_suffix(f".{os.getpid()}")
    part.write_text(text, "utf-8")
    part.replace(path)


def model_config(names: Iterable[str], base_path: str) -> str:
    """Return a ModelServerConfig in text format that serves each model of `names` from the folder `base_path`/name.

    All versions of a model are served: a collection needs the version that it was embedded with.
    """
    entries = "".join(
        f"  config {{\n"
        f"    name: {json.dumps(name)}\n"
        f"    base_path: {json.dumps(str(PurePosixPath(base_path) / name))}\n"
        f'    model_platform: "tensorflow"\n'
        f"    model_version_policy {{ all {{ }} }}\n"
        f"  }}\n"
        for name in names
    )
    return f"model_config_list {{\n{entries}}}\n"
