"""The tally: how many images all jobs together have accounted for since the index was empty."""

from collections import Counter
from dataclasses import dataclass

from shared.state.connection import Client, guarded
from shared.state.outcomes import Outcome

_KEY = "tally"


@dataclass(frozen=True)
class Tally:
    """Images by what became of them, whatever job they were of; `rejected` by code."""

    added: int
    duplicates: int
    rejected: dict[str, int]


def read_tally(client: Client) -> Tally:
    """Return how many images all jobs together have accounted for since the index was empty."""
    with guarded():
        found = {what.decode(): int(count) for what, count in client.hgetall(_KEY).items()}
    return Tally(
        added=found.get("added", 0),
        duplicates=found.get("duplicate", 0),
        rejected={what.partition(" ")[2]: count for what, count in found.items() if what.startswith("rejected ")},
    )


def add_to_tally(pipeline: Client, outcome: Outcome, *, times: int = 1) -> None:
    """Add an outcome to the tally, or take it out again; dying in between makes a rate a little wrong."""
    counts = Counter(f"rejected {rejection.code}" for rejection in outcome.rejected)
    counts.update(added=sum(outcome.added.values()), duplicate=outcome.duplicates)
    for what, count in counts.items():
        if count:
            pipeline.hincrby(_KEY, what, times * count)
