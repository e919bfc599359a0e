"""Weights files in Keras' own formats, read into a network after every shape has been checked.

Two layouts are known, each by its content, whatever the file is named:

- Keras 2's `.h5`, which Keras Applications publishes: the file, or its group `model_weights`, lists its layers in the
  attribute `layer_names`, and each layer its arrays in `weight_names`. Layers are matched by their order.
- Keras 3's `.weights.h5`, which lies as `model.weights.h5` in a `.keras` archive too: `layers/<class>_<number>/vars/0`,
  …. Layers are matched by class and number.

Both are the rules that Keras follows itself. A classifier on top, which the network does not have, is passed over.
Arrays are all that is read: no configuration, no pickle, and no link that leads to another file.
"""

import re
import shutil
import tempfile
import zipfile
import zlib
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, NamedTuple

import h5py
import keras
import numpy as np

from training.weights import WeightsError

MEMBER: Final = "model.weights.h5"
LARGEST: Final = 4 << 30
"""Bytes of weights in an archive beyond which it is not unpacked."""

_HDF5: Final = b"\x89HDF\r\n\x1a\n"
_ZIP: Final = b"PK\x03\x04"
_REMEDY: Final = "expected a .h5, .weights.h5 or .keras file that Keras has written"
_MATRIX: Final = 2  # axes of a dense kernel


class _Stored(NamedTuple):
    """The arrays of a layer, in its file."""

    name: str
    arrays: tuple[h5py.Dataset, ...]

    @property
    def shapes(self) -> list[tuple[int, ...]]:
        return [array.shape for array in self.arrays]


def load(network: keras.Model, path: Path) -> None:
    """Put a file's weights into a network; if they do not fit, the network is left as it was.

    Raises:
        WeightsError: the file is of another kind, damaged, or of another network; the message names the first layer
            that does not fit, with the shapes found and expected.
    """
    layers = [layer for layer in network.layers if layer.weights]
    try:
        with _opened(path) as file:
            root = file.get("model_weights", file)
            if "layer_names" in root.attrs or "layer_names0" in root.attrs:
                pairs = _in_order(layers, list(_layers_of_keras_2(root)), network.name)
            elif "layers" in file:
                pairs = _by_number(network, layers, {stored.name: stored for stored in _layers_of_keras_3(file)})
            else:
                raise WeightsError(f"it is HDF5 with {sorted(file)[:5]} in it; {_REMEDY}")
            values = [[np.asarray(array, np.float32) for array in stored.arrays] for _, stored in pairs]
    except WeightsError as error:
        raise WeightsError(f"{path}: {error}") from error
    except (OSError, LookupError, RuntimeError, TypeError, ValueError, zipfile.BadZipFile, zlib.error) as error:
        raise WeightsError(f"{path} is damaged or cut short ({error}); {_REMEDY}") from error
    for (layer, _), arrays in zip(pairs, values, strict=True):
        layer.set_weights(arrays)


@contextmanager
def _opened(path: Path) -> Iterator[h5py.File]:
    with path.open("rb") as file:
        start = file.read(len(_HDF5))
    if start == _HDF5:
        with h5py.File(path, "r") as weights:
            yield weights
    elif start.startswith(_ZIP):
        with zipfile.ZipFile(path) as archive, tempfile.TemporaryFile() as unpacked:
            if MEMBER not in archive.namelist():
                raise WeightsError(f"it is a zip archive without {MEMBER}; {_REMEDY}")
            if (size := archive.getinfo(MEMBER).file_size) > LARGEST:
                raise WeightsError(f"its {MEMBER} would take {size} bytes, expected at most {LARGEST}")
            with archive.open(MEMBER) as member:
                shutil.copyfileobj(member, unpacked)
            with h5py.File(unpacked, "r") as weights:
                yield weights
    else:
        raise WeightsError(f"it starts with {start!r}; {_REMEDY}")


def _layers_of_keras_2(root: h5py.Group) -> Iterator[_Stored]:
    """Yield the layers that have weights, in the order of their network."""
    for name in _attribute(root, "layer_names"):
        group = _member(root, name, h5py.Group)
        arrays = tuple(_member(group, weight, h5py.Dataset) for weight in _attribute(group, "weight_names"))
        if arrays:
            yield _Stored(name, arrays)


