"""The weights that a network begins with, by their names."""

from pathlib import Path

import pytest

from training.pretrained import Imagenet, RandomWeights, WeightsFile, weights_named
from training.weights import WeightsError


def test_weights_are_named_as_on_the_command_line(tmp_path: Path) -> None:
    assert weights_named("imagenet", seed=4) == Imagenet()
    assert weights_named("random", seed=4) == RandomWeights(4)
    path = tmp_path / "own.h5"
    with pytest.raises(WeightsError, match=r"no weights file .*own\.h5.*give imagenet, random"):
        weights_named(str(path), seed=4)
    path.write_bytes(b"own")
    assert weights_named(str(path), seed=4) == WeightsFile(path)
