"""A decoded image, and the windows of one, on their way into a segment."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from shared.images import ImageInfo
from shared.messaging.messages import BatchImage
from shared.records.change_file import ImageChange
from shared.records.embedded import Fields
from shared.records.model import Cell, Cells, Origin
from shared.storage import layout
from shared.storage.documents import DocumentPage
from shared.storage.segments import Entry
from shared.windows import windows, written


@dataclass(frozen=True)
class Decoded:
    """An image ready for the model: its item, pixels uint8 [size, size, 3], what its header and its metadata say.

    `document`: which page it is, of a document of several.
    """

    item: BatchImage
    pixels: npt.NDArray[np.uint8]
    info: ImageInfo
    said: Mapping[Origin, Fields] = field(default_factory=dict)
    document: DocumentPage | None = None

    def change(self, stamp: int) -> ImageChange:
        """Return what the file says of itself, as a change of the image's record."""
        cells: Cells = {}
        for origin, fields in self.said.items():
            for name, values in fields.items():
                cells.setdefault(name, {})[origin] = Cell(stamp, values)
        return ImageChange(layout.image_id(self.item.digest), cells)

    def entry(self, now: float) -> Entry:
        """Return the image's row but for its embedding; `now` is when it was added, unless it was before."""
        item, info = self.item, self.info
        return Entry(
            id=layout.image_id(item.digest),
            digest=item.digest,
            name=item.name,
            label=item.label or None,
            size=item.size,
            media_type=info.media_type,
            width=info.width,
            height=info.height,
            added=now if item.added is None else item.added,
            flags=info.flags,
            document=self.document,
        )


@dataclass(frozen=True)
class DecodedWindows:
    """The windows of an image: its item, their pixels uint8 [n, size, size, 3], and what the image's header says.

    `document`: which page the image is, of a document of several.
    """

    item: BatchImage
    pixels: npt.NDArray[np.uint8]
    info: ImageInfo
    document: DocumentPage | None = None

    def entries(self, now: float) -> list[Entry]:
        """Return the rows of the windows but for their embeddings; `now` is when they were made."""
        item, info = self.item, self.info
        return [
            Entry(
                id=layout.window_id(item.digest, number),
                digest=item.digest,
                name=written(window),
                label=None,
                size=item.size,
                media_type=info.media_type,
                width=info.width,
                height=info.height,
                added=now,
                document=self.document,
            )
            for number, window in enumerate(windows(info.width, info.height))
        ]
