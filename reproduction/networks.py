"""The report's two networks, or what stands in for them, and the embeddings that they compute, trained or not."""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from shared.tensorflow_runtime import import_quietly
from training.architecture import Architecture
from training.backbones import Backbone, backbone_named
from training.batches import batches
from training.labelled_images import ImageFile, OnProgress
from training.network import build_network, load_network
from training.pretrained import Weights, weights_named
from training.runs import StoredOutputs

if TYPE_CHECKING:
    import keras

_BATCH = 32
_REPORT_SIZE = 300  # of the report's images, in pixels

Vectors = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Network:
    """A network of the report.

    Attributes:
        key: The name of the report's backbone in `training.backbones`.
        title: What the report calls it.
        backbone: The name of the backbone that is run in its place: the same, if weights of it are given.
        weights: Of the backbone that is run, as on the command line.
        size: Height and width of its input in pixels.
        report_pixels: What the report's own way of feeding pixels means for the backbone that is run.
    """

    key: str
    title: str
    backbone: str
    weights: str
    size: int
    report_pixels: str

    @property
    def stands_in(self) -> bool:
        """Whether another backbone than the report's is run."""
        return self.backbone != self.key

    @property
    def label(self) -> str:
        """What is run, as a table calls it."""
        return f"{self.backbone}, {self.size} px"

    def pretrained_weights(self) -> Weights:
        """Return the weights that the backbone begins with.

        Raises:
            WeightsError: There is no such file.
        """
        return weights_named(self.weights, seed=0)


def networks(resnet50: str | None, resnet50v2: str | None, size: int | None) -> tuple[Network, Network]:
    """Return the report's networks with these weights: "imagenet", "random" or a file.

    Where the weights are None, another backbone stands in, with ImageNet weights.
    """
    return (
        _network("resnet50", "ResNet50", resnet50, "efficientnet-lite0", size),
        _network("resnet50v2", "ResNet50V2", resnet50v2, "efficientnet-lite2", size),
    )


def _network(key: str, title: str, weights: str | None, stand_in: str, size: int | None) -> Network:
    backbone = stand_in if weights is None else key
    default_size = backbone_named(backbone).input_size if weights is None else _REPORT_SIZE
    return Network(key, title, backbone, weights or "imagenet", size or default_size, _REPORT_PIXELS[backbone][0])


def _scaled_twice(pixels: Vectors, _: Backbone) -> Vectors:
    return pixels / np.float32(255)


def _scaled_once(pixels: Vectors, backbone: Backbone) -> Vectors:
    """Return pixels that the backbone's own preprocessing turns into v / 255, in the order red, green, blue."""
    preprocessing = backbone.preprocessing
    scaled = pixels / np.float32(255) * np.float32(preprocessing.scale) + np.asarray(preprocessing.mean, np.float32)
    return scaled[..., ::-1] if preprocessing.bgr else scaled


_SCALED = "values from 0 to 1"
_REPORT_PIXELS: Mapping[str, tuple[str, Callable[[Vectors, Backbone], Vectors]]] = {
    "resnet50": (f"{_SCALED}, where about -124 to 151 in the order blue, green, red are expected", _scaled_once),
    "resnet50v2": (f"{_SCALED}, where -1 to 1 are expected", _scaled_once),
    # What stands in for ResNet50 gets pixels that harm it as much: an image of a hundredth of the contrast.
    "efficientnet-lite0": ("divided by 255, and then once more as the network expects", _scaled_twice),
    "efficientnet-lite2": (f"{_SCALED}, where -1 to 1 are expected", _scaled_once),
}
"""For each backbone what the report's pixels, divided by 255 and nothing else, mean to it, and how to make them."""

PLAIN = ""
"""The name of the embeddings of a network as it was pretrained, beside those of training runs."""


def embeddings(
    folder: Path,
    network: Network,
    runs: Mapping[str, Path | None],
    images: Sequence[ImageFile],
    on_progress: OnProgress,
    *,
    report_pixels: bool = False,
) -> dict[str, Vectors]:
    """Return mean-pooled features, float32 [n, channels], not normalised, for each of several trainings of a network.

    They are kept in a folder. What an interrupted call computed is not computed again.

    Args:
        folder: Where they are kept, under a digest of all that they depend on.
        network: The network.
        runs: By a name of the caller's, the folder of a training run of the network; None: the network as pretrained.
        images: What to embed.
        on_progress: Told how many images are done.
        report_pixels: Feed pixels as the report did, instead of as the network expects them.
    """
    about = {
        "backbone": backbone_named(network.backbone).about(network.pretrained_weights()),
        "size": network.size,
        "report_pixels": report_pixels,
        "images": hashlib.sha256("".join(image.sha256 for image in images).encode()).hexdigest(),
    }
    shape = (len(images), backbone_named(network.backbone).channels)
    folder.mkdir(parents=True, exist_ok=True)
    kept = {
        name: StoredOutputs(folder / f"{_digest(about | {'run': _run_digest(run)})}.npy", shape, np.float32)
        for name, run in runs.items()
    }
    done = min(outputs.count for outputs in kept.values())
    if done < len(images):
        shared, tails = _shared_and_tails(network, runs)
        for outputs in kept.values():
            outputs.count = done
        for pixels in batches([image.path for image in images[done:]], network.size, batch=_BATCH):
            values = pixels.astype(np.float32)
            if report_pixels:
                values = _REPORT_PIXELS[network.backbone][1](values, backbone_named(network.backbone))
            maps = shared.predict_on_batch(values)
            for name, tail in tails.items():
                kept[name].append(np.asarray(tail.predict_on_batch(maps), np.float32))
            done += len(pixels)
            on_progress(done, len(images))
    return {name: np.asarray(outputs.values) for name, outputs in kept.items()}


def _shared_and_tails(
    network: Network, runs: Mapping[str, Path | None]
) -> tuple["keras.Model", dict[str, "keras.Model"]]:
    """Return the part that all runs share, from images to feature maps, and each run's own part behind it.

    All runs learn from the same layer on: the first of the last stage.
    """
    keras = import_quietly("keras")
    folding = import_quietly("training.folding")
    backbone = backbone_named(network.backbone)
    plain = Architecture(backbone.name, network.size, network.size, normalised=False)
    pretrained = folding.folded(build_network(plain, network.pretrained_weights()))
    shared = keras.Model(pretrained.input, pretrained.get_layer(backbone.last_stage).input)
    tails = {}
    for name, run in runs.items():
        whole = pretrained
        if run is not None:
            architecture = Architecture.from_json(json.loads((run / "architecture.json").read_text("utf-8")))
            whole = folding.folded(load_network(architecture, run / "network.weights.h5"))
        tails[name] = keras.Model(whole.get_layer(backbone.last_stage).input, whole.output)
    return shared, tails


def _run_digest(run: Path | None) -> str | None:
    return None if run is None else hashlib.sha256((run / "network.weights.h5").read_bytes()).hexdigest()


def _digest(about: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()[:24]
