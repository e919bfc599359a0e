"""The OpenAPI document: it is valid, and requests made up from it find no answer outside it and no server error."""

import hashlib
from collections import Counter
from typing import Any

import pytest
import schemathesis
import urllib3
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from openapi_spec_validator import OpenAPIV31SpecValidator
from schemathesis import checks

from services.web.api import api
from services.web.api.inputs import EvaluationListing, EvaluationQueriesListing, JobListing, Listing, NewEvaluation
from services.web.api.search_inputs import SearchBatch, SearchByJson, SearchInput
from shared.access import AccessStore, Grant
from shared.images import REASONS
from shared.schemas.search import HitAnswer, SearchAnswer
from shared.state import Client as Redis
from shared.state import State, connect
from shared.storage.layout import THUMBNAILS, image_id
from shared.storage.object_store import ObjectStore
from tests.support.eventually import eventually
from tests.support.paths import ROOT
from tests.support.processes import free_port
from tests.support.served_web import served_web
from tests.support.stack import Stack
from tests.support.web_client import Client, picture

COLLECTION = "web-contract"
PICTURES = [picture(seed, form=form) for seed, form in enumerate(["JPEG", "PNG", "WEBP", "GIF", "TIFF", "BMP"], 301)]
KNOWN = image_id(hashlib.sha256(PICTURES[0]).hexdigest())

_DIM = 1280  # of the model that the test system serves

# The document can only say that a body is bytes; these are the bytes that are images.
for _kind in ("jpeg", "png", "webp", "gif", "tiff", "bmp"):
    schemathesis.openapi.media_type(f"image/{_kind}", st.sampled_from(PICTURES))


_TABLE = f"filename,identifier,id,title\n0.img,A,{KNOWN},T\n".encode()
for _kind in ("text/csv", "application/jsonl", "application/octet-stream"):
    schemathesis.openapi.media_type(_kind, st.just(_TABLE))


@pytest.fixture(scope="module")
def address(stack: Stack) -> str:
    """Where the API is, with a collection of images to ask for."""
    client = Client(stack.url)
    client.upload(COLLECTION, [(f"{number}.img", data) for number, data in enumerate(PICTURES)], label="shapes")
    client.wait_for_index(COLLECTION)
    return f"{stack.url}/api/v1"


DOCUMENT = api.document()
requests = schemathesis.openapi.from_dict(DOCUMENT)
_rejection = requests.config.checks.negative_data_rejection
_rejection.expected_statuses = [*_rejection.expected_statuses, "413", "414", "431"]


@requests.parametrize()
@settings(max_examples=30, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
def test_requests_made_up_from_the_document(case: Any, address: str) -> None:
    path = case.path_parameters or {}
    is_the_end = case.operation.path == "/collections/{name}" and case.method in {"DELETE", "PATCH"}
    is_a_switch = case.operation.path == "/collections/{name}/regions" and case.method == "PUT"  # each is a job
    positive = case.meta is None or case.meta.generation.mode.is_positive
    # Any other name that fits means an empty answer, or a new collection, every time.
    if path.get("name") == "default" or (positive and "name" in path):
        path["name"] = "web-never-was" if is_the_end or is_a_switch else COLLECTION
    if "id" in path and positive and case.method != "DELETE" and "/images/" in case.path:
        path["id"] = KNOWN
    if positive and isinstance(case.body, dict) and not case.path.endswith("/delete"):
        _fit(case.body)
        # The document cannot say that a round of judging has an image of the class, and none that is marked both ways.
        if "/judgements/" in case.operation.path:
            case.body |= {"label": "shapes", "id": [KNOWN], "like": [], "unlike": [], "upload": []}
    if positive and case.query:
        _fit(case.query)
    beyond = _beyond_a_form(case)
    if not positive and _has_only_a_body_that_fits(case):
        beyond.append(checks.negative_data_rejection)
    answer = case.call_and_validate(base_url=address, excluded_checks=beyond)
    if case.path == "/evaluations" and answer.status_code == 202:  # there are hundreds, and each would be made
        ended = urllib3.request("DELETE", f"{address}/jobs/{answer.json()['job']}").status
        assert ended in {202, 409}  # 409: it has ended


def test_a_viewer_finds_no_fault_and_changes_nothing(stack: Stack, address: str) -> None:
    assert address
    redis, store = connect(stack.settings.index_url.get_secret_value()), ObjectStore.from_settings(stack.settings)
    access = AccessStore(store, State.of(redis))
    key, token = access.create_key((Grant("viewer"),), by="test")
    port = free_port()
    reached = stack.settings.model_copy(
        update={
            "web_listen": f"127.0.0.1:{port}",
            "public_url": f"http://127.0.0.1:{port}",
            "rate_requests": 0,
            "rate_changes": 0,
        }
    )
    answered: Counter[str] = Counter()
    jobs = State.of(redis).jobs
    eventually(lambda: not list(jobs.unfinished()))  # what earlier requests began
    try:
        with served_web(reached):
            before = _stored(store), _kept(redis)
            operations: Any = requests.get_all_operations()
            for found in operations:
                for case in _cases(found.ok()):
                    if "name" in (case.path_parameters or {}):
                        case.path_parameters["name"] = COLLECTION
                    answer = case.call(
                        base_url=f"http://127.0.0.1:{port}/api/v1", headers={"Authorization": f"Bearer {token}"}
                    )
                    assert answer.status_code < 500, (case.method, case.path, answer.text)
                    answered[f"{case.method} {case.operation.path}"] += answer.status_code < 400
            assert (_stored(store), _kept(redis)) == before
    finally:
        access.revoke_key(key.id)
    changing = {name for name, count in answered.items() if count and not name.startswith("GET ")}
    assert changing <= {
        "POST /search",
        "POST /collections/{name}/search",
        "POST /collections/{name}/search-batch",
        "POST /collections/{name}/lookup",
        "POST /collections/{name}/export",
        "POST /collections/{name}/originals",
    }
    assert sum(count > 0 for count in answered.values()) > 8  # what a viewer may, is not refused


def _cases(operation: Any) -> list[Any]:
    """Return a few requests made up for an operation, the same each time."""
    made: list[Any] = []

    @given(case=operation.as_strategy())
    @settings(max_examples=5, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck))
    def make(case: Any) -> None:
        made.append(case)

    make()
    return made


