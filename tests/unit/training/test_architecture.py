"""Architectures: what they say, and what is refused."""

import json
import subprocess
import sys
from collections.abc import Mapping
from typing import Any

import pytest

from shared.errors import Invalid, NotFound
from tests.support.paths import ROOT
from training.architecture import Architecture
from training.backbones import BACKBONES, EFFICIENTNET_LITE2, RESNET50

EMBEDDING = ({"dense": 32, "activation": "relu"}, {"dropout": 0.5}, {"dense": 16}, {"whiten": 8})
SMALL = Architecture("efficientnet-lite0", 64, 80, "gem", EMBEDDING, normalised=False)


def test_an_architecture_comes_back_from_json() -> None:
    for architecture in (SMALL, *(Architecture.plain(backbone) for backbone in BACKBONES.values())):
        assert Architecture.from_json(json.loads(json.dumps(architecture.to_json()))) == architecture


def test_the_dimension_is_that_of_the_last_layer_that_has_one() -> None:
    assert SMALL.dim == 8
    assert Architecture.plain(RESNET50).dim == 2048
    assert Architecture("resnet50", 64, 64, embedding=({"dense": 5}, {"dropout": 0.1})).dim == 5


def test_off_the_shelf_is_what_the_backbone_was_trained_with() -> None:
    found = Architecture.plain(EFFICIENTNET_LITE2)
    assert (found.input_size, found.shorter_side, found.pooling, found.normalised) == (260, 260, "mean", True)


@pytest.mark.parametrize(
    "layer",
    [
        {},
        {"dense": 0},
        {"dense": True},
        {"dense": 2.0},
        {"dense": 10**6},
        {"dense": 8, "activation": "softmax"},
        {"dense": 8, "bias": False},
        {"dropout": 1.0},
        {"dropout": -0.1},
        {"dropout": "half"},
        {"dropout": 0.5, "seed": 1},
        {"whiten": 0},
        {"whiten": 8, "activation": "relu"},
        {"whiten": 2049},
        {"pool": 3},
        {"dense": 8, "dropout": 0.5},
        {"project": 0},
        {"project": 8, "whiten": 8},
        {"project": 2049},
        {"heads": 0, "of": [{"dense": 8}]},
        {"heads": True, "of": [{"dense": 8}]},
        {"heads": 65, "of": [{"dense": 8}]},
        {"heads": 2},
        {"heads": 2, "of": {"dense": 8}},
        {"heads": 2, "of": [{"dense": 8}], "seed": 1},
    ],
)
def test_a_layer_that_does_not_fit_is_named(layer: dict[str, Any]) -> None:
    with pytest.raises(Invalid) as caught:
        Architecture("resnet50", 64, 64, embedding=(layer,))
    assert str(layer) in str(caught.value)


def test_whitening_cannot_widen() -> None:
    with pytest.raises(Invalid, match="cannot whiten 8 dimensions"):
        Architecture("resnet50", 64, 64, embedding=({"dense": 8}, {"whiten": 9}))


def test_other_values_that_do_not_fit_are_refused() -> None:
    with pytest.raises(NotFound, match="no backbone is named 'resnet'"):
        Architecture("resnet", 64, 64)
    with pytest.raises(NotFound, match="no pooling is named 'median'"):
        Architecture("resnet50", 64, 64, "median")
    with pytest.raises(Invalid, match="16 pixels is too small"):
        Architecture("resnet50", 16, 64)
    with pytest.raises(Invalid, match="shorter_side is 60, expected at least input_size, 64"):
        Architecture("resnet50", 64, 60)


@pytest.mark.parametrize(
    "change",
    [
        {"input_size": "64"},
        {"input_size": True},
        {"embedding": {"dense": 3}},
        {"normalised": 1},
        {"backbone": None},
        {"more": 1},
    ],
)
def test_json_of_another_kind_is_refused(change: Mapping[str, object]) -> None:
    with pytest.raises(Invalid, match="architecture"):
        Architecture.from_json({**SMALL.to_json(), **change})


def test_json_that_lacks_something_is_refused() -> None:
    lacking = SMALL.to_json()
    del lacking["pooling"]
    values: tuple[object, ...] = (lacking, [], None, "resnet50")
    for value in values:
        with pytest.raises(Invalid, match="expected an object of backbone, input_size"):
            Architecture.from_json(value)


def test_reading_an_architecture_takes_no_tensorflow() -> None:
    code = (
        "import sys; from training.architecture import Architecture; from training.backbones import RESNET50; "
        "Architecture.from_json(Architecture.plain(RESNET50).to_json()); "
        "assert not {'tensorflow', 'keras', 'h5py'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)
