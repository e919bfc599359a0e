"""Batches of images: in their order, decoded as for the search, augmented by their seeds alone."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from shared.images import decode
from training.batches import augmented, batches


@pytest.fixture
def paths(tmp_path: Path) -> list[Path]:
    made = []
    for number in range(11):
        pixels = np.random.default_rng(number).integers(0, 256, (40 + number, 50, 3), dtype=np.uint8)
        made.append(tmp_path / f"{number}.png")
        Image.fromarray(pixels).save(made[-1])
    return made


def test_images_come_in_their_order_as_they_are_searched(paths: list[Path]) -> None:
    found = list(batches(paths, 32, batch=4))
    assert [some.shape for some in found] == [(4, 32, 32, 3), (4, 32, 32, 3), (3, 32, 32, 3)]
    wanted = [decode(path.read_bytes(), size=32)[0] for path in paths]
    assert np.array_equal(np.concatenate(found), np.stack(wanted))
    assert list(batches([], 32, batch=4)) == []


def test_images_are_augmented_by_their_seeds_alone(paths: list[Path]) -> None:
    seeds = [[7, number] for number in range(11)]
    one, two = (np.concatenate(list(batches(paths, 32, batch=batch, seeds=seeds))) for batch in (3, 11))
    assert np.array_equal(one, two)
    other = np.concatenate(list(batches(paths, 32, batch=11, seeds=[[8, number] for number in range(11)])))
    assert not np.array_equal(one, other)


def test_an_augmented_image_is_still_the_image() -> None:
    """Of a smooth image, the middle keeps its colour, and nothing that was not there comes in at the edges."""
    across, down = np.meshgrid(np.linspace(40, 200, 64), np.linspace(60, 180, 64))
    pixels = np.stack([across, down, np.full_like(across, 90)], axis=-1).astype(np.uint8)
    turned = set()
    for seed in range(40):
        made = augmented(pixels, np.random.default_rng(seed))
        assert made.shape == pixels.shape
        assert made.dtype == np.uint8
        assert (
            np.abs(made[24:40, 24:40].astype(int).mean(axis=(0, 1)) - pixels[24:40, 24:40].mean(axis=(0, 1))).max() < 30
        )
        assert made[..., 0].min() >= 38
        assert made[..., 0].max() <= 202
        assert set(np.unique(made[..., 2])) == {90}
        turned.add(bool(made[32, 10, 0] > made[32, 54, 0]))  # dark on the left, unless it is mirrored
    assert turned == {True, False}
