"""The report's two networks, or what stands in for them, and the embeddings that these and their trained kin give."""

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
from training.labelled import Picture
from training.network import build_network, load_network
from training.pictures import batches
from training.pretrained import Weights, weights_named
from training.runs import Outputs

if TYPE_CHECKING:
    import keras

_BATCH = 32
_SIZE = 300  # of the report's pictures, in pixels

Vectors = npt.NDArray[np.float32]
Tell = Callable[[int, int], None]


@dataclass(frozen=True)
class Network:
    """A network of the report.

    Attributes:
        key: The report's, a name in `training.backbones`.
        title: What the report calls it.
        backbone: What is run in its place: itself, if its weights are given.
        weights: Of that.
        size: Height and width of its input in pixels.
        fed: What the report's own way of feeding pixels comes to for this network.
    """

    key: str
    title: str
    backbone: str
    weights: str
    size: int
    fed: str

    @property
    def stands_in(self) -> bool:
        """Whether it is another one than the report's."""
        return self.backbone != self.key

    @property
    def told(self) -> str:
        """What it is called in a table."""
        return f"{self.backbone}, {self.size} px"

    def beginning(self) -> Weights:
        """Return the weights.

        Raises:
            WeightsError: There is no such file.
        """
        return weights_named(self.weights, seed=0)


def networks(resnet50: str | None, resnet50v2: str | None, size: int | None) -> tuple[Network, Network]:
    """Return the report's networks with these weights ("imagenet", "random" or a file), or for None what stands in."""
    return (
        _network("resnet50", "ResNet50", resnet50, "efficientnet-lite0", size),
        _network("resnet50v2", "ResNet50V2", resnet50v2, "efficientnet-lite2", size),
    )


def _network(key: str, title: str, weights: str | None, instead: str, size: int | None) -> Network:
    backbone = instead if weights is None else key
    own = backbone_named(backbone).input_size if weights is None else _SIZE
    return Network(key, title, backbone, weights or "imagenet", size or own, _FED[backbone][0])


def _scaled_twice(pixels: Vectors, _: Backbone) -> Vectors:
    return pixels / np.float32(255)


def _as_shares(pixels: Vectors, backbone: Backbone) -> Vectors:
    """Return pixels of which the backbone's own preprocessing makes v / 255, in the order red, green, blue."""
    given = backbone.preprocessing
    wanted = pixels / np.float32(255) * np.float32(given.scale) + np.asarray(given.mean, np.float32)
    return wanted[..., ::-1] if given.bgr else wanted


_SHARES = "values from 0 to 1"
_FED: Mapping[str, tuple[str, Callable[[Vectors, Backbone], Vectors]]] = {
    "resnet50": (f"{_SHARES}, where about -124 to 151 in the order blue, green, red are expected", _as_shares),
    "resnet50v2": (f"{_SHARES}, where -1 to 1 are expected", _as_shares),
    # What stands in for ResNet50 gets what harms it likewise: a picture of a hundredth of the contrast.
    "efficientnet-lite0": ("divided by 255, and then once more as the network expects", _scaled_twice),
    "efficientnet-lite2": (f"{_SHARES}, where -1 to 1 are expected", _as_shares),
}
"""By backbone: what dividing pixels by 255 and nothing else comes to, and what does it."""

PLAIN = ""
"""The name of a network's embeddings as it was pretrained, beside those of trained ones."""


def embeddings(
    folder: Path,
    network: Network,
    runs: Mapping[str, Path | None],
    pictures: Sequence[Picture],
    tell: Tell,
    *,
    as_fed: bool = False,
) -> dict[str, Vectors]:
    """Return mean-pooled features, float32 [n, channels], not normalised: kept in a folder, and gone on with there.

    Args:
        folder: Where they are kept, by all that they depend on.
        network: Which one.
        runs: What is asked for: by a name the folder of a training run of the network, or None: as pretrained.
        pictures: Of what.
        tell: Is told how many of them are done.
        as_fed: Feed pixels as the report did, instead of as the network expects them.
    """
    about = {
        "backbone": backbone_named(network.backbone).about(network.beginning()),
        "size": network.size,
        "as_fed": as_fed,
        "pictures": hashlib.sha256("".join(one.sha256 for one in pictures).encode()).hexdigest(),
    }
    shape = (len(pictures), backbone_named(network.backbone).channels)
    folder.mkdir(parents=True, exist_ok=True)
    kept = {
        name: Outputs(folder / f"{_digest(about | {'run': _run_digest(run)})}.npy", shape, np.float32)
        for name, run in runs.items()
    }
    done = min(one.count for one in kept.values())
    if done < len(pictures):
        frozen, tails = _parts(network, runs)
        for one in kept.values():
            one.count = done
        for pixels in batches([one.path for one in pictures[done:]], network.size, batch=_BATCH):
            values = pixels.astype(np.float32)
            if as_fed:
                values = _FED[network.backbone][1](values, backbone_named(network.backbone))
            maps = frozen.predict_on_batch(values)
            for name, tail in tails.items():
                kept[name].append(np.asarray(tail.predict_on_batch(maps), np.float32))
            done += len(pixels)
            tell(done, len(pictures))
    return {name: np.asarray(one.values) for name, one in kept.items()}


def _parts(network: Network, runs: Mapping[str, Path | None]) -> tuple["keras.Model", dict[str, "keras.Model"]]:
    """Return what all runs share, pictures to feature maps, and for each the rest: they learn from one layer on."""
    keras = import_quietly("keras")
    folding = import_quietly("training.folding")
    backbone = backbone_named(network.backbone)
    plain = Architecture(backbone.name, network.size, network.size, normalised=False)
    pretrained = folding.folded(build_network(plain, network.beginning()))
    shared = keras.Model(pretrained.input, pretrained.get_layer(backbone.last_stage).input)
    tails = {}
    for name, run in runs.items():
        own = pretrained
        if run is not None:
            architecture = Architecture.from_json(json.loads((run / "architecture.json").read_text("utf-8")))
            own = folding.folded(load_network(architecture, run / "network.weights.h5"))
        tails[name] = keras.Model(own.get_layer(backbone.last_stage).input, own.output)
    return shared, tails


def _run_digest(run: Path | None) -> str | None:
    return None if run is None else hashlib.sha256((run / "network.weights.h5").read_bytes()).hexdigest()


def _digest(about: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()[:24]
