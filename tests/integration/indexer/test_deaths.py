"""A task that dies anywhere and runs again ends as if it had run once."""

from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

from shared.state import IndexState
from shared.state.jobs import Kind
from shared.state.outcomes import Outcome
from shared.storage import layout
from shared.storage.catalog import EmbeddingSet
from tests.support import rows
from tests.support.deaths import moments
from tests.support.indexing import Died, Parts
from tests.support.servers import Servers


def make_ready(parts: Parts) -> EmbeddingSet:
    """Make two collections that share images; the first has a generation, an unindexed segment and a deleted row."""
    art, other = parts.collection(), parts.collection("other")
    parts.add(art, "a", range(6))
    parts.add(other, "x", [4, 5])
    parts.maintenance().tuner.maintain(collection="art")
    parts.write(art, "b", [6, 7])
    parts.store.put(layout.segment_key("art", "b"), rows.segment([5, 6, 7], art))  # 5 is a's
    parts.catalog.add_tombstones("art", [("a", rows.image_id(0))])
    parts.state.claims.release("art", "a", [rows.image_id(0)])
    return art


LABELS = Outcome(dict(Counter(rows.entry(number).label or "" for number in (5, 6, 7))))


TASKS: dict[str, tuple[Kind, Callable[[Parts, list[int]], None]]] = {
    "index": (
        "ingest",
        lambda parts, life: parts.indexer(life).segments.index(
            set_name="art", segment="b", job="task", batch=0, outcome=LABELS
        ),
    ),
    "delete": (
        "delete",
        lambda parts, life: parts.indexer(life).deletion.delete(
            job="task", collection="art", image_ids=rows.ids([1, 4, 2])
        ),
    ),
    "drop": ("drop", lambda parts, life: parts.maintenance(life).dropper.drop(job="task", collection="art")),
    "maintain": (
        "maintain",
        lambda parts, life: parts.maintenance(life).tuner.maintain(job="task", collection="art"),
    ),
    "rebuild": (
        "rebuild",
        lambda parts, life: parts.maintenance(life).rebuilder.rebuild(job="task", collection="art"),
    ),
    "rebuild and fit": (
        "rebuild",
        lambda parts, life: parts.maintenance(life).rebuilder.rebuild(job="task", collection="art", fit=True),
    ),
}


@pytest.mark.parametrize("task", TASKS)
def test_a_task_that_dies_anywhere_and_runs_again_ends_as_if_it_had_run_once(
    parts: Parts, servers: Servers, task: str
) -> None:
    kind, run = TASKS[task]
    wanted: dict[str, Any] = {}
    lives = [0]
    for life in lives:
        art = make_ready(parts)
        if task == "maintain":
            parts.state.index_states.set("art", IndexState(1, 0, 3))  # outgrown
        parts.job("task", kind=kind)
        left = [life]
        try:
            run(parts, left)
        except Died:
            run(parts, [0])
        found = parts.snapshot(art)
        if life == 0:
            wanted = found
            calls = -left[0]
            lives += moments(calls, 8)
        assert found == wanted, f"it died at call {life} of {calls}"
        servers.empty()
        parts.store.ensure_bucket()
    assert len(lives) > 8
