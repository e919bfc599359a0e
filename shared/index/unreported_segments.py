"""Segments whose batch is not reported yet."""

from collections import defaultdict
from collections.abc import Iterable

from shared.state import Jobs
from shared.storage import layout


def unreported_segments(jobs: Jobs, names: Iterable[str]) -> set[str]:
    """Return the segments whose batch is not reported yet: their task may be given to another worker."""
    batches: defaultdict[str, dict[int, str]] = defaultdict(dict)
    for segment in names:
        if (batch := layout.batch_of(segment)) is not None:
            batches[batch[0]][batch[1]] = segment
    found = set()
    for job, numbers in batches.items():
        reported = jobs.reported_among(job, list(numbers))
        if reported is not None:
            found |= {segment for number, segment in numbers.items() if number not in reported}
    return found
