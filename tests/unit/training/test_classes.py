"""Fine-tuning for the classes: it learns, it is the same however often it is killed, and every recipe runs."""

import json
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageDraw

from tests.support.paths import ROOT
from training.recipes import names, recipe_named

SIZE = 64


@pytest.fixture(scope="module")
def shapes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of red discs, green squares and blue bars."""
    folder = tmp_path_factory.mktemp("shapes")
    for label, colour in (("bars", "blue"), ("discs", "red"), ("squares", "green")):
        (folder / label).mkdir()
        for number in range(12):
            rng = np.random.default_rng([number, len(label)])
            image = Image.fromarray(rng.integers(90, 160, (72, 72, 3), dtype=np.uint8))
            x, y, side = (int(value) for value in rng.integers((4, 4, 26), (26, 26, 40)))
            draw = ImageDraw.Draw(image)
            if label == "discs":
                draw.ellipse((x, y, x + side, y + side), fill=colour)
            else:
                draw.rectangle((x, y, x + side, y + (side if label == "squares" else 9)), fill=colour)
            image.save(folder / label / f"{number}.png")
    return folder


def command(data: Path, out: Path, *options: str) -> list[str]:
    known = ["--data", str(data), "--out", str(out), "--size", str(SIZE), "--weights", "random", "--json", *options]
    return [sys.executable, "-c", "from training.command import train; train()", *known]


def run(arguments: Sequence[str], expected: int = 0) -> dict[str, Any]:
    done = subprocess.run(arguments, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == expected, done.stderr
    return dict(json.loads(done.stdout)) if not expected else {"error": " ".join(done.stderr.split())}


def recipe_file(folder: Path, **changes: Any) -> str:
    value = recipe_named("resnet50-model1").to_json()
    path = folder / "small.json"
    path.write_text(json.dumps({**value, "batch": 8, "learning_rate": 0.003, **changes}), encoding="utf-8")
    return str(path)


def test_it_learns_and_leaves_a_report(shapes: Path, tmp_path: Path) -> None:
    recipe = recipe_file(tmp_path, unfrozen="all", head=[], epochs=12)
    options = ["--recipe", recipe, "--backbone", "efficientnet-lite0"]
    result = run(command(shapes, tmp_path / "run", *options))
    losses = [one["loss"] for one in result["history"]]
    assert losses[-1] < 0.7 * losses[0]
    assert result["report"]["classes"].keys() == {"bars", "discs", "squares"}
    assert result["best_epoch"] == 1 + int(np.argmin([one["validation_loss"] for one in result["history"]]))
    made = {path.name for path in (tmp_path / "run").iterdir()}
    assert made == {"run.json", "report.json", "report.md", "curves.png", "network.weights.h5", "architecture.json"}
    with Image.open(tmp_path / "run" / "curves.png") as curves:
        assert min(curves.size) > 300
    about = json.loads((tmp_path / "run" / "run.json").read_text("utf-8"))
    assert about["training"]["images"] + about["validation"]["images"] == 36
    assert {"keras", "numpy", "python"} <= about["versions"].keys()
    assert run(command(shapes, tmp_path / "run", *options)) == result  # it has ended: nothing is trained again
    said = run(command(shapes, tmp_path / "run", *options, "--seed", "5"), expected=1)["error"]
    assert "holds a run that differs in seed" in said


@pytest.mark.parametrize("kind", ["classes", "augmented", "search"])
def test_a_run_that_is_killed_ends_where_another_ends(shapes: Path, tmp_path: Path, kind: str) -> None:
    head = [{"dropout": 0.5}, {"dense": 16, "activation": "relu"}]
    recipe = recipe_file(tmp_path, unfrozen="last stage", head=head, epochs=5, augmented=kind == "augmented")
    options = ["--recipe", "search" if kind == "search" else recipe, "--backbone", "efficientnet-lite0"]
    wanted = run(command(shapes, tmp_path / "whole", *options))
    killed = tmp_path / "killed"
    for mark in ("frozen-validation.count", "state.npz"):  # while it computes what is frozen, and after an epoch
        child = subprocess.Popen(
            command(shapes, killed, *options), cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        until = time.monotonic() + 120
        while not (killed / mark).exists() and child.poll() is None:
            assert time.monotonic() < until
            time.sleep(0.01)
        child.send_signal(signal.SIGKILL)
        child.wait()
    found = run(command(shapes, killed, *options))
    assert found["history"] == wanted["history"]
    assert (killed / "network.weights.h5").stat().st_size == (tmp_path / "whole" / "network.weights.h5").stat().st_size
    assert weights_of(killed) == weights_of(tmp_path / "whole")


def weights_of(folder: Path) -> dict[str, bytes]:
    import h5py  # noqa: PLC0415 -- comes with Keras

    found = {}

    def note(name: str, item: Any) -> None:
        if isinstance(item, h5py.Dataset):
            found[name] = np.asarray(item).tobytes()

    with h5py.File(folder / "network.weights.h5") as file:
        file.visititems(note)
    assert len(found) > 100
    return found


def test_every_recipe_of_the_report_runs_to_its_end_and_on_another_backbone(shapes: Path, tmp_path: Path) -> None:
    """All of them in one process and eagerly: to start TensorFlow and to trace graphs takes longer than to train."""
    own = [name for name in names() if name.startswith("resnet50")]
    assert len(own) == 9
    wanted = [(name, name.partition("-")[0]) for name in own]
    wanted.append(("resnet50-model2", "efficientnet-lite2"))
    runs = [
        command(shapes, tmp_path / f"{name}-{backbone}", "--recipe", name, "--backbone", backbone, "--epochs", "1")[3:]
        for name, backbone in wanted
    ]
    code = "\n".join(
        [
            "import json, sys; from training.command import train",
            "import tensorflow; tensorflow.config.run_functions_eagerly(True)",
            "for run in json.load(sys.stdin): train.main(run, standalone_mode=False)",
        ]
    )
    done = subprocess.run(
        [sys.executable, "-c", code], input=json.dumps(runs), cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    for name, backbone in wanted:
        result = json.loads((tmp_path / f"{name}-{backbone}" / "report.json").read_text("utf-8"))
        assert (result["recipe"], result["backbone"], result["epochs"]) == (name, backbone, 1)
        assert 0 <= result["accuracy"] <= 1


def test_what_is_wrong_with_the_images_is_told_at_once(shapes: Path, tmp_path: Path) -> None:
    shutil.copytree(shapes / "discs", tmp_path / "one" / "discs")
    said = run(command(tmp_path / "one", tmp_path / "run", "--recipe", "resnet50-model1"), expected=1)["error"]
    assert "put the images of each class, two at least, into a folder of its own" in said
    assert not (tmp_path / "run").exists()
