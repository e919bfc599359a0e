"""Camera RAW files that are no TIFFs: taken from a full-size preview, else refused by name."""

import pytest
from PIL import Image

from shared.images import ImageRefused, decode, identify
from tests.support.pictures import saved
from tests.support.raw_files import SENSOR, box, cr3, raf, rw2


@pytest.mark.parametrize(("kind", "size"), [(raf, (400, 300)), (rw2, (300, 400)), (cr3, (300, 400))])
def test_a_raw_file_is_taken_from_a_preview_of_full_size_and_upright(kind: object, size: tuple[int, int]) -> None:
    assert callable(kind)
    picture = Image.new("RGB", SENSOR, "red")
    picture.paste("blue", (200, 0, 400, 300))
    pixels, info = decode(kind(saved(picture, "JPEG")), size=16)
    assert (info.format, info.media_type, (info.width, info.height)) == ("raw", "image/x-raw", size)
    first, last = (pixels[8, 1], pixels[8, 14]) if size == SENSOR else (pixels[1, 8], pixels[14, 8])
    assert (first[0] > 200, first[2] < 50, last[2] > 200, last[0] < 50) == (True,) * 4
    with pytest.raises(ImageRefused, match="RAW") as refusal:  # never as its thumbnail
        identify(kind(saved(picture.resize((160, 120)), "JPEG")))
    assert refusal.value.reason == "format"
    whole = kind(saved(picture, "JPEG"))
    for end in range(0, 260, 5):
        with pytest.raises(ImageRefused):
            identify(whole[:end])


def test_a_raw_file_of_boxes_within_boxes_is_refused_by_name() -> None:
    nested = b""
    for _ in range(3000):
        nested = box(b"mdia", nested)
    with pytest.raises(ImageRefused, match="CR3"):
        identify(box(b"ftyp", b"crx \0\0\0\1crx isom") + box(b"moov", box(b"trak", nested)))
