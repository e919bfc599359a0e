"""An empty index on one server and on a cluster, and a client of it."""

import pytest

from shared.state import Client, connect


@pytest.fixture(params=["one server", "a cluster"])
def url(request: pytest.FixtureRequest) -> str:
    """The URL of an empty index."""
    if request.param == "a cluster":
        return str(request.getfixturevalue("cluster").url)
    return str(request.getfixturevalue("servers").settings.index_url.get_secret_value())


@pytest.fixture
def redis(url: str) -> Client:
    """A client of an empty index."""
    return connect(url)
