"""Learning for search: the loss is what it is said to be, and what is evaluated, kept and served is one network."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import keras
import numpy as np
import numpy.typing as npt
import pytest

from shared.images import decode
from shared.model_config import MANIFEST
from tests.support.training_runs import SIZE, train, weights_of
from training.architecture import Architecture
from training.labelled_images import read_background, read_labelled
from training.network import build_network, load_network, set_standardisation
from training.precision import set_precision
from training.pretrained import RandomWeights
from training.recipes import SearchRecipe, recipe_named
from training.savedmodel import saved_model_embed
from training.similarity import _new_learner

pytestmark = pytest.mark.slow


def unit(x: npt.NDArray[Any]) -> npt.NDArray[Any]:
    return np.asarray(x / np.linalg.norm(x, axis=1, keepdims=True))


@pytest.mark.parametrize("heads", [None, 1, 3])
def test_the_loss_is_contrast_and_what_is_kept(small_backbone: str, heads: int | None) -> None:
    recipe = recipe_named("search")
    assert isinstance(recipe, SearchRecipe)
    layer = {"dense": 8}
    head = ({"standardise": True}, {"heads": heads, "of": [layer]} if heads else layer)
    recipe = replace(recipe, head=head)
    assert (recipe.heads, recipe.projected, recipe.learned) == (heads or 1, None, 2)
    network = build_network(Architecture(small_backbone, 32, 32, "mean", head), RandomWeights(1))
    rng = np.random.default_rng(2)
    x, known = (rng.normal(3, 2, (12, 1280)).astype(np.float32) for _ in range(2))
    mean, deviation = known.mean(axis=0), known.std(axis=0) + 0.1
    set_standardisation(network, mean, deviation)
    inner = keras.Model(network.get_layer("pooling").output, network.output)
    labels = rng.integers(0, 3, 12)
    found = float(_new_learner(inner, recipe, 12).test_on_batch((x, known), labels))

    expected = []
    for number in range(heads or 1):
        kernel, bias = network.get_layer(f"embedding_1_{number}_0" if heads else "embedding_1").get_weights()
        z, frozen = unit((x - mean) / deviation @ kernel + bias), unit((known - mean) / deviation)
        contrast, similar = [], z @ z.T
        for i in range(12):
            others = [j for j in range(12) if j != i]
            weights = {j: np.exp(similar[i, j] / recipe.temperature) for j in others}
            same = [j for j in others if labels[j] == labels[i]]
            contrast.append(-sum(np.log(weights[j] / sum(weights.values())) for j in same) / max(1, len(same)))
        kept = np.square(similar - frozen @ frozen.T).mean()
        expected.append(recipe.contrast * np.mean(contrast) + recipe.keep * kept)
    assert found == pytest.approx(np.mean(expected), rel=1e-4)


def test_what_is_evaluated_is_what_is_served(shapes: Path, background: Path, tmp_path: Path) -> None:
    options = ["--backbone", "efficientnet-lite0", "--background", str(background), "--epochs", "3"]
    result = train(shapes, tmp_path / "run", *options, "--models", str(tmp_path / "models"), "--name", "found")
    assert result["history"][-1]["loss"] < result["history"][0]["loss"]
    assert (result["recipe"], result["epochs"], result["best_epoch"]) == ("search", 3, 3)
    about = json.loads((tmp_path / "run" / "run.json").read_text("utf-8"))
    assert (about["background"]["images"], about["held_back"]["images"], about["precision"]) == (16, 3, "single")
    model = tmp_path / "models" / "found" / "1"
    manifest = json.loads((model / MANIFEST).read_text("utf-8"))
    assert manifest["dim"] == 128
    assert manifest["training"]["search"] == result["search"]
    assert "base_path" in (tmp_path / "models" / "models.config").read_text("utf-8")
    report = (tmp_path / "run" / "report.md").read_text("utf-8")
    assert f"| all | {result['search']['p_at_k']:.3f} |" in report

    labelled = read_labelled(shapes)
    order = sorted(labelled.images, key=lambda one: (one.label, one.sha256))
    held = [one for place, one in enumerate(order) if place % 12 < 2]  # two of each class's twelve
    queries, gallery = held, [one for one in order if one not in held]
    unseen, _ = read_background(background, [labelled])
    embed = saved_model_embed(model)
    z = [
        np.asarray(embed(np.stack([decode(one.path.read_bytes(), size=SIZE)[0] for one in some])))
        for some in (queries, gallery, unseen[:3])
    ]
    for among, key in (([1], "search"), ([1, 2], "background")):
        labels = np.array([image.label for image in gallery] + [-1] * (len(z[2]) if 2 in among else 0))
        similar = z[0] @ np.concatenate([z[place] for place in among]).T
        nearest = np.argsort(-similar, axis=1, kind="stable")[:, :10]
        relevant = labels[nearest] == np.array([query.label for query in queries])[:, None]
        figures = result["search"] if key == "search" else result["search"]["background"]
        assert relevant.mean() == pytest.approx(figures["p_at_k"], abs=1e-3)
    network = load_network(Architecture.from_json(manifest["architecture"]), tmp_path / "run" / "network.weights.h5")
    images = np.stack([decode(query.path.read_bytes(), size=SIZE)[0] for query in queries])
    np.testing.assert_allclose(unit(np.asarray(network(images.astype(np.float32)))), z[0], atol=1e-4)
    assert len(weights_of(tmp_path / "run")) > 100


def test_mixed_precision_computes_the_backbone_in_half_and_the_embedding_in_single(
    small_backbone: str,
) -> None:
    try:
        assert set_precision("mixed") == "mixed"
        network = build_network(Architecture(small_backbone, 32, 32, "stages", ({"dense": 4},)), RandomWeights(1))
        assert network.get_layer("conv_head").compute_dtype == "float16"
        assert network.get_layer("pooling").compute_dtype == network.get_layer("embedding_0").compute_dtype == "float32"
    finally:
        assert set_precision("single") == "single"
