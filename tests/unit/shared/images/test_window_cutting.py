"""The pixels of windows: they are those of the parts of the picture, whatever the picture is decoded from."""

import io

import numpy as np
import pytest
from PIL import Image

from shared.images import DirectDecoder, ImageRefused
from shared.images.child_messages import Answer, Malformed, Request
from shared.images.contract import DEFAULT_LIMITS, ImageInfo
from shared.images.decoder_pool import DecoderPool
from shared.windows import windows

DECODER = DirectDecoder()
SIZE = 24


def saved(width: int, height: int, *, orientation: int = 1, of: tuple[int, int] | None = None) -> bytes:
    """Return a PNG that is smooth and different everywhere, at the size `of` if it is a smaller copy."""
    across, down = np.meshgrid(np.linspace(0, 255, width), np.linspace(0, 255, height))
    image = Image.fromarray(np.stack([across, down, (across + down) / 2], axis=-1).astype(np.uint8))
    if of:
        image = image.resize(of, Image.Resampling.BICUBIC)
    exif = Image.Exif()
    exif[274] = orientation
    file = io.BytesIO()
    image.save(file, "PNG", exif=exif)
    return file.getvalue()


@pytest.mark.parametrize(("width", "height"), [(300, 200), (150, 150), (700, 130), (90, 500)])
def test_windows_look_as_the_parts_that_a_search_by_a_box_embeds(width: int, height: int) -> None:
    file = saved(width, height)
    squares, info = DECODER.windows(file, size=SIZE)
    assert (info.width, info.height) == (width, height)
    expected = [DECODER.decode(file, size=SIZE, part=window)[0] for window in windows(width, height)]
    assert squares.shape == (len(expected), SIZE, SIZE, 3)
    assert np.abs(squares.astype(int) - np.stack(expected)).max() <= 4


def test_windows_of_a_turned_picture_are_those_of_the_upright_one() -> None:
    turned, info = DECODER.windows(saved(300, 200, orientation=6), size=SIZE)
    assert (info.width, info.height) == (200, 300)
    expected = DECODER.decode(saved(300, 200, orientation=6), size=SIZE, part=windows(200, 300)[0])[0]
    assert np.abs(turned[0].astype(int) - expected).max() <= 4


def test_windows_of_a_smaller_copy_are_those_of_its_original() -> None:
    original = DECODER.windows(saved(900, 600), size=SIZE)[0]
    copy = DECODER.windows(saved(900, 600, of=(300, 200)), size=SIZE, of=(900, 600))[0]
    assert np.abs(original.astype(int) - copy).max() <= 6


def test_a_picture_that_is_too_small_has_no_windows() -> None:
    assert DECODER.windows(saved(40, 40), size=SIZE)[0].shape == (0, SIZE, SIZE, 3)


@pytest.mark.slow
def test_a_decoding_process_cuts_the_same_windows() -> None:
    pool = DecoderPool(processes=1)
    try:
        for file, of in ((saved(300, 200), None), (saved(40, 40), None), (saved(300, 200), (90, 60))):
            squares, info = pool.windows(file, size=SIZE, of=of)
            expected, facts = DECODER.windows(file, size=SIZE, of=of)
            assert np.array_equal(squares, expected)
            assert info == facts
        with pytest.raises(ImageRefused):
            pool.windows(b"no image", size=SIZE)
    finally:
        pool.close()


def test_an_answer_with_other_windows_than_the_image_has_is_not_believed() -> None:
    request = Request("windows", SIZE, 1, 1.0, DEFAULT_LIMITS)
    info = ImageInfo("png", "image/png", 300, 200)
    right = Answer(38 * 3 * SIZE**2, info)
    assert Answer.read(io.BytesIO(right.pack()), request) == right
    for wrong in (Answer(37 * 3 * SIZE**2, info), Answer(0, info), Answer(0), Answer(3 * SIZE**2)):
        with pytest.raises(Malformed):
            Answer.read(io.BytesIO(wrong.pack()), request)
