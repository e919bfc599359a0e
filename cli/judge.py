"""`artseek judge`: keeps a round of judging as queries to evaluate by, or as files to train on."""

import tempfile
import zipfile
from collections.abc import Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypedDict

import click

from cli.clients import System
from cli.command import RemoteSystem, command_anywhere
from cli.options import SOME_REJECTED, as_json_option, in_collection
from cli.printing.console import out, plain, print_json
from shared.errors import Invalid, ObjectNotFound
from shared.evaluation.judging import (
    CLASSES,
    JudgedFiles,
    JudgedPicture,
    JudgingRound,
    judging_round,
    keep_round,
    refusal_of,
)
from shared.evaluation.query_sets import QuerySets
from shared.file_names import sent_name
from shared.images import ImageRefused
from shared.images.decoder_pool import DecoderPool
from shared.schemas.query_sets import KeptRoundAnswer, kept_set_answer
from shared.schemas.refusals import Refusal
from shared.storage import layout
from shared.storage.layout import ID_BITS

_IMAGE_ID: Final = click.IntRange(1, 2**ID_BITS - 1)


class JudgedAnswer(TypedDict):
    """What came of a round: the query set, or the files that were written, with what was left out of either."""

    queries: KeptRoundAnswer | None
    files: list[str]
    rejected: list[Refusal]


@dataclass(frozen=True)
class _Marks:
    """What was judged."""

    label: str
    images: Sequence[Path]
    like: Sequence[int]
    unlike: Sequence[int]

    def files(self) -> list[JudgedPicture]:
        """Return the files that were searched for."""
        return [JudgedPicture.of_file(path.name, path.read_bytes()) for path in self.images]

    def to_json(self) -> dict[str, object]:
        """Return what the API takes of it."""
        return {"label": self.label, "like": list(self.like), "unlike": list(self.unlike)}


