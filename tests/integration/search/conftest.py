"""Makes systems to search."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.query_system import MakeSystem, System
from tests.support.servers import Servers


@pytest.fixture
def make(servers: Servers, tmp_path: Path) -> Iterator[MakeSystem]:
    made: list[System] = []

    def start(kind: str = "normalised", **options: Any) -> System:
        made.append(System(servers, tmp_path, kind, **options))
        return made[-1]

    yield start
    for system in made:
        system.replica_sync.stop()
