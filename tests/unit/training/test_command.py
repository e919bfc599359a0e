"""The `artseek train` command: what cannot work is told before anything is trained."""

import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner

from tests.support.training_runs import arguments
from training.command import train


def refusal(data: Path, run: Path, *options: str) -> str:
    """Return what is said of a training that is refused, in one line."""
    done = CliRunner().invoke(train, arguments(data, run, *options))
    assert done.exit_code == 1, done.output
    return " ".join(done.stderr.split())


def test_what_is_wrong_with_the_images_is_told_at_once(shapes: Path, tmp_path: Path) -> None:
    shutil.copytree(shapes / "discs", tmp_path / "one" / "discs")
    message = refusal(tmp_path / "one", tmp_path / "run", "--recipe", "resnet50-model1")
    assert "put the images of each class, two at least, into a folder of its own" in message
    assert not (tmp_path / "run").exists()


def test_background_is_refused_by_a_recipe_that_learns_classes(shapes: Path, background: Path, tmp_path: Path) -> None:
    options = ["--recipe", "resnet50-model1", "--background", str(background)]
    message = refusal(shapes, tmp_path / "run", *options)
    assert "learns classes alone; leave --background out, or take 'search'" in message


def test_a_library_that_cannot_train_is_told_before_an_image_is_looked_at(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KERAS_BACKEND", "jaxx")
    message = refusal(tmp_path / "none", tmp_path / "run")
    assert message == "artseek: KERAS_BACKEND is 'jaxx', expected tensorflow, jax or torch"
    assert not (tmp_path / "run").exists()
