"""The parts of a system on empty servers."""

import pytest

from shared.tuning.cost_model import TYPICAL
from tests.support.indexing import Parts, parts_of
from tests.support.servers import Servers


@pytest.fixture
def parts(servers: Servers) -> Parts:
    return parts_of(servers.settings)


@pytest.fixture(autouse=True)
def fixed_costs(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is chosen does not depend on how busy the machine is."""
    monkeypatch.setattr("services.maintenance.cost_measurement.measure", lambda *_: TYPICAL)
