"""What the API answers about live recall: how much of the exact answer the index gives to those who search."""

from collections.abc import Sequence
from datetime import UTC, datetime

from typing_extensions import TypedDict  # pydantic wants this one before Python 3.12

from shared.state.recall_log import HOUR_S, HourOfRecall


class RecallHourAnswer(TypedDict):
    """An hour in which the index's answers were checked; `recall` is null if all that were to be were dropped."""

    hour: str
    sampled: int
    recall: float | None
    dropped: int


class RecallAnswer(TypedDict):
    """Live recall of a collection: the mean recall of the `sampled` answers that were checked by an exact scan.

    `dropped` more were to be checked, but came while too many waited. `hours` has those with something in them.
    """

    collection: str
    sampled: int
    recall: float | None
    dropped: int
    hours: list[RecallHourAnswer]


def recall_answer(collection: str, hours: Sequence[HourOfRecall]) -> RecallAnswer:
    """Return the live recall of some hours, and of all of them together."""
    whole = HourOfRecall(
        0, sum(hour.sampled for hour in hours), sum(hour.total for hour in hours), sum(hour.dropped for hour in hours)
    )
    return RecallAnswer(
        collection=collection,
        sampled=whole.sampled,
        recall=whole.recall,
        dropped=whole.dropped,
        hours=[
            RecallHourAnswer(hour=_time(hour), sampled=hour.sampled, recall=hour.recall, dropped=hour.dropped)
            for hour in hours
        ],
    )


def _time(hour: HourOfRecall) -> str:
    """Return the beginning of an hour as RFC 3339 in UTC."""
    return datetime.fromtimestamp(hour.hour * HOUR_S, UTC).isoformat().replace("+00:00", "Z")
