"""Writes the model config file of TensorFlow Serving."""

import json
from collections.abc import Iterable
from pathlib import PurePosixPath


def model_config(names: Iterable[str], base_path: str) -> str:
    """Return a ModelServerConfig in text format that serves each model of `names` from the folder `base_path`/name.

    All versions of a model are served: a collection needs the one that it was embedded with.
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
