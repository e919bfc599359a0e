"""The fields of messages: what a sender writes, a task of the same version reads."""

import pytest

from shared.errors import Invalid
from shared.evaluation.index_setting import IndexSetting
from shared.messaging.message_fields import read_fields
from shared.messaging.messages import EvaluationRequest, EvaluationRequestJson
from shared.state import Rejection

GRID = (
    IndexSetting(family="p-stable", tables=4, hashes=6, width=0.6, probes=1),
    IndexSetting(family="voronoi", space="plain", tables=2),
)


def evaluate(*, job: str, request: EvaluationRequestJson) -> None:
    del job, request


def test_an_evaluation_with_a_grid_is_read_as_it_was_sent() -> None:
    request = EvaluationRequest(sample=5, grid=GRID, rejected=(Rejection("a.txt", "not-an-image", "it is text"),))
    read = read_fields(evaluate, {"job": "1", "request": request.to_json()}, place="the message")
    assert EvaluationRequest.from_json(read["request"]) == request


def test_a_field_of_a_setting_that_does_not_fit_is_named() -> None:
    value = EvaluationRequest(sample=5, grid=GRID[:1]).to_json()
    value["grid"][0]["tables"] = "many"  # type: ignore[typeddict-item]
    with pytest.raises(Invalid, match=r"'tables'.*'many'"):
        read_fields(evaluate, {"job": "1", "request": value}, place="the message")
