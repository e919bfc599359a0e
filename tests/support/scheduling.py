"""Which process runs which file of tests: as few whole systems as can be are kept running beside each other."""

import re
from functools import cache

from xdist.scheduler import LoadFileScheduling
from xdist.workermanage import WorkerController

from tests.support.paths import ROOT

_ASKS = re.compile(r"(?:def test_\w+|@pytest\.fixture[^\n]*\ndef \w+)\([^)]*\bstack: Stack\b")


@cache
def shares_the_stack(file: str) -> bool:
    """Return whether tests of a file, a path below the root, ask for the fixture ``stack``; a wrong guess costs time.

    The process that hands out the files has not imported them.
    """
    path = ROOT / file
    return any(_ASKS.search(each.read_text("utf-8")) for each in (path, path.with_name("conftest.py")) if each.exists())


class StackScheduling(LoadFileScheduling):  # type: ignore[misc]  # xdist has no types
    """Gives files that share the system of the session to the process that has it, as long as others are left."""

    _owner: WorkerController | None = None

    def _assign_work_unit(self, node: WorkerController) -> None:
        first = next((file for file in self.workqueue if shares_the_stack(file) == self._owns(node)), None)
        if first is not None:
            self.workqueue.move_to_end(first, last=False)
        super()._assign_work_unit(node)

    def _owns(self, node: WorkerController) -> bool:
        """Return whether a process has the system: the first that asks for work, at the start or after a crash."""
        if self._owner not in self.nodes:
            self._owner = node
        return node is self._owner
