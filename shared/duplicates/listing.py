"""The groups of a report as API, page and command show them: with what the collection says of the images now."""

from collections.abc import Mapping, Sequence
from typing import Final

from shared.duplicates.choosing import best_of, record_size
from shared.duplicates.grouping import groups_of
from shared.duplicates.pairs import Pair, ordered
from shared.duplicates.report import DuplicateReport
from shared.duplicates.share import CONFIDENCE, share_of
from shared.duplicates.store import Duplicates
from shared.errors import NotFound
from shared.proof.findings import LEAST_AGREEMENT
from shared.rpc.query import Image, QueryClient
from shared.schemas.duplicates import (
    DuplicateImageAnswer,
    GroupAnswer,
    GroupsAnswer,
    pair_answer,
    report_answer,
    share_answer,
)
from shared.schemas.images import paths_of
from shared.schemas.urls import image_url

LEAST: Final = LEAST_AGREEMENT
"""The threshold from which all verified pairs are shown."""


def latest_report(duplicates: Duplicates, collection: str, report: str = "") -> DuplicateReport:
    """Return a report on a collection, by its id or else the newest.

    Raises:
        NotFound: There is none.
        Invalid: It cannot be read.
    """
    for newest in [report] if report else duplicates.ids(collection):
        return duplicates.get(collection, newest)
    raise NotFound(f"nobody has looked for duplicates in the collection {collection!r} yet: `artseek duplicates` does")


def groups_page(
    duplicates: Duplicates,
    query: QueryClient,
    collection: str,
    report: DuplicateReport,
    *,
    threshold: float = LEAST,
    limit: int,
    offset: int,
) -> GroupsAnswer:
    """Return a part of the groups of a report, of pairs from a threshold on that nobody judged to be different.

    Raises:
        NotFound: There is no such collection.
        Unavailable: A server does not answer.
    """
    verdicts = duplicates.verdicts(collection)
    found = [pair for pair in report.pairs if pair.agreement >= threshold]
    shown = [pair for pair in found if verdicts.get(pair.ids) != "different"]
    groups = groups_of(shown)
    by_ids = {pair.ids: pair for pair in shown}
    images: dict[int, Image | None] = {}
    query.collection(collection)
    return GroupsAnswer(
        report=report_answer(report),
        threshold=threshold,
        share=share_answer(share_of(found, verdicts, seed=report.id), CONFIDENCE),
        groups=[
            answer
            for group in groups[offset : offset + limit]
            if (answer := _group(query, collection, group, by_ids, images)) is not None
        ],
        total=len(groups),
        limit=limit,
        offset=offset,
    )


def _group(
    query: QueryClient,
    collection: str,
    ids: Sequence[int],
    pairs: Mapping[tuple[int, int], Pair],
    known: dict[int, Image | None],
) -> GroupAnswer | None:
    """Return a group; None if it has less than two images by now."""
    for image_id in ids:
        if image_id not in known:
            try:
                known[image_id] = query.image(collection, image_id)
            except NotFound:
                known[image_id] = None
    images = [image for image_id in ids if (image := known[image_id]) is not None]
    if len(images) < 2:
        return None
    best, reason = best_of(images)
    others = sorted((image for image in images if image.id != best.id), key=lambda image: image.id)
    answers = [_image(collection, best, None)]
    answers += [_image(collection, image, pairs[ordered(best.id, image.id)]) for image in others]
    return GroupAnswer(keep=best.id, reason=reason, images=answers)


def _image(collection: str, image: Image, pair: Pair | None) -> DuplicateImageAnswer:
    paths, _ = paths_of(image)
    return DuplicateImageAnswer(
        id=image.id,
        name=image.name,
        labels=list(image.labels),
        width=image.width,
        height=image.height,
        media_type=image.media_type,
        size=image.size,
        values=record_size(image),
        paths=paths,
        thumbnail=image_url(collection, image.id, "/thumbnail"),
        keep=pair is None,
        pair=None if pair is None else pair_answer(pair),
    )
