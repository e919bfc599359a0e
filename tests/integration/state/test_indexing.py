"""What the indexer says at the end of a segment is said whole or not at all, by one server and by a cluster."""

import pytest

from shared.errors import Closed, Fenced
from shared.state import Change, Client, State
from shared.state.outcomes import Outcome


def test_a_segment_is_noted_announced_and_counted(redis: Client) -> None:
    state = State.of(redis)
    position = state.changes.position()
    assert [state.indexing.complete("art", segment, "j", batch) for batch, segment in enumerate("aba")] == [1, 2, 3]
    assert state.indexed_segments.all("art") == {"a", "b"}
    found = state.changes.since(position)
    assert found is not None
    assert found[1] == [Change("art", "segment", segment) for segment in "aba"]  # twice, by a task that ran twice


@pytest.mark.parametrize("refusal", [Closed, Fenced])
def test_a_segment_that_is_refused_leaves_nothing(redis: Client, refusal: type[Exception]) -> None:
    state = State.of(redis)
    if refusal is Closed:
        state.indexed_segments.close("art")
    else:
        state.jobs.report("j", 0, Outcome({"": 1}))
    position = state.changes.position()
    with pytest.raises(refusal, match=r"'art' is about to change|has indexed batch 0 of the job 'j'"):
        state.indexing.complete("art", "a", "j", 0)
    assert state.indexed_segments.all("art") == set()
    assert state.changes.position() == position
    assert state.since_compaction.add_segment("art") == 1
    with pytest.raises(Closed) if refusal is Closed else pytest.raises(Fenced):
        state.indexing.complete("art", "b", "j", 0)
    state.indexed_segments.open("art")
    assert state.indexing.complete("art", "a", "j", 1) == 2
