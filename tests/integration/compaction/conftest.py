"""Parts on empty servers, and merges of few segments."""

import pytest

from services.maintenance import merge_plan
from shared.index import compaction_due
from tests.support.indexing import Parts, parts_of
from tests.support.servers import Servers


@pytest.fixture
def parts(servers: Servers) -> Parts:
    return parts_of(servers.settings, originals=False)


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    """Five segments are enough for a merge, so that fewer calls have to be died at."""
    for module in (merge_plan, compaction_due):
        monkeypatch.setattr(module, "FAN_IN", 5)
