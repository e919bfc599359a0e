"""Exporting a trained network: it is served as it was trained, and its manifest says where it comes from."""

import dataclasses
import json
from pathlib import Path

import keras
import numpy as np
import pytest

from shared.errors import Invalid
from shared.rpc.serving import golden
from tests.support.small_backbone import SMALL
from training import export, model_versions
from training.architecture import Architecture
from training.manifest import read_manifest
from training.model_versions import export_network
from training.network import build_network
from training.pretrained import RandomWeights
from training.principal_axes import fit_whitening
from training.savedmodel import saved_model_embed

pytestmark = pytest.mark.slow

ABOUT = {"run": "a run", "seed": 3, "figures": {"P@10": 0.5}}


@pytest.fixture(scope="module")
def architecture(small_backbone: str) -> Architecture:
    return Architecture(
        small_backbone,
        input_size=64,
        shorter_side=72,
        pooling="gem",
        embedding=({"dense": 24, "activation": "relu"}, {"dropout": 0.5}, {"whiten": 3}),
        normalised=False,
    )


@pytest.fixture(scope="module")
def network(architecture: Architecture) -> keras.Model:
    """A network with every kind of layer, none of which is the identity."""
    network = build_network(architecture, RandomWeights(2))
    rng = np.random.default_rng(4)
    for layer in network.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.set_weights([rng.uniform(0.8, 1.2, weight.shape) for weight in layer.get_weights()])
    network.get_layer("pooling").set_weights([np.float32(2.5)])
    features = rng.normal(size=(50, 24)) * np.arange(1, 25)
    network.get_layer("embedding_2").set_weights(fit_whitening(features, 3))
    return network


@pytest.fixture(scope="module")
def trained(architecture: Architecture, network: keras.Model, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with this network as version 2 of a model."""
    out = tmp_path_factory.mktemp("trained")
    assert export_network(architecture, network, out, "own.model", 2, ABOUT)
    return out


def test_a_trained_network_is_served_as_it_was_trained(network: keras.Model, trained: Path) -> None:
    images = np.random.default_rng(5).integers(0, 256, (3, 8, 8, 3), np.uint8).repeat(8, axis=1).repeat(8, axis=2)
    expected = np.asarray(network(images.astype(np.float32), training=False))
    assert expected.shape == (3, 3)
    assert np.abs(np.linalg.norm(expected, axis=1) - 1).max() > 0.1  # raw, as the architecture says
    found = saved_model_embed(trained / "own.model/2")(images)
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-4 * np.abs(expected).max())
    assert sorted(entry.name for entry in trained.iterdir()) == ["own.model"]


def test_its_manifest_says_where_it_comes_from(architecture: Architecture, trained: Path) -> None:
    found = read_manifest(trained / "own.model/2")
    assert (found["model"], found["version"], found["backbone"]) == ("own.model", 2, SMALL.name)
    assert (found["dim"], found["normalised"], found["input_size"]) == (3, False, 64)
    assert found["resize"]["shorter_side"] == 72
    assert Architecture.from_json(found["architecture"]) == architecture
    assert found["weights"]["source"] == "training"
    assert found["training"] == ABOUT
    assert set(found["files"]) >= {"saved_model.pb", golden.GOLDEN, "assets.extra/tf_serving_warmup_requests"}


def test_the_same_network_is_there_and_another_is_refused(
    architecture: Architecture, network: keras.Model, trained: Path
) -> None:
    graph = trained / "own.model/2/saved_model.pb"
    before = graph.stat().st_mtime_ns
    assert not export_network(architecture, network, trained, "own.model", 2, {**ABOUT, "seed": 4})
    other = keras.models.clone_model(network)
    other.set_weights(network.get_weights())
    assert not export_network(architecture, other, trained, "own.model", 2, ABOUT)
    kernel, bias = other.get_layer("embedding_0").get_weights()
    other.get_layer("embedding_0").set_weights([kernel, bias + np.float32(1e-3)])
    with pytest.raises(Invalid, match="choose another --version"):
        export_network(architecture, other, trained, "own.model", 2, ABOUT)
    with pytest.raises(Invalid, match="choose another --version"):
        export_network(dataclasses.replace(architecture, normalised=True), network, trained, "own.model", 2, {})
    assert graph.stat().st_mtime_ns == before


@pytest.mark.parametrize("name", ["", "../own", "a/b", "Own", ".own"])
def test_a_name_that_is_no_folder_of_its_own_is_refused(
    architecture: Architecture, name: str, network: keras.Model, tmp_path: Path
) -> None:
    with pytest.raises(Invalid, match="cannot name a model"):
        export_network(architecture, network, tmp_path, name, 1, {})
    with pytest.raises(Invalid, match="version 0"):
        export_network(architecture, network, tmp_path, "own", 0, {})


def test_a_network_of_another_architecture_is_refused_and_leaves_nothing(
    architecture: Architecture, network: keras.Model, tmp_path: Path
) -> None:
    wider = dataclasses.replace(architecture, embedding=({"dense": 4},))
    with pytest.raises(Invalid, match=r"gives \(None, 3\); its architecture .* gives \(None, 4\)"):
        export_network(wider, network, tmp_path, "own", 1, {})
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_what_is_not_served_as_it_was_trained_is_not_exported(
    architecture: Architecture, network: keras.Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def wrongly_served(_architecture: Architecture, network: keras.Model) -> keras.Model:
        wrong = keras.models.clone_model(network)
        wrong.set_weights(network.get_weights())
        kernel, bias = wrong.get_layer("embedding_2").get_weights()
        wrong.get_layer("embedding_2").set_weights([kernel, bias + np.float32(0.05)])
        return wrong

    monkeypatch.setattr(model_versions, "served", wrongly_served)
    with pytest.raises(Invalid, match="away from its golden vectors"):
        export_network(architecture, network, tmp_path, "own", 1, {})
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_a_trained_network_is_brought_to_fewer_dimensions(
    architecture: Architecture, network: keras.Model, pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    run.mkdir()
    network.save_weights(run / "network.weights.h5")
    (run / "architecture.json").write_text(json.dumps(architecture.to_json()))
    (run / "run.json").write_text(json.dumps({"seed": 1}))
    (run / "report.json").write_text(json.dumps({"accuracy": 0.5}))
    arguments = ["--out", str(tmp_path), "--run", str(run), "--project", str(architecture.dim - 1)]
    assert export.main([*arguments, "--images", str(pictures)]) == 0
    found = read_manifest(tmp_path / "run/1")
    assert found["dim"] == architecture.dim - 1
    assert (found["training"]["accuracy"], found["training"]["run"]) == (0.5, {"seed": 1})
    for wrong in (["--size", "64"], ["--pooling", "max"], ["--whiten", "2"]):
        with pytest.raises(SystemExit):
            export.main([*arguments, "--images", str(pictures), *wrong])
    with pytest.raises(SystemExit):
        export.main(arguments)
    assert "--images goes with" in capsys.readouterr().err
