"""A round of judging: pictures that somebody marked in a search, for a class and against it.

A round is kept as labelled queries, by which collections are evaluated, or as files to train a model on: those for the
class in its folder, those against it in a folder of background, as `artseek train` takes them.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from shared.errors import Invalid, ObjectNotFound
from shared.evaluation.query_sets import LabelledQuery, QuerySet, QuerySets, source_of
from shared.file_names import clean_name
from shared.images import Decoder, ImageRefused
from shared.index.derivatives import Derivatives
from shared.rpc.query import Image, QueryClient
from shared.schemas.refusals import Refusal
from shared.storage import evaluation_layout, layout
from shared.storage.object_store import ObjectStore
from shared.storage.original_files import OriginalFiles

CLASSES: Final = "classes"
"""The folder with a folder for each class: `artseek train --data`."""

BACKGROUND: Final = "background"
"""The folder of the pictures that were marked as being of none: `artseek train --background`."""

_PAGE_BYTES: Final = 2**20  # what the picture of a page is taken to need until it is there
_SEPARATORS: Final = str.maketrans("/\\", "__")


@dataclass(frozen=True)
class JudgedPicture:
    """A picture of a round: an image of the collection `source`, or with `data` a file that was searched for.

    `page` is which page of a document it is. A page behind the first is no file: its picture stands for it.
    """

    name: str
    digest: str
    size: int
    added: float = 0.0
    data: bytes | None = None
    page: int = 1
    source: str = ""

    @classmethod
    def of_file(cls, name: str, data: bytes) -> "JudgedPicture":
        """Return the picture that a file is."""
        return cls(name, layout.digest_of(data), len(data), data=data)

    @classmethod
    def of_image(cls, image: Image, source: str) -> "JudgedPicture":
        """Return the picture that an image of a collection is, which query sets call `source`."""
        page = max(1, image.document.page)
        if page == 1:
            return cls(image.name, image.digest, image.size, image.added, source=source)
        return cls(f"{image.name}, page {page}", image.digest, _PAGE_BYTES, image.added, page=page, source=source)

    @property
    def file_name(self) -> str:
        """The name of its file: the same in every round, and no other picture has it."""
        suffix = ".jpg" if self.page > 1 else ""
        return f"{layout.image_id(self.digest)}-{clean_name(self.name)}{suffix}"


class JudgedFiles:
    """Reads the pictures of rounds."""

    def __init__(self, store: ObjectStore, decoder: Decoder) -> None:
        self._originals, self._derivatives = OriginalFiles(store), Derivatives(store, decoder)

    def read(self, picture: JudgedPicture) -> bytes:
        """Return the bytes of a picture as a file: of a page behind the first, the JPEG that is shown of it.

        Raises:
            ObjectNotFound: The original is gone, or its file is not reached.
            ImageRefused: It is a page that cannot be decoded any more.
            Unavailable: The object store does not answer, or too many images wait to be decoded.
        """
        if picture.data is not None:
            return picture.data
        if picture.page > 1:
            return self._derivatives.of_original(picture.digest, picture.size).data
        return self._originals.get(picture.digest)


@dataclass(frozen=True)
class JudgingRound:
    """A round of judging.

    Attributes:
        label: The class that was looked for.
        like: The pictures of the class: what was searched for, and the images marked so.
        unlike: The images that were marked as being of another class, or of none.
    """

    label: str
    like: Sequence[JudgedPicture]
    unlike: Sequence[JudgedPicture]

    def training_files(self) -> Iterator[tuple[str, JudgedPicture]]:
        """Yield the pictures with the paths that their files have in a folder of training data."""
        folder = clean_name(self.label.translate(_SEPARATORS))
        if folder.startswith("."):  # such folders are passed over
            folder = f"_{folder}"
        for picture in self.like:
            yield f"{CLASSES}/{folder}/{picture.file_name}", picture
        for picture in self.unlike:
            yield f"{BACKGROUND}/{picture.file_name}", picture


def judging_round(
    query: QueryClient,
    collection: str,
    label: str,
    *,
    like: Sequence[int],
    unlike: Sequence[int],
    files: Sequence[JudgedPicture] = (),
) -> JudgingRound:
    """Return a round from the ids of the images that were marked, and the files that were searched for.

    Raises:
        NotFound: The collection lacks one of the images.
        Invalid: The label is blank, nothing is of the class, or an image is marked both ways.
        Unavailable: The query service does not answer.
    """
    if not label.strip():
        raise Invalid("the label is blank: name the class that was looked for")
    if both := set(like) & set(unlike):
        raise Invalid(f"the image {min(both)} is marked both ways: keep one of the marks")

    source = source_of(query.collection(collection).created)

    def pictures(ids: Sequence[int]) -> list[JudgedPicture]:
        images = (query.image(collection, image_id) for image_id in dict.fromkeys(ids))
        return [JudgedPicture.of_image(image, source) for image in images]

    marked, against = pictures(like), pictures(unlike)
    of_class = {picture.digest: picture for picture in (*files, *marked)}
    if not of_class:
        raise Invalid("nothing is of the class: mark an image by + first")
    if held := [picture for picture in against if picture.digest in of_class]:
        raise Invalid(f"{held[0].name!r} was searched for and is marked as being of no class: remove the mark")
    return JudgingRound(label.strip(), tuple(of_class.values()), tuple(against))


def keep_round(
    sets: QuerySets, store: ObjectStore, files: JudgedFiles, name: str, judged: JudgingRound, *, most_bytes: int
) -> tuple[QuerySet, list[Refusal]]:
    """Keep the pictures of the class as queries under a name, beside those that the set has.

    Returns the set, and the pictures that are no queries: their files are gone, have more than `most_bytes`, or are
    pages that cannot be decoded. Those that were marked as being of another class are none: nothing tells what they are
    to find.

    Raises:
        Invalid: The name does not fit, or a picture is in the set under another label.
        Unavailable: The object store does not answer.
    """
    refused: list[Refusal] = []

    def stored() -> list[LabelledQuery]:
        queries = []
        for picture in judged.like:
            if picture.size > most_bytes:
                reason = f"it has {picture.size:,} bytes, and a query at most {most_bytes:,}"
                refused.append(Refusal(name=picture.name, code="too-large", reason=reason))
                continue
            try:
                data = files.read(picture)
            except (ObjectNotFound, ImageRefused) as error:
                refused.append(refusal_of(picture, error))
                continue
            query = LabelledQuery(
                picture.digest,
                picture.name,
                judged.label,
                len(data),
                file=layout.digest_of(data) if picture.page > 1 else "",
                sources=(picture.source,) if picture.source else (),
            )
            store.put(evaluation_layout.query_key(query.stored), data)
            queries.append(query)
        return queries

    return keep_under(sets, name, stored, adds=True), refused


def refusal_of(picture: JudgedPicture, error: ObjectNotFound | ImageRefused) -> Refusal:
    """Return why a picture cannot be had."""
    code = error.reason if isinstance(error, ImageRefused) else "gone"
    return Refusal(name=picture.name, code=code, reason=str(error))


def keep_under(sets: QuerySets, name: str, store: Callable[[], Sequence[LabelledQuery]], *, adds: bool) -> QuerySet:
    """Keep queries under a name: in place of the set that has it, or with `adds` beside the queries of that.

    `store` stores their originals, and returns them; it is called while no set can change.

    Raises:
        Invalid: The name does not fit, there is no query, or an image has two labels.
        Unavailable: The object store does not answer.
    """
    with sets.changing():
        before = sets.kept(name) if name in sets.names() else None
        stored = store()
        kept = sets.get(before).queries if adds and before else ()
        try:
            queries = QuerySet.of([*kept, *stored])
            sets.add(queries, name=name)
        except Invalid:
            sets.forget(query.stored for query in stored)
            raise
        if left := {query.stored for query in (*kept, *stored)} - {query.stored for query in queries.queries}:
            sets.forget(left)  # of a page, another picture than before
    if before not in {None, queries.digest}:
        sets.release(before)
    return queries
