"""Fine-tuning for the classes: it learns, it is the same however often it is killed, and every recipe runs."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.support.small_backbone import SMALL
from tests.support.training_runs import (
    arguments,
    recipe_file,
    refusal,
    search_recipe_file,
    train,
    train_all,
    train_and_be_killed,
    weights_of,
)
from training.recipes import names

pytestmark = pytest.mark.slow


def test_it_learns_and_leaves_a_report(shapes: Path, tmp_path: Path) -> None:
    recipe = recipe_file(tmp_path, unfrozen="all", head=[], epochs=8, learning_rate=0.003)
    options = ["--recipe", recipe, "--backbone", SMALL.name]
    result = train(shapes, tmp_path / "run", *options)
    losses = [epoch["loss"] for epoch in result["history"]]
    # Of four batches an epoch, the last loss is a matter of chance, and of the processor's roundings; the least is not.
    assert min(losses) < 0.5 * np.log(3)  # half of what guessing among three classes costs
    assert result["report"]["classes"].keys() == {"bars", "discs", "squares"}
    assert result["best_epoch"] == 1 + int(np.argmin([epoch["validation_loss"] for epoch in result["history"]]))
    made = {path.name for path in (tmp_path / "run").iterdir()}
    assert made == {"run.json", "report.json", "report.md", "curves.png", "network.weights.h5", "architecture.json"}
    with Image.open(tmp_path / "run" / "curves.png") as curves:
        assert min(curves.size) > 300
    about = json.loads((tmp_path / "run" / "run.json").read_text("utf-8"))
    assert about["training"]["images"] + about["validation"]["images"] == 36
    assert {"keras", "numpy", "python"} <= about["versions"].keys()
    assert train(shapes, tmp_path / "run", *options) == result  # it has ended: nothing is trained again
    assert "holds a run that differs in seed" in refusal(shapes, tmp_path / "run", *options, "--seed", "5")


@pytest.mark.parametrize("kind", ["classes", "augmented", "search"])
def test_a_run_that_is_killed_ends_where_another_ends(shapes: Path, tmp_path: Path, kind: str) -> None:
    head = [{"dropout": 0.5}, {"dense": 16, "activation": "relu"}]
    recipe = (
        search_recipe_file(tmp_path)
        if kind == "search"
        else recipe_file(tmp_path, unfrozen="last stage", head=head, epochs=2, augmented=kind == "augmented")
    )
    options = ["--recipe", recipe, "--backbone", SMALL.name]
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    eagerly = kind != "classes"  # one kind with graphs is enough: to prepare them takes most of the time
    expected = train(shapes, whole, *options, eagerly=eagerly)
    assert expected["epochs"] == 2
    # While it computes what is frozen, which takes no graphs, and after an epoch.
    for death in ("first batch", "first epoch") if eagerly else ("first epoch",):
        train_and_be_killed(shapes, killed, *options, after=death, eagerly=eagerly)
    found = train(shapes, killed, *options, eagerly=eagerly)
    assert found["history"] == expected["history"]
    assert (killed / "network.weights.h5").stat().st_size == (whole / "network.weights.h5").stat().st_size
    assert weights_of(killed) == weights_of(whole)


def test_every_recipe_of_the_report_runs_to_its_end_and_on_another_backbone(shapes: Path, tmp_path: Path) -> None:
    own = [name for name in names() if name.startswith("resnet50")]
    assert len(own) == 9
    trainings = [(name, SMALL.name) for name in own]
    trainings += [("resnet50-model3", "resnet50"), ("resnet50v2-model4", "resnet50v2")]
    train_all(
        [
            arguments(
                *(shapes, tmp_path / f"{name}-{backbone}"),
                *("--recipe", name, "--backbone", backbone, "--epochs", "1"),
            )
            for name, backbone in trainings
        ]
    )
    for name, backbone in trainings:
        result = json.loads((tmp_path / f"{name}-{backbone}" / "report.json").read_text("utf-8"))
        assert (result["recipe"], result["backbone"], result["epochs"]) == (name, backbone, 1)
        assert 0 <= result["accuracy"] <= 1
