"""Brings a collection of a remote system in step with a folder of this machine, by its API."""

from collections.abc import Sequence
from operator import itemgetter
from typing import TYPE_CHECKING

from cli.printing.progress import image_bar
from cli.remote.api import Api
from cli.remote.ingest import RemoteIngestion
from services.producer.ingest import IngestAnswer
from services.producer.sync.plan import Notes, StoredImage
from services.producer.sync.scan import FoundFile
from shared.errors import NotFound
from shared.folders import Source
from shared.paging import all_items
from shared.records.paths import KnownPath, PathState

if TYPE_CHECKING:
    from shared.schemas.paths import ImagePathsAnswer, PathAnswer, PathsAnswer

_PAGE = 1000
_STATES: dict[str, PathState] = {"present": "present", "vanished": "vanished", "gone": "gone"}


class RemoteCollection:
    """A collection of a remote system."""

    def __init__(self, api: Api, collection: str, *, max_bytes: int) -> None:
        """Take a limit for the bytes of a file."""
        self._api, self._collection, self._max_bytes = api, collection, max_bytes

    def images(self) -> list[StoredImage]:
        """Return all images with their labels and paths; none, if there is no such collection."""
        try:
            return [_stored(image) for image in all_items(self._page, itemgetter("id"), limit=_PAGE)]
        except NotFound:
            return []

    def _page(self, offset: int) -> "Sequence[ImagePathsAnswer]":
        page: PathsAnswer = self._api.get(f"/collections/{self._collection}/paths?limit={_PAGE}&offset={offset}")
        return page["images"]

    def note(self, notes: Notes) -> None:
        """Note paths, and the labels that folders give."""
        paths = [
            {"digest": digest, "path": path.path, "state": path.state, "label": path.label}
            for digest, known in notes.paths.items()
            for path in known
        ]
        labels = [{"digest": digest, "labels": list(given)} for digest, given in notes.labels.items()]
        source = next((path.source for known in notes.paths.values() for path in known), "")
        body = {"source": source, "paths": paths, "labels": labels}
        self._api.post(f"/collections/{self._collection}/paths", body)

    def add(self, sources: Sequence[Source]) -> IngestAnswer:
        """Add files, and wait until all are accounted for."""
        ingestion = RemoteIngestion(self._api, self._collection, max_bytes=self._max_bytes, keep_labels=True)
        with image_bar(len(sources)) as on_progress:
            return ingestion.run(sources, on_progress)

    def relink(self, files: Sequence[FoundFile]) -> None:
        """Do nothing: this machine's files are not that system's."""

    def trash(self, image_ids: Sequence[int]) -> None:
        """Move images to the trash."""
        for image_id in image_ids:
            try:
                self._api.delete(f"/collections/{self._collection}/images/{image_id}")
            except NotFound:  # somebody else has
                continue


def _stored(image: "ImagePathsAnswer") -> StoredImage:
    return StoredImage(
        image["id"],
        image["digest"],
        image["name"],
        tuple(image["labels"]),
        tuple(_known(path) for path in image["paths"] if path["state"] in _STATES),
        image["page_of"],
    )


def _known(path: "PathAnswer") -> KnownPath:
    return KnownPath(path["source"], path["path"], _STATES[path["state"]], path["label"])
