"""Architectures: what makes an embedding of an image, as data, and the network that it describes.

    backbone -> pooling -> layers of the embedding -> L2 normalisation, or none

An architecture costs nothing to make or to read: TensorFlow is imported when a network is built.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self

import numpy as np
import numpy.typing as npt

from shared.errors import Invalid
from shared.rpc.serving.golden import Embed, Floats, Images
from training.backbones import Backbone, backbone_named, check_input_size
from training.pooling import STAGES, check_pooling, pooled_width, pooling_named
from training.pretrained import RandomWeights, Weights, randomise

if TYPE_CHECKING:
    import keras

ACTIVATIONS: Final = ("linear", "relu", "gelu", "silu", "tanh")
EMBEDDING: Final = "embedding"
"""What the names of the layers after pooling begin with."""

_JSON: Final[Mapping[str, type]] = {
    "backbone": str,
    "input_size": int,
    "shorter_side": int,
    "pooling": str,
    "embedding": list,
    "normalised": bool,
}
_WIDEST: Final = 65_536
_MOST_HEADS: Final = 64
_FIRST: Final = 0.03  # variance of a dense layer's first weights, times its inputs
_SHORTEST: Final = 1e-6  # embeddings shorter than this are divided by it, as TensorFlow does: one may be 0
_RANK: Final = 1e-10  # variance along an axis, of that along the first, below which the axis is rounding


@dataclass(frozen=True)
class Architecture:
    """What makes an embedding of an image.

    Attributes:
        backbone: a name in `BACKBONES`.
        input_size: height and width of the input, in pixels.
        shorter_side: what an image's shorter side is resized to before the centre crop of `input_size`.
        pooling: a name in `POOLINGS`.
        embedding: the layers from pooled features to the embedding, each a mapping of one of these forms:
            {"dense": units} or {"dense": units, "activation": one of `ACTIVATIONS`};
            {"dropout": rate}, which acts in training alone;
            {"standardise": true}: each feature less its mean, over its deviation, as `set_standardisation` gave them;
            {"whiten": units}: PCA-whitening, whose weights are not learned but come from `fit_whitening`;
            {"project": units}: onto principal axes, whose weights are not learned but come from `fit_projection`;
            {"sum": [layers, layers, …]}: the sum of what branches of such layers make of the same features;
            {"heads": number, "of": layers}: so many branches of such layers, alike but for what they learn, each
            brought to length 1, side by side.
        normalised: whether an embedding is brought to Euclidean length 1.

    Raises:
        Invalid: a value does not fit.
        NotFound: there is no such backbone or pooling.
    """

    backbone: str
    input_size: int
    shorter_side: int
    pooling: str = "mean"
    embedding: tuple[Mapping[str, Any], ...] = ()
    normalised: bool = True

    def __post_init__(self) -> None:
        check_pooling(self.pooling)
        check_input_size(self.input_size)
        if self.shorter_side < self.input_size:
            raise Invalid(f"shorter_side is {self.shorter_side}, expected at least input_size, {self.input_size}")
        _ = self.dim

    @classmethod
    def plain(cls, backbone: Backbone, *, pooling: str = "mean", normalised: bool = True) -> Self:
        """Return the architecture whose embedding is a backbone's pooled features."""
        return cls(backbone.name, backbone.input_size, backbone.shorter_side, pooling, (), normalised)

    @property
    def dim(self) -> int:
        """Dimensions of the embedding."""
        return width_after(self.embedding, pooled_width(self.pooling, backbone_named(self.backbone)))

    def to_json(self) -> dict[str, Any]:
        """Return the architecture as JSON values."""
        return {**asdict(self), "embedding": [dict(layer) for layer in self.embedding]}

    @classmethod
    def from_json(cls, value: object) -> Self:
        """Return the architecture that `to_json` made these values of.

        Raises:
            Invalid: it made no such values.
            NotFound: there is no such backbone or pooling.
        """
        if not isinstance(value, dict) or value.keys() != _JSON.keys():
            raise Invalid(f"an architecture is {value!r}, expected an object of {', '.join(_JSON)}")
        for name, kind in _JSON.items():
            if type(value[name]) is not kind:
                raise Invalid(f"an architecture's {name} is {value[name]!r}, expected a JSON {kind.__name__}")
        return cls(**{**value, "embedding": tuple(value["embedding"])})


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
    x = pooling([*maps, backbone.output] if architecture.pooling == STAGES else backbone.output)
    x, layers = _applied(architecture.embedding, x, EMBEDDING)
    if isinstance(weights, RandomWeights):
        randomise(layers, weights.seed + 1)
    return keras.Model(backbone.input, x, name=architecture.backbone)


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
    """Return what a network computes outside training, in single precision, as its SavedModel would."""
    import keras  # noqa: PLC0415, it imports TensorFlow

    from training.folding import in_single_precision  # noqa: PLC0415
    from training.precision import undiminished  # noqa: PLC0415

    single = in_single_precision(network)

    def embed(images: Images) -> Floats:
        with undiminished():
            embeddings = keras.ops.convert_to_numpy(single(images.astype(np.float32), training=False))
        lengths = np.linalg.norm(embeddings, axis=1, keepdims=True) if architecture.normalised else 1
        return np.asarray(embeddings / np.maximum(lengths, _SHORTEST), np.float32)

    return embed