@click.command("judge")
@click.argument("images", metavar="[IMAGE]...", nargs=-1, type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--label", required=True, help="The class that was looked for.")
@in_collection
@click.option("--like", multiple=True, type=_IMAGE_ID, help="Id of an image that is of the class; repeatable.")
@click.option("--unlike", multiple=True, type=_IMAGE_ID, help="Id of an image that is not; repeatable.")
@click.option("--keep", help="Keep IMAGE and --like as queries under this name, beside those that are there.")
@click.option("--out", "folder", type=click.Path(file_okay=False, path_type=Path), help="Write files to train on.")
@as_json_option
@command_anywhere
def judge(
    system: System | RemoteSystem,
    *,
    images: tuple[Path, ...],
    label: str,
    collection: str,
    like: tuple[int, ...],
    unlike: tuple[int, ...],
    keep: str | None,
    folder: Path | None,
    as_json: bool,
) -> int | None:
    """Keep a round of judging: what was searched for, and which images found are of its class and which are not.

    `artseek evaluate --queries NAME` searches for what was kept under a name. --out adds to a folder that `artseek
    train --data FOLDER/classes --background FOLDER/background` takes. IMAGE files count as being of the class.

    Exit status 3: done, but some pictures were left out.
    """
    if (keep is None) == (folder is None):
        raise click.UsageError("give --keep NAME or --out FOLDER, one of the two")
    if not like:
        raise click.UsageError("give the images of the class by --like")
    if keep is not None:
        layout.collection_name(keep)
    marks = _Marks(label, images, like, unlike)
    answer = _judge(system, collection, marks, keep, folder)
    if as_json:
        print_json(answer)
    else:
        _print(answer, folder)
    return SOME_REJECTED if answer["rejected"] else None


def _judge(
    system: System | RemoteSystem, collection: str, marks: _Marks, keep: str | None, folder: Path | None
) -> JudgedAnswer:
    if isinstance(system, RemoteSystem):
        if keep is not None:
            return _of_queries(_keep_remotely(system, collection, marks, keep))
        return _write_remotely(system, collection, marks, folder or Path())
    with system.query() as query, closing(DecoderPool.from_settings(system.settings)) as decoder:
        files = JudgedFiles(system.store, decoder)
        judged = judging_round(
            query, collection, marks.label, like=marks.like, unlike=marks.unlike, files=marks.files()
        )
        if keep is None:
            return _write(files, judged, folder or Path())
        system.note_change("judge", collection)
        queries, refused = keep_round(
            QuerySets(system.store, system.state),
            system.store,
            files,
            keep,
            judged,
            most_bytes=system.settings.max_query_bytes,
        )
        of_class = query.collection(collection).classes.get(judged.label, 0)
    return _of_queries(KeptRoundAnswer(**kept_set_answer(keep, queries), rejected=refused, of_class=of_class))


def _of_queries(answer: KeptRoundAnswer) -> JudgedAnswer:
    return JudgedAnswer(queries=answer, files=[], rejected=answer["rejected"])


def _keep_remotely(system: RemoteSystem, collection: str, marks: _Marks, keep: str) -> KeptRoundAnswer:
    path = f"/collections/{collection}/judgements/queries"
    answer: KeptRoundAnswer = system.api.post(path, marks.to_json() | {"queries": keep})
    for picture in marks.files():
        fields = [("name", keep), ("label", marks.label.strip()), ("add", "true"), ("names", sent_name(picture.name))]
        sent: Any = system.api.post_form("/querysets", fields, [("images", picture.name, picture.data or b"")])
        rejected = [*answer["rejected"], *sent["rejected"]]
        answer = KeptRoundAnswer(
            name=keep,
            queries=sent["queries"],
            classes=sent["classes"],
            rejected=rejected,
            of_class=answer["of_class"],
        )
    return answer


def _write(files: JudgedFiles, judged: JudgingRound, folder: Path) -> JudgedAnswer:
    """Write the files of a round into a folder, beside those of others."""
    written, rejected = [], list[Refusal]()
    for name, picture in judged.training_files():
        try:
            data = files.read(picture)
        except (ObjectNotFound, ImageRefused) as error:
            rejected.append(refusal_of(picture, error))
            continue
        written.append(_put(folder, name, data))
    return JudgedAnswer(queries=None, files=written, rejected=rejected)


def _write_remotely(system: RemoteSystem, collection: str, marks: _Marks, folder: Path) -> JudgedAnswer:
    written, rejected = [], list[Refusal]()
    with tempfile.TemporaryFile() as file:
        system.api.download_by_post(f"/collections/{collection}/judgements/training", marks.to_json(), file)
        with zipfile.ZipFile(file) as archive:
            for name in archive.namelist():
                if "/" in name:
                    written.append(_put(folder, name, archive.read(name)))
                    continue
                for line in archive.read(name).decode().splitlines():  # what could not be had
                    title, _, reason = line.partition(": ")
                    rejected.append(Refusal(name=title, code="gone", reason=reason))
    of_class = next((Path(name).parent.name for name in written if f"/{CLASSES}/" in f"/{name}"), None)
    if of_class is None and marks.images:
        raise Invalid("none of the images that are marked could be had")
    written += [_put(folder, f"{CLASSES}/{of_class}/{item.file_name}", item.data or b"") for item in marks.files()]
    return JudgedAnswer(queries=None, files=written, rejected=rejected)


def _put(folder: Path, name: str, data: bytes) -> str:
    """Write a file into a folder, whole or not at all; returns its path.

    Raises:
        Invalid: The name leads elsewhere.
    """
    path = folder / name
    if ".." in path.relative_to(folder).parts or Path(name).is_absolute():
        raise Invalid(f"{name!r} leads out of the folder: is ARTSEEK_URL a system of Artseek?")
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name[:200]}.part")
    try:
        part.write_bytes(data)
        part.replace(path)
    finally:
        with suppress(OSError):
            part.unlink(missing_ok=True)
    return str(path)


def _print(answer: JudgedAnswer, folder: Path | None) -> None:
    kept = answer["queries"]
    if kept is not None:
        classes = ", ".join(f"{plain(label)} {count}" for label, count in kept["classes"].items())
        out.print(f"the query set {kept['name']} has {kept['queries']:,} queries: {classes}")
        out.print(f"{kept['of_class']:,} images of the collection have the label", style="dim")
    else:
        out.print(f"{len(answer['files']):,} files are in {plain(str(folder))}")
    for refusal in answer["rejected"]:
        out.print(f"left out: {plain(refusal['name'])}: {plain(refusal['reason'])}", style="yellow")
