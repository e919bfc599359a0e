"""The folder of a training run: what is being trained, its state after the last epoch, and its result.

Every file is written beside its place and moved there whole. A run that is killed therefore goes on from the last epoch
that ended, or from the last part of the frozen outputs that was computed.
"""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from shared.errors import Invalid

Arrays = Mapping[str, npt.NDArray[Any]]

_ABOUT = "run.json"
_STATE = "state.npz"
_VALUES = "values"


class Run:
    """A run in its folder, made by `open`."""

    def __init__(self, folder: Path, about: dict[str, Any]) -> None:
        self.folder, self.about = folder, about

    @classmethod
    def open(cls, folder: Path, about: dict[str, Any]) -> Self:
        """Return the run in a folder, begun now if there is none; `about` has all that its result depends on.

        Raises:
            Invalid: The folder holds another run, or something else; the message says where the runs differ.
        """
        path = folder / _ABOUT
        if not path.exists():
            if folder.exists() and any(folder.iterdir()):
                raise Invalid(f"{str(folder)!r} is not empty and holds no training run; choose another folder")
            folder.mkdir(parents=True, exist_ok=True)
            _write(path, json.dumps(about, indent=2).encode())
            return cls(folder, about)
        try:
            found = json.loads(path.read_text("utf-8"))
        except (OSError, ValueError) as error:
            raise Invalid(f"{str(path)!r} cannot be read ({error}); choose another folder") from error
        if found != json.loads(json.dumps(about)):
            different = [key for key in sorted({*found, *about}) if found.get(key) != about.get(key)]
            raise Invalid(
                f"{str(folder)!r} holds a run that differs in {', '.join(different)}; "
                "choose another folder, or remove that one"
            )
        return cls(folder, about)

    def path(self, name: str) -> Path:
        """Return where a file of the run is."""
        return self.folder / name

    # The state after an epoch

    def save(self, arrays: Arrays, values: dict[str, Any]) -> None:
        """Save the state of the run: arrays by their names, and JSON values."""
        part = self.path(f"{_STATE}.part")
        with part.open("wb") as file:
            np.savez(
                file, allow_pickle=False, **{_VALUES: np.frombuffer(json.dumps(values).encode(), np.uint8)}, **arrays
            )
        part.replace(self.path(_STATE))

    def saved(self) -> tuple[dict[str, npt.NDArray[Any]], dict[str, Any]] | None:
        """Return the state that was saved last; None if none was.

        Raises:
            Invalid: It cannot be read.
        """
        path = self.path(_STATE)
        if not path.exists():
            return None
        try:
            with np.load(path, allow_pickle=False) as file:
                arrays = dict(file)
            values = json.loads(arrays.pop(_VALUES).tobytes())
        except (OSError, ValueError, KeyError) as error:
            raise Invalid(f"{str(path)!r} is damaged ({error}); remove it, and the run begins anew") from error
        return arrays, values

    # The result

    def write(self, name: str, data: bytes) -> None:
        """Write a file of the run."""
        _write(self.path(name), data)

    def result(self) -> dict[str, Any] | None:
        """Return the result of the run; None until it has ended."""
        path = self.path("report.json")
        return dict(json.loads(path.read_text("utf-8"))) if path.exists() else None

    def clear(self) -> None:
        """Remove what only an unfinished run needs."""
        for pattern in ("frozen-*", _STATE, "*.part"):
            for path in self.folder.glob(pattern):
                path.unlink()


class StoredOutputs:
    """Outputs of a frozen network, [n, …] in half or single precision, in a file that is filled from the front.

    Attributes:
        values: The file as an array.
        count: How many outputs were written.
    """

    def __init__(self, path: Path, shape: tuple[int, ...], dtype: npt.DTypeLike) -> None:
        """Open the file; make it if there is none, or if it has another shape or type."""
        self._path, self._mark = path, path.with_suffix(".count")
        try:
            self.values = np.lib.format.open_memmap(path, mode="r+")
            self.count = int(self._mark.read_text("ascii"))
            if self.values.shape != shape or self.values.dtype != dtype:
                raise ValueError
        except (OSError, ValueError):
            self._mark.unlink(missing_ok=True)
            self.values = np.lib.format.open_memmap(path, mode="w+", dtype=dtype, shape=shape)
            self.count = 0

    def append(self, outputs: npt.NDArray[np.float32]) -> None:
        """Write the outputs that come next."""
        self.values[self.count : self.count + len(outputs)] = outputs
        self.values.flush()
        self.count += len(outputs)
        _write(self._mark, str(self.count).encode())


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold the lock of a run's folder, so that no second process trains in it.

    Raises:
        Invalid: Another process holds the lock.
    """
    import fcntl  # noqa: PLC0415 -- not there on every system that can import this

    folder.parent.mkdir(parents=True, exist_ok=True)
    with (folder.parent / f".{folder.name}.lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise Invalid(
                f"another process is training in {str(folder)!r}; wait for it, or choose another folder"
            ) from error
        yield


def _write(path: Path, data: bytes) -> None:
    part = path.with_name(f"{path.name}.part")
    part.write_bytes(data)
    part.replace(path)
