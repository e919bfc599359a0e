"""Recipes: those of the report say what the report says, and a file that is none is refused by what is wrong in it."""

import json
from pathlib import Path
from typing import Any

import pytest

from shared.errors import Invalid, NotFound
from training.architecture import Architecture
from training.backbones import BACKBONES, backbone_named
from training.recipes import DEFAULT, ClassRecipe, SearchRecipe, names, recipe_named, recipe_of

REPORT = {  # dense layers, dropout, learning rate, augmentation
    "resnet50-model1": ([256], None, 1e-3, False),
    "resnet50-model2": ([256, 128], 0.5, 1e-4, False),
    "resnet50-model3": ([512, 256, 128, 64], None, 1e-4, False),
    "resnet50-model4": ([256, 128, 64], 0.5, 1e-6, False),
    "resnet50-model5": ([256, 128, 64], 0.5, 1e-6, True),
    "resnet50v2-model1": ([256], None, 1e-6, False),
    "resnet50v2-model2": ([256, 128], 0.5, 1e-5, False),
    "resnet50v2-model3": ([256, 128, 64], 0.5, 1e-6, False),
    "resnet50v2-model4": ([256, 128, 64], 0.5, 1e-6, True),
}


def described(name: str = "resnet50-model2", **changes: Any) -> dict[str, Any]:
    return {**recipe_named(name).to_json(), **changes}


def test_the_report_s_nine_recipes_are_there() -> None:
    assert set(REPORT) <= set(names())
    for name, (dense, dropout, rate, augmented) in REPORT.items():
        recipe = recipe_named(name)
        assert isinstance(recipe, ClassRecipe)
        assert [layer["dense"] for layer in recipe.head if "dense" in layer] == dense
        assert {layer["dropout"] for layer in recipe.head if "dropout" in layer} == ({dropout} if dropout else set())
        assert (recipe.learning_rate, recipe.augmented, recipe.patience) == (rate, augmented, 10)
        assert (recipe.unfrozen, recipe.backbone) == ("last stage", name.partition("-")[0])


def test_the_last_stage_is_where_the_report_unfroze() -> None:
    assert backbone_named("resnet50").last_stage == "conv5_block1_1_conv"
    assert backbone_named("resnet50v2").last_stage == "conv5_block1_preact_bn"


def test_the_recipe_for_search_is_the_default_and_ends_in_few_dimensions() -> None:
    recipe = recipe_named(DEFAULT)
    assert isinstance(recipe, SearchRecipe)
    assert recipe_of(DEFAULT, recipe.to_json()) == recipe
    assert Architecture(recipe.backbone, recipe.size, recipe.size, recipe.pooling, recipe.head).dim <= 256


def test_every_recipe_names_a_backbone_that_there_is() -> None:
    assert {recipe_named(name).backbone for name in names()} <= set(BACKBONES)


def test_a_recipe_of_one_s_own_is_read_from_its_file(tmp_path: Path) -> None:
    path = tmp_path / "mine.json"
    path.write_text(json.dumps(described(learning_rate=0.01, unfrozen="none")), encoding="utf-8")
    recipe = recipe_named(str(path))
    assert isinstance(recipe, ClassRecipe)
    assert (recipe.name, recipe.learning_rate, recipe.unfrozen) == ("mine", 0.01, "none")
    assert recipe_of("mine", recipe.to_json()) == recipe


def test_an_unknown_recipe_is_told_with_those_there_are(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match=r"no recipe is named 'resnet'; there are: .*resnet50-model1"):
        recipe_named("resnet")
    with pytest.raises(NotFound, match="cannot be read"):
        recipe_named(str(tmp_path / "none.json"))
    (tmp_path / "broken.json").write_text("{", encoding="utf-8")
    with pytest.raises(Invalid, match="not JSON"):
        recipe_named(str(tmp_path / "broken.json"))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"pooling": "median"}, "pooling is 'median', expected one of mean"),
        ({"unfrozen": "half"}, "unfrozen is 'half'"),
        ({"learning_rate": 0}, "learning_rate is 0"),
        ({"learning_rate": True}, "learning_rate is True"),
        ({"batch": 0}, "batch is 0"),
        ({"patience": 1.5}, "patience is 1.5"),
        ({"augmented": "yes"}, "augmented is 'yes'"),
        ({"head": [{"dense": 0, "activation": "relu"}]}, "'dense': 0"),
        ({"head": [{"dropout": 1}]}, "'dropout': 1"),
        ({"head": [{"conv": 3}]}, "'conv': 3"),
        ({"head": {}}, "head is"),
        ({"optimiser": "sgd"}, "'optimiser' is unknown"),
        ({"objective": "beauty"}, "objective is 'beauty', expected 'classes' or 'similarity'"),
        ({"name": "search", "patience": 3}, "'patience' is unknown"),
        ({"name": "search", "temperature": 0}, "temperature is 0, expected a number above 0"),
        ({"name": "search", "views": -1}, "views is -1"),
        ({"name": "search", "size": 16}, "size is 16, expected a whole number from 32 on"),
        ({"name": "search", "head": [{"sum": [[{"dense": 8}], [{"dense": 9}]]}]}, "end \\[8, 9\\] wide"),
        ({"head": [{"sum": [[{"dense": 8}], [{"dense": 8}]]}]}, 'expected layers of "dense" and "dropout" alone'),
        ({"head": [{"whiten": 8}]}, 'expected layers of "dense" and "dropout" alone'),
        *(
            ({"name": "search", "head": head}, r"head is \[.*\], expected \{\"standardise\": true\}, then layers")
            for head in (
                [],
                [{"dense": 8}],
                [{"standardise": True}],
                [{"standardise": True}, {"project": 8}],
                [{"standardise": True}, {"whiten": 8}],
                [{"standardise": True}, {"project": 8}, {"dense": 8}],
                [{"standardise": True}, {"heads": 2, "of": [{"dense": 8}]}, {"dense": 8}],
                [{"standardise": True}, {"heads": 2, "of": [{"dense": 8}, {"whiten": 8}]}],
                [{"standardise": True}, {"sum": [[{"dense": 8}], [{"whiten": 8}]]}],
            )
        ),
    ],
)
def test_what_does_not_fit_is_named(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(Invalid, match=said):
        recipe_of("mine", described(**changes))


def test_what_is_missing_is_named() -> None:
    value = described()
    del value["epochs"]
    with pytest.raises(Invalid, match="'epochs' is missing"):
        recipe_of("mine", value)
    with pytest.raises(Invalid, match="not a JSON object"):
        recipe_of("mine", [])
