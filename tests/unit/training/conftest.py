"""Pictures that several tests of training learn from."""

import shutil
from pathlib import Path
from typing import cast

import numpy as np
import pytest
from PIL import Image

from tests.support import training_runs
from tests.support.small_backbone import SMALL
from training.backbones import BACKBONES, Backbone


@pytest.fixture
def small_backbone(monkeypatch: pytest.MonkeyPatch) -> str:
    """A backbone that is quick, which this process knows for a test; returns its name."""
    monkeypatch.setitem(cast("dict[str, Backbone]", BACKBONES), SMALL.name, SMALL)
    return SMALL.name


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
