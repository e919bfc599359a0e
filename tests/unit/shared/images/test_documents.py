"""Pages of TIFF and PDF files, and what only looks like a page."""

import io
import struct
from collections.abc import Iterator, Mapping

import numpy as np
import pytest
from PIL import Image
from PIL.TiffImagePlugin import ImageFileDirectory_v2

from shared.images import ImageRefused, Limits, decode, identify
from shared.images.decoder_pool import DecoderPool

RED, GREEN, BLUE = (254, 0, 0), (0, 128, 0), (0, 0, 254)
SOLID = {"red": RED, "green": GREEN, "blue": BLUE}
NEW_SUBFILE, SUBFILE = 254, 255


def paged(kind: str, *sizes: tuple[int, int], tags: Mapping[int, Mapping[int, int]] | None = None) -> bytes:
    """A file with a page of one colour for each size; `tags` are those of pages, by their places."""
    pages = [Image.new("RGB", size, colour) for size, colour in zip(sizes, SOLID.values(), strict=False)]
    file = io.BytesIO()
    if kind == "PDF":
        pages[0].save(file, kind, save_all=True, append_images=pages[1:])
        return file.getvalue()
    from PIL import TiffImagePlugin  # noqa: PLC0415

    with TiffImagePlugin.AppendingTiffWriter(file, new=True) as writer:
        for place, page in enumerate(pages):
            directory = ImageFileDirectory_v2()
            for number, value in (tags or {}).get(place, {}).items():
                directory[number] = value
            page.save(writer, format="TIFF", tiffinfo=directory)
            writer.newFrame()
    return file.getvalue()


@pytest.fixture(scope="module")
def pool() -> Iterator[DecoderPool]:
    made = DecoderPool(processes=1)
    yield made
    made.close()


@pytest.mark.parametrize("kind", ["TIFF", "PDF"])
def test_each_page_is_a_picture(pool: DecoderPool, kind: str) -> None:
    data = paged(kind, (60, 40), (40, 60), (50, 50))
    for number, colour in enumerate(SOLID.values(), start=1):
        pixels, info = pool.decode(data, size=8, page=number)
        assert info.pages == 3
        assert np.abs(pixels[4, 4].astype(int) - colour).max() <= 4
        assert pool.identify(data, page=number) == info
        with Image.open(io.BytesIO(pool.thumbnail(data, box=32, page=number))) as image:
            assert (image.width > image.height, image.width < image.height) == [(1, 0), (0, 1), (0, 0)][number - 1]
    with pytest.raises(ImageRefused, match="no page 4") as refusal:
        pool.decode(data, size=8, page=4)
    assert refusal.value.reason == "too-many-pages"
    with pytest.raises(ImageRefused, match="ARTSEEK_MAX_PAGES"):
        identify(data, Limits(max_pages=2))


@pytest.mark.parametrize(
    ("tags", "sizes", "pages"),
    [
        ({1: {NEW_SUBFILE: 1}}, [(60, 40), (30, 20), (60, 40)], 2),  # a reduced copy between two pages
        ({1: {NEW_SUBFILE: 4}}, [(60, 40), (60, 40)], 1),  # a mask
        ({1: {SUBFILE: 2}}, [(60, 40), (60, 40)], 1),
        ({0: {NEW_SUBFILE: 2}, 1: {NEW_SUBFILE: 2}}, [(600, 400), (60, 40)], 2),  # says that it is a page
        ({}, [(600, 400), (60, 40)], 1),  # a thumbnail that does not say so
        ({}, [(600, 400), (60, 60)], 2),
        ({}, [(60, 40), (30, 20)], 2),
    ],
)
def test_smaller_copies_and_masks_are_no_pages(
    tags: Mapping[int, Mapping[int, int]], sizes: list[tuple[int, int]], pages: int
) -> None:
    assert identify(paged("TIFF", *sizes, tags=tags)).pages == pages


def test_a_chain_that_breaks_off_or_goes_in_a_circle_ends_there() -> None:
    data = paged("TIFF", (60, 40), (40, 60))
    (first,) = struct.unpack_from("<I", data, 4)
    (entries,) = struct.unpack_from("<H", data, first)
    at = first + 2 + 12 * entries
    for following in (first, len(data) + 8, len(data) - 1):
        changed = data[:at] + struct.pack("<I", following) + data[at + 4 :]
        assert identify(changed).pages == 1


def test_animations_are_one_picture() -> None:
    for kind in ("GIF", "WEBP"):
        frames = [Image.new("RGB", (20, 20), colour) for colour in SOLID]
        file = io.BytesIO()
        frames[0].save(file, kind, save_all=True, append_images=frames[1:])
        assert identify(file.getvalue()).pages == 1
        with pytest.raises(ImageRefused, match="no page 2"):
            decode(file.getvalue(), size=8, page=2)


def test_a_pdf_that_cannot_be_read_is_refused_by_name() -> None:
    for broken in (b"%PDF-1.7\n" + bytes(99), paged("PDF", (60, 40))[:200]):
        with pytest.raises(ImageRefused) as refusal:
            identify(broken)
        assert refusal.value.reason == "corrupt"
