"""Exporting a pretrained model: whole or not at all, once, and as TensorFlow Serving wants it."""

import dataclasses
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from google.protobuf import text_format
from tensorflow.core.protobuf import saved_model_pb2
from tensorflow_serving.apis import prediction_log_pb2
from tensorflow_serving.config import model_server_config_pb2

from shared.errors import Invalid
from shared.model_config import model_config
from shared.rpc.serving import golden
from tests.support.paths import ROOT
from training.architecture import Architecture
from training.backbones import BACKBONES, EFFICIENTNET_LITE0, backbone_named
from training.model_versions import WARMUP_BATCHES, export_pretrained
from training.pretrained import Imagenet, RandomWeights, Weights
from training.savedmodel import saved_model_embed
from training.weights import PackagedWeights, WeightsError

pytestmark = pytest.mark.slow

LITE0 = EFFICIENTNET_LITE0.name


@pytest.fixture(scope="module")
def command(tmp_path_factory: pytest.TempPathFactory) -> subprocess.CompletedProcess[str]:
    """The command that exported the default model, version 3, as it ended."""
    out = tmp_path_factory.mktemp("models")
    arguments = ["--out", str(out), "--version", "3", "--base-path", "/models"]
    return subprocess.run(
        [sys.executable, "-m", "training.export", *arguments], check=True, cwd=ROOT, capture_output=True, text=True
    )


@pytest.fixture(scope="module")
def exported(command: subprocess.CompletedProcess[str]) -> Path:
    """The folder with the model."""
    return Path(command.args[command.args.index("--out") + 1])


def export_default(out: Path, version: int, weights: Weights | None = None) -> bool:
    architecture = Architecture.plain(backbone_named(LITE0))
    return export_pretrained(architecture, weights or Imagenet(), out, LITE0, version)


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
    assert shapes == [(batch, 224, 224, 3) for batch in WARMUP_BATCHES]


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


def test_the_command_writes_nothing_but_its_result_line(
    command: subprocess.CompletedProcess[str], exported: Path
) -> None:
    assert command.stdout == ""
    [line] = command.stderr.splitlines()
    assert line.startswith(str(version_folder(exported)))
    assert sorted(entry.name for entry in exported.iterdir()) == ["efficientnet-lite0", "models.config"]


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


def test_golden_vectors_tell_this_model_from_a_changed_one(exported: Path) -> None:
    folder = version_folder(exported)
    embed = saved_model_embed(folder)
    assert golden.check(folder, embed) < 1e-5
    with pytest.raises(Invalid, match="away from its golden vectors"):
        golden.check(folder, lambda images: embed(images[..., ::-1]))
    with pytest.raises(Invalid, match="away from its golden vectors"):
        golden.check(folder, lambda images: embed(images // 255))
