"""Exporting a model: whole or not at all, once, and as TensorFlow Serving wants it."""

import dataclasses
import json
import shutil
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from google.protobuf import text_format
from PIL import Image
from tensorflow.core.protobuf import saved_model_pb2
from tensorflow_serving.apis import prediction_log_pb2
from tensorflow_serving.config import model_server_config_pb2

from shared.errors import Invalid
from shared.images import decode
from shared.rpc.serving import golden
from tests.support.paths import ROOT
from training import export
from training.backbones import BACKBONES, EFFICIENTNET_LITE0, backbone_named
from training.model_config import model_config
from training.network import Architecture, build_network, fit_whitening
from training.pretrained import Imagenet, RandomWeights, Weights
from training.savedmodel import saved_model_embed
from training.weights import PackagedWeights, WeightsError

LITE0 = EFFICIENTNET_LITE0.name


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the default model, version 3."""
    out = tmp_path_factory.mktemp("models")
    assert export.main(["--out", str(out), "--version", "3", "--base-path", "/models"]) == 0
    return out


def export_default(out: Path, version: int, weights: Weights | None = None) -> bool:
    architecture = Architecture.plain(backbone_named(LITE0))
    return export.export(architecture, weights or Imagenet(), out, LITE0, version)


def version_folder(out: Path) -> Path:
    return out / "efficientnet-lite0" / "3"


def test_embeddings_have_unit_length_and_the_network_s_direction(exported: Path) -> None:
    images = np.random.default_rng(1).integers(0, 256, (3, 224, 224, 3), dtype=np.uint8)
    served = tf.saved_model.load(str(version_folder(exported))).signatures["serving_default"]
    embeddings = served(images=tf.constant(images))["embeddings"].numpy()

    feature_map = EFFICIENTNET_LITE0.build(Imagenet())(images.astype(np.float32), training=False)
    features = np.asarray(feature_map).mean(axis=(1, 2))
    assert embeddings.dtype == np.float32
    assert embeddings.shape == (3, 1280)
    np.testing.assert_allclose(np.linalg.norm(embeddings, axis=1), 1, atol=1e-6)
    np.testing.assert_allclose(embeddings, features / np.linalg.norm(features, axis=1, keepdims=True), atol=1e-5)


def test_an_image_s_embedding_does_not_depend_on_its_batch(exported: Path) -> None:
    images = np.random.default_rng(2).integers(0, 256, (9, 224, 224, 3), dtype=np.uint8)
    served = tf.saved_model.load(str(version_folder(exported))).signatures["serving_default"]
    together = served(images=tf.constant(images))["embeddings"].numpy()
    alone = served(images=tf.constant(images[4:5]))["embeddings"].numpy()
    np.testing.assert_allclose(together[4:5], alone, atol=1e-6)


def test_an_image_of_another_size_is_refused_by_the_graph_itself(exported: Path) -> None:
    served = tf.saved_model.load(str(version_folder(exported))).signatures["serving_default"]
    with pytest.raises(tf.errors.InvalidArgumentError, match="not compatible with expected shape"):
        served(images=tf.zeros((1, 96, 96, 3), tf.uint8))


def test_the_signature_is_what_serving_expects(exported: Path) -> None:
    data = (version_folder(exported) / "saved_model.pb").read_bytes()
    [graph] = saved_model_pb2.SavedModel.FromString(data).meta_graphs
    signature = graph.signature_def["serving_default"]
    assert signature.method_name == "tensorflow/serving/predict"
    assert [dim.size for dim in signature.inputs["images"].tensor_shape.dim] == [-1, 224, 224, 3]
    assert signature.inputs["images"].dtype == tf.uint8.as_datatype_enum
    assert [dim.size for dim in signature.outputs["embeddings"].tensor_shape.dim] == [-1, 1280]
    assert signature.outputs["embeddings"].dtype == tf.float32.as_datatype_enum
    operations = {node.op for function in graph.graph_def.library.function for node in function.node_def}
    assert "DepthwiseConv2dNative" in operations
    assert not {op for op in operations if "BatchNorm" in op or "ReadVariable" in op}  # folded, and constant


def test_warm_up_requests_are_predictions_of_this_model(exported: Path) -> None:
    path = version_folder(exported) / "assets.extra/tf_serving_warmup_requests"
    records = [
        prediction_log_pb2.PredictionLog.FromString(record)
        for record in tf.data.TFRecordDataset(str(path)).as_numpy_iterator()
    ]
    requests = [record.predict_log.request for record in records]
    assert {record.WhichOneof("log_type") for record in records} == {"predict_log"}
    assert {(r.model_spec.name, r.model_spec.version.value) for r in requests} == {("efficientnet-lite0", 3)}
    shapes = [tf.make_ndarray(request.inputs["images"]).shape for request in requests]
    assert shapes == [(batch, 224, 224, 3) for batch in export.WARMUP_BATCHES]


def test_the_manifest_says_what_the_model_is(exported: Path) -> None:
    found = json.loads((version_folder(exported) / "assets.extra/artseek.json").read_text("utf-8"))
    assert found["model"] == "efficientnet-lite0"
    assert found["version"] == 3
    assert (found["dim"], found["normalised"], found["input_size"]) == (1280, True, 224)
    assert found["resize"] == {"shorter_side": 224, "filter": "bicubic", "crop": "centre"}
    assert found["weights"]["sha256"] == EFFICIENTNET_LITE0.packaged.sha256
    assert found["weights"]["licence"] == "Apache-2.0"
    assert found["preprocessing"] == {"channels": "RGB", "mean": [127.0] * 3, "scale": 128.0}
    assert Architecture.from_json(found["architecture"]) == Architecture.plain(EFFICIENTNET_LITE0)
    assert "training" not in found


def test_the_model_config_serves_each_exported_model_from_the_base_path(exported: Path) -> None:
    text = (exported / "models.config").read_text("utf-8")
    config = text_format.Parse(text, model_server_config_pb2.ModelServerConfig())
    [model] = config.model_config_list.config
    assert (model.name, model.base_path, model.model_platform) == (
        "efficientnet-lite0",
        "/models/efficientnet-lite0",
        "tensorflow",
    )


def test_the_model_config_escapes_what_it_must() -> None:
    text = model_config(['odd "name"'], '/a "b"\\c')
    [model] = text_format.Parse(text, model_server_config_pb2.ModelServerConfig()).model_config_list.config
    assert model.name == 'odd "name"'
    assert model.base_path == '/a "b"\\c/odd "name"'


def test_a_second_export_changes_nothing_and_needs_no_tensorflow(exported: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in exported.rglob("*")}
    code = (
        "import sys; from training.export import main; "
        "assert main(sys.argv[1:]) == 0; assert 'tensorflow' not in sys.modules"
    )
    arguments = ["--out", str(exported), "--version", "3", "--base-path", "/models"]
    subprocess.run([sys.executable, "-c", code, *arguments], check=True, cwd=ROOT)
    assert {path: path.stat().st_mtime_ns for path in exported.rglob("*")} == before


def test_the_command_writes_nothing_but_its_result_line(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "training.export", "--out", str(tmp_path)]
    done = subprocess.run(command, check=True, cwd=ROOT, capture_output=True, text=True)
    assert done.stdout == ""
    [line] = done.stderr.splitlines()
    assert line.startswith(str(tmp_path / "efficientnet-lite0" / "1"))
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["efficientnet-lite0", "models.config"]
    assert str(tmp_path / "efficientnet-lite0") in (tmp_path / "models.config").read_text("utf-8")


def _copy(exported: Path, tmp_path: Path) -> Path:
    folder = tmp_path / "efficientnet-lite0" / "3"
    for path in version_folder(exported).rglob("*"):
        if path.is_file():
            copy = folder / path.relative_to(version_folder(exported))
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_bytes(path.read_bytes())
    return folder


def test_a_damaged_export_is_written_anew(exported: Path, tmp_path: Path) -> None:
    folder = _copy(exported, tmp_path)
    assert not export_default(tmp_path, 3)
    graph = folder / "saved_model.pb"
    graph.write_bytes(graph.read_bytes()[:-1])
    assert export_default(tmp_path, 3)
    assert not export_default(tmp_path, 3)
    assert [entry.name for entry in tmp_path.iterdir()] == ["efficientnet-lite0"]


def test_a_version_that_another_model_has_is_left_alone(
    exported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = _copy(exported, tmp_path)
    before = (folder / "saved_model.pb").stat().st_mtime_ns
    other = dataclasses.replace(EFFICIENTNET_LITE0, packaged=PackagedWeights("numpy", "0", "w", "1" * 64, ""))
    with pytest.raises(Invalid, match="choose another --version"):
        export_default(tmp_path, 3, RandomWeights(1))
    monkeypatch.setitem(BACKBONES, LITE0, other)
    with pytest.raises(Invalid, match="choose another --version"):
        export_default(tmp_path, 3)
    assert (folder / "saved_model.pb").stat().st_mtime_ns == before


def test_a_failed_export_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = dataclasses.replace(
        EFFICIENTNET_LITE0, packaged=dataclasses.replace(EFFICIENTNET_LITE0.packaged, sha256="0" * 64)
    )
    monkeypatch.setitem(BACKBONES, LITE0, broken)
    with pytest.raises(WeightsError, match="expected 0000"):
        export_default(tmp_path, 1)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []
    assert not (tmp_path / "efficientnet-lite0" / "1").exists()


def test_what_an_earlier_release_said_less_of_is_the_same_model(exported: Path, tmp_path: Path) -> None:
    folder = _copy(exported, tmp_path)
    said = ("model", "version", "dim", "normalised", "input_size", "resize", "weights", "files")
    (folder / golden.GOLDEN).unlink()
    manifest = export.read_manifest(folder)
    del manifest["files"][golden.GOLDEN]
    (folder / export.MANIFEST).write_text(json.dumps({key: manifest[key] for key in said}), "utf-8")
    assert export_default(tmp_path, 3)
    golden.check(folder, saved_model_embed(folder))
    assert not export_default(tmp_path, 3)


def test_golden_vectors_tell_this_model_from_a_changed_one(exported: Path) -> None:
    folder = version_folder(exported)
    embed = saved_model_embed(folder)
    assert golden.check(folder, embed) < 1e-5
    with pytest.raises(Invalid, match="away from its golden vectors"):
        golden.check(folder, lambda images: embed(images[..., ::-1]))
    with pytest.raises(Invalid, match="away from its golden vectors"):
        golden.check(folder, lambda images: embed(images // 255))


ARCHITECTURE = Architecture(
    "efficientnet-lite0",
    input_size=64,
    shorter_side=72,
    pooling="gem",
    embedding=({"dense": 24, "activation": "relu"}, {"dropout": 0.5}, {"whiten": 3}),
    normalised=False,
)
ABOUT = {"run": "a run", "seed": 3, "figures": {"P@10": 0.5}}


@pytest.fixture(scope="module")
def network() -> keras.Model:
    """A network with every kind of layer, none of which is the identity."""
    network = build_network(ARCHITECTURE, RandomWeights(2))
    rng = np.random.default_rng(4)
    for layer in network.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.set_weights([rng.uniform(0.8, 1.2, weight.shape) for weight in layer.get_weights()])
    network.get_layer("pooling").set_weights([np.float32(2.5)])
    features = rng.normal(size=(50, 24)) * np.arange(1, 25)
    network.get_layer("embedding_2").set_weights(fit_whitening(features, 3))
    return network


@pytest.fixture(scope="module")
def trained(network: keras.Model, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with this network as version 2 of a model."""
    out = tmp_path_factory.mktemp("trained")
    assert export.export_network(ARCHITECTURE, network, out, "own.model", 2, ABOUT)
    return out


