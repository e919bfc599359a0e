"""Small files that ask for much are refused by their headers, with the limit's name; what cannot hurt is taken."""

import pytest

from shared.images import ImageRefused, Limits, decode, identify
from tests.support import bombs


@pytest.mark.parametrize("kind", bombs.all_kinds())
def test_a_bomb_is_refused_by_name(kind: str) -> None:
    with pytest.raises(ImageRefused) as refused:
        decode(bombs.all_kinds()[kind], size=32)
    assert refused.value.reason == {"pixels of a PNG": "too-many-pixels", "chunks in a chunk": "corrupt"}.get(
        kind, "too-complex"
    )


def test_scans_are_bounded_together_with_pixels() -> None:
    assert identify(bombs.scans(1000, 20), Limits(max_pixels=1_000_000)).width == 1000
    with pytest.raises(ImageRefused, match=r"21 scans.*ARTSEEK_MAX_PIXELS") as refused:
        identify(bombs.scans(1000, 21), Limits(max_pixels=1_000_000))
    assert refused.value.reason == "too-complex"
    assert identify(bombs.scans(100, 100), Limits(max_pixels=1_000_000)).width == 100


def test_an_end_of_image_in_a_comment_hides_no_scans() -> None:
    comment = b"\xff\xfe\0\x04\xff\xd9"
    with pytest.raises(ImageRefused, match="21 scans"):
        identify(bombs.scans(1000, 21, between=comment), Limits(max_pixels=1_000_000))
    # Nor do bytes in a comment count as scans.
    assert identify(bombs.scans(100, 30, between=b"\xff\xfe\0\x0a" + b"\xff\xda" * 4)).width == 100


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "TIFF"])
def test_of_many_frames_only_the_first_is_decoded(kind: str) -> None:
    pixels, info = decode(bombs.frames(kind, 300), size=8)
    assert (info.width, int(pixels.max())) == (8, 0)


def test_of_many_exif_blocks_only_the_first_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[bytes] = []

    def orientation(block: bytes) -> int:
        read.append(block)
        return 1

    monkeypatch.setattr("shared.images.readers.exif_orientation", orientation)
    assert identify(bombs.exif_blocks(20)).width == 60
    assert len(read) == 1
