"""A collection whose regions can be indexed."""

from collections.abc import Iterator

import pytest

from tests.support.model_changes import serving_both
from tests.support.model_servers import ModelServerProcess
from tests.support.regions import RegionSystem
from tests.support.servers import Servers


@pytest.fixture(scope="package")
def model_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ModelServerProcess]:
    """A server of the models `old` and `new`, whose embeddings differ in length."""
    with serving_both(tmp_path_factory.mktemp("models")) as running:
        yield running


@pytest.fixture
def system(servers: Servers, model_server: ModelServerProcess) -> RegionSystem:
    return RegionSystem(servers, model_server)
