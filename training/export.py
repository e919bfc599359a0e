"""Exports a model for serving: `python -m training.export --out DIR`.

Writes DIR/<model>/<version>/ (see `training.model_versions`) and DIR/models.config.
"""

import argparse
import logging
import os
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from shared.errors import ArtseekError
from shared.model_config import write_model_config
from shared.tensorflow_runtime import import_quietly
from training.architecture import Architecture
from training.backbones import BACKBONES, EFFICIENTNET_LITE0, backbone_named
from training.backend import TENSORFLOW, VARIABLE
from training.labelled_images import digest_of
from training.model_versions import export_network, export_pretrained, export_run, load_run
from training.network import build_network
from training.pooling import POOLINGS
from training.pretrained import weights_named
from training.progress import progress_bars

if TYPE_CHECKING:
    import keras

_log = logging.getLogger(__name__)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    options = _parse(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    os.environ[VARIABLE] = TENSORFLOW  # no other library writes SavedModels, whatever networks are trained with here
    out = options.out.resolve()
    started = time.perf_counter()
    try:
        name = options.name or (options.run.resolve().name if options.run else options.model)
        written = _export(options, out, name)
        write_model_config(out, options.base_path or str(out))
    except (ArtseekError, OSError) as error:
        _log.error("error: %s", error)
        return 1
    target = out / name / str(options.version)
    if written:
        _log.info("%s: exported in %.1f s", target, time.perf_counter() - started)
    else:
        _log.info("%s: there already", target)
    return 0


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
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
    return options


def _export(options: argparse.Namespace, out: Path, name: str) -> bool:
    """Export what the options ask for; returns whether it was written."""
    kind, dim = ("whiten", options.whiten) if options.whiten else ("project", options.project)
    about_training: dict[str, Any]
    if options.run:
        if not dim and not options.raw:
            return export_run(options.run, out, name, options.version)
        architecture, network, about_training = load_run(options.run)
        if options.raw:
            architecture = replace(architecture, normalised=False)
    else:
        backbone, weights = backbone_named(options.model), weights_named(options.weights, seed=options.seed)
        architecture = Architecture.plain(backbone, pooling=options.pooling, normalised=not options.raw)
        if options.size:
            architecture = replace(architecture, input_size=options.size, shorter_side=options.size)
        if not dim:
            return export_pretrained(architecture, weights, out, name, options.version)
        import_quietly("training.savedmodel")  # and TensorFlow with it, before its messages would be shown
        network, about_training = build_network(architecture, weights), {"weights": backbone.about(weights)}
    if dim:
        architecture, network, fitted_to = _reduce(architecture, network, kind, dim, options.images)
        about_training = {**about_training, kind: fitted_to}
    return export_network(architecture, network, out, name, options.version, about_training)


def _reduce(
    architecture: Architecture, network: "keras.Model", kind: str, dim: int, folder: Path
) -> tuple[Architecture, "keras.Model", dict[str, Any]]:
    """Return a network with fewer dimensions, and what a manifest says of the images that these were fitted to."""
    reducing = import_quietly("training.reducing")
    images, refused = reducing.images_of(folder)
    for file in refused:
        _log.warning("%s is left out: %s", file.path, file.reason)
    with progress_bars() as bar:
        architecture, network = reducing.reduced(architecture, network, kind, dim, images, bar("embedding the images"))
    return architecture, network, {"images": len(images), "sha256": digest_of(images)}


if __name__ == "__main__":
    sys.exit(main())
