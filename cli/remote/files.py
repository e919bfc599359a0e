"""Sends files to a remote system, in requests of a few that have the same label."""

from collections.abc import Callable, Iterable, Iterator
from itertools import groupby
from typing import Any, Final

from cli.remote.api import Api, Refused
from services.producer.ingest import reader
from services.producer.sidecars import sidecar_of
from shared.file_names import sent_name
from shared.folders import Source
from shared.schemas.refusals import Refusal
from shared.state import Rejection

_MOST_FILES: Final = 64  # of one request
_MOST_BYTES: Final = 32 * 2**20

Part = list[tuple[Source, bytes]]


def parts_of(sources: Iterable[Source], *, max_bytes: int, rejected: list[Refusal]) -> Iterator[Part]:
    """Yield files that go into one request; those that cannot be read, or have more bytes, are added to `rejected`."""
    for _, group in groupby(sources, key=lambda source: source.label):
        part: Part = []
        for source in group:
            data = reader(source, max_bytes=max_bytes)()
            if isinstance(data, Rejection):
                rejected.append(Refusal(name=data.name, code=data.code, reason=data.reason))
                continue
            if part and (len(part) == _MOST_FILES or sum(len(held) for _, held in part) + len(data) > _MOST_BYTES):
                yield part
                part = []
            part.append((source, data))
        if part:
            yield part


def send_part(
    api: Api,
    path: str,
    part: Part,
    *,
    fields: Callable[[], list[tuple[str, str]]],
    answers: list[Any],
    rejected: list[Refusal],
    with_sidecars: bool = False,
) -> None:
    """Send files with their names and label, in halves where the system takes no request as large as this.

    `fields` gives what else each request says, `answers` gets what it is answered, and `rejected` the files of which
    none is taken. `with_sidecars`: XMP files beside the images go along.

    Raises:
        ArtseekError: The system refuses them, or does not answer.
    """
    label = part[0][0].label
    beside = [(source, data) for source, _ in part if (data := sidecar_of(source))] if with_sidecars else []
    names = [sent_name(source.name) for source, _ in part]
    names += [f"{sent_name(source.name)}.xmp" for source, _ in beside]
    texts = [*fields(), *(("names", name) for name in names), *([] if label is None else [("label", label)])]
    files = [("images", "image", data) for _, data in (*part, *beside)]
    try:
        answers.append(api.post_form(path, texts, files))
    except Refused as error:
        if error.status == 413 and len(part) > 1:
            for half in (part[: len(part) // 2], part[len(part) // 2 :]):
                send_part(
                    api, path, half, fields=fields, answers=answers, rejected=rejected, with_sidecars=with_sidecars
                )
        elif error.status == 413:
            rejected.append(Refusal(name=part[0][0].name, code="too-large", reason=str(error)))
        elif error.values.get("rejected"):
            rejected += error.values["rejected"]
        else:
            raise
