"""Files whose content a collection has already: their paths are noted, and the labels that they come with.

A label that a folder once gave an image is in its record, and hides that of its row. So a newer one goes there too.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from shared.errors import NotFound
from shared.records.editing import all_images
from shared.records.model import LABEL
from shared.records.paths import KnownPath, all_paths
from shared.records.record_store import RecordStore
from shared.rpc.query import Image, QueryClient
from shared.schemas.images import record_of
from shared.storage.documents import Documents
from shared.storage.layout import image_id

_FEW = 256  # images that are looked up one by one, of however many
_SHARE = 8  # if more than one of so many images is wanted, all are listed
_AT_ONCE = 2000  # images of a change


@dataclass(frozen=True)
class DuplicateFile:
    """A file whose content is there: its SHA-256, its path, the folder that this is below if it is known, its label."""

    digest: str
    path: str
    source: str = ""
    label: str | None = None


def note_duplicates(
    records: RecordStore,
    query: QueryClient,
    documents: Documents,
    collection: str,
    files: Sequence[DuplicateFile],
    *,
    keep_labels: bool = False,
) -> None:
    """Note the paths of files that are not known of their images, of documents for all pages; and their labels.

    To be called before rows get new labels, and with them the names of the files that these come with.

    Raises:
        NotFound: There is no such collection.
        Unavailable: A server does not answer.
    """
    by_image: dict[int, list[DuplicateFile]] = defaultdict(list)
    for file in files:
        by_image[image_id(file.digest)].append(file)
    paths: dict[int, list[KnownPath]] = {}
    labels: dict[int, list[str]] = {}
    for image in _images(query, collection, by_image):
        record = record_of(image)
        known = [KnownPath(**path) for path in record["paths"]]
        same = [file for file in by_image[image.id] if file.digest == image.digest]
        there = set(all_paths(image.name, known))
        label = next((file.label for file in reversed(same) if file.label), None)
        if new := [file for file in same if file.path not in there or _is_elsewhere(file, known)]:
            paths[image.id] = [KnownPath(file.source, file.path, "present") for file in new]
            if label and not keep_labels and not any(path.path == image.name for path in known):
                paths[image.id].append(KnownPath("", image.name, "present"))  # its row gets the new name
        if label and not keep_labels and _is_hidden(label, image, known, record):
            labels[image.id] = [label]
    if paths or labels:
        stamp = query.facets(collection, fields=[LABEL], limit=1).stamp
        _note(records, documents, collection, paths, labels, after=stamp)


def _is_elsewhere(file: DuplicateFile, known: Sequence[KnownPath]) -> bool:
    """Return whether a file is below another folder than those whose files of this path are known."""
    folders = {path.source for path in known if path.path == file.path}
    return bool(file.source and folders) and file.source not in folders


def _is_hidden(label: str, image: Image, known: Sequence[KnownPath], record: Mapping[str, object]) -> bool:
    """Return whether an image has labels of its folders that hide one that it is given now."""
    if list(image.labels) == [label] or not any(path.label for path in known):
        return False
    alternatives = record["alternatives"]
    others = alternatives.get(LABEL, ()) if isinstance(alternatives, dict) else ()
    return [cell["value"] for cell in others if cell["origin"] == "folder"] != [label]  # an edit counts more


def _note(
    records: RecordStore,
    documents: Documents,
    collection: str,
    paths: Mapping[int, Sequence[KnownPath]],
    labels: Mapping[int, Sequence[str]],
    *,
    after: int,
) -> None:
    changed = list(dict.fromkeys((*paths, *labels)))
    pages = {image: documents.with_pages([image]) for image in changed} if changed and documents.any() else {}
    for start in range(0, len(changed), _AT_ONCE):
        some = changed[start : start + _AT_ONCE]
        records.note_paths(
            collection,
            {page: paths[image] for image in some if image in paths for page in pages.get(image, [image])},
            labels={page: labels[image] for image in some if image in labels for page in pages.get(image, [image])},
            after=after,
        )


def _images(query: QueryClient, collection: str, wanted: Mapping[int, object]) -> Iterator[Image]:
    if len(wanted) > _FEW and _SHARE * len(wanted) > query.collection(collection).images:
        yield from (image for image in all_images(query, collection) if image.id in wanted)
        return
    for each in wanted:
        try:
            yield query.image(collection, each)
        except NotFound:  # deleted meanwhile, or refused
            continue
