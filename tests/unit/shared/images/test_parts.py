"""Parts of pictures: how boxes are written, and that their pixels are those of the upright original."""

import io

import numpy as np
import pytest
from PIL import Image

from shared.images import decoding
from shared.images.contract import MIB, ImageRefused, Limits
from shared.images.decoder_pool import DecoderPool
from shared.images.regions import Rectangle, Region

WIDTH, HEIGHT = 120, 90


def _upright() -> Image.Image:
    """Return a picture that is smooth, and different everywhere."""
    across, down = np.meshgrid(np.arange(WIDTH), np.arange(HEIGHT))
    return Image.fromarray(np.stack([across * 2, down * 2, (across + down)], axis=-1).astype(np.uint8))


UNDO = {
    1: None,
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}


def _file(kind: str, orientation: int) -> bytes:
    transposed = UNDO[orientation]
    stored = _upright() if transposed is None else _upright().transpose(transposed)
    exif = Image.Exif()
    exif[274] = orientation
    file = io.BytesIO()
    stored.save(file, kind, exif=exif, **({"quality": 100, "subsampling": 0} if kind == "JPEG" else {}))
    return file.getvalue()


@pytest.mark.parametrize("orientation", list(UNDO))
@pytest.mark.parametrize("kind", ["PNG", "JPEG", "TIFF"])
def test_a_part_is_that_of_the_upright_picture(kind: str, orientation: int) -> None:
    part = (30, 20, 62, 52)
    square, info = decoding.decode(_file(kind, orientation), size=32, part=part)
    assert (info.width, info.height) == (WIDTH, HEIGHT)
    wanted = np.asarray(_upright().crop(part)).astype(int)
    assert np.abs(square.astype(int) - wanted).max() <= (0 if kind != "JPEG" else 4)


def test_of_a_long_part_the_middle_is_taken() -> None:
    square, _ = decoding.decode(_file("PNG", 1), size=10, part=(10, 40, 110, 50))
    assert np.abs(square.astype(int) - np.asarray(_upright().crop((55, 40, 65, 50)))).max() <= 1


def test_a_detail_is_decoded_as_finely_as_memory_allows() -> None:
    """A progressive JPEG is decoded whole: of one that does not fit, a detail comes from a coarser scale."""
    file = io.BytesIO()
    _upright().resize((2400, 1800)).save(file, "JPEG", quality=90, progressive=True)
    fine, _ = decoding.decode(file.getvalue(), size=32, part=(600, 400, 1240, 1040))
    little = Limits(max_memory=16 * MIB)
    coarse, _ = decoding.decode(file.getvalue(), size=32, part=(600, 400, 1240, 1040), limits=little)
    assert np.abs(fine.astype(int) - coarse).max() <= 6
    with pytest.raises(ImageRefused, match="memory"):  # its coefficients alone take more
        decoding.decode(file.getvalue(), size=32, part=(600, 400, 1240, 1040), limits=Limits(max_memory=12 * MIB))


def test_a_pool_cuts_the_same_part() -> None:
    pool = DecoderPool(processes=1)
    try:
        square, _ = pool.decode(_file("JPEG", 6), size=32, part=(30, 20, 62, 52))
    finally:
        pool.close()
    assert (square == decoding.decode(_file("JPEG", 6), size=32, part=(30, 20, 62, 52))[0]).all()


@pytest.mark.parametrize(
    ("text", "pixels"),
    [
        ("0,0,120,90", (0, 0, 120, 90)),
        ("30, 20, 32, 32", (30, 20, 62, 52)),
        ("pct:25,0,50,100", (30, 0, 90, 90)),
        ("pct:33.3,33.3,33.4,33.4", (40, 30, 80, 60)),
        ("pct:0,0,100,100", (0, 0, 120, 90)),
    ],
)
def test_boxes(text: str, pixels: Rectangle) -> None:
    assert Region.parse(text).within(WIDTH, HEIGHT) == pixels


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no box"),
        ("1,2,3", "no box"),
        ("1,2,3,4,5", "no box"),
        ("a,b,c,d", "no box"),
        ("nan,0,10,10", "no box"),
        ("inf,0,10,10", "no box"),
        ("1e3,0,10,10", "no box"),
        ("-5,0,10,10", "no box"),
        ("٣,0,10,10", "no box"),
        ("pct:", "no box"),
        ("px:1,2,3,4", "no box"),
        ("1,2,0,10", "empty"),
        ("pct:1,2,10,0", "empty"),
        ("pct:60,0,50,10", "beyond"),
        ("100,0,30,30", "reaches to 130,30: the picture has 120 x 90"),
        ("0,85,30,30", "reaches to"),
        ("500,500,10,10", "reaches to"),
        ("0,0,7,30", "7 x 30 pixels, at least 8 x 8"),
        ("pct:0,0,1,1", "at least 8 x 8"),
    ],
)
def test_boxes_that_are_none(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Region.parse(text).within(WIDTH, HEIGHT)