def test_a_trained_network_is_served_as_it_was_trained(network: keras.Model, trained: Path) -> None:
    images = np.random.default_rng(5).integers(0, 256, (3, 8, 8, 3), np.uint8).repeat(8, axis=1).repeat(8, axis=2)
    expected = np.asarray(network(images.astype(np.float32), training=False))
    assert expected.shape == (3, 3)
    assert np.abs(np.linalg.norm(expected, axis=1) - 1).max() > 0.1  # raw, as the architecture says
    found = saved_model_embed(trained / "own.model/2")(images)
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-4 * np.abs(expected).max())
    assert sorted(entry.name for entry in trained.iterdir()) == ["own.model"]


def test_its_manifest_says_where_it_comes_from(trained: Path) -> None:
    found = export.read_manifest(trained / "own.model/2")
    assert (found["model"], found["version"], found["backbone"]) == ("own.model", 2, "efficientnet-lite0")
    assert (found["dim"], found["normalised"], found["input_size"]) == (3, False, 64)
    assert found["resize"]["shorter_side"] == 72
    assert Architecture.from_json(found["architecture"]) == ARCHITECTURE
    assert found["weights"]["source"] == "training"
    assert found["training"] == ABOUT
    assert set(found["files"]) >= {"saved_model.pb", golden.GOLDEN, "assets.extra/tf_serving_warmup_requests"}


