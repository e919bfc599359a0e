"""Large files are decoded from the disk: not sent, not in memory, and no other file can be opened meanwhile."""

import tempfile
from collections.abc import Iterator

import numpy as np
import pytest

from shared.images import DirectDecoder, ImageRefused
from shared.images.decoder_pool import DecoderPool, Queue
from tests.support.odd_decoding_child import ESCAPE
from tests.support.pictures import photograph, saved

pytestmark = pytest.mark.slow  # it makes large files


@pytest.fixture(scope="module")
def pool() -> Iterator[DecoderPool]:
    made = DecoderPool(processes=1, queue=Queue(waiting=1), module="tests.support.odd_decoding_child")
    yield made
    made.close()


@pytest.mark.parametrize("kind", ["TIFF", "PNG", "JPEG", "WEBP", "BMP", "GIF", "AVIF", "JPEG2000"])
def test_a_file_is_decoded_as_its_bytes_are(pool: DecoderPool, kind: str) -> None:
    data = saved(photograph(700, 600), kind)
    with tempfile.TemporaryFile() as file:
        file.write(data)
        file.flush()
        for decoder in (pool, DirectDecoder()):
            found, info = decoder.decode(file, size=32)
            expected, known = DirectDecoder().decode(data, size=32)
            assert info == known == decoder.identify(file)
            assert np.array_equal(found, expected)
            assert decoder.thumbnail(file, box=32) == DirectDecoder().thumbnail(data, box=32)


def test_what_is_no_image_is_refused_and_the_process_goes_on(pool: DecoderPool) -> None:
    for data, reason in ((b"<html>", "not-an-image"), (saved(photograph(90, 80), "PNG")[:-300], "truncated")):
        with tempfile.TemporaryFile() as file:
            file.write(data)
            file.flush()
            with pytest.raises(ImageRefused) as refused:
                pool.decode(file, size=32)
            assert refused.value.reason == reason
    with tempfile.TemporaryFile() as file, pytest.raises(ImageRefused, match="empty"):
        pool.identify(file)
    with pytest.raises(ImageRefused, match=r"\[\]"):  # nothing can be reached
        pool.identify(ESCAPE)
