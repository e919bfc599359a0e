"""The web service while every other part is down: it starts, lives, says what is missing, and fails in good order."""

import io
import socket
from collections.abc import Iterator

import pytest
from flask.testing import FlaskClient
from pydantic import SecretStr

from services.web.app import create_app
from services.web.problems import MEDIA_TYPE
from shared.file_names import clean_name
from shared.settings import Settings
from tests.support.web_client import picture

WORKERS = {"embedder", "indexer", "maintenance", "evaluator"}
PARTS = {"index", "broker", "object store", "query service", "model server"} | WORKERS


@pytest.fixture(scope="module")
def nobody() -> Iterator[str]:
    """An address that is taken and at which nobody listens."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield f"127.0.0.1:{taken.getsockname()[1]}"


@pytest.fixture(scope="module")
def client(nobody: str) -> FlaskClient:
    settings = Settings(  # type: ignore[call-arg]
        index_url=SecretStr(f"redis://{nobody}/0"),
        broker_url=SecretStr(f"redis://{nobody}/0"),
        s3_endpoint=nobody,
        serving_target=nobody,
        query_target=nobody,
    )
    return create_app(settings).test_client()


def test_it_lives(client: FlaskClient) -> None:
    assert client.get("/healthz").status_code == 200


def test_it_names_every_part_that_is_down(client: FlaskClient) -> None:
    answer = client.get("/readyz")
    assert answer.status_code == 503
    assert answer.json is not None
    assert answer.json["ready"] is False
    assert answer.json["parts"].keys() == PARTS
    for part, found in answer.json["parts"].items():
        assert found["up"] is False
        assert found["reason"], part


def test_metrics_can_be_scraped_all_the_same(client: FlaskClient) -> None:
    answer = client.get("/metrics")
    assert answer.status_code == 200
    lines = answer.get_data(as_text=True).splitlines()
    for part in PARTS:
        assert f'artseek_part_up{{part="{part}"}} 0.0' in lines
    assert not any(line.startswith(("artseek_collection_images{", "artseek_queue_messages{")) for line in lines)


@pytest.mark.parametrize(
    ("method", "path", "part"),
    [
        ("GET", "/api/v1/collections", "query service"),
        ("GET", "/api/v1/collections/default", "query service"),
        ("GET", "/api/v1/collections/default/images", "query service"),
        ("GET", "/api/v1/collections/default/images/1/thumbnail", "query service"),
        ("DELETE", "/api/v1/collections/default/images/1", "query service"),
        ("GET", "/api/v1/jobs/1", "index"),
    ],
)
def test_an_answer_names_the_part_that_is_down(client: FlaskClient, method: str, path: str, part: str) -> None:
    answer = client.open(path, method=method)
    assert (answer.status_code, answer.mimetype) == (503, MEDIA_TYPE)
    assert int(answer.headers["Retry-After"]) > 0
    assert answer.json is not None
    assert part in answer.json["detail"]


def test_a_page_that_waits_for_a_part_asks_again_by_itself(client: FlaskClient) -> None:
    answer = client.get("/collections/default")
    assert (answer.status_code, answer.mimetype) == (503, "text/html")
    assert answer.headers["Refresh"] == answer.headers["Retry-After"]
    assert f"asks again every {answer.headers['Refresh']} s" in answer.get_data(as_text=True)
    refused = client.post("/collections", data={"name": "new"})
    assert "Refresh" not in refused.headers


def test_a_search_and_an_upload_name_the_part_that_is_down(client: FlaskClient) -> None:
    answer = client.post("/api/v1/collections/default/search", json={"id": 1})
    assert answer.status_code == 503
    assert answer.json is not None
    assert "query service" in answer.json["detail"]
    answer = client.post("/api/v1/collections/default/images", data={"images": (io.BytesIO(picture(1)), "a.jpg")})
    assert answer.status_code == 503
    assert answer.json is not None
    assert "object store" in answer.json["detail"]


def test_what_is_wrong_with_a_request_is_found_before_what_is_down(client: FlaskClient) -> None:
    assert client.post("/api/v1/collections/default/search", json={"id": 0}).status_code == 422
    answer = client.post("/api/v1/collections/default/images", data={"images": (io.BytesIO(b"text"), "a.jpg")})
    assert answer.status_code == 422


@pytest.mark.parametrize("path", ["/", "/collections", "/collections/default", "/results?collection=default&id=1"])
def test_a_page_says_so_to_people(client: FlaskClient, path: str) -> None:
    answer = client.get(path)
    assert (answer.status_code, answer.mimetype) == (503, "text/html")
    assert "query service" in answer.get_data(as_text=True)


@pytest.mark.parametrize("path", ["/", "/nothing", "/api/v1/nothing", "/healthz", "/static/artseek.css"])
def test_every_answer_is_guarded(client: FlaskClient, path: str) -> None:
    headers = client.get(path).headers
    policy = dict(part.strip().partition(" ")[::2] for part in headers["Content-Security-Policy"].split(";"))
    assert policy["default-src"] == "'none'"
    assert policy["script-src"] == policy["style-src"] == "'self'"
    assert policy["frame-ancestors"] == "'none'"
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Cross-Origin-Resource-Policy"] == "same-origin"


@pytest.mark.parametrize(
    ("sent", "kept"),
    [
        ("a.jpg", "a.jpg"),
        ("/etc/passwd", "passwd"),
        ("C:\\pictures\\x.jpg", "x.jpg"),
        ("..", ".."),
        ("../", ".."),
        ("a\r\nSet-Cookie: x", "aSet-Cookie: x"),
        ("nul\x00.jpg", "nul.jpg"),
        ("b\u202egpj.exe", "bgpj.exe"),
        ("half \ud800.jpg", "half ?.jpg"),
        ("e\u0301.jpg", "\u00e9.jpg"),
        ("", "unnamed"),
        (None, "unnamed"),
        ("\t/", "unnamed"),
        ("x" * 500 + ".jpeg", "x" * 195 + ".jpeg"),
        ("." * 500, "." * 200),
    ],
)
def test_a_file_name_is_made_fit_to_be_shown(sent: str | None, kept: str) -> None:
    assert clean_name(sent) == kept