def test_the_same_network_is_there_and_another_is_refused(network: keras.Model, trained: Path) -> None:
    graph = trained / "own.model/2/saved_model.pb"
    before = graph.stat().st_mtime_ns
    assert not export.export_network(ARCHITECTURE, network, trained, "own.model", 2, {**ABOUT, "seed": 4})
    other = keras.models.clone_model(network)
    other.set_weights(network.get_weights())
    assert not export.export_network(ARCHITECTURE, other, trained, "own.model", 2, ABOUT)
    kernel, bias = other.get_layer("embedding_0").get_weights()
    other.get_layer("embedding_0").set_weights([kernel, bias + np.float32(1e-3)])
    with pytest.raises(Invalid, match="choose another --version"):
        export.export_network(ARCHITECTURE, other, trained, "own.model", 2, ABOUT)
    with pytest.raises(Invalid, match="choose another --version"):
        export.export_network(dataclasses.replace(ARCHITECTURE, normalised=True), network, trained, "own.model", 2, {})
    assert graph.stat().st_mtime_ns == before


@pytest.mark.parametrize("name", ["", "../own", "a/b", "Own", ".own"])
def test_a_name_that_is_no_folder_of_its_own_is_refused(name: str, network: keras.Model, tmp_path: Path) -> None:
    with pytest.raises(Invalid, match="cannot name a model"):
        export.export_network(ARCHITECTURE, network, tmp_path, name, 1, {})
    with pytest.raises(Invalid, match="version 0"):
        export.export_network(ARCHITECTURE, network, tmp_path, "own", 0, {})


