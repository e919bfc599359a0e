"""Exports a network as one version of a served model: `python -m training.export --out DIR`.

Writes DIR/<model>/<version>/ (a SavedModel with a manifest, warm-up requests and golden vectors) and DIR/models.config.
A version is written beside its place, checked, and moved there whole, so a server that watches the folder never sees
half of one; a version that is there and sound is left as it is. For a backbone off the shelf it takes no TensorFlow to
find that out.
"""

import argparse
import hashlib
import json
import logging
import os
import re
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from shared.errors import ArtseekError, Invalid
from shared.rpc.serving import golden
from shared.tensorflow_runtime import import_quietly
from training.architecture import Architecture
from training.backbones import BACKBONES, EFFICIENTNET_LITE0, backbone_named
from training.backend import TENSORFLOW, VARIABLE
from training.labelled import digest_of
from training.model_config import model_config
from training.network import build_network, load_network, network_embed, served
from training.pooling import POOLINGS
from training.pretrained import Weights, weights_named
from training.progress import progress_bars

if TYPE_CHECKING:
    import keras

log = logging.getLogger(__name__)

MANIFEST: Final = "assets.extra/artseek.json"
MODEL_CONFIG: Final = "models.config"
WARMUP_BATCHES: Final = (1, 8, 32)

_NAME: Final = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}")
_BESIDES: Final = ("training", "files")
"""What a manifest says that does not tell one model from another."""


