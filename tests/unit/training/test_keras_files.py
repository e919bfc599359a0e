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
from training.pretrained import RandomWeights, WeightsFile
from training.weights import WeightsError

pytestmark = pytest.mark.slow

SIZE = 32


@pytest.fixture(scope="module")
def published() -> keras.Model:
    """ResNet50 with a classifier on top, as Keras Applications has it."""
    network = keras.applications.ResNet50(weights=None, input_shape=(SIZE, SIZE, 3), classes=10)
    rng = np.random.default_rng(3)
    network.set_weights([rng.uniform(0.5, 1, weight.shape).astype(np.float32) for weight in network.get_weights()])
    return network


@pytest.fixture(scope="module")
def files(published: keras.Model, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with these weights in every format."""
    folder = tmp_path_factory.mktemp("weights")
    headless = keras.Model(published.input, published.get_layer("conv5_block3_out").output)
    published.save(folder / "whole.h5")
    published.save(folder / "whole.keras")
    published.save_weights(folder / "top.weights.h5")
    headless.save_weights(folder / "notop.weights.h5")
    as_published(published, folder / "top.h5")
    as_published(headless, folder / "notop.h5")
    as_published(headless, folder / "parts.h5", parts=7)
    with h5py.File(folder / "notop.weights.h5") as file, h5py.File(folder / "nameless.weights.h5", "w") as nameless:
        file.visititems(lambda name, item: copy_array(nameless, name, item))
    return folder


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


@pytest.mark.parametrize("name", FILES)
def test_weights_are_taken_from_every_format_of_keras(name: str, files: Path, published: keras.Model) -> None:
    renamed = files / "renamed"  # the content tells, not the name
    shutil.copy(files / name, renamed)
    network = RESNET50.build(WeightsFile(renamed), input_size=SIZE)
    for layer in network.layers:
        for found, expected in zip(
            layer.get_weights(), published.get_layer(layer.name).get_weights() if layer.weights else [], strict=True
        ):
            np.testing.assert_array_equal(found, expected)


@pytest.fixture(scope="module")
def network() -> keras.Model:
    return RESNET50.build(RandomWeights(0), input_size=SIZE)


def refused(network: keras.Model, path: Path) -> str:
    """Return what is said of a file; the network is as it was."""
    before = network.get_weights()
    with pytest.raises(WeightsError) as caught:
        keras_files.load(network, path)
    assert all(np.array_equal(one, two) for one, two in zip(before, network.get_weights(), strict=True))
    assert str(path) in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("name", ["notop.h5", "whole.keras", "notop.weights.h5"])
@pytest.mark.parametrize(
    ("backbone", "layer", "found", "expected"),
    [
        (RESNET50V2, "conv2_block1_1_conv", "[(1, 1, 64, 64), (64,)]", "[(1, 1, 64, 64)]"),  # V2 has no bias here
        (EFFICIENTNET_LITE0, "conv_stem", "[(7, 7, 3, 64), (64,)]", "[(3, 3, 3, 32)]"),
    ],
    ids=["resnet50v2", "lite0"],
)
def test_the_first_layer_of_another_shape_is_named_with_both_shapes(
    name: str, backbone: Backbone, layer: str, found: str, expected: str, files: Path
) -> None:
    message = refused(backbone.build(RandomWeights(0), input_size=SIZE), files / name)
    for part in (f"layer {layer} has the shapes {found}", f"expected {expected}", f"take a file of {backbone.name}"):
        assert part in message


def save_weights(network: keras.Model, path: Path) -> None:
    network.save_weights(path)


Save = Callable[[keras.Model, Path], None]


@pytest.mark.parametrize("save", [as_published, save_weights])
def test_a_deeper_network_is_refused_though_every_block_is_there(
    save: Save, network: keras.Model, tmp_path: Path
) -> None:
    path = tmp_path / "deeper.weights.h5"
    save(keras.applications.ResNet101(include_top=False, weights=None, input_shape=(SIZE, SIZE, 3)), path)
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
@pytest.mark.parametrize("share", [0.0001, 0.5, 0.999])
def test_a_file_cut_short_is_refused(
    network: keras.Model, name: str, share: float, files: Path, tmp_path: Path
) -> None:
    data = (files / name).read_bytes()
    path = tmp_path / name
    path.write_bytes(data[: int(len(data) * share)])
    assert "expected a .h5, .weights.h5 or .keras file that Keras has written" in refused(network, path)


def test_a_file_altered_within_is_refused(network: keras.Model, files: Path, tmp_path: Path) -> None:
    data = bytearray((files / "notop.h5").read_bytes())
    data[100:4000] = bytes(3900)
    path = tmp_path / "altered.h5"
    path.write_bytes(data)
    refused(network, path)


def test_foreign_files_are_refused(network: keras.Model, tmp_path: Path) -> None:
    path = tmp_path / "foreign"
    path.write_bytes(b"")
    assert "it starts with b''" in refused(network, path)
    path.write_bytes(b"\x80\x02}q\x00.")  # a pickle, which nothing here opens
    assert "it starts with b'\\x80" in refused(network, path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("data.pkl", b"\x80\x02}q\x00.")
    assert "a zip archive without model.weights.h5" in refused(network, path)
    with h5py.File(path, "w") as file:
        file["images"] = np.zeros(3)
    assert "it is HDF5 with ['images'] in it" in refused(network, path)
    path.unlink()
    assert "No such file" in refused(network, path)


def test_a_link_to_another_file_is_not_followed(network: keras.Model, files: Path, tmp_path: Path) -> None:
    path = tmp_path / "linked.h5"
    elsewhere = h5py.ExternalLink(str(files / "notop.h5"), "conv1_conv/conv1_conv/kernel:0")
    for link in (elsewhere, h5py.SoftLink("/conv1_bn")):
        shutil.copy(files / "notop.h5", path)
        with h5py.File(path, "a") as file:
            del file["conv1_conv/conv1_conv/kernel:0"]
            file["conv1_conv/conv1_conv/kernel:0"] = link
        assert "conv1_conv/kernel:0 in it is missing, or a link to elsewhere" in refused(network, path)
    raw = tmp_path / "raw.bin"
    raw.write_bytes(bytes(4 * 7 * 7 * 3 * 64))
    with h5py.File(path, "a") as file:
        del file["conv1_conv/conv1_conv/kernel:0"]
        outside = [(str(raw), 0, 4 * 7 * 7 * 3 * 64)]
        file["conv1_conv"].create_dataset("conv1_conv/kernel:0", (7, 7, 3, 64), np.float32, external=outside)
    assert "conv1_conv/kernel:0 in it is no dataset of its own" in refused(network, path)


def test_a_huge_claim_is_refused_before_it_takes_memory(network: keras.Model, files: Path, tmp_path: Path) -> None:
    path = tmp_path / "huge.h5"
    shutil.copy(files / "notop.h5", path)
    with h5py.File(path, "a") as file:
        del file["conv1_conv/conv1_conv/kernel:0"]
        file["conv1_conv"].create_dataset("conv1_conv/kernel:0", (1 << 40,), np.float32, chunks=(1 << 20,))
    assert f"[({1 << 40},), (64,)]" in refused(network, path)


def test_values_that_are_no_numbers_are_refused(network: keras.Model, files: Path, tmp_path: Path) -> None:
    path = tmp_path / "integers.h5"
    shutil.copy(files / "notop.h5", path)
    with h5py.File(path, "a") as file:
        del file["conv1_conv/conv1_conv/bias:0"]
        file["conv1_conv/conv1_conv/bias:0"] = np.zeros(64, np.int32)
    assert "the layer conv1_conv has values of type int32, expected floating point" in refused(network, path)
