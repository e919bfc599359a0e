"""Weights files of Keras: those of the network are taken, all others refused with the layer that does not fit."""

import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path

import h5py
import keras
import numpy as np
import pytest

from training import keras_files
from training.backbones import EFFICIENTNET_LITE0, RESNET50, RESNET50V2, Backbone
from training.pretrained import RandomWeights
from training.weights import WeightsError

pytestmark = pytest.mark.slow

SIZE = 32


def drawn(network: keras.Model) -> keras.Model:
    """Return the network with values of its own in every array."""
    rng = np.random.default_rng(3)
    network.set_weights([rng.uniform(0.5, 1, weight.shape).astype(np.float32) for weight in network.get_weights()])
    return network


@pytest.fixture(scope="module")
def published() -> keras.Model:
    """ResNet50 with a classifier on top, as Keras Applications has it."""
    return drawn(keras.applications.ResNet50(weights=None, input_shape=(SIZE, SIZE, 3), classes=10))


@pytest.fixture(scope="module")
def files(published: keras.Model, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with these weights in every format."""
    folder = tmp_path_factory.mktemp("weights")
    write_files(published, published.get_layer("conv5_block3_out"), folder)
    return folder


@pytest.fixture(scope="module")
def small() -> keras.Model:
    """The first layers of ResNet50, and some channels more."""
    image = keras.Input((SIZE, SIZE, 3))
    stem = keras.layers.BatchNormalization(name="conv1_bn")(keras.layers.Conv2D(64, 7, name="conv1_conv")(image))
    return drawn(keras.Model(image, keras.layers.Conv2D(256, 1, name="last")(stem)))


@pytest.fixture(scope="module")
def small_files(small: keras.Model, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with weights of the small network, with a classifier on top, in every format."""
    folder = tmp_path_factory.mktemp("small")
    pooled = keras.layers.GlobalAveragePooling2D()(small.output)
    write_files(keras.Model(small.input, keras.layers.Dense(10)(pooled)), small.get_layer("last"), folder)
    return folder


def write_files(whole: keras.Model, last: keras.layers.Layer, folder: Path) -> None:
    """Write the weights of a network in every format, and without what is on top of its last layer."""
    headless = keras.Model(whole.input, last.output)
    whole.save(folder / "whole.h5")
    whole.save(folder / "whole.keras")
    whole.save_weights(folder / "top.weights.h5")
    headless.save_weights(folder / "notop.weights.h5")
    as_published(whole, folder / "top.h5")
    as_published(headless, folder / "notop.h5")
    as_published(headless, folder / "parts.h5", parts=7)
    with h5py.File(folder / "notop.weights.h5") as file, h5py.File(folder / "nameless.weights.h5", "w") as nameless:
        file.visititems(lambda name, item: copy_array(nameless, name, item))


def copy_array(file: h5py.File, name: str, item: object) -> None:
    """Copy arrays alone, as Keras wrote them before it noted the names of layers."""
    if isinstance(item, h5py.Dataset):
        file[name] = item[()]


def as_published(network: keras.Model, path: Path, *, parts: int = 1) -> None:
    """Write weights alone as Keras did before version 3: layers without weights are listed too."""
    with h5py.File(path, "w") as file:
        names = np.array([layer.name.encode() for layer in network.layers])
        if parts == 1:
            file.attrs["layer_names"] = names
        for number, part in enumerate(np.array_split(names, parts) if parts > 1 else ()):
            file.attrs[f"layer_names{number}"] = part
        for layer in network.layers:
            group = file.create_group(layer.name)
            listed = [f"{layer.name}/{weight.name}:0".encode() for weight in layer.weights]
            group.attrs["weight_names"] = np.array(listed) if listed else np.zeros(0)
            for name, values in zip(listed, layer.get_weights(), strict=True):
                group[name.decode()] = values


FILES = [
    *("whole.h5", "whole.keras", "top.weights.h5", "notop.weights.h5"),
    *("top.h5", "notop.h5", "parts.h5", "nameless.weights.h5"),
]


@pytest.fixture(scope="module")
def network() -> keras.Model:
    return RESNET50.build(RandomWeights(0), input_size=SIZE)


@pytest.mark.parametrize("name", FILES)
def test_weights_are_taken_from_every_format_of_keras(
    name: str, files: Path, published: keras.Model, network: keras.Model
) -> None:
    renamed = files / "renamed"  # the content tells, not the name
    renamed.unlink(missing_ok=True)
    renamed.hardlink_to(files / name)
    network.set_weights([np.zeros(weight.shape, np.float32) for weight in network.weights])
    keras_files.load(network, renamed)
    for layer in network.layers:
        for found, expected in zip(
            layer.get_weights(), published.get_layer(layer.name).get_weights() if layer.weights else [], strict=True
        ):
            np.testing.assert_array_equal(found, expected)


def refused(network: keras.Model, path: Path) -> str:
    """Return what is said of a file; the network is as it was."""
    before = network.get_weights()
    with pytest.raises(WeightsError) as caught:
        keras_files.load(network, path)
    assert all(np.array_equal(one, two) for one, two in zip(before, network.get_weights(), strict=True))
    assert str(path) in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    ("backbone", "layer", "found", "expected"),
    [
        (RESNET50V2, "conv2_block1_1_conv", "[(1, 1, 64, 64), (64,)]", "[(1, 1, 64, 64)]"),  # V2 has no bias here
        (EFFICIENTNET_LITE0, "conv_stem", "[(7, 7, 3, 64), (64,)]", "[(3, 3, 3, 32)]"),
    ],
    ids=["resnet50v2", "lite0"],
)
def test_the_first_layer_of_another_shape_is_named_with_both_shapes(
    backbone: Backbone, layer: str, found: str, expected: str, files: Path
) -> None:
    other = backbone.build(RandomWeights(0), input_size=SIZE)
    for name in ("notop.h5", "whole.keras", "notop.weights.h5"):
        message = refused(other, files / name)
        for part in (
            *(f"layer {layer} has the shapes {found}", f"expected {expected}"),
            f"take a file of {backbone.name}",
        ):
            assert part in message, name


