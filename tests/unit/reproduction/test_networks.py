"""Embeddings of the report's networks, with pixels as expected and as the report fed them: kept, and gone on with."""

import hashlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from PIL import Image

from reproduction import networks
from reproduction.networks import PLAIN, Network, embeddings
from tests.support.small_backbone import SMALL, registered
from training.backbones import BACKBONES, backbone_named
from training.batches import batches
from training.labelled_images import ImageFile
from training.pretrained import RandomWeights
from training.weights import WeightsError

pytestmark = pytest.mark.slow

_SIZE = 32


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> list[ImageFile]:
    folder = tmp_path_factory.mktemp("pictures")
    rng = np.random.default_rng(0)
    made = []
    for number in range(40):
        path = folder / f"{number}.png"
        Image.fromarray(rng.integers(0, 256, (_SIZE, _SIZE, 3), np.uint8)).save(path)
        made.append(ImageFile(path, 0, hashlib.sha256(path.read_bytes()).hexdigest()))
    return made


@pytest.fixture
def network(monkeypatch: pytest.MonkeyPatch) -> Iterator[Network]:
    """A quick network, in place of the first one of the report."""
    how = networks._REPORT_PIXELS
    with registered() as name:
        monkeypatch.setattr(networks, "_REPORT_PIXELS", {**how, name: how["efficientnet-lite0"]})
        yield replace(networks.networks("random", None, _SIZE)[0], backbone=name)


def _ignore_progress(_done: int, _total: int) -> None:
    pass


def test_without_weights_another_network_stands_in_and_says_so() -> None:
    first, second = networks.networks(None, "random", None)
    assert (first.backbone, first.size, first.stands_in) == ("efficientnet-lite0", 224, True)
    assert (second.backbone, second.size, second.stands_in) == ("resnet50v2", 300, False)
    with pytest.raises(WeightsError, match=r"no weights file 'none.h5'"):
        networks.networks("none.h5", None, None)[0].pretrained_weights()


@pytest.mark.parametrize("name", sorted(BACKBONES))
def test_pixels_as_the_report_fed_them_reach_the_first_layer_so(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    backbone = backbone_named(name)
    monkeypatch.setattr(type(backbone), "_features", lambda _, pixels: pixels)  # no more than what is before them
    network = backbone.build(RandomWeights(0), input_size=_SIZE)
    first = keras.Model(network.input, network.get_layer("preprocessing").output)
    pixels = np.random.default_rng(0).integers(0, 256, (2, _SIZE, _SIZE, 3)).astype(np.float32)
    fed = first.predict_on_batch(networks._REPORT_PIXELS[name][1](pixels, backbone))
    if name == "efficientnet-lite0":
        assert fed == pytest.approx((pixels / 255 - 127) / 128, abs=1e-5)
    else:
        assert fed == pytest.approx(pixels / 255, abs=1e-5)


def test_embeddings_are_the_pooled_features(tmp_path: Path, pictures: list[ImageFile], network: Network) -> None:
    found = embeddings(tmp_path, network, {PLAIN: None}, pictures, _ignore_progress)[PLAIN]
    whole = SMALL.build(network.pretrained_weights(), input_size=_SIZE)
    pixels = np.stack([np.asarray(Image.open(picture.path)) for picture in pictures]).astype(np.float32)
    expected = whole.predict_on_batch(pixels).mean(axis=(1, 2))
    assert found.shape == expected.shape == (40, SMALL.channels)
    assert found == pytest.approx(expected, rel=1e-3, abs=1e-3 * float(np.abs(expected).max()))
    fed = embeddings(tmp_path, network, {PLAIN: None}, pictures, _ignore_progress, report_pixels=True)[PLAIN]
    assert not np.allclose(fed, found)


def test_what_was_embedded_is_not_embedded_again(
    tmp_path: Path, pictures: list[ImageFile], network: Network, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = embeddings(tmp_path / "at once", network, {PLAIN: None}, pictures, _ignore_progress)[PLAIN].copy()

    def stop(_done: int, _total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        embeddings(tmp_path / "kept", network, {PLAIN: None}, pictures, stop)
    given: list[Any] = []

    def counted(paths: list[Path], *rest: Any, **options: Any) -> Any:
        given.append(len(paths))
        return batches(paths, *rest, **options)

    monkeypatch.setattr(networks, "batches", counted)
    for _ in range(2):
        found = embeddings(tmp_path / "kept", network, {PLAIN: None}, pictures, _ignore_progress)[PLAIN]
        assert (found == expected).all()
    assert given == [8]  # of 40, after a batch of 32, and nothing the second time