def set_standardisation(
    network: "keras.Model", mean: npt.NDArray[np.floating[Any]], deviation: npt.NDArray[np.floating[Any]]
) -> None:
    """Give a network that begins with {"standardise": true} after its pooling what that needs, both [channels]."""
    network.get_layer(f"{EMBEDDING}_0").set_weights([mean, np.square(deviation)])


def fit_whitening(features: npt.NDArray[np.floating[Any]], dim: int) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    """Fit PCA-whitening: centre, project onto the principal axes, divide by the standard deviation along each.

    Jégou and Chum 2012, "Negative evidences and co-occurences in image retrieval: the benefit of PCA and whitening".

    Args:
        features: [n, channels], more than `dim` of them.
        dim: how many axes to keep, those of the largest variance.

    Returns:
        Kernel [channels, dim] and bias [dim], float32: features @ kernel + bias have mean 0 and covariance 1. They are
        the weights of a {"whiten": dim} layer.

    Raises:
        Invalid: the features vary along fewer than `dim` axes.
    """
    if features.ndim != 2 or not 0 < dim <= features.shape[1]:
        raise Invalid(f"features of shape {features.shape} cannot be whitened to {dim} dimensions")
    values = features.astype(np.float64)
    mean = values.mean(axis=0)
    _, deviations, axes = np.linalg.svd(values - mean, full_matrices=False)
    variances = deviations**2 / max(1, len(values) - 1)
    spanned = int((variances > _RANK * variances[0]).sum())
    if spanned < dim:
        raise Invalid(
            f"{len(values)} features vary along {spanned} axes, expected at least {dim}; "
            "take more images or fewer dimensions"
        )
    kernel = (axes[:dim] / np.sqrt(variances[:dim, None])).T
    return kernel.astype(np.float32), (-mean @ kernel).astype(np.float32)


def fit_projection(embeddings: npt.NDArray[np.floating[Any]], dim: int) -> npt.NDArray[np.float32]:
    """Return the principal axes of embeddings, not centred: of all projections it keeps their inner products best.

    Eckart and Young 1936, "The approximation of one matrix by another of lower rank".

    Args:
        embeddings: [n, width].
        dim: how many axes to keep, at most `width`.

    Returns:
        Kernel [width, dim], float32, with orthonormal columns: the weights of a {"project": dim} layer.

    Raises:
        Invalid: there are no embeddings, or fewer dimensions than `dim`.
    """
    if embeddings.ndim != 2 or not len(embeddings) or not 0 < dim <= embeddings.shape[1]:
        raise Invalid(f"embeddings of shape {embeddings.shape} cannot be projected to {dim} dimensions")
    values = embeddings.astype(np.float64)
    _, axes = np.linalg.eigh(values.T @ values)  # by ascending eigenvalues
    kernel = axes[:, ::-1][:, :dim]
    return np.ascontiguousarray(kernel, dtype=np.float32)


def width_after(layers: Iterable[Mapping[str, Any]], width: int) -> int:
    """Return how wide features of `width` are after layers such as an architecture's `embedding`.

    Raises:
        Invalid: a layer does not fit.
    """
    for layer in layers:
        width = _width_after(layer, width)
    return width


