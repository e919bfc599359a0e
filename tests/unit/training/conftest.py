"""Pictures that several tests of training learn from."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.support import training_runs
from tests.support.small_backbone import registered


@pytest.fixture(scope="module")
def small_backbone() -> Iterator[str]:
    """A backbone that is quick, which this process knows for the tests of a file; returns its name."""
    with registered() as name:
        yield name


@pytest.fixture(scope="session")
def shapes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with twelve pictures each of red discs, green squares and blue bars."""
    folder = tmp_path_factory.mktemp("shapes")
    training_runs.draw_shapes(folder)
    return folder


@pytest.fixture(scope="session")
def background(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with twenty pictures of noise, two of them alike, and a file that is no picture."""
    folder = tmp_path_factory.mktemp("background")
    for number in range(20):
        noise = np.random.default_rng(max(1, number)).integers(0, 256, (80, 80, 3), dtype=np.uint8)
        Image.fromarray(noise).save(folder / f"{number}.png")
    (folder / "broken.png").write_text("none")
    return folder


@pytest.fixture(scope="session")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with forty pictures, the first of them twice, and a file that is no picture."""
    folder = tmp_path_factory.mktemp("pictures")
    for number in range(40):
        noise = np.random.default_rng(number).integers(0, 256, (6, 6, 3), dtype=np.uint8)
        picture = Image.fromarray(noise).resize((72, 64), Image.Resampling.BICUBIC)
        picture.save(folder / f"{number}.png")
    shutil.copy(folder / "0.png", folder / "again.png")
    (folder / "none.png").write_text("no picture")
    return folder
