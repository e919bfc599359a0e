"""`python -m training.export`: weights by their names, and fewer dimensions that are fitted to images."""

from pathlib import Path

import numpy as np
import pytest

from shared.images import decode
from training import export
from training.backbones import EFFICIENTNET_LITE0
from training.manifest import read_manifest
from training.savedmodel import saved_model_embed

pytestmark = pytest.mark.slow

SIZE = 32


def test_random_and_given_weights_are_exported_by_the_command(tmp_path: Path) -> None:
    arguments = ["--out", str(tmp_path), "--size", str(SIZE)]
    assert export.main([*arguments, "--weights", "random", "--seed", "5"]) == 0
    found = read_manifest(tmp_path / "efficientnet-lite0/1")
    assert found["weights"] == {"source": "random", "seed": 5}
    assert str(tmp_path / "efficientnet-lite0") in (tmp_path / "models.config").read_text("utf-8")
    assert export.main(arguments) == 1  # version 1 is taken by another model
    assert export.main([*arguments, "--version", "2", "--weights", str(tmp_path / "none.h5")]) == 1
    checkpoint = EFFICIENTNET_LITE0.packaged.locate()
    assert export.main([*arguments, "--version", "2", "--weights", str(checkpoint)]) == 0
    found = read_manifest(tmp_path / "efficientnet-lite0/2")
    assert found["weights"] == {"source": "file", "sha256": EFFICIENTNET_LITE0.packaged.sha256}


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory, small_backbone: str) -> tuple[Path, list[str]]:
    """A folder with a model whose dimensions are all there, and the arguments that it was exported by."""
    out = tmp_path_factory.mktemp("models")
    arguments = ["--out", str(out), "--size", str(SIZE), "--pooling", "stages", "--model", small_backbone]
    arguments += ["--weights", "random", "--seed", "5"]
    assert export.main([*arguments, "--raw", "--name", "plain"]) == 0
    return out, arguments


@pytest.mark.parametrize("kind", ["project", "whiten"])
def test_fewer_dimensions_are_fitted_to_images_and_served(
    pictures: Path, plain: tuple[Path, list[str]], kind: str
) -> None:
    out, arguments = plain
    fewer = [f"--{kind}", "8", "--images", str(pictures), "--raw", "--name", kind]
    assert export.main([*arguments, *fewer]) == 0
    found = read_manifest(out / kind / "1")
    assert (found["dim"], found["normalised"], found["input_size"]) == (8, False, SIZE)
    assert found["training"][kind]["images"] == 40
    assert found["training"]["weights"] == {"source": "random", "seed": 5}
    images = np.stack([decode((pictures / f"{number}.png").read_bytes(), size=SIZE)[0] for number in range(40)])
    wide, few = (np.asarray(saved_model_embed(out / name / "1")(images), np.float64) for name in ("plain", kind))
    assert (wide.shape, few.shape) == ((40, read_manifest(out / "plain/1")["dim"]), (40, 8))
    if kind == "whiten":
        np.testing.assert_allclose(np.cov(few.T), np.eye(8), atol=1e-2)
    else:
        axes = np.linalg.svd(wide, full_matrices=False)[2][:8]
        np.testing.assert_allclose(few @ few.T, wide @ axes.T @ axes @ wide.T, rtol=1e-3)
    assert export.main([*arguments, *fewer]) == 0  # it is there already
    assert export.main([*arguments, *fewer[:1], "7", *fewer[2:]]) == 1  # another


def test_images_that_are_too_few_are_told(
    pictures: Path, tmp_path: Path, small_backbone: str, caplog: pytest.LogCaptureFixture
) -> None:
    arguments = ["--out", str(tmp_path), "--size", str(SIZE), "--model", small_backbone, "--weights", "random"]
    arguments += ["--images", str(pictures)]
    assert export.main([*arguments, "--project", "50"]) == 1
    assert "there are 40 images for 50 dimensions" in caplog.text
    assert export.main([*arguments, "--whiten", "2000"]) == 1
    assert "cannot whiten 1280 dimensions" in caplog.text
    assert export.main([*arguments[:-1], str(tmp_path / "nowhere"), "--whiten", "2"]) == 1
    assert "nowhere" in caplog.text
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []
