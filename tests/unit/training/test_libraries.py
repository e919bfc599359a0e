"""Training with other libraries than TensorFlow: it ends as on TensorFlow, and is served as it was trained."""

import json
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from shared.errors import Invalid
from shared.images import decode
from shared.rpc.serving import golden
from tests.support.paths import ROOT
from tests.support.small_backbone import SMALL
from tests.support.training_runs import SIZE, recipe_file, train, train_and_be_killed, weights_of
from training.backend import LIBRARIES, TENSORFLOW, VARIABLE
from training.model_versions import export_run
from training.savedmodel import saved_model_embed

pytestmark = pytest.mark.slow

OTHERS = [library for library in LIBRARIES if library != TENSORFLOW]


def test_an_export_is_held_to_what_the_trainer_s_library_computed(
    shapes: Path, tmp_path: Path, small_backbone: str
) -> None:
    folder = tmp_path / "run"
    recipe = recipe_file(tmp_path, unfrozen="none", head=[], epochs=1)
    train(shapes, folder, "--recipe", recipe, "--backbone", small_backbone)
    assert json.loads((folder / "run.json").read_text("utf-8"))["backend"] == "tensorflow"
    assert export_run(folder, tmp_path, "own", 1)
    embed = saved_model_embed(tmp_path / "own" / "1")

    def write(shift: float) -> bytes:
        golden.write(folder, SIZE, lambda images: embed(images) + np.float32(shift))
        return (folder / golden.GOLDEN).read_bytes()

    given = write(5e-4)
    assert export_run(folder, tmp_path, "own", 2)
    assert (tmp_path / "own" / "2" / golden.GOLDEN).read_bytes() == given
    write(2e-3)
    _, expected = golden._read(folder / golden.GOLDEN)
    shift = 2e-3 / np.maximum(1.0, np.linalg.norm(expected, axis=1)).min()  # relative to the length of an embedding
    with pytest.raises(Invalid, match=rf"is {shift:.2g} away from its golden vectors"):
        export_run(folder, tmp_path, "own", 3)
    assert not (tmp_path / "own" / "3").exists()


@pytest.fixture(params=OTHERS)
def library(request: pytest.FixtureRequest) -> str:
    """Another library than TensorFlow, where it is installed."""
    name = str(request.param)
    if find_spec(name) is None:
        pytest.skip(f"{name} is not installed")
    return name


def test_a_killed_run_ends_where_another_ends_and_is_served_so(library: str, shapes: Path, tmp_path: Path) -> None:
    options = ["--backbone", "efficientnet-lite0"]
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    exported = ["--models", str(tmp_path), "--name", "own"]
    expected = train(shapes, whole, *options, *exported, library=library)
    train_and_be_killed(shapes, killed, *options, after="first epoch", library=library)
    assert train(shapes, killed, *options, library=library)["history"] == expected["history"]
    assert weights_of(killed) == weights_of(whole)
    model = tmp_path / "own" / "1"
    assert (model / golden.GOLDEN).read_bytes() == (whole / golden.GOLDEN).read_bytes()
    paths = sorted(shapes.rglob("*.png"))[:4]
    images = np.stack([decode(path.read_bytes(), size=SIZE)[0] for path in paths])
    np.savez(tmp_path / "images.npz", images=images)
    code = "\n".join(
        [
            "import json, sys; from pathlib import Path; import numpy as np",
            "from training.architecture import Architecture",
            "from training.network import load_network, network_embed",
            "run, images, out = map(Path, sys.argv[1:])",
            "architecture = Architecture.from_json(json.loads((run / 'architecture.json').read_text()))",
            "network = load_network(architecture, run / 'network.weights.h5')",
            "np.save(out, network_embed(architecture, network)(np.load(images)['images']))",
        ]
    )
    files = [str(path) for path in (whole, tmp_path / "images.npz", tmp_path / "computed.npy")]
    environment = {**os.environ, VARIABLE: library}
    subprocess.run([sys.executable, "-c", code, *files], cwd=ROOT, env=environment, check=True)
    np.testing.assert_allclose(saved_model_embed(model)(images), np.load(tmp_path / "computed.npy"), atol=1e-4)


def test_varied_pictures_are_learned_the_same_twice(library: str, shapes: Path, tmp_path: Path) -> None:
    recipe = recipe_file(tmp_path, unfrozen="last stage", head=[{"dropout": 0.5}], epochs=2, augmented=True)
    options = ["--recipe", recipe, "--backbone", SMALL.name]
    first, second = (train(shapes, tmp_path / name, *options, library=library) for name in ("first", "second"))
    assert first["history"] == second["history"]
    assert weights_of(tmp_path / "first") == weights_of(tmp_path / "second")


def test_the_backbone_computes_in_half_precision(library: str, shapes: Path, tmp_path: Path) -> None:
    options = ["--backbone", "efficientnet-lite0", "--precision", "mixed", "--epochs", "2"]
    result = train(shapes, tmp_path / "run", *options, "--models", str(tmp_path / "models"), library=library)
    assert all(np.isfinite(list(epoch.values())).all() for epoch in result["history"])
