"""The parts of a system on empty servers."""

import pytest

from tests.support.indexing import Parts, parts_of
from tests.support.servers import Servers


@pytest.fixture
def parts(servers: Servers) -> Parts:
    return parts_of(servers.settings)
