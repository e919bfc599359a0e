"""What two hashes of a job hold: the outcome of each batch, and how many pages a batch of pages has; both are summed.

The outcome of a batch that is counted has a format, and that of a batch of pages a plus sign. Versions before the sums
wrote neither.
"""

import json
from typing import Final

from shared.state.connection import Client
from shared.state.job_list import KEPT_S
from shared.state.outcomes import Counts, Outcome
from shared.state.running_sums import Entry, RunningSums, Sums
from shared.versioned import FIELD, StoredKind

_OUTCOME: Final = StoredKind("outcome of batch", newest=2)
_COUNTED: Final = "+"
_IMAGES: Final = "images"


def batches_key(job: str) -> str:
    """Return the key of the outcomes of a job's batches."""
    return f"job:{job}:batches"


def pages_key(job: str) -> str:
    """Return the key of the numbers of pages of a job's batches of pages."""
    return f"job:{job}:pages"


def batch_sums(client: Client) -> RunningSums:
    """Return what sums up the outcomes of batches."""
    return RunningSums(client, mark=f'{{"{FIELD}":', read=_older_outcome, kept_s=KEPT_S)


def page_sums(client: Client) -> RunningSums:
    """Return what sums up the numbers of pages."""
    return RunningSums(client, mark=_COUNTED, read=_older_pages, kept_s=KEPT_S)


def outcome_entry(batch: int | str, outcome: Outcome) -> Entry:
    """Return the entry of a batch's outcome."""
    value = json.dumps({FIELD: _OUTCOME.newest, **outcome.to_json()}, separators=(",", ":"))
    reason = json.dumps(outcome.rejected[0].reason) if outcome.rejected else ""
    return Entry(str(batch), value, outcome.amounts, reason)


def read_outcome(batch: int | str, value: bytes) -> Outcome:
    """Return the outcome that an entry holds.

    Raises:
        TooNew: A newer version of Artseek wrote it.
    """
    return _OUTCOME.loads(value, Outcome.from_json, place=str(batch))


def counts_of(sums: Sums) -> Counts:
    """Return what the summed outcomes come to."""
    return Counts.of(sums.amounts, json.loads(sums.text) if sums.text else "")


def pages_entry(batch: int | str, pages: int) -> Entry:
    """Return the entry of a batch of pages."""
    return Entry(str(batch), f"{_COUNTED}{pages}", {_IMAGES: pages})


def pages_of(sums: Sums) -> int:
    """Return how many pages the summed batches have."""
    return sums.amounts.get(_IMAGES, 0)


def _older_outcome(batch: str, value: bytes) -> Entry:
    return outcome_entry(batch, read_outcome(batch, value))


def _older_pages(batch: str, value: bytes) -> Entry:
    return pages_entry(batch, int(value))
