"""The OpenAPI document: it is valid, and requests made up from it find no answer outside it and no server error."""

import hashlib
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from openapi_spec_validator import OpenAPIV31SpecValidator
from schemathesis import checks

from services.web.api import api
from services.web.api.inputs import (
    EvaluationListing,
    EvaluationQueriesListing,
    Listing,
    NewEvaluation,
    SearchBatch,
    SearchByJson,
    SearchInput,
)
from shared.images import REASONS
from shared.schemas.search import HitAnswer, SearchAnswer
from shared.storage.layout import image_id
from tests.support.paths import ROOT
from tests.support.stack import Stack
from tests.support.web_client import Client, picture

COLLECTION = "web-contract"
PICTURES = [picture(seed, form=form) for seed, form in enumerate(["JPEG", "PNG", "WEBP", "GIF", "TIFF", "BMP"], 301)]
KNOWN = image_id(hashlib.sha256(PICTURES[0]).hexdigest())

_DIM = 1280  # of the model that the test system serves

# The document can only say that a body is bytes; these are the bytes that are images.
for _kind in ("jpeg", "png", "webp", "gif", "tiff", "bmp"):
    schemathesis.openapi.media_type(f"image/{_kind}", st.sampled_from(PICTURES))


@pytest.fixture(scope="module")
def address(stack: Stack) -> str:
    """Where the API is, with a collection of images to ask for."""
    client = Client(stack.url)
    client.upload(COLLECTION, [(f"{number}.img", data) for number, data in enumerate(PICTURES)], label="shapes")
    client.wait_for_index(COLLECTION)
    return f"{stack.url}/api/v1"


requests = schemathesis.openapi.from_dict(api.document())
_rejection = requests.config.checks.negative_data_rejection
_rejection.expected_statuses = [*_rejection.expected_statuses, "414", "431"]


@requests.parametrize()
@settings(max_examples=40, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
def test_requests_made_up_from_the_document(case: Any, address: str) -> None:
    path = case.path_parameters or {}
    positive = case.meta is None or case.meta.generation.mode.is_positive
    # Any other name that fits means an empty answer, or a new collection, every time.
    if path.get("name") == "default" or (positive and "name" in path):
        path["name"] = COLLECTION
    if "id" in path and positive and case.method != "DELETE" and "/images/" in case.path:
        path["id"] = KNOWN
    if positive and isinstance(case.body, dict):
        _fit(case.body)
    if positive and case.query:
        _fit(case.query)
    beyond = _beyond_a_form(case)
    if not positive and _has_only_a_body_that_fits(case):
        beyond.append(checks.negative_data_rejection)
    case.call_and_validate(base_url=address, excluded_checks=beyond)


def _fit(values: dict[str, Any]) -> None:
    """Let what is made up name images and embeddings that there are."""
    if values.get("id") is not None:
        values["id"] = KNOWN
    for name in ("ids", "like", "unlike"):
        if isinstance(values.get(name), list):
            values[name] = [KNOWN] * len(values[name])
    if "vector" in values:
        values["vector"] = _DIM * [0.5]
    if "vectors" in values:
        values["vectors"] = len(values["vectors"]) * [_DIM * [0.5]]


def _has_only_a_body_that_fits(case: Any) -> bool:
    """Return whether a body that is meant not to fit does: where one of two fields is required, either is dropped."""
    if [place.value for place, part in case.meta.components.items() if part.mode.is_negative] != ["body"]:
        return False
    body = {name: "" if isinstance(value, bytes) else value for name, value in _fields(case.body).items()}
    content = api.document()["paths"][case.operation.path][case.method.lower()]["requestBody"]["content"]
    return case.media_type in content and Draft202012Validator(content[case.media_type]["schema"]).is_valid(body)


def _fields(body: object) -> dict[str, object]:
    return body if isinstance(body, dict) else {}


def _beyond_a_form(case: Any) -> list[Any]:
    """Return the checks that a form cannot be held to, being less than the JSON value that it was made from."""
    if case.media_type != "multipart/form-data":
        return []
    beyond = [checks.positive_data_acceptance]  # its files are bytes of any kind, most of which are rightly refused
    body = case.body if isinstance(case.body, dict) else {}
    if not isinstance(body.get("label", ""), str) or any(value in ([], {}) for value in body.values()):
        beyond.append(checks.negative_data_rejection)  # any value is sent as text, which a label may be; [] as nothing
    return beyond


def test_the_document_is_valid() -> None:
    OpenAPIV31SpecValidator(api.document()).validate()


def test_the_document_names_what_the_design_promises() -> None:
    offered = {(operation.method, operation.path) for operation in api.operations}
    assert offered >= {
        ("POST", "/collections/{name}/search"),
        ("POST", "/collections/{name}/search-batch"),
        ("POST", "/collections/{name}/images"),
        ("GET", "/collections/{name}/images"),
        ("GET", "/collections/{name}/images/{id}"),
        ("DELETE", "/collections/{name}/images/{id}"),
        ("GET", "/jobs/{id}"),
        ("DELETE", "/jobs/{id}"),
        ("GET", "/evaluations"),
        ("POST", "/evaluations"),
        ("GET", "/evaluations/{id}"),
        ("GET", "/evaluations/{id}/queries"),
        ("GET", "/openapi.json"),
    }


def test_every_operation_and_parameter_is_explained() -> None:
    for path, operations in api.document()["paths"].items():
        for method, operation in operations.items():
            assert operation["summary"], (path, method)
            assert all(parameter["description"] for parameter in operation.get("parameters", ())), (path, method)


def test_the_guide_names_every_operation_option_and_reason() -> None:
    guide = (ROOT / "docs" / "api.md").read_text(encoding="utf-8")
    for operation in api.operations:
        assert f"`{operation.method} {operation.path}`" in guide
    for word in (
        *SearchInput.model_fields,
        *SearchByJson.model_fields,
        *SearchBatch.model_fields,
        *Listing.model_fields,
        *EvaluationListing.model_fields,
        *EvaluationQueriesListing.model_fields,
        *NewEvaluation.model_fields,
        *REASONS,
        *HitAnswer.__annotations__,
        *SearchAnswer.__annotations__,
    ):
        assert word in guide
    operations = [operation for path in api.document()["paths"].values() for operation in path.values()]
    for status in {status for operation in operations for status in operation["responses"]}:
        assert status in guide or status in {"200", "304"}
