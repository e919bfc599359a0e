"""Two versions of the default model with the same network, so that a collection can change between them."""

import json
import shutil
from pathlib import Path

from benchmarks.system import MODELS
from shared.model_config import MANIFEST
from shared.settings import Settings

NAME = str(Settings.model_fields["model"].default)
VERSIONS = (1, 2)


def copy_models(folder: Path) -> None:
    """Write the versions into a folder of models."""
    for version in VERSIONS:
        copy = folder / NAME / str(version)
        shutil.copytree(MODELS / NAME / "1", copy)
        manifest = json.loads((copy / MANIFEST).read_text(encoding="utf-8"))
        (copy / MANIFEST).write_text(json.dumps({**manifest, "version": version}), encoding="utf-8")
