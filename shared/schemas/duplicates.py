"""Duplicates of a collection: reports, groups of images, and how many of those shown are duplicates."""

from typing_extensions import TypedDict  # pydantic wants this one before Python 3.12

from shared.duplicates.pairs import Pair
from shared.duplicates.report import DuplicateReport
from shared.duplicates.share import Share, Verdict


class DuplicateReportAnswer(TypedDict):
    """A search for duplicates: `compared` pairs were compared, `pairs` of them show the same.

    The pictures of `unreadable` images could not be read, so nothing is known of them.
    """

    id: str
    created: str
    seconds: float
    images: int
    compared: int
    unreadable: int
    pairs: int


class DuplicateReportsAnswer(TypedDict):
    """The searches for duplicates whose reports are kept, the newest first."""

    reports: list[DuplicateReportAnswer]


class PairAnswer(TypedDict):
    """A verified pair: `agreement` is how alike the pictures are where they are laid over each other, -1 to 1.

    `inliers` of their features lie over each other; 0 where the pixels decided. `ways` says how they differ:
    `identical` (in no pixel), `re-encoded`, or some of `resized`, `cropped`, `mirrored` and `retouched`.
    """

    a: int
    b: int
    agreement: float
    inliers: int
    ways: list[str]


class DuplicateImageAnswer(TypedDict):
    """An image of a group. `pair` is that of it and the image to keep; null for that image itself."""

    id: int
    name: str
    labels: list[str]
    width: int
    height: int
    media_type: str
    size: int
    values: int
    paths: list[str]
    thumbnail: str
    keep: bool
    pair: PairAnswer | None


class GroupAnswer(TypedDict):
    """Images that all show the same; `keep` is the id of the one to keep, for this `reason`."""

    keep: int
    reason: str
    images: list[DuplicateImageAnswer]


class DuplicateShareAnswer(TypedDict):
    """What share of the `pairs` that are shown are duplicates: from `low` to `high` with the probability `confidence`.

    It is told from `judged` pairs of a random sample, of which `same` are duplicates; null while none is judged. `next`
    is the pair to judge next.
    """

    pairs: int
    judged: int
    same: int
    share: float | None
    low: float | None
    high: float | None
    confidence: float
    next: PairAnswer | None


class GroupsAnswer(TypedDict):
    """A part of the groups, the largest first, of pairs whose agreement is at least `threshold`.

    `total` groups were found. One whose images were deleted since, but for one at most, is left out of `groups`.
    """

    report: DuplicateReportAnswer
    threshold: float
    share: DuplicateShareAnswer
    groups: list[GroupAnswer]
    total: int
    limit: int
    offset: int


class VerdictAnswer(TypedDict):
    """What is known of a pair by somebody's judgement; null: nothing."""

    a: int
    b: int
    verdict: Verdict | None


class MergeAnswer(TypedDict):
    """What an image was given of others: paths, labels, and values of these fields.

    `job` moves the others to the trash, and `url` is its path; null where that was not asked for.
    """

    keep: int
    merged: list[int]
    paths: list[str]
    labels: list[str]
    fields: list[str]
    job: str | None
    url: str | None


class DuplicateSearchAnswer(TypedDict):
    """A search for duplicates that is on its way: its job, whose id the report will have."""

    job: str
    url: str
    report: str


def report_answer(report: DuplicateReport) -> DuplicateReportAnswer:
    """Return what a list says of a report."""
    return DuplicateReportAnswer(
        id=report.id,
        created=report.created,
        seconds=report.seconds,
        images=report.images,
        compared=report.compared,
        unreadable=report.unreadable,
        pairs=len(report.pairs),
    )


def pair_answer(pair: Pair) -> PairAnswer:
    """Return a verified pair."""
    return PairAnswer(a=pair.a, b=pair.b, agreement=pair.agreement, inliers=pair.inliers, ways=list(pair.ways))


def share_answer(share: Share, confidence: float) -> DuplicateShareAnswer:
    """Return the share of duplicates."""
    return DuplicateShareAnswer(
        pairs=share.pairs,
        judged=share.judged,
        same=share.same,
        share=_rounded(share.share),
        low=_rounded(share.low),
        high=_rounded(share.high),
        confidence=confidence,
        next=None if share.next is None else pair_answer(share.next),
    )


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 4)
