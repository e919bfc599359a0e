"""Exports a backbone as one version of a served model: `python -m training.export --out DIR`.

Writes DIR/<model>/<version>/ (a SavedModel with a manifest and warm-up requests) and DIR/models.config. A version is
written beside its place and moved there whole, so a server that watches the folder never sees half of one; a version
that is there and sound is left as it is, which takes no TensorFlow to find out.
"""

import argparse
import hashlib
import json
import logging
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from shared.errors import ArtseekError, Invalid
from shared.serving.quiet import import_quietly
from training.backbones import BACKBONES, EFFICIENTNET_LITE0, Backbone, backbone_named
from training.model_config import model_config

log = logging.getLogger(__name__)

MANIFEST: Final = "assets.extra/artseek.json"
MODEL_CONFIG: Final = "models.config"
WARMUP_BATCHES: Final = (1, 8, 32)


def manifest(backbone: Backbone, version: int) -> dict[str, Any]:
    """Return what the export says of itself; two exports with equal manifests give equal embeddings."""
    weights = backbone.weights
    return {
        "model": backbone.name,
        "version": version,
        "dim": backbone.dim,
        "normalised": True,
        "input_size": backbone.input_size,
        "resize": {"shorter_side": backbone.shorter_side, "filter": "bicubic", "crop": "centre"},
        "weights": {
            "package": weights.distribution,
            "package_version": weights.version,
            "sha256": weights.sha256,
            "licence": weights.licence,
        },
    }


def export(backbone: Backbone, out: Path, version: int) -> bool:
    """Bring `out`/<model>/<version> into being, unless it is there.

    Returns:
        Whether it was written; False if it was there already.

    Raises:
        Invalid: the version is taken by another model.
        shared.errors.ArtseekError: the weights are missing or altered.
    """
    target = out / backbone.name / str(version)
    about = manifest(backbone, version)
    if target.exists():
        found = read_manifest(target)
        files = found.pop("files", {})
        if found == about and files and files == _digests(target):
            return False
        if found and found != about:
            raise Invalid(f"{target} holds another model ({found}), expected {about}; choose another --version")
        log.warning("%s is damaged and is written anew", target)
    target.parent.mkdir(parents=True, exist_ok=True)
    # Beside the model's folder: whoever watches that folder for versions does not come across this one.
    building = Path(tempfile.mkdtemp(prefix=".export-", dir=out))
    try:
        version_folder = building / "new"
        _write(backbone, version_folder, about)
        if target.exists():
            target.rename(building / "old")
        version_folder.rename(target)
    finally:
        shutil.rmtree(building, ignore_errors=True)
    return True


def read_manifest(folder: Path) -> dict[str, Any]:
    """Return the manifest of the version in `folder`; empty if there is none that can be read."""
    try:
        found = json.loads((folder / MANIFEST).read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def write_model_config(out: Path, base_path: str) -> None:
    """Write `out`/models.config for every exported model in `out`; servers see those models under `base_path`."""
    names = sorted({path.parents[2].name for path in out.glob(f"*/[0-9]*/{MANIFEST}")})
    text = model_config(names, base_path)
    path = out / MODEL_CONFIG
    if path.exists() and path.read_text("utf-8") == text:
        return
    temporary = path.with_suffix(f".{os.getpid()}")
    temporary.write_text(text, "utf-8")
    temporary.replace(path)


def _write(backbone: Backbone, folder: Path, about: dict[str, Any]) -> None:
    savedmodel = import_quietly("training.savedmodel")
    savedmodel.write_saved_model(backbone, folder)
    savedmodel.write_warmup(folder, backbone.name, about["version"], backbone.input_size, WARMUP_BATCHES)
    text = json.dumps({**about, "files": _digests(folder)}, indent=2)
    (folder / MANIFEST).write_text(text + "\n", "utf-8")


def _digests(folder: Path) -> dict[str, str]:
    """Return the SHA-256 of every file of a version but the manifest, by path."""
    files = (path for path in sorted(folder.rglob("*")) if path.is_file() and path != folder / MANIFEST)
    return {path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    parser = argparse.ArgumentParser(prog="python -m training.export", description="Export a model for serving.")
    parser.add_argument("--out", type=Path, required=True, help="folder of the exported models")
    parser.add_argument("--model", choices=sorted(BACKBONES), default=EFFICIENTNET_LITE0.name)
    parser.add_argument("--version", type=int, default=1, help="version number, 1 or more (default: 1)")
    parser.add_argument("--base-path", help="where the server sees --out (default: its absolute path)")
    options = parser.parse_args(arguments)
    if options.version < 1:
        parser.error(f"--version is {options.version}, expected 1 or more")
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    out = options.out.resolve()
    started = time.perf_counter()
    try:
        written = export(backbone_named(options.model), out, options.version)
        write_model_config(out, options.base_path or str(out))
    except (ArtseekError, OSError) as error:
        log.error("error: %s", error)
        return 1
    target = out / options.model / str(options.version)
    if written:
        log.info("%s: exported in %.1f s", target, time.perf_counter() - started)
    else:
        log.info("%s: there already", target)
    return 0


if __name__ == "__main__":
    sys.exit(main())
