"""The registry of hash families: whatever is registered can be stored, tuned and asked for by a grid."""

import json

import pytest

from shared.evaluation.grids import parse_grid, tuning_goal
from shared.hashing import dumps, loads
from shared.hashing.families import FAMILIES, REGISTRY
from shared.hashing.parameters import PARAMETERS, FamilyParameters
from shared.tuning import fit
from shared.tuning.families import TRIALS
from tests.support.clusters import clustered

FIELDS = set(FamilyParameters.__dataclass_fields__)


def test_every_family_is_known_to_the_tuner() -> None:
    assert tuple(TRIALS) == FAMILIES == tuple(REGISTRY)


def test_every_parameter_can_be_given() -> None:
    assert {parameter.name for parameter in PARAMETERS} == FIELDS
    assert {name for registration in REGISTRY.values() for name in registration.parameters} == FIELDS


@pytest.mark.parametrize("name", FAMILIES)
def test_a_family_has_the_parameters_that_it_registers(name: str) -> None:
    registration = REGISTRY[name]
    family = fit(clustered(0, 200, 16), seed=0, family=name, tables=2, hashes=4)
    assert registration.name == family.family == loads(dumps(family)).family == name
    assert registration.restore(family.parameters(), family.arrays()).parameters() == family.parameters()
    assert FIELDS & family.parameters().keys() == set(registration.parameters)


@pytest.mark.parametrize("name", FAMILIES)
def test_a_grid_takes_the_parameters_of_each_family(name: str) -> None:
    given = dict.fromkeys(REGISTRY[name].parameters, 2)
    (setting,) = parse_grid(json.dumps({"family": name, **given}))
    assert setting.given() == given
    assert tuning_goal(setting, seed=0).given() == given
