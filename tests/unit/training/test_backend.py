"""Training on what KERAS_BACKEND names: what cannot be is told at once, and what can ends as on TensorFlow."""

import json
import signal
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from shared.errors import Invalid
from shared.images import decode
from shared.rpc.serving import golden
from tests.support.paths import ROOT
from tests.unit.training.test_classes import SIZE, command, recipe_file, run, shapes, weights_of
from training import backend
from training.backend import chosen_backend
from training.export import export_run
from training.savedmodel import saved_model_embed

__all__ = ["shapes"]  # the fixture

OTHERS = ("jax", "torch")


@pytest.fixture(autouse=True)
def own_configuration(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where Keras' configuration is looked for, instead of the home folder."""
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "keras"))
    monkeypatch.delenv("KERAS_BACKEND", raising=False)
    (tmp_path / "keras").mkdir()
    return tmp_path / "keras" / "keras.json"


def test_it_is_the_variable_s_then_the_configuration_s_then_tensorflow(
    own_configuration: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backend, "find_spec", lambda name: name)
    assert chosen_backend() == "tensorflow"
    for text in ("{", "[]", "{}"):
        own_configuration.write_text(text)
        assert chosen_backend() == "tensorflow"
    own_configuration.write_text('{"backend": "torch"}')
    assert chosen_backend() == "torch"
    monkeypatch.setenv("KERAS_BACKEND", "jax")
    assert chosen_backend() == "jax"
    monkeypatch.setenv("KERAS_BACKEND", "")
    assert chosen_backend() == "torch"


def test_what_cannot_train_is_told_with_what_can(own_configuration: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("jaxx", "numpy", "openvino", "JAX"):
        monkeypatch.setenv("KERAS_BACKEND", name)
        with pytest.raises(Invalid, match=f"KERAS_BACKEND is '{name}', expected tensorflow, jax or torch"):
            chosen_backend()
    monkeypatch.delenv("KERAS_BACKEND")
    own_configuration.write_text('{"backend": "theano"}')
    with pytest.raises(Invalid, match=r"keras\.json is 'theano', expected"):
        chosen_backend()


def test_what_is_not_installed_is_told_with_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backend, "find_spec", lambda _name: None)
    monkeypatch.setenv("KERAS_BACKEND", "jax")
    with pytest.raises(Invalid, match=r"'jax', which is not installed; install it \(.*python\S* -m pip install jax\)"):
        chosen_backend()


def test_the_command_says_so_before_it_looks_at_an_image(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KERAS_BACKEND", "jaxx")
    said = run(command(tmp_path / "none", tmp_path / "run"), expected=1)["error"]
    assert said == "artseek: KERAS_BACKEND is 'jaxx', expected tensorflow, jax or torch"
    assert not (tmp_path / "run").exists()


def test_an_export_is_held_to_what_the_trainer_s_library_computed(shapes: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    run(command(shapes, folder, "--backbone", "efficientnet-lite0", "--epochs", "1"))
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
    with pytest.raises(Invalid, match=r"is 0\.002 away from its golden vectors"):
        export_run(folder, tmp_path, "own", 3)
    assert not (tmp_path / "own" / "3").exists()


@pytest.mark.parametrize("library", OTHERS)
def test_on_another_library_a_killed_run_ends_where_another_ends_and_is_served_so(
    library: str, shapes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if find_spec(library) is None:
        pytest.skip(f"{library} is not installed")
    monkeypatch.setenv("KERAS_BACKEND", library)
    options = ["--backbone", "efficientnet-lite0"]
    wanted = run(command(shapes, tmp_path / "whole", *options, "--models", str(tmp_path), "--name", "own"))
    killed = tmp_path / "killed"
    child = subprocess.Popen(
        command(shapes, killed, *options), cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    until = time.monotonic() + 120
    while not (killed / "state.npz").exists() and child.poll() is None:
        assert time.monotonic() < until
        time.sleep(0.01)
    child.send_signal(signal.SIGKILL)
    child.wait()
    assert run(command(shapes, killed, *options))["history"] == wanted["history"]
    assert weights_of(killed) == weights_of(tmp_path / "whole")
    model = tmp_path / "own" / "1"
    assert (model / golden.GOLDEN).read_bytes() == (tmp_path / "whole" / golden.GOLDEN).read_bytes()
    paths = sorted(shapes.rglob("*.png"))[:4]
    images = np.stack([decode(path.read_bytes(), size=SIZE)[0] for path in paths])
    np.savez(tmp_path / "images.npz", images=images)
    code = "\n".join(
        [
            "import json, sys; from pathlib import Path; import numpy as np",
            "from training.network import Architecture, load_network, network_embed",
            "run, images, out = map(Path, sys.argv[1:])",
            "architecture = Architecture.from_json(json.loads((run / 'architecture.json').read_text()))",
            "network = load_network(architecture, run / 'network.weights.h5')",
            "np.save(out, network_embed(architecture, network)(np.load(images)['images']))",
        ]
    )
    files = [str(tmp_path / name) for name in ("whole", "images.npz", "computed.npy")]
    subprocess.run([sys.executable, "-c", code, *files], cwd=ROOT, check=True)
    np.testing.assert_allclose(saved_model_embed(model)(images), np.load(tmp_path / "computed.npy"), atol=1e-4)


@pytest.mark.parametrize("library", OTHERS)
def test_on_another_library_varied_pictures_are_learned_the_same_twice(
    library: str, shapes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if find_spec(library) is None:
        pytest.skip(f"{library} is not installed")
    monkeypatch.setenv("KERAS_BACKEND", library)
    recipe = recipe_file(tmp_path, unfrozen="last stage", head=[{"dropout": 0.5}], epochs=2, augmented=True)
    options = ["--recipe", recipe, "--backbone", "efficientnet-lite0"]
    first, second = (run(command(shapes, tmp_path / name, *options)) for name in ("first", "second"))
    assert first["history"] == second["history"]
    assert weights_of(tmp_path / "first") == weights_of(tmp_path / "second")


@pytest.mark.parametrize("library", OTHERS)
def test_on_another_library_the_backbone_computes_in_half_precision(
    library: str, shapes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if find_spec(library) is None:
        pytest.skip(f"{library} is not installed")
    monkeypatch.setenv("KERAS_BACKEND", library)
    options = ["--backbone", "efficientnet-lite0", "--precision", "mixed", "--size", "32", "--epochs", "2"]
    result = run(command(shapes, tmp_path / "run", *options, "--models", str(tmp_path / "models")))
    assert all(np.isfinite(list(epoch.values())).all() for epoch in result["history"])