def _width_after(layer: Mapping[str, Any], width: int) -> int:
    """Return how wide features are behind a layer that takes `width`; raises Invalid if the layer does not fit."""
    match dict(layer):
        case {"dense": int(units), **rest} if _is_width(units) and rest.get("activation", "linear") in ACTIVATIONS:
            if rest.keys() <= {"activation"}:
                return units
        case {"dropout": float(rate) | int(rate), **rest} if not rest and not isinstance(rate, bool) and 0 <= rate < 1:
            return width
        case {"whiten": int(units), **rest} | {"project": int(units), **rest} if not rest and _is_width(units):
            if units <= width:
                return units
            kind = next(iter(layer))
            raise Invalid(f"{dict(layer)} cannot {kind} {width} dimensions, expected at most as many units")
        case {"standardise": True, **rest} if not rest:
            return width
        case {"sum": [_, _, *_] as branches, **rest} if not rest and all(map(_is_layers, branches)):
            widths = [width_after(branch, width) for branch in branches]
            if len(set(widths)) == 1:
                return widths[0]
            raise Invalid(f"the branches of {dict(layer)} end {widths} wide, expected all alike")
        case {"heads": int(number), "of": branch, **rest} if not rest and _are_heads(number) and _is_layers(branch):
            return number * width_after(branch, width)
    raise Invalid(
        f'a layer of the embedding is {dict(layer)}, expected {{"dense": units}}, perhaps with an "activation" of '
        f'{", ".join(ACTIVATIONS)}; {{"dropout": rate}}; {{"standardise": true}}; {{"whiten": units}}; '
        '{"project": units}; {"sum": [layers, layers]}; or {"heads": number, "of": layers}'
    )


def _is_layers(value: object) -> bool:
    return isinstance(value, list | tuple) and all(isinstance(layer, Mapping) for layer in value)


def _are_heads(number: int) -> bool:
    return not isinstance(number, bool) and 0 < number <= _MOST_HEADS


def _is_width(units: int) -> bool:
    return not isinstance(units, bool) and 0 < units <= _WIDEST


def _applied(layers: Sequence[Mapping[str, Any]], x: "keras.KerasTensor", name: str) -> tuple[Any, list[Any]]:
    """Return what new layers make of features, and those layers."""
    made: list[Any] = []
    for number, layer in enumerate(layers):
        here = f"{name}_{number}"
        if "sum" in layer or "heads" in layer:
            inner = layer["sum"] if "sum" in layer else [layer["of"]] * layer["heads"]
            branches = [_applied(branch, x, f"{here}_{place}") for place, branch in enumerate(inner)]
            made += [one for _, its in branches for one in its]
            x = _joined([end for end, _ in branches], here, added="sum" in layer)
        else:
            made.append(layer_of(layer, here))
            x = made[-1](x)
    return x, made


def _joined(ends: Sequence[Any], name: str, *, added: bool) -> Any:
    """Return what comes of branches: their sum, or each at length 1 beside the others."""
    import keras  # noqa: PLC0415

    if added:
        return keras.layers.Add(name=name, dtype="float32")(ends)
    units = [
        keras.layers.UnitNormalization(name=f"{name}_{place}_unit", dtype="float32")(end)
        for place, end in enumerate(ends)
    ]
    return keras.layers.Concatenate(name=name, dtype="float32")(units)


def layer_of(layer: Mapping[str, Any], name: str) -> "keras.Layer":
    """Return a new layer of an embedding, none of those that have branches, by what an architecture says of it."""
    import keras  # noqa: PLC0415, it imports TensorFlow

    options = {"name": name, "dtype": "float32"}
    if "dense" in layer:
        # Smaller at first than is usual: what is learned of thousands of features then holds better for new images.
        small = keras.initializers.VarianceScaling(_FIRST, "fan_in", "uniform")
        return keras.layers.Dense(layer["dense"], layer.get("activation"), kernel_initializer=small, **options)
    if "dropout" in layer:
        return keras.layers.Dropout(layer["dropout"], **options)
    # Until they are fitted, the others pass on the first features as they are.
    if "standardise" in layer:
        return keras.layers.BatchNormalization(center=False, scale=False, epsilon=0.0, trainable=False, **options)
    units, biased = (layer["whiten"], True) if "whiten" in layer else (layer["project"], False)
    return keras.layers.Dense(units, use_bias=biased, kernel_initializer="identity", trainable=False, **options)
