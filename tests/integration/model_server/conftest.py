"""Model servers that several tests ask."""

import shutil
from collections.abc import Iterator

import pytest

from tests.support.model_servers import ModelServerProcess, save_tiny, serving
from tests.support.stack import exported_models


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ModelServerProcess]:
    """A server of the tiny model's versions 1 and 2, with the label "stable" on 1."""
    models = tmp_path_factory.mktemp("tiny")
    for version in (1, 2):
        save_tiny(models / "tiny" / str(version), factor=version)
    rest = 'model_version_policy { all { } } version_labels { key: "stable" value: 1 }'
    with serving(models, f"tiny {rest}") as server:
        yield server


@pytest.fixture(scope="session")
def default(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ModelServerProcess]:
    """A server of the default model, as the command exports it that users run."""
    models = tmp_path_factory.mktemp("default") / "models"
    shutil.copytree(exported_models(), models)
    with serving(models, "efficientnet-lite0") as server:
        yield server
