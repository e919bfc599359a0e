"""Trainings as `artseek train` makes them, each in a process of its own, of small pictures and a small network.

The processes are forked from one that has loaded TensorFlow, which takes longer than such a training.
"""

import json
import multiprocessing
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from tests.support.paths import ROOT
from training.backend import TENSORFLOW, VARIABLE
from training.recipes import recipe_named

SIZE = 32
"""Side of the pictures in pixels."""
_CHILD = "tests.support.training_child"
_FORKSERVER = multiprocessing.get_context("forkserver")
_FORKSERVER.set_forkserver_preload([_CHILD])


def draw_shapes(folder: Path) -> None:
    """Draw twelve each of red discs, green squares and blue bars, into a folder for each class."""
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


def arguments(data: Path, run: Path, *options: str) -> list[str]:
    """Return what follows `artseek train` for a training of images in `data` whose folder is `run`."""
    return ["--data", str(data), "--out", str(run), "--size", str(SIZE), "--weights", "random", "--json", *options]


def train(data: Path, run: Path, *options: str, library: str = TENSORFLOW, eagerly: bool = False) -> dict[str, Any]:
    """Train to the end, and return the result that is printed; eagerly is without graphs, which take longer."""
    status, out, err = _ended([arguments(data, run, *options)], library=library, eagerly=eagerly)
    assert status == 0, err
    return dict(json.loads(out))


def train_all(trainings: Sequence[Sequence[str]]) -> None:
    """Run trainings to their ends, by their arguments: in one process and without graphs, which take longer."""
    status, _, err = _ended(trainings, eagerly=True)
    assert status == 0, err


def run_training(command: Sequence[str], **_: Any) -> subprocess.CompletedProcess[str]:
    """Run the training of a command without graphs, in place of `subprocess.run`."""
    assert list(command[:3]) == [sys.executable, "-m", "training.command"]
    status, out, err = _ended([command[3:]], eagerly=True)
    return subprocess.CompletedProcess(command, -1 if status is None else status, out, err)


def train_and_be_killed(
    data: Path, run: Path, *options: str, after: str, library: str = TENSORFLOW, eagerly: bool = False
) -> None:
    """Begin to train, or go on, in a process that is killed after its "first batch" or "first epoch"."""
    status, _, err = _ended([arguments(data, run, *options)], killed_after=after, library=library, eagerly=eagerly)
    assert status == -signal.SIGKILL, err


def refusal(data: Path, run: Path, *options: str) -> str:
    """Return what is said of a training that is refused, in one line."""
    status, _, err = _ended([arguments(data, run, *options)])
    assert status == 1, err
    return " ".join(err.split())


def recipe_file(folder: Path, **changes: Any) -> str:
    """Write a recipe for classes, one of the report's but for some values, and return its path."""
    value = recipe_named("resnet50-model1").to_json()
    path = folder / "small.json"
    path.write_text(json.dumps({**value, "batch": 8, "learning_rate": 0.003, **changes}), encoding="utf-8")
    return str(path)


def search_recipe_file(folder: Path) -> str:
    """Write the recipe for search, but with narrow layers and few epochs, and return its path."""
    text = json.dumps({**recipe_named("search").to_json(), "batch": 16, "epochs": 2})
    for wide, narrow in ((512, 16), (128, 8)):
        text = text.replace(f": {wide}", f": {narrow}")
    path = folder / "small-search.json"
    path.write_text(text, encoding="utf-8")
    return str(path)


def weights_of(run: Path) -> dict[str, bytes]:
    """Return every array of the network that a run ended in, by its name."""
    import h5py  # noqa: PLC0415 -- comes with Keras

    found: dict[str, bytes] = {}

    def note(name: str, item: Any) -> None:
        if isinstance(item, h5py.Dataset):
            found[name] = np.asarray(item).tobytes()

    with h5py.File(run / "network.weights.h5") as file:
        file.visititems(note)
    assert len(found) > 100
    return found


def _ended(
    trainings: Sequence[Sequence[str]],
    *,
    eagerly: bool = False,
    killed_after: str | None = None,
    library: str = TENSORFLOW,
) -> tuple[int | None, str, str]:
    """Run trainings to the end of their process; returns its exit status, and what it wrote to both outputs."""
    with tempfile.TemporaryDirectory() as folder:
        output = str(Path(folder) / "training")
        how = {"trainings": trainings, "output": output, "eagerly": eagerly, "killed_after": killed_after}
        if library == TENSORFLOW:
            process = _FORKSERVER.Process(target=_run, kwargs=how)
            process.start()
            process.join()
            status = process.exitcode
        else:
            command = [sys.executable, "-m", _CHILD, json.dumps(how)]
            status = subprocess.run(command, cwd=ROOT, env={**os.environ, VARIABLE: library}, check=False).returncode
        out, err = (Path(f"{output}{ending}").read_text("utf-8") for ending in (".out", ".err"))
    return status, out, err


def _run(**how: Any) -> None:
    from tests.support import training_child  # noqa: PLC0415 -- which loads TensorFlow

    training_child.run(**how)