def _stored(store: ObjectStore) -> dict[str, str]:
    """Return the objects that there are, and what names their content.

    Not those by which parts see that it lives, and thumbnails, which are kept when they are first shown.
    """
    return {item.key: item.etag for item in store.list("") if not item.key.startswith((".ready", THUMBNAILS))}


_OF_OTHERS = ("heartbeats", "ready", "lock:", "recall:", "once:", "access:", "rate:", "session:", "submitter:")


def _kept(redis: Redis) -> dict[str, bytes]:
    """Return the keys of the index and their values; not those that live parts write, and what counts requests."""
    names = [name for name in redis.scan_iter(count=1000) if not _text(name).startswith(_OF_OTHERS)]
    return {_text(name): redis.dump(name) or b"" for name in names}


def _text(name: Any) -> str:
    return name.decode("latin-1") if isinstance(name, bytes) else str(name)  # names of buckets are bytes


def _fit(values: dict[str, Any]) -> None:
    """Let what is made up name images and embeddings that there are."""
    if values.get("id") is not None:
        values["id"] = KNOWN
    for name in ("ids", "like", "unlike"):
        if isinstance(values.get(name), list):
            values[name] = [KNOWN] * len(values[name])
    fitting = {
        "filter": '{"title": ["T"]}',
        "sort": "label",
        "column": "",
        "group": "label",
        "field": ["label"] if isinstance(values.get("field"), list) else "label",
        "fields": ["title"] if isinstance(values.get("fields"), list) else {"title": "T"},
    }
    values.update({name: fit for name, fit in fitting.items() if name in values})
    # The document cannot say that box and proof need a picture beside them, nor which addresses are asked for one.
    for name in ("box", "proof"):
        values.pop(name, None)
    if values.pop("url", None) is not None:
        values["id"] = KNOWN
    # The document cannot say that a pair has two images, nor that none is merged into itself.
    if "verdict" in values and values.get("a") == values.get("b"):
        values["b"] = values["a"] - 1 or 2
    if isinstance(values.get("others"), list) and values.get("keep") in values["others"]:
        values["others"] = [values["keep"] - 1 or 2]
    if "vector" in values:
        values["vector"] = _DIM * [0.5]
    if "vectors" in values:
        values["vectors"] = len(values["vectors"]) * [_DIM * [0.5]]


def _has_only_a_body_that_fits(case: Any) -> bool:
    """Return whether a body that is meant not to fit does: where one of two fields is required, either is dropped."""
    if [place.value for place, part in case.meta.components.items() if part.mode.is_negative] != ["body"]:
        return False
    body = {name: "" if isinstance(value, bytes) else value for name, value in _fields(case.body).items()}
    content = DOCUMENT["paths"][case.operation.path][case.method.lower()]["requestBody"]["content"]
    if case.media_type not in content:
        return False
    schema = {**content[case.media_type]["schema"], "components": DOCUMENT["components"]}
    return bool(Draft202012Validator(schema).is_valid(body))


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
    OpenAPIV31SpecValidator(DOCUMENT).validate()


def test_the_document_names_what_the_design_promises() -> None:
    offered = {(operation.method, operation.path) for operation in api.operations}
    assert offered >= {
        ("POST", "/collections/{name}/search"),
        ("POST", "/collections/{name}/search-batch"),
        ("POST", "/collections/{name}/images"),
        ("GET", "/collections/{name}/images"),
        ("DELETE", "/collections/{name}"),
        ("PATCH", "/collections/{name}"),
        ("GET", "/collections/{name}/images/{id}"),
        ("DELETE", "/collections/{name}/images/{id}"),
        ("POST", "/collections/{name}/delete"),
        ("GET", "/collections/{name}/trash"),
        ("POST", "/collections/{name}/trash/{id}/restore"),
        ("GET", "/jobs"),
        ("GET", "/jobs/{id}"),
        ("GET", "/jobs/{id}/summary"),
        ("DELETE", "/jobs/{id}"),
        ("GET", "/evaluations"),
        ("POST", "/evaluations"),
        ("GET", "/evaluations/{id}"),
        ("DELETE", "/evaluations/{id}"),
        ("GET", "/evaluations/{id}/queries"),
        ("GET", "/openapi.json"),
    }


def test_every_operation_and_parameter_is_explained() -> None:
    for path, operations in DOCUMENT["paths"].items():
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
        *JobListing.model_fields,
        *NewEvaluation.model_fields,
        *REASONS,
        *HitAnswer.__annotations__,
        *SearchAnswer.__annotations__,
    ):
        assert word in guide
    operations = [operation for path in DOCUMENT["paths"].values() for operation in path.values()]
    for status in {status for operation in operations for status in operation["responses"]}:
        assert status in guide or status in {"200", "304"}
