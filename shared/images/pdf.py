"""Pages of PDF documents, drawn by PDFium.

A page is as large as a scan of it at 200 dots per inch would be. It is drawn no larger than it is wanted.
"""

import contextlib
import threading
from typing import TYPE_CHECKING, Any

import pypdfium2
from PIL import Image

from shared.images.contract import File, ImageRefused
from shared.images.header import Header, corrupt, no_such_page
from shared.images.splicing import spliced

if TYPE_CHECKING:
    from collections.abc import Iterator

    Document = Any  # pypdfium2 has no types

_POINTS, _DOTS = 72, 200  # per inch
_MOST = 5000  # pixels of the longer side, whatever the paper
_PIXEL_BYTES = 7  # of the drawing, four, and of the picture made of it
_LOCKED = "password"
SAMPLE = (
    b"%PDF-1.4\n1 0 obj<</Type/Catalog/Pages 2 0 R>>endobj 2 0 obj<</Type/Pages/Kids[3 0 R]/Count 1>>endobj "
    b"3 0 obj<</Type/Page/Parent 2 0 R/MediaBox[0 0 9 9]/Contents 4 0 R/Resources<</Font<</F 5 0 R>>>>>>endobj "
    b"4 0 obj<</Length 24>>stream\nBT/F 9 Tf(A)Tj 0 0 Td ET\nendstream endobj "
    b"5 0 obj<</Type/Font/Subtype/Type1/BaseFont/Helvetica>>endobj trailer<</Root 1 0 R>>"
)
"""A small document, by which a process loads all that it needs."""

_alone = threading.Lock()  # PDFium serves one thread at a time


def read_pdf(data: File, page: int) -> Header:
    """The header of a page of a PDF document.

    Raises:
        ImageRefused: there is no such page, the document is locked or damaged, or the extra is not installed.
    """
    with _opened(data) as document:
        pages = len(document)
        if not 1 <= page <= pages:
            raise no_such_page("pdf", page, pages) if pages else corrupt("pdf", "it has no pages")
        width, height = document.get_page_size(page - 1)
    if not 0 < width < float("inf") or not 0 < height < float("inf"):
        raise corrupt("pdf", f"its page {page} is {width} x {height} points")
    dots = min(_DOTS / _POINTS, _MOST / max(width, height))
    sides = max(1, round(width * dots)), max(1, round(height * dots))
    # Which page it is stands in the parts: there is nothing else of a file that a drawing is made of.
    return Header("pdf", *sides, (b"%d" % page, (0, len(data))), pixel_bytes=_PIXEL_BYTES, pages=pages)


def rendered(data: File, header: Header, shrink: int) -> Image.Image:
    """A page of a PDF document, drawn on white at 1/`shrink` of its size."""
    number = int(header.parts[0])  # type: ignore[arg-type]
    with _opened(data) as document:
        page = document[number - 1]
        wide = page.get_width()
        bitmap = page.render(scale=-(-header.width // shrink) / wide, may_draw_forms=False, rev_byteorder=True)
        image: Image.Image = bitmap.to_pil().convert("RGB")
        page.close()
    size = -(-header.width // shrink), -(-header.height // shrink)
    # PDFium rounds up what is a fraction of a pixel.
    return image if image.size == size else image.crop((0, 0, *size))


@contextlib.contextmanager
def _opened(data: File) -> "Iterator[Document]":
    with _alone:
        file = spliced(data, ((0, len(data)),))
        try:
            document = pypdfium2.PdfDocument(file)
        except pypdfium2.PdfiumError as error:
            if _LOCKED in str(error).lower():
                msg = "this PDF document is locked by a password: save it without one"
                raise ImageRefused("format", msg) from error
            raise corrupt("pdf", f"it cannot be opened ({error})") from error
        try:
            yield document
        except pypdfium2.PdfiumError as error:
            raise corrupt("pdf", f"a page cannot be drawn ({error})") from error
        finally:
            document.close()
