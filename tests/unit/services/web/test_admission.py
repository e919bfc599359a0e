"""What is read of a request is decided at its header: as much as its route takes, wherever the service lies."""

import re
from dataclasses import replace

import pytest

from services.web import admission
from services.web.admission import admission_of
from services.web.api.inputs import MAX_BATCH_JSON, MAX_JSON, MAX_TABLE
from services.web.app import FORM_MEMORY, create_app
from services.web.http.request import REFUSAL, Head, Overloaded, TooLarge
from services.web.problems import Problem
from services.web.server import make_server
from shared.settings import Settings

FORM = "multipart/form-data; boundary=x"
UPLOAD = 256 * 2**20
FILE = 64 * 2**20 + MAX_JSON
FIELDS = 2 * FORM_MEMORY
NOTHING = 64 * 1024


LARGE = {
    "POST /api/v1/collections/<name>/images": UPLOAD,
    "POST /api/v1/querysets": UPLOAD,
    "POST /api/v1/collections/<name>/records": MAX_TABLE,
    "POST /api/v1/collections/<name>/search": FILE,
    "POST /api/v1/search": FILE,
    "POST /search": FILE,
    "POST /results": FILE,
    "POST /api/v1/collections/<name>/search-batch": MAX_BATCH_JSON,
    "POST /collections/<name>/images/<id>/record": FIELDS,
    "POST /collections/<name>/records": FIELDS,
    "POST /collections/<name>/selection/export": FIELDS,
    "POST /collections/<name>/selection/originals": FIELDS,
    "POST /collections/<name>/judgements/training": FIELDS,
    "POST /collections/<name>/links": FIELDS,
}
JSON = {
    "PATCH /api/v1/collections/<name>",
    "PATCH /api/v1/collections/<name>/images",
    "PATCH /api/v1/collections/<name>/images/<id>",
    "PATCH /api/v1/users/<user>",
    "POST /api/v1/collections/<name>/delete",
    "POST /api/v1/collections/<name>/duplicates/merge",
    "POST /api/v1/collections/<name>/duplicates/verdicts",
    "POST /api/v1/collections/<name>/export",
    "POST /api/v1/collections/<name>/judgements/queries",
    "POST /api/v1/collections/<name>/judgements/training",
    "POST /api/v1/collections/<name>/lookup",
    "POST /api/v1/collections/<name>/originals",
    "POST /api/v1/collections/<name>/paths",
    "POST /api/v1/collections/<name>/proof",
    "POST /api/v1/collections/<name>/shares",
    "POST /api/v1/evaluations",
    "POST /api/v1/users",
    "PUT /api/v1/collections/<name>/regions",
}


def test_a_route_gets_a_small_body_unless_it_takes_more() -> None:
    settings = Settings()  # type: ignore[call-arg]
    app = create_app(settings)
    admit = admission_of(app, settings)
    large = {}
    for route in app.url_map.iter_rules():
        for method in (route.methods or set()) - {"HEAD", "OPTIONS"}:
            path = re.sub(r"<[^>]*>", "0" * 12, route.rule)
            most = admit(Head(method, path, {"CONTENT_TYPE": FORM}, "127.0.0.1")).most
            if most != NOTHING:
                large[f"{method} {route.rule}"] = most
    assert large == LARGE | dict.fromkeys(JSON, MAX_JSON)


@pytest.mark.parametrize(
    ("method", "path", "kind", "most"),
    [
        ("POST", "/api/v1/collections/a/images", FORM, UPLOAD),
        ("POST", "/log-in", FORM, NOTHING),
        ("POST", "/api/v1/collections/a/search", FORM, FILE),
        ("POST", "/api/v1/collections/a/search", "image/jpeg", FILE),
        ("POST", "/api/v1/collections/a/search", "application/json", MAX_JSON),
        ("POST", "/api/v1/collections/a/search-batch", "application/json", MAX_BATCH_JSON),
        ("POST", "/api/v1/collections/a/records", "text/csv", MAX_TABLE),
        ("POST", "/results", FORM, FILE),
        ("POST", "/api/v1/evaluations", "application/json", MAX_JSON),
        ("GET", "/api/v1/collections/a/images", "", NOTHING),
        ("POST", "/nothing", FORM, NOTHING),
    ],
)
@pytest.mark.parametrize("prefix", ["", "/artseek"])
def test_a_body_may_be_as_long_as_its_route_takes(prefix: str, method: str, path: str, kind: str, most: int) -> None:
    settings = Settings(public_url=f"http://archive.example{prefix}")  # type: ignore[call-arg]
    admit = admission_of(create_app(settings), settings)
    admitted = admit(Head(method, prefix + path, {"CONTENT_TYPE": kind}, "127.0.0.1"))
    assert (admitted.most, admitted.error) == (most, None)


@pytest.mark.parametrize("chunked", [False, True])
def test_an_upload_for_which_the_disk_has_no_room_is_refused(monkeypatch: pytest.MonkeyPatch, *, chunked: bool) -> None:
    settings = Settings()  # type: ignore[call-arg]
    admit = admission_of(create_app(settings), settings)
    headers = {"CONTENT_LENGTH": "5" if chunked else str(10**6)}  # which says nothing of what comes in chunks
    upload = Head("POST", "/api/v1/collections/a/images", headers, "127.0.0.1", chunked=chunked)
    assert admit(upload).error is None
    monkeypatch.setattr(admission, "_LEAST_FREE", 2**62)
    error = admit(upload).error
    assert isinstance(error, Problem)
    assert error.status == 503
    assert admit(replace(upload, path="/log-in", headers={})).error is None  # it fits into memory


@pytest.mark.parametrize(
    ("error", "status", "code"), [(TooLarge(5), 413, "too-large"), (Overloaded("later"), 429, "too-many-requests")]
)
def test_what_is_refused_at_its_header_is_answered_like_any_error(error: Exception, status: int, code: str) -> None:
    client = create_app(Settings()).test_client()  # type: ignore[call-arg]
    answer = client.post("/api/v1/collections/a/images", environ_overrides={REFUSAL: error})
    assert answer.json is not None
    assert (answer.status_code, answer.json["code"]) == (status, code)
    assert ("Retry-After" in answer.headers) == (status == 429)


def test_only_on_ones_own_machine_one_client_gets_all_threads() -> None:
    def most(**values: str) -> int:
        server = make_server(Settings(web_listen="127.0.0.1:0", **values))  # type: ignore[arg-type]
        try:
            return server.threads_per_client
        finally:
            server.task_dispatcher.shutdown()
            server.close()

    assert (most(), most(trusted_proxies="127.0.0.1")) == (8, 6)
