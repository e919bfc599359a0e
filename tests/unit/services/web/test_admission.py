"""What is read of a request is decided at its header: as much as its route takes, wherever the service lies."""

import pytest

from services.web import admission
from services.web.admission import admission_of
from services.web.api.inputs import MAX_BATCH_JSON, MAX_JSON
from services.web.app import create_app
from services.web.http.request import REFUSAL, Head, Overloaded, TooLarge
from services.web.problems import Problem
from services.web.server import make_server
from shared.settings import Settings

FORM = "multipart/form-data; boundary=x"
UPLOAD = 256 * 2**20
FILE = 64 * 2**20 + MAX_JSON
NOTHING = 64 * 1024


@pytest.mark.parametrize(
    ("method", "path", "kind", "most"),
    [
        ("POST", "/api/v1/collections/a/images", FORM, UPLOAD),
        ("POST", "/api/v1/collections/a/search", FORM, FILE),
        ("POST", "/api/v1/collections/a/search", "image/jpeg", FILE),
        ("POST", "/api/v1/collections/a/search", "application/json", MAX_JSON),
        ("POST", "/api/v1/collections/a/search-batch", "application/json", MAX_BATCH_JSON),
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


def test_an_upload_for_which_the_disk_has_no_room_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = Settings()  # type: ignore[call-arg]
    admit = admission_of(create_app(settings), settings)
    upload = Head("POST", "/api/v1/collections/a/images", {"CONTENT_LENGTH": str(10**6)}, "127.0.0.1")
    assert admit(upload).error is None
    monkeypatch.setattr(admission, "_LEAST_FREE", 2**62)
    error = admit(upload).error
    assert isinstance(error, Problem)
    assert error.status == 503


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
