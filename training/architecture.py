"""Architectures: what an embedding of an image is computed by, as data.

    backbone -> pooling -> layers of the embedding -> L2 normalisation, or none

`training.network` builds the network that an architecture describes. Making or reading an architecture loads neither
Keras nor TensorFlow.
"""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Final, Self

from shared.errors import Invalid
from training.backbones import Backbone, backbone_named, check_input_size
from training.pooling import check_pooling, pooled_width

ACTIVATIONS: Final = ("linear", "relu", "gelu", "silu", "tanh")

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


@dataclass(frozen=True)
class Architecture:
    """What an embedding of an image is computed by.

    Attributes:
        backbone: a name in `BACKBONES`.
        input_size: height and width of the input, in pixels.
        shorter_side: what an image's shorter side is resized to before the centre crop of `input_size`.
        pooling: a name in `POOLINGS`.
        embedding: the layers from pooled features to the embedding. Each is a mapping of one of these forms:
            {"dense": units} or {"dense": units, "activation": one of `ACTIVATIONS`};
            {"dropout": rate}, which acts in training alone;
            {"standardise": true}: subtracts each feature's mean and divides by its deviation, as
            `training.network.set_standardisation` gave them;
            {"whiten": units}: PCA-whitening, whose weights are not learned but come from
            `training.principal_axes.fit_whitening`;
            {"project": units}: a projection onto principal axes, whose weights are not learned but come from
            `training.principal_axes.fit_projection`;
            {"sum": [layers, layers, …]}: the sum of what branches of such layers make of the same features;
            {"heads": number, "of": layers}: so many branches of such layers, each with weights of its own and brought
            to length 1, side by side.
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
        _ = self.dim  # which checks the layers

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
            Invalid: the values are not such as `to_json` makes.
            NotFound: there is no such backbone or pooling.
        """
        if not isinstance(value, dict) or value.keys() != _JSON.keys():
            raise Invalid(f"an architecture is {value!r}, expected an object of {', '.join(_JSON)}")
        for name, kind in _JSON.items():
            if type(value[name]) is not kind:
                raise Invalid(f"an architecture's {name} is {value[name]!r}, expected a JSON {kind.__name__}")
        return cls(**{**value, "embedding": tuple(value["embedding"])})


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
