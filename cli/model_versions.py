"""The model versions that are exported, served or used, and whether what is served is what was exported."""

import json
import logging
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypedDict

from shared.clients import ConnectModel
from shared.errors import ArtseekError
from shared.model_config import MANIFEST
from shared.rpc.serving import ModelNotFound, ServingError, golden
from shared.storage.catalog import Catalog

_log = logging.getLogger(__name__)

_PATIENCE_S = 5.0

Version = tuple[str, int]
"""A model's name and the number of its version."""


class ModelAnswer(TypedDict):
    """A model version; what its manifest does not say is null.

    `figures` has the metrics of its training. `served` is null where the model server does not answer; `error` is what
    the server says against the version.
    """

    model: str
    version: int
    backbone: str | None
    input_size: int | None
    dim: int | None
    normalised: bool | None
    recipe: str | None
    figures: dict[str, float]
    served: bool | None
    error: str
    collections: list[str]


class ModelCheckAnswer(TypedDict):
    """How far the embeddings that a version gives are from its golden vectors, or what speaks against it."""

    model: str
    version: int
    difference: float | None
    error: str


def model_versions(folder: Path, connect: ConnectModel, catalog: Catalog) -> list[ModelAnswer]:
    """Return the model versions that are exported, served or used, by name and version.

    Args:
        folder: Folder of the exported models.
        connect: connects to a model at the model server.
        catalog: Knows which collection uses which version.
    """
    manifests = {version: _read_manifest(path) for version, path in exported_versions(folder).items()}
    users: defaultdict[Version, list[str]] = defaultdict(list)
    for name in catalog.names():
        try:
            embedding_set = catalog.get(name)
        except ArtseekError as error:
            _log.error("which model %s uses is not known: %s", name, error)
            continue
        users[embedding_set.model, embedding_set.version].append(name)
    states = _states(connect, sorted({name for name, _ in (*manifests, *users)}))
    known = manifests.keys() | users.keys() | {version for version, (served, _) in states.items() if served}
    return [_model_answer(version, manifests, users, states) for version in sorted(known)]


def exported_versions(folder: Path) -> dict[Version, Path]:
    """Return the manifests of the versions that are exported to a folder."""
    return {(path.parts[-4], int(path.parts[-3])): path for path in folder.glob(f"*/[0-9]*/{MANIFEST}")}


def check_version(folder: Path, connect: ConnectModel) -> ModelCheckAnswer:
    """Compare what the model server that `connect` reaches gives with the golden vectors of the version in a folder."""
    name, version = folder.parent.name, int(folder.name)
    answer = ModelCheckAnswer(model=name, version=version, difference=None, error="")
    try:
        with connect(name, version) as serving:
            answer["difference"] = golden.check(folder, serving.embed)
    except ArtseekError as error:
        answer["error"] = str(error)
    return answer


def _model_answer(
    version: Version,
    manifests: Mapping[Version, dict[str, Any]],
    users: Mapping[Version, list[str]],
    states: Mapping[Version, tuple[bool | None, str]],
) -> ModelAnswer:
    manifest = manifests.get(version, {})
    served, error = states.get(version, states.get((version[0], 0), (False, "")))
    training = manifest.get("training", {})
    recipe = training.get("run", {}).get("recipe", {})
    return ModelAnswer(
        model=version[0],
        version=version[1],
        backbone=manifest.get("backbone"),
        input_size=manifest.get("input_size"),
        dim=manifest.get("dim"),
        normalised=manifest.get("normalised"),
        recipe=recipe.get("name") if isinstance(recipe, dict) else None,
        figures=_training_metrics(training),
        served=served,
        error=error,
        collections=users.get(version, []),
    )


def _training_metrics(training: dict[str, Any]) -> dict[str, float]:
    """Return the metrics in the manifest's part on the training."""
    search = training.get("search") or {}
    background = search.get("background") or {}
    values = search | {f"{key}_background": value for key, value in background.items()} | training
    return {
        key: value for key, value in values.items() if isinstance(value, int | float) and not isinstance(value, bool)
    }


def _read_manifest(path: Path) -> dict[str, Any]:
    try:
        manifest = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError):  # the file is being replaced, or is damaged: the model server says which
        return {}
    return manifest if isinstance(manifest, dict) else {}


def _states(connect: ConnectModel, names: list[str]) -> dict[Version, tuple[bool | None, str]]:
    """Return whether each version is served, and what the server says against it; version 0 stands for all others."""
    states: dict[Version, tuple[bool | None, str]] = {}
    for name in names:
        try:
            with connect(name, None) as serving:
                for status in serving.status(_PATIENCE_S):
                    states[name, status.version] = (status.state == "AVAILABLE", status.error)
        except ModelNotFound:
            states[name, 0] = (False, "")
        except ServingError:
            return {(other, 0): (None, "") for other in names}
    return states
