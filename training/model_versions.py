"""Exports networks as versions of served models: `out`/<model>/<version>/, as TensorFlow Serving wants them.

A version is a SavedModel with a manifest, warm-up requests and golden vectors. It is written beside its place, checked,
and moved there whole, so that a server that watches the folder never sees half of one. A version that is there already
and undamaged is left as it is. For a pretrained backbone it takes no TensorFlow to find that out.
"""

import json
import shutil
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from shared.errors import Invalid
from shared.rpc.serving import golden
from shared.tensorflow_runtime import import_quietly
from training.architecture import Architecture
from training.backbones import backbone_named
from training.manifest import identity_of, is_exported, weights_digest, write_manifest
from training.network import build_network, load_network, network_embed, served
from training.pretrained import Weights

if TYPE_CHECKING:
    import keras

WARMUP_BATCHES: Final = (1, 8, 32)


def export_pretrained(architecture: Architecture, weights: Weights, out: Path, name: str, version: int) -> bool:
    """Export a network that was not trained here, unless it is there already.

    Args:
        architecture: the network's.
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
    identity = identity_of(architecture, name, version, backbone_named(architecture.backbone).about(weights))
    return _export(architecture, identity, {}, out, lambda: build_network(architecture, weights))


def export_network(
    architecture: Architecture,
    network: "keras.Model",
    out: Path,
    name: str,
    version: int,
    about_training: Mapping[str, Any],
    *,
    vectors: Path | None = None,
) -> bool:
    """Export a network that was trained, unless it is there already.

    Args:
        architecture: the network's.
        network: from float32 [batch, size, size, 3], RGB 0 to 255, to float32 [batch, dim], as of `build_network`.
        out: folder of the exported models.
        name: of the model.
        version: 1 or more.
        about_training: what the manifest is to say of the training, as JSON values: the run, the weights that it began
            with, …
        vectors: folder with golden vectors that another library than TensorFlow computed, with which the network was
            trained; None if that was TensorFlow.

    Returns:
        Whether it was written; False if it was there already.

    Raises:
        Invalid: the name or version does not fit, the version is taken by another model, or the network is not one of
            the architecture.
    """
    identity = identity_of(architecture, name, version, {"source": "training", "sha256": weights_digest(network)})
    return _export(architecture, identity, about_training, out, lambda: network, vectors)


def export_run(run: Path, out: Path, name: str, version: int) -> bool:
    """Export the network of a training run that has ended, unless it is there already.

    Raises:
        Invalid: there is no such run, or as of `export_network`.
        WeightsError: its weights are damaged.
    """
    architecture, network, about_training = load_run(run)
    vectors = run if (run / golden.GOLDEN).exists() else None
    return export_network(architecture, network, out, name, version, about_training, vectors=vectors)


def load_run(run: Path) -> tuple[Architecture, "keras.Model", dict[str, Any]]:
    """Return architecture and network of a training run that has ended, and what a manifest says of the training.

    Raises:
        Invalid: there is no such run.
        WeightsError: its weights are damaged.
    """
    try:
        about, result = (json.loads((run / name).read_text("utf-8")) for name in ("run.json", "report.json"))
        architecture = Architecture.from_json(json.loads((run / "architecture.json").read_text("utf-8")))
    except (OSError, ValueError) as error:
        raise Invalid(f"{str(run)!r} holds no training run that has ended: {error}") from error
    scores = {key: result[key] for key in ("loss", "accuracy", "search") if key in result}
    import_quietly("training.savedmodel")  # and TensorFlow with it, before its messages would be shown
    return architecture, load_network(architecture, run / "network.weights.h5"), {"run": about, **scores}


def _export(
    architecture: Architecture,
    identity: Mapping[str, Any],
    about_training: Mapping[str, Any],
    out: Path,
    build: Callable[[], "keras.Model"],
    vectors: Path | None = None,
) -> bool:
    target = out / str(identity["model"]) / str(identity["version"])
    if target.exists() and is_exported(target, identity):
        return False
    target.parent.mkdir(parents=True, exist_ok=True)
    # Beside the model's folder: a server that watches that folder for versions does not come across this one.
    building = Path(tempfile.mkdtemp(prefix=".export-", dir=out))
    try:
        _write(architecture, build, building / "new", identity, about_training, vectors)
        if target.exists():
            target.rename(building / "old")
        (building / "new").rename(target)
    finally:
        shutil.rmtree(building, ignore_errors=True)
    return True


def _write(
    architecture: Architecture,
    build: Callable[[], "keras.Model"],
    folder: Path,
    identity: Mapping[str, Any],
    about_training: Mapping[str, Any],
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
    write_manifest(folder, identity, about_training)
