"""Large files are decoded from the disk: not sent, not in memory, and no other file can be opened meanwhile."""

import mmap
import re
import struct
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from shared.images import DirectDecoder, ImageRefused, identify
from shared.images.contract import MIB
from shared.images.damage import any_has_hole, has_hole
from shared.images.decoder_pool import DecoderPool, Queue
from shared.images.splicing import KEPT
from tests.support.bombs import chunk
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


def resident(path: Path) -> int:
    """Return the bytes of a mapped file that are in the memory of this process."""
    found, is_mapped = 0, False
    for line in Path("/proc/self/smaps").read_text().splitlines():
        if re.match(r"[0-9a-f]+-[0-9a-f]+ ", line):
            is_mapped = line.endswith(str(path))
        elif is_mapped and line.startswith("Rss:"):
            found += int(line.split()[1]) * 1024
    return found


def test_a_file_that_is_looked_through_does_not_fill_the_memory(tmp_path: Path) -> None:
    samples = bytes(range(1, 256)) * (100 * MIB // 255)
    head = struct.pack(">IIBBBBB", 9000, 9000, 8, 0, 0, 0, 0)
    png = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", samples) + chunk(b"IEND", b"")
    strips = [(at, at + 2 * MIB) for at in range(0, 100 * MIB - 4 * MIB, 2 * MIB)]
    path = tmp_path / "large.png"
    path.write_bytes(png)
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
        assert not has_hole(mapped, 0, len(mapped))
        assert resident(path) < 40 * MIB
        assert not any_has_hole(mapped, strips)
        assert resident(path) < 40 * MIB
        assert identify(mapped).width == 9000
        assert resident(path) < 40 * MIB


@pytest.mark.parametrize("at", [0, KEPT - 512, KEPT - 511, KEPT - 1, KEPT, KEPT + 5])
def test_a_hole_is_found_wherever_it_is(at: int) -> None:
    data = bytearray(b"\1" * (KEPT + 600))
    data[at : at + 512] = bytes(512)
    assert has_hole(bytes(data), 0, len(data))
    data[at + 100] = 1
    assert not has_hole(bytes(data), 0, len(data))
