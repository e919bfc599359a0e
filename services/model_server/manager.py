"""Loads and unloads versions of models as the model config and the models' folders say, and hands out servables.

A new version is loaded beside the old ones. An old version is unloaded only once a new one can be served. A version
that cannot be loaded is reported, and tried again when its files have changed.
"""

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import tensorflow as tf
from tensorflow_serving.apis import get_model_status_pb2, model_pb2
from tensorflow_serving.config import model_server_config_pb2

from services.model_server.servable import Servable
from services.model_server.status import StatusError, failed_precondition, invalid_argument, not_found
from services.model_server.versions import Aspired, aspired_versions

log = logging.getLogger(__name__)

State = get_model_status_pb2.ModelVersionStatus

_Labels = dict[str, dict[str, int]]
_Files = tuple[tuple[str, int, int], ...]


@dataclass
class Version:
    """A version that is, or was, in a model's folder and asked for by its policy."""

    folder: Path
    state: int = State.START
    error: StatusError | None = None
    servable: Servable | None = None
    failed_files: _Files | None = None
    """The folder's files when loading failed; while they are the same, loading would fail again."""


class ServableManager:
    """Loads, unloads and finds servables. Every method may be called from any thread."""

    def __init__(
        self,
        config: tf.compat.v1.ConfigProto,
        *,
        labels_before_versions: bool = False,
        on_change: Callable[[], None] = lambda: None,
    ) -> None:
        """Begin with no model.

        Args:
            config: of the sessions that the models run in.
            labels_before_versions: whether a label that is new may name a version that cannot be served yet.
            on_change: called after what can be served has changed.
        """
        self._config = config
        self._labels_before_versions = labels_before_versions
        self._on_change = on_change
        self._work = threading.RLock()
        """Held while versions are loaded and unloaded, for as long as that takes."""
        self._lock = threading.Lock()
        """Held to read or change the maps below, never for long."""
        self._models: dict[str, model_server_config_pb2.ModelConfig] = {}
        self._versions: dict[str, dict[int, Version]] = {}
        self._labels: _Labels = {}
        self._remarks: dict[str, str] = {}

    def apply(self, models: model_server_config_pb2.ModelConfigList) -> None:
        """Serve these models instead of the ones before; returns when their versions are loaded or have failed.

        Raises:
            StatusError: a label names a version that cannot be served. Nothing is changed then, unless this was the
                first config: its labels can only be checked once its versions are loaded.
        """
        with self._work:
            first = not self._models
            labels = {} if first else self._checked_labels(models)
            with self._lock:
                self._models = {model.name: model for model in models.config}
                self._labels = labels
            self.poll()
            if first:
                labels = self._checked_labels(models)
                with self._lock:
                    self._labels = labels
        self._on_change()

    def poll(self) -> None:
        """Look at the models' folders once, and load and unload what they and the config ask for."""
        with self._work:
            with self._lock:
                models = dict(self._models)
                names = [*models, *(name for name in self._versions if name not in models)]
            for name in names:
                try:
                    aspired = aspired_versions(models[name]) if name in models else Aspired({}, "")
                except OSError as error:
                    self._remark(name, f"its base path cannot be read, so nothing is changed: {error}")
                    continue
                self._remark(name, aspired.remark)
                self._reconcile(name, aspired.versions)

    @contextmanager
    def using(self, spec: model_pb2.ModelSpec) -> Iterator[Servable]:
        """Give the servable that a request's model spec names; it stays loaded inside the `with`.

        Raises:
            StatusError: there is no such servable.
        """
        with self._lock:
            servable = self._find(spec)
            servable.acquire()
        try:
            yield servable
        finally:
            servable.release()

    def states(self, name: str) -> dict[int, tuple[int, StatusError | None]]:
        """Return state and error of every version of a model that was ever seen, by version."""
        with self._lock:
            return {number: (version.state, version.error) for number, version in self._versions.get(name, {}).items()}

    def missing(self) -> list[str]:
        """Return the configured models of which no version can be served, each with the reason if it is known."""
        with self._lock:
            versions = {name: self._versions.get(name, {}).values() for name in self._models}
            return [
                f"{name} ({'; '.join(str(version.error) for version in found if version.error) or 'no version found'})"
                for name, found in versions.items()
                if not any(version.state == State.AVAILABLE for version in found)
            ]

    def close(self) -> None:
        """Unload everything, after the calls that are running."""
        with self._work:
            for name in list(self._versions):
                self._reconcile(name, {})

    def _remark(self, name: str, remark: str) -> None:
        """Log a remark about a model's folder, once for as long as it holds."""
        if remark and self._remarks.get(name) != remark:
            log.warning("model %s: %s", name, remark)
        self._remarks[name] = remark

    def _reconcile(self, name: str, aspired: dict[int, Path]) -> None:
        with self._lock:
            versions = self._versions.setdefault(name, {})
        for number, folder in aspired.items():
            version = versions.get(number)
            if version is None or (version.state == State.END and version.failed_files != _files(folder)):
                version = Version(folder)
                with self._lock:
                    versions[number] = version
                self._load(name, number, version)
        available = {number for number, version in versions.items() if version.state == State.AVAILABLE}
        outdated = sorted(available - set(aspired))
        if aspired and not available & set(aspired):
            outdated = outdated[:-1]  # better the old version than none
        for number in outdated:
            self._unload(name, number, versions[number])

    def _load(self, name: str, number: int, version: Version) -> None:
        files = _files(version.folder)
        self._set(version, State.LOADING)
        try:
            version.servable = Servable(name, number, version.folder, self._config)
        except StatusError as error:
            log.error("model %s version %d cannot be loaded: %s", name, number, error)
            version.failed_files = files
            self._set(version, State.END, error)
            return
        self._set(version, State.AVAILABLE)
        log.info("model %s version %d is served", name, number)

    def _unload(self, name: str, number: int, version: Version) -> None:
        self._set(version, State.UNLOADING)
        if version.servable:
            version.servable.close()
        version.servable = None
        self._set(version, State.END)
        log.info("model %s version %d is unloaded", name, number)

    def _set(self, version: Version, state: int, error: StatusError | None = None) -> None:
        with self._lock:
            version.state, version.error = state, error
        self._on_change()

    def _find(self, spec: model_pb2.ModelSpec) -> Servable:
        if not spec.name:
            raise invalid_argument("ModelSpec has no name specified.")
        match spec.WhichOneof("version_choice"):
            case "version":
                number: int | None = spec.version.value
            case "version_label":
                number = self._labels.get(spec.name, {}).get(spec.version_label)
                if number is None:
                    raise invalid_argument(f"Unrecognized servable version label: {spec.version_label}")
            case _:
                number = None
        available = {
            known: version.servable
            for known, version in self._versions.get(spec.name, {}).items()
            if version.state == State.AVAILABLE and version.servable
        }
        servable = available.get(max(available, default=0) if number is None else number)
        if servable is None:
            request = f"Latest({spec.name})" if number is None else f"Specific({spec.name}, {number})"
            raise not_found(f"Servable not found for request: {request}")
        return servable

    def _checked_labels(self, models: model_server_config_pb2.ModelConfigList) -> _Labels:
        with self._lock:
            labels: _Labels = {}
            for model in models.config:
                for label, number in model.version_labels.items():
                    version = self._versions.get(model.name, {}).get(number)
                    moved = self._labels.get(model.name, {}).get(label, number) != number
                    early = self._labels_before_versions and not moved
                    if not early and (version is None or version.state != State.AVAILABLE):
                        raise failed_precondition(
                            f"Request to assign label to version {number} of model {model.name}, "
                            "which is not currently available for inference"
                        )
                    labels.setdefault(model.name, {})[label] = number
            return labels


def _files(folder: Path) -> _Files:
    """Return path, size and time of change of every file in `folder`: equal as long as nothing has changed."""
    try:
        stats = ((path, path.stat()) for path in sorted(folder.rglob("*")) if path.is_file())
        return tuple((str(path), stat.st_size, stat.st_mtime_ns) for path, stat in stats)
    except OSError:  # a file went away meanwhile
        return ()