def save_weights(network: keras.Model, path: Path) -> None:
    network.save_weights(path)


Save = Callable[[keras.Model, Path], None]


def test_a_deeper_network_is_refused_though_every_block_is_there(network: keras.Model, tmp_path: Path) -> None:
    path = tmp_path / "deeper.weights.h5"
    deeper = keras.applications.ResNet101(include_top=False, weights=None, input_shape=(SIZE, SIZE, 3))
    for save in (as_published, save_weights):
        save(deeper, path)
        assert "layer conv5_block1_1_conv has the shapes [(1, 1, 1024, 256), (256,)]" in refused(network, path)


@pytest.mark.parametrize("save", [as_published, save_weights])
def test_missing_and_foreign_layers_are_named(save: Save, network: keras.Model, tmp_path: Path) -> None:
    path = tmp_path / "other.weights.h5"
    save(keras.Model(network.input, network.get_layer("conv5_block3_2_relu").output), path)
    message = refused(network, path)
    assert "it has no layer conv5_block3_3_conv, expected the shapes [(1, 1, 512, 2048), (2048,)]" in message
    longer = keras.layers.Conv2D(8, 1, name="foreign")(network.output)
    save(keras.Model(network.input, longer), path)
    assert "has the shapes [(1, 1, 2048, 8), (8,)], and resnet50 has no such layer" in refused(network, path)


@pytest.mark.parametrize("name", ["whole.h5", "whole.keras", "top.weights.h5", "top.h5"])
@pytest.mark.parametrize("share", [0.01, 0.5, 0.999])
def test_a_file_cut_short_is_refused(
    small: keras.Model, name: str, share: float, small_files: Path, tmp_path: Path
) -> None:
    data = (small_files / name).read_bytes()
    path = tmp_path / name
    path.write_bytes(data[: int(len(data) * share)])
    assert "expected a .h5, .weights.h5 or .keras file that Keras has written" in refused(small, path)


def test_a_file_altered_within_is_refused(small: keras.Model, small_files: Path, tmp_path: Path) -> None:
    data = bytearray((small_files / "notop.h5").read_bytes())
    data[100:4000] = bytes(3900)
    path = tmp_path / "altered.h5"
    path.write_bytes(data)
    refused(small, path)


def test_foreign_files_are_refused(small: keras.Model, tmp_path: Path) -> None:
    path = tmp_path / "foreign"
    path.write_bytes(b"")
    assert "it starts with b''" in refused(small, path)
    path.write_bytes(b"\x80\x02}q\x00.")  # a pickle, which nothing here opens
    assert "it starts with b'\\x80" in refused(small, path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("data.pkl", b"\x80\x02}q\x00.")
    assert "a zip archive without model.weights.h5" in refused(small, path)
    with h5py.File(path, "w") as file:
        file["images"] = np.zeros(3)
    assert "it is HDF5 with ['images'] in it" in refused(small, path)
    path.unlink()
    assert "No such file" in refused(small, path)


def test_a_link_to_another_file_is_not_followed(small: keras.Model, small_files: Path, tmp_path: Path) -> None:
    path = tmp_path / "linked.h5"
    elsewhere = h5py.ExternalLink(str(small_files / "notop.h5"), "conv1_conv/conv1_conv/kernel:0")
    for link in (elsewhere, h5py.SoftLink("/conv1_bn")):
        shutil.copy(small_files / "notop.h5", path)
        with h5py.File(path, "a") as file:
            del file["conv1_conv/conv1_conv/kernel:0"]
            file["conv1_conv/conv1_conv/kernel:0"] = link
        assert "conv1_conv/kernel:0 in it is missing, or a link to elsewhere" in refused(small, path)
    raw = tmp_path / "raw.bin"
    raw.write_bytes(bytes(4 * 7 * 7 * 3 * 64))
    with h5py.File(path, "a") as file:
        del file["conv1_conv/conv1_conv/kernel:0"]
        outside = [(str(raw), 0, 4 * 7 * 7 * 3 * 64)]
        file["conv1_conv"].create_dataset("conv1_conv/kernel:0", (7, 7, 3, 64), np.float32, external=outside)
    assert "conv1_conv/kernel:0 in it is no dataset of its own" in refused(small, path)


def test_a_huge_claim_is_refused_before_it_takes_memory(small: keras.Model, small_files: Path, tmp_path: Path) -> None:
    path = tmp_path / "huge.h5"
    shutil.copy(small_files / "notop.h5", path)
    with h5py.File(path, "a") as file:
        del file["conv1_conv/conv1_conv/kernel:0"]
        file["conv1_conv"].create_dataset("conv1_conv/kernel:0", (1 << 40,), np.float32, chunks=(1 << 20,))
    assert f"[({1 << 40},), (64,)]" in refused(small, path)


def test_values_that_are_no_numbers_are_refused(small: keras.Model, small_files: Path, tmp_path: Path) -> None:
    path = tmp_path / "integers.h5"
    shutil.copy(small_files / "notop.h5", path)
    with h5py.File(path, "a") as file:
        del file["conv1_conv/conv1_conv/bias:0"]
        file["conv1_conv/conv1_conv/bias:0"] = np.zeros(64, np.int32)
    assert "the layer conv1_conv has values of type int32, expected floating point" in refused(small, path)
