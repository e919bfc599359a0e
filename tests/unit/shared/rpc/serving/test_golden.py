"""Golden vectors: what computes the same passes, what does not is told, and so is a file that cannot be trusted."""

from pathlib import Path

import numpy as np
import pytest

from shared.errors import Invalid, NotFound
from shared.rpc.serving import golden
from shared.rpc.serving.golden import Floats, Images

SIZE = 40


def embed(images: Images) -> Floats:
    """A model that sees colour, place and contrast: float32 [n, 6]."""
    pixels = images.astype(np.float32) / 255
    left = pixels[:, :, : SIZE // 2].mean(axis=(1, 2))
    return np.concatenate([left, pixels.std(axis=(1, 2))], axis=1)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    golden.write(tmp_path, SIZE, embed)
    return tmp_path


def test_the_same_model_passes_and_a_changed_one_is_told(folder: Path) -> None:
    assert golden.check(folder, embed) == 0
    assert golden.check(folder, lambda images: embed(images) + np.float32(5e-4)) == pytest.approx(5e-4, rel=1e-3)
    for changed in (
        lambda images: embed(images) + np.float32(2e-3),
        lambda images: embed(images[..., ::-1]),  # channels in another order
        lambda images: embed(images[:, :, ::-1]),  # mirrored
        lambda images: embed(images // 2),
        lambda images: embed(images) * np.float32("nan"),
    ):
        with pytest.raises(Invalid, match=r"away from its golden vectors, expected at most 0\.001"):
            golden.check(folder, changed)
    with pytest.raises(Invalid, match=r"shape \(5, 5\), expected \(5, 6\)"):
        golden.check(folder, lambda images: embed(images)[:, :5])


def test_long_embeddings_are_compared_by_their_length(tmp_path: Path) -> None:
    golden.write(tmp_path, SIZE, lambda images: embed(images) * 1e4)
    assert golden.check(tmp_path, lambda images: embed(images) * 1e4 + 1) < 2e-4
    with pytest.raises(Invalid, match="away from"):
        golden.check(tmp_path, lambda images: embed(images) * 1.01e4)


def test_the_images_are_rgb_of_the_model_s_size_and_differ(folder: Path) -> None:
    seen: list[Images] = []

    def keep(images: Images) -> Floats:
        seen.append(images)
        return embed(images)

    golden.check(folder, keep)
    [images] = seen
    assert images.shape == (5, SIZE, SIZE, 3)
    assert images.dtype == np.uint8
    differences = np.abs(embed(images)[:, None] - embed(images)).max(axis=2)
    assert (differences + np.eye(5) > 0.01).all()
    assert (folder / golden.GOLDEN).stat().st_size < 10_000


def test_other_seeds_give_other_images(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    other = tmp_path_factory.mktemp("other")
    golden.write(other, SIZE, embed, seed=1)
    assert (other / golden.GOLDEN).read_bytes() != (folder / golden.GOLDEN).read_bytes()
    assert golden.check(other, embed) == 0


def test_vectors_that_are_missing_or_damaged_are_told(folder: Path) -> None:
    path = folder / golden.GOLDEN
    data = path.read_bytes()
    for damaged in (b"", data[:-30], data[:200], b"PK\x03\x04" + bytes(100), b"\x80\x02}q\x00."):
        path.write_bytes(damaged)
        with pytest.raises(Invalid, match="are damaged"):
            golden.check(folder, embed)
    np.savez(path, size=SIZE)
    with pytest.raises(Invalid, match="are damaged"):
        golden.check(folder, embed)
    np.savez(path, size=SIZE, patterns=np.array([{"a": 1}], object), embeddings=np.zeros((1, 6)))
    with pytest.raises(Invalid, match="are damaged"):
        golden.check(folder, embed)
    path.unlink()
    with pytest.raises(NotFound, match="no golden vectors"):
        golden.check(folder, embed)
