"""A round of judging: pictures that somebody marked in a search, for a class and against it.

A round is kept as labelled queries, by which collections are evaluated, or as files to train a model on: those for the
class in its folder, those against it in a folder of background, as `artseek train` takes them.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from shared.errors import Invalid, ObjectNotFound
from shared.evaluation.query_sets import LabelledQuery, QuerySet, QuerySets
from shared.file_names import clean_name
from shared.rpc.query import Image, QueryClient
from shared.schemas.refusals import Refusal
from shared.storage import evaluation_layout, layout
from shared.storage.object_store import ObjectStore
from shared.storage.original_files import OriginalFiles

CLASSES: Final = "classes"
"""The folder with a folder for each class: `artseek train --data`."""

BACKGROUND: Final = "background"
"""The folder of the pictures that were marked as being of none: `artseek train --background`."""

_SEPARATORS: Final = str.maketrans("/\\", "__")


@dataclass(frozen=True)
class JudgedPicture:
    """A picture of a round: an image of the collection, or with `data` a file that was searched for."""

    name: str
    digest: str
    size: int
    added: float = 0.0
    data: bytes | None = None

    @classmethod
    def of_file(cls, name: str, data: bytes) -> "JudgedPicture":
        """Return the picture that a file is."""
        return cls(name, layout.digest_of(data), len(data), data=data)

    @property
    def file_name(self) -> str:
        """The name of its file: the same in every round, and no other picture has it."""
        return f"{layout.image_id(self.digest)}-{clean_name(self.name)}"

    def read(self, originals: OriginalFiles) -> bytes:
        """Return its bytes.

        Raises:
            ObjectNotFound: The original is gone, or its file is not reached.
            Unavailable: The object store does not answer.
        """
        return originals.get(self.digest) if self.data is None else self.data


@dataclass(frozen=True)
class JudgingRound:
    """A round of judging.

    Attributes:
        label: The class that was looked for.
        like: The pictures of the class: what was searched for, and the images marked so.
        unlike: The images that were marked as being of another class, or of none.
        refused: What was marked and can be no file of its own.
    """

    label: str
    like: Sequence[JudgedPicture]
    unlike: Sequence[JudgedPicture]
    refused: Sequence[Refusal] = ()

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
    refused: list[Refusal] = []

    def pictures(ids: Sequence[int]) -> list[JudgedPicture]:
        found = []
        for image in (query.image(collection, image_id) for image_id in dict.fromkeys(ids)):
            if image.document.page > 1:
                refused.append(_page_refused(image))
            else:
                found.append(JudgedPicture(image.name, image.digest, image.size, image.added))
        return found

    marked, against = pictures(like), pictures(unlike)
    of_class = {picture.digest: picture for picture in (*files, *marked)}
    if not of_class:
        raise Invalid("nothing is of the class: mark an image by + first")
    if held := [picture for picture in against if picture.digest in of_class]:
        raise Invalid(f"{held[0].name!r} was searched for and is marked as being of no class: remove the mark")
    return JudgingRound(label.strip(), tuple(of_class.values()), tuple(against), tuple(refused))


def _page_refused(image: Image) -> Refusal:
    reason = f"it is page {image.document.page} of a document, which is no file of its own; add the page as an image"
    return Refusal(name=image.name, code="page", reason=reason)


def keep_round(
    sets: QuerySets, store: ObjectStore, name: str, judged: JudgingRound, *, most_bytes: int
) -> tuple[QuerySet, list[Refusal]]:
    """Keep the pictures of the class as queries under a name, beside those that the set has.

    Returns the set, and the pictures that are no queries: their files are gone, or have more than `most_bytes`. Those
    that were marked as being of another class are none: nothing tells what they are to find.

    Raises:
        Invalid: The name does not fit, or a picture is in the set under another label.
        Unavailable: The object store does not answer.
    """
    originals, refused = OriginalFiles(store), list(judged.refused)

    def stored() -> list[LabelledQuery]:
        queries = []
        for picture in judged.like:
            if picture.size > most_bytes:
                reason = f"it has {picture.size:,} bytes, and a query at most {most_bytes:,}"
                refused.append(Refusal(name=picture.name, code="too-large", reason=reason))
                continue
            try:
                data = picture.read(originals)
            except ObjectNotFound as error:
                refused.append(Refusal(name=picture.name, code="gone", reason=str(error)))
                continue
            store.put(evaluation_layout.query_key(picture.digest), data)
            queries.append(LabelledQuery(picture.digest, picture.name, judged.label, picture.size))
        return queries

    return keep_under(sets, name, stored, adds=True), refused


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
            sets.forget(query.digest for query in stored)
            raise
    if before not in {None, queries.digest}:
        sets.release(before)
    return queries