def _layers_of_keras_3(file: h5py.File) -> Iterator[_Stored]:
    """Yield the layers that have weights, by class and number."""
    group = _member(file, "layers", h5py.Group)
    for name in group:
        layer = _member(group, name, h5py.Group)
        variables = _member(layer, "vars", h5py.Group) if "vars" in layer else {}
        arrays = tuple(_member(variables, str(number), h5py.Dataset) for number in range(len(variables)))
        if arrays:
            yield _Stored(name, arrays)


def _attribute(group: h5py.Group, name: str) -> list[str]:
    """Return an attribute that is a list of names; Keras cuts a long one into numbered parts."""
    parts = [name] if name in group.attrs else [f"{name}{number}" for number in range(len(group.attrs))]
    names = [name for part in parts for name in group.attrs.get(part, ())]
    return [name.decode() if isinstance(name, bytes) else str(name) for name in names]


def _member(group: h5py.Group, path: str, kind: type) -> Any:
    """Return what lies in this file at `path`: nothing that a link or an external storage points to."""
    found = group
    for name in path.split("/"):
        if not isinstance(found.get(name, getlink=True), h5py.HardLink):
            raise WeightsError(f"{path} in it is missing, or a link to elsewhere; {_REMEDY}")
        found = found[name]
    if not isinstance(found, kind) or (isinstance(found, h5py.Dataset) and (found.external or found.is_virtual)):
        raise WeightsError(f"{path} in it is no {kind.__name__.lower()} of its own; {_REMEDY}")
    return found


def _in_order(layers: list[keras.Layer], found: list[_Stored], name: str) -> list[tuple[keras.Layer, _Stored]]:
    for layer, stored in zip(layers, found, strict=False):
        _check(layer, stored, name)
    if len(found) < len(layers):
        raise _missing(layers[len(found)], name)
    _check_rest(found[len(layers) :], name)
    return list(zip(layers, found, strict=False))


def _by_number(
    network: keras.Model, layers: list[keras.Layer], found: Mapping[str, _Stored]
) -> list[tuple[keras.Layer, _Stored]]:
    numbered = _numbered(network)
    pairs = []
    for layer in layers:
        stored = found.get(numbered[layer.name])
        if stored is None:
            raise _missing(layer, network.name)
        _check(layer, stored, network.name)
        pairs.append((layer, stored))
    known = {stored.name for _, stored in pairs}
    _check_rest([stored for stored in found.values() if stored.name not in known], network.name)
    return pairs


def _numbered(network: keras.Model) -> dict[str, str]:
    """Return, by its name, what Keras 3 calls a layer in a file: conv2d, conv2d_1, …, batch_normalization, …."""
    counts: Counter[str] = Counter()
    names = {}
    for layer in network.layers:
        kind = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", type(layer).__name__).lower()
        names[layer.name] = f"{kind}_{counts[kind]}" if counts[kind] else kind
        counts[kind] += 1
    return names


def _check(layer: keras.Layer, stored: _Stored, name: str) -> None:
    expected = [tuple(weight.shape) for weight in layer.weights]
    if stored.shapes != expected:
        raise WeightsError(
            f"the layer {layer.name} has the shapes {stored.shapes} (there: {stored.name}), expected {expected}; "
            f"take a file of {name}"
        )
    for array in stored.arrays:
        if array.dtype.kind != "f":
            raise WeightsError(f"the layer {layer.name} has values of type {array.dtype}, expected floating point")


def _missing(layer: keras.Layer, name: str) -> WeightsError:
    expected = [tuple(weight.shape) for weight in layer.weights]
    return WeightsError(f"it has no layer {layer.name}, expected the shapes {expected}; take a file of {name}")


def _check_rest(rest: list[_Stored], name: str) -> None:
    """Refuse layers that the network does not have, but for those of a classifier."""
    for stored in rest:
        if any(len(shape) > _MATRIX for shape in stored.shapes):
            raise WeightsError(
                f"the layer {stored.name} has the shapes {stored.shapes}, and {name} has no such layer; "
                f"take a file of {name}"
            )