def manifest(architecture: Architecture, name: str, version: int, weights: Mapping[str, Any]) -> dict[str, Any]:
    """Return what tells an exported model from others; two exports of which it is equal give equal embeddings.

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


def export(architecture: Architecture, weights: Weights, out: Path, name: str, version: int) -> bool:
    """Bring `out`/`name`/`version` into being, unless it is there: a network that was not trained here.

    Args:
        architecture: what the network is built of.
        weights: what its backbone has.
        out: folder of the exported models.
        name: of the model.
        version: 1 or more.

    Returns:
        Whether it was written; False if it was there already.

    Raises:
        Invalid: the name or version does not fit, or the version is taken by another model.
        WeightsError: the weights are missing, damaged, or of another network.
    """
    identity = manifest(architecture, name, version, backbone_named(architecture.backbone).about(weights))
    return _export(architecture, identity, {}, out, lambda: build_network(architecture, weights))


def export_network(
    architecture: Architecture,
    network: "keras.Model",
    out: Path,
    name: str,
    version: int,
    about: Mapping[str, Any],
    *,
    vectors: Path | None = None,
) -> bool:
    """Bring `out`/`name`/`version` into being, unless it is there: a network that was trained.

    Args:
        architecture: what the network is built of.
        network: from float32 [batch, size, size, 3], RGB 0 to 255, to float32 [batch, dim], as of `build_network`.
        out: folder of the exported models.
        name: of the model.
        version: 1 or more.
        about: what the manifest is to say of the training, as JSON values: the run, the weights that it began with, …
        vectors: folder with the golden vectors, if it was trained with another library than TensorFlow: those that this
            library computed.

    Returns:
        Whether it was written; False if it was there already.

    Raises:
        Invalid: the name or version does not fit, the version is taken by another model, or the network is not one of
            the architecture.
    """
    identity = manifest(architecture, name, version, {"source": "training", "sha256": _digest(network)})
    return _export(architecture, identity, about, out, lambda: network, vectors)


def export_run(run: Path, out: Path, name: str, version: int) -> bool:
    """Bring `out`/`name`/`version` into being, unless it is there: the network of a training run that has ended.

    Raises:
        Invalid: there is no such run, or as of `export_network`.
        WeightsError: its weights are damaged.
    """
    architecture, network, about = trained(run)
    vectors = run if (run / golden.GOLDEN).exists() else None
    return export_network(architecture, network, out, name, version, about, vectors=vectors)


def trained(run: Path) -> tuple[Architecture, "keras.Model", dict[str, Any]]:
    """Return the network of a training run that has ended, what it is built of, and what a manifest says of the run.

    Raises:
        Invalid: there is no such run.
        WeightsError: its weights are damaged.
    """
    try:
        about, result = (json.loads((run / part).read_text("utf-8")) for part in ("run.json", "report.json"))
        architecture = Architecture.from_json(json.loads((run / "architecture.json").read_text("utf-8")))
    except (OSError, ValueError) as error:
        raise Invalid(f"{str(run)!r} holds no training run that has ended: {error}") from error
    figures = {key: result[key] for key in ("loss", "accuracy", "search") if key in result}
    return architecture, load_network(architecture, run / "network.weights.h5"), {"run": about, **figures}


def _export(
    architecture: Architecture,
    identity: dict[str, Any],
    about: Mapping[str, Any],
    out: Path,
    build: Callable[[], "keras.Model"],
    vectors: Path | None = None,
) -> bool:
    target = out / identity["model"] / str(identity["version"])
    if target.exists() and _is_there(target, identity):
        return False
    target.parent.mkdir(parents=True, exist_ok=True)
    # Beside the model's folder: whoever watches that folder for versions does not come across this one.
    building = Path(tempfile.mkdtemp(prefix=".export-", dir=out))
    try:
        version_folder = building / "new"
        _write(architecture, build, version_folder, identity, about, vectors)
        if target.exists():
            target.rename(building / "old")
        version_folder.rename(target)
    finally:
        shutil.rmtree(building, ignore_errors=True)
    return True


def _is_there(target: Path, identity: dict[str, Any]) -> bool:
    """Return whether the version in `target` is this model, and sound.

    Raises:
        Invalid: it is another model.
    """
    manifest_found = read_manifest(target)
    found = {key: value for key, value in manifest_found.items() if key not in _BESIDES}
    if found and found != identity:
        raise Invalid(f"{target} holds another model ({found}), expected {identity}; choose another --version")
    if found and manifest_found.get("files") == _digests(target):
        return True
    log.warning("%s is damaged and is written anew", target)
    return False


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


def _write(
    architecture: Architecture,
    build: Callable[[], "keras.Model"],
    folder: Path,
    identity: dict[str, Any],
    about: Mapping[str, Any],
    vectors: Path | None,
) -> None:
    savedmodel = import_quietly("training.savedmodel")
    network = build()
    normalised, size = architecture.normalised, architecture.input_size
    savedmodel.write_saved_model(served(architecture, network), folder, normalised=normalised)
    savedmodel.write_warmup(folder, identity["model"], identity["version"], size, WARMUP_BATCHES)
    # From the network as it was trained, not as it is served: what was folded and frozen has to give the same.
    if vectors is None:
        golden.write(folder, size, network_embed(architecture, network))
    else:
        golden.copy(vectors, folder)
    golden.check(folder, savedmodel.saved_model_embed(folder))
    training = {"training": dict(about)} if about else {}
    text = json.dumps({**identity, **training, "files": _digests(folder)}, indent=2)
    (folder / MANIFEST).write_text(text + "\n", "utf-8")


def _digests(folder: Path) -> dict[str, str]:
    """Return the SHA-256 of every file of a version but the manifest, by path."""
    files = (path for path in sorted(folder.rglob("*")) if path.is_file() and path != folder / MANIFEST)
    return {path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def _digest(network: "keras.Model") -> str:
    """Return a SHA-256 of all weights of a network, with their names and shapes."""
    digest = hashlib.sha256()
    for layer in network.layers:
        for weight, values in zip(layer.weights, layer.get_weights(), strict=True):
            digest.update(f"{layer.name}/{weight.name} {values.dtype} {values.shape}\n".encode())
            digest.update(values.tobytes())
    return digest.hexdigest()


def _exported(options: argparse.Namespace, out: Path, name: str) -> bool:
    """Export what the command asks for; returns whether it was written."""
    kind, dim = ("whiten", options.whiten) if options.whiten else ("project", options.project)
    if options.run and not dim and not options.raw:
        return export_run(options.run, out, name, options.version)
    about: dict[str, Any]
    if options.run or dim:
        import_quietly("training.savedmodel")  # and TensorFlow with it, before a network is built aloud
    if options.run:
        architecture, network, about = trained(options.run)
        if options.raw:
            architecture = replace(architecture, normalised=False)
    else:
        backbone, weights = backbone_named(options.model), weights_named(options.weights, seed=options.seed)
        architecture = Architecture.plain(backbone, pooling=options.pooling, normalised=not options.raw)
        if options.size:
            architecture = replace(architecture, input_size=options.size, shorter_side=options.size)
        if not dim:
            return export(architecture, weights, out, name, options.version)
        network, about = build_network(architecture, weights), {"weights": backbone.about(weights)}
    if dim:
        architecture, network, fitted = _reduced(architecture, network, kind, dim, options.images)
        about = {**about, kind: fitted}
    return export_network(architecture, network, out, name, options.version, about)


def _reduced(
    architecture: Architecture, network: "keras.Model", kind: str, dim: int, images: Path
) -> tuple[Architecture, "keras.Model", dict[str, Any]]:
    """Return a network with fewer dimensions, and what a manifest says of the images that these were fitted to."""
    reducing = import_quietly("training.reducing")
    pictures, refused = reducing.pictures_of(images)
    for one in refused:
        log.warning("%s is left out: %s", one.path, one.reason)
    with progress_bars() as progress:
        architecture, network = reducing.reduced(
            architecture, network, kind, dim, pictures, progress("embedding the images")
        )
    return architecture, network, {"images": len(pictures), "sha256": digest_of(pictures)}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    parser = argparse.ArgumentParser(prog="python -m training.export", description="Export a model for serving.")
    parser.add_argument("--out", type=Path, required=True, help="folder of the exported models")
    parser.add_argument("--model", choices=sorted(BACKBONES), default=EFFICIENTNET_LITE0.name)
    parser.add_argument("--version", type=int, default=1, help="version number, 1 or more (default: 1)")
    parser.add_argument("--run", type=Path, metavar="DIR", help="export the network of this training run instead")
    parser.add_argument("--name", help="of the model (default: that of the backbone, or of the run's folder)")
    parser.add_argument("--base-path", help="where the server sees --out (default: its absolute path)")
    parser.add_argument("--weights", default="imagenet", help="imagenet, random, or a file (default: imagenet)")
    parser.add_argument("--seed", type=int, default=0, help="of random weights (default: 0)")
    parser.add_argument("--pooling", choices=POOLINGS, default="mean", help="of a backbone (default: mean)")
    parser.add_argument("--size", type=int, help="side of a backbone's pictures, in pixels (default: its own)")
    fewer = parser.add_mutually_exclusive_group()
    fewer.add_argument(
        "--project", type=int, metavar="DIM", help="bring embeddings to fewer dimensions, much as they are"
    )
    fewer.add_argument("--whiten", type=int, metavar="DIM", help="the same, with all axes made to count alike")
    parser.add_argument("--images", type=Path, metavar="DIR", help="images that --project or --whiten is fitted to")
    parser.add_argument("--raw", action="store_true", help="leave embeddings as long as they are, instead of length 1")
    options = parser.parse_args(arguments)
    if options.version < 1:
        parser.error(f"--version is {options.version}, expected 1 or more")
    if options.seed < 0:
        parser.error(f"--seed is {options.seed}, expected 0 or more")
    if (options.project is None and options.whiten is None) is not (options.images is None):
        parser.error("--images goes with --project or --whiten, and these with it")
    for name in ("project", "whiten"):
        if (dim := getattr(options, name)) is not None and dim < 1:
            parser.error(f"--{name} is {dim}, expected 1 or more")
    if options.run and (options.size or options.pooling != "mean"):
        parser.error("--size and --pooling are those of the run; leave them out, or leave --run out")
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    os.environ[VARIABLE] = TENSORFLOW  # which alone writes SavedModels, whatever networks are trained with here
    out = options.out.resolve()
    started = time.perf_counter()
    try:
        name = options.name or (options.run.resolve().name if options.run else options.model)
        written = _exported(options, out, name)
        write_model_config(out, options.base_path or str(out))
    except (ArtseekError, OSError) as error:
        log.error("error: %s", error)
        return 1
    target = out / name / str(options.version)
    if written:
        log.info("%s: exported in %.1f s", target, time.perf_counter() - started)
    else:
        log.info("%s: there already", target)
    return 0


if __name__ == "__main__":
    sys.exit(main())