def test_a_network_of_another_architecture_is_refused_and_leaves_nothing(network: keras.Model, tmp_path: Path) -> None:
    wider = dataclasses.replace(ARCHITECTURE, embedding=({"dense": 4},))
    with pytest.raises(Invalid, match=r"gives \(None, 3\); its architecture .* gives \(None, 4\)"):
        export.export_network(wider, network, tmp_path, "own", 1, {})
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_what_is_not_served_as_it_was_trained_is_not_exported(
    network: keras.Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def wrongly_served(_architecture: Architecture, network: keras.Model) -> keras.Model:
        wrong = keras.models.clone_model(network)
        wrong.set_weights(network.get_weights())
        kernel, bias = wrong.get_layer("embedding_2").get_weights()
        wrong.get_layer("embedding_2").set_weights([kernel, bias + np.float32(0.05)])
        return wrong

    monkeypatch.setattr(export, "served", wrongly_served)
    with pytest.raises(Invalid, match="away from its golden vectors"):
        export.export_network(ARCHITECTURE, network, tmp_path, "own", 1, {})
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_random_and_given_weights_are_exported_by_the_command(tmp_path: Path) -> None:
    arguments = ["--out", str(tmp_path), "--weights", "random", "--seed", "5"]
    assert export.main(arguments) == 0
    found = export.read_manifest(tmp_path / "efficientnet-lite0/1")
    assert found["weights"] == {"source": "random", "seed": 5}
    assert export.main(["--out", str(tmp_path)]) == 1  # version 1 is taken by another model
    assert export.main(["--out", str(tmp_path), "--version", "2", "--weights", str(tmp_path / "none.h5")]) == 1
    checkpoint = EFFICIENTNET_LITE0.packaged.locate()
    assert export.main(["--out", str(tmp_path), "--version", "2", "--weights", str(checkpoint)]) == 0
    found = export.read_manifest(tmp_path / "efficientnet-lite0/2")
    assert found["weights"] == {"source": "file", "sha256": EFFICIENTNET_LITE0.packaged.sha256}


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Forty pictures, the first of them twice, and a file that is none."""
    folder = tmp_path_factory.mktemp("pictures")
    for number in range(40):
        noise = np.random.default_rng(number).integers(0, 256, (6, 6, 3), dtype=np.uint8)
        picture = Image.fromarray(noise).resize((72, 64), Image.Resampling.BICUBIC)
        picture.save(folder / f"{number}.png")
    shutil.copy(folder / "0.png", folder / "again.png")
    (folder / "none.png").write_text("no picture")
    return folder


@pytest.mark.parametrize("kind", ["project", "whiten"])
def test_fewer_dimensions_are_fitted_to_images_and_served(pictures: Path, tmp_path: Path, kind: str) -> None:
    plain = ["--out", str(tmp_path), "--size", "64", "--pooling", "stages"]
    assert export.main([*plain, "--raw", "--name", "plain"]) == 0
    fewer = [f"--{kind}", "8", "--images", str(pictures), "--raw", "--name", "few"]
    assert export.main([*plain, *fewer]) == 0
    found = export.read_manifest(tmp_path / "few/1")
    assert (found["dim"], found["normalised"], found["input_size"]) == (8, False, 64)
    assert found["training"][kind]["images"] == 40
    assert found["training"]["weights"]["sha256"] == EFFICIENTNET_LITE0.packaged.sha256
    images = np.stack([decode((pictures / f"{number}.png").read_bytes(), size=64)[0] for number in range(40)])
    wide, few = (np.asarray(saved_model_embed(tmp_path / name / "1")(images), np.float64) for name in ("plain", "few"))
    assert (wide.shape, few.shape) == ((40, 4096), (40, 8))
    if kind == "whiten":
        np.testing.assert_allclose(np.cov(few.T), np.eye(8), atol=1e-2)
    else:
        axes = np.linalg.svd(wide, full_matrices=False)[2][:8]
        np.testing.assert_allclose(few @ few.T, wide @ axes.T @ axes @ wide.T, rtol=1e-3)
    assert export.main([*plain, *fewer]) == 0  # it is there already
    assert export.main([*plain, *fewer[:1], "7", *fewer[2:]]) == 1  # another


def test_a_trained_network_is_brought_to_fewer_dimensions(
    network: keras.Model, pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    run.mkdir()
    network.save_weights(run / "network.weights.h5")
    (run / "architecture.json").write_text(json.dumps(ARCHITECTURE.to_json()))
    (run / "run.json").write_text(json.dumps({"seed": 1}))
    (run / "report.json").write_text(json.dumps({"accuracy": 0.5}))
    arguments = ["--out", str(tmp_path), "--run", str(run), "--project", str(ARCHITECTURE.dim - 1)]
    assert export.main([*arguments, "--images", str(pictures)]) == 0
    found = export.read_manifest(tmp_path / "run/1")
    assert found["dim"] == ARCHITECTURE.dim - 1
    assert (found["training"]["accuracy"], found["training"]["run"]) == (0.5, {"seed": 1})
    for wrong in (["--size", "64"], ["--pooling", "max"], ["--whiten", "2"]):
        with pytest.raises(SystemExit):
            export.main([*arguments, "--images", str(pictures), *wrong])
    with pytest.raises(SystemExit):
        export.main(arguments)
    assert "--images goes with" in capsys.readouterr().err


def test_images_that_are_too_few_are_told(pictures: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    arguments = ["--out", str(tmp_path), "--size", "64", "--images", str(pictures)]
    assert export.main([*arguments, "--project", "50"]) == 1
    assert "there are 40 images for 50 dimensions" in caplog.text
    assert export.main([*arguments, "--whiten", "2000"]) == 1
    assert "cannot whiten 1280 dimensions" in caplog.text
    assert export.main([*arguments[:-1], str(tmp_path / "nowhere"), "--whiten", "2"]) == 1
    assert "nowhere" in caplog.text
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []
