"""Networks: what an architecture describes, built, loaded, and brought into the form that is served."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt

from shared.errors import Invalid
from shared.rpc.serving.golden import Embed, Floats, Images
from training.architecture import Architecture
from training.backbones import backbone_named
from training.pooling import STAGES, pooling_named
from training.pretrained import RandomWeights, Weights, randomise

if TYPE_CHECKING:
    import keras

EMBEDDING: Final = "embedding"
"""The names of the layers after pooling begin with this."""

_FIRST_VARIANCE: Final = 0.03
"""Variance of a dense layer's first weights, times its inputs. It is smaller than usual: what is learned of thousands
of features then holds better for new images."""
_SHORTEST: Final = 1e-6
"""Embeddings shorter than this are divided by it instead of their length, as TensorFlow does: one may be all zeros."""


def build_network(architecture: Architecture, weights: Weights) -> "keras.Model":
    """Return the network, for training or for use.

    What follows the backbone is new: drawn from the seed if `weights` are random, otherwise from Keras' shared state
    (`keras.utils.set_random_seed`). Those layers are named "pooling" and "embedding_0", "embedding_1", …, those in the
    branches of a sum or of heads "embedding_1_0_0" and so on, and compute in single precision.

    Returns:
        A model from float32 [batch, size, size, 3], RGB 0 to 255, to float32 [batch, dim], not normalised.

    Raises:
        WeightsError: the weights are missing, damaged, or of another network.
    """
    import keras  # noqa: PLC0415, it imports TensorFlow

    backbone = backbone_named(architecture.backbone).build(weights, input_size=architecture.input_size)
    maps = [backbone.get_layer(name).input for name in backbone_named(architecture.backbone).stages]
    pooling = pooling_named(architecture.pooling)
    pooled = pooling([*maps, backbone.output] if architecture.pooling == STAGES else backbone.output)
    embedding, layers = _apply(architecture.embedding, pooled, EMBEDDING)
    if isinstance(weights, RandomWeights):
        randomise(layers, weights.seed + 1)
    return keras.Model(backbone.input, embedding, name=architecture.backbone)


def load_network(architecture: Architecture, path: Path) -> "keras.Model":
    """Return the network with the weights that `keras.Model.save_weights` wrote of one that `build_network` made.

    Raises:
        WeightsError: the file is damaged, or of another network.
    """
    from training import keras_files  # noqa: PLC0415

    network = build_network(architecture, RandomWeights(0))
    keras_files.load(network, path)
    return network


def served(architecture: Architecture, network: "keras.Model") -> "keras.Model":
    """Return the network as it is exported: in single precision, batch norms folded into convolutions.

    Raises:
        Invalid: the network is not one of this architecture.
    """
    size, dim = architecture.input_size, architecture.dim
    if (network.input_shape, network.output_shape) != ((None, size, size, 3), (None, dim)):
        raise Invalid(
            f"the network takes {network.input_shape} and gives {network.output_shape}; "
            f"its architecture takes {(None, size, size, 3)} and gives {(None, dim)}"
        )
    from training.folding import folded  # noqa: PLC0415, it imports TensorFlow

    return folded(network)


def network_embed(architecture: Architecture, network: "keras.Model") -> Embed:
    """Return a function that computes what the network's SavedModel would: outside training, in single precision."""
    import keras  # noqa: PLC0415, it imports TensorFlow

    from training.folding import in_single_precision  # noqa: PLC0415
    from training.precision import full_single_precision  # noqa: PLC0415

    single = in_single_precision(network)

    def embed(images: Images) -> Floats:
        with full_single_precision():
            embeddings = keras.ops.convert_to_numpy(single(images.astype(np.float32), training=False))
        lengths = np.linalg.norm(embeddings, axis=1, keepdims=True) if architecture.normalised else 1
        return np.asarray(embeddings / np.maximum(lengths, _SHORTEST), np.float32)

    return embed


def set_standardisation(
    network: "keras.Model", mean: npt.NDArray[np.floating[Any]], deviation: npt.NDArray[np.floating[Any]]
) -> None:
    """Set the mean and deviation, both [channels], of the {"standardise": true} layer that comes after the pooling."""
    network.get_layer(f"{EMBEDDING}_0").set_weights([mean, np.square(deviation)])


def new_layer(layer: Mapping[str, Any], name: str) -> "keras.Layer":
    """Return a new layer of an embedding by what an architecture says of it; it may be none that has branches."""
    import keras  # noqa: PLC0415, it imports TensorFlow

    options = {"name": name, "dtype": "float32"}
    if "dense" in layer:
        initializer = keras.initializers.VarianceScaling(_FIRST_VARIANCE, "fan_in", "uniform")
        return keras.layers.Dense(layer["dense"], layer.get("activation"), kernel_initializer=initializer, **options)
    if "dropout" in layer:
        return keras.layers.Dropout(layer["dropout"], **options)
    # Until they are fitted, the others pass on the first features as they are.
    if "standardise" in layer:
        return keras.layers.BatchNormalization(center=False, scale=False, epsilon=0.0, trainable=False, **options)
    units, biased = (layer["whiten"], True) if "whiten" in layer else (layer["project"], False)
    return keras.layers.Dense(units, use_bias=biased, kernel_initializer="identity", trainable=False, **options)


def _apply(
    layers: Sequence[Mapping[str, Any]], features: "keras.KerasTensor", name: str
) -> tuple["keras.KerasTensor", list["keras.Layer"]]:
    """Return what new layers make of features, and those layers."""
    made: list[Any] = []
    for number, layer in enumerate(layers):
        layer_name = f"{name}_{number}"
        if "sum" in layer or "heads" in layer:
            branches = layer["sum"] if "sum" in layer else [layer["of"]] * layer["heads"]
            ends = []
            for place, branch in enumerate(branches):
                end, inner = _apply(branch, features, f"{layer_name}_{place}")
                ends.append(end)
                made += inner
            features = _join(ends, layer_name, add="sum" in layer)
        else:
            made.append(new_layer(layer, layer_name))
            features = made[-1](features)
    return features, made


def _join(ends: Sequence["keras.KerasTensor"], name: str, *, add: bool) -> "keras.KerasTensor":
    """Return the sum of what branches end in, or each at length 1 beside the others."""
    import keras  # noqa: PLC0415

    if add:
        return keras.layers.Add(name=name, dtype="float32")(ends)
    units = [
        keras.layers.UnitNormalization(name=f"{name}_{place}_unit", dtype="float32")(end)
        for place, end in enumerate(ends)
    ]
    return keras.layers.Concatenate(name=name, dtype="float32")(units)
