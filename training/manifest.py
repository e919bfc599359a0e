"""The manifest of an exported version: what tells its model from others, and a digest of every file."""

import hashlib
import logging
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from shared.errors import Invalid, TooNew
from shared.model_config import MANIFEST
from shared.versioned import FIELD, StoredKind
from training.architecture import Architecture
from training.backbones import backbone_named

if TYPE_CHECKING:
    import keras

_log = logging.getLogger(__name__)

_KIND: Final = StoredKind("manifest")
_NAME: Final = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}")
_BESIDE_IDENTITY: Final = ("training", "files", FIELD)
"""The parts of a manifest that do not tell one model from another."""


def identity_of(architecture: Architecture, name: str, version: int, weights: Mapping[str, Any]) -> dict[str, Any]:
    """Return what tells an exported model from others; two exports of the same identity give equal embeddings.

    Raises:
        Invalid: the name or version does not fit.
    """
    if not _NAME.fullmatch(name):
        raise Invalid(
            f"{name[:80]!r} cannot name a model: use 1 to 63 of a-z, 0-9, '.', '-' and '_', "
            "starting with a letter or digit"
        )
    if version < 1:
        raise Invalid(f"version {version}, expected 1 or more")
    preprocessing = backbone_named(architecture.backbone).preprocessing
    return {
        "model": name,
        "version": version,
        "dim": architecture.dim,
        "normalised": architecture.normalised,
        "input_size": architecture.input_size,
        "resize": {"shorter_side": architecture.shorter_side, "filter": "bicubic", "crop": "centre"},
        "weights": dict(weights),
        "backbone": architecture.backbone,
        "preprocessing": {
            "channels": "BGR" if preprocessing.bgr else "RGB",
            "mean": list(preprocessing.mean),
            "scale": preprocessing.scale,
        },
        "architecture": architecture.to_json(),
    }


def write_manifest(folder: Path, identity: Mapping[str, Any], about_training: Mapping[str, Any]) -> None:
    """Write the manifest of the version in `folder`, whose other files are all written."""
    training = {"training": dict(about_training)} if about_training else {}
    data = _KIND.dumps({**identity, **training, "files": _file_digests(folder)}, indent=2)
    (folder / MANIFEST).write_bytes(data + b"\n")


def read_manifest(folder: Path) -> dict[str, Any]:
    """Return the manifest of the version in `folder`; empty if there is none that can be read.

    Raises:
        TooNew: a newer version of Artseek exported the model.
    """
    path = folder / MANIFEST
    try:
        manifest: dict[str, Any] = _KIND.loads(path.read_bytes(), dict, place=str(path))
    except TooNew:
        raise
    except (OSError, Invalid):
        return {}
    return manifest


def is_exported(folder: Path, identity: Mapping[str, Any]) -> bool:
    """Return whether the version in `folder` is the model of this identity, and undamaged.

    Raises:
        Invalid: it is another model.
    """
    manifest = read_manifest(folder)
    found = {key: value for key, value in manifest.items() if key not in _BESIDE_IDENTITY}
    if found and found != identity:
        raise Invalid(f"{folder} holds another model ({found}), expected {identity}; choose another --version")
    if found and manifest.get("files") == _file_digests(folder):
        return True
    _log.warning("%s is damaged and is written anew", folder)
    return False


def weights_digest(network: "keras.Model") -> str:
    """Return a SHA-256 of all weights of a network, with their names and shapes."""
    digest = hashlib.sha256()
    for layer in network.layers:
        for weight, values in zip(layer.weights, layer.get_weights(), strict=True):
            digest.update(f"{layer.name}/{weight.name} {values.dtype} {values.shape}\n".encode())
            digest.update(values.tobytes())
    return digest.hexdigest()


def _file_digests(folder: Path) -> dict[str, str]:
    """Return the SHA-256 of every file of a version but the manifest, by path."""
    files = (path for path in sorted(folder.rglob("*")) if path.is_file() and path != folder / MANIFEST)
    return {path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}
