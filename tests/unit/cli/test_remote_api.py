"""Requests to a remote system: the key goes along, and whatever is answered becomes an error that says what it is."""

import io
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest

from cli.remote import api as remote_api
from cli.remote.api import Api, Refused
from cli.remote.files import parts_of, send_part
from shared.errors import ArtseekError, Invalid, NotFound, Unavailable
from shared.folders import Source
from tests.support.http_answers import Answer, answering

PROBLEM = "application/problem+json"


@dataclass
class Remote:
    """A server that answers what it is told to, and notes what it was asked."""

    answers: list[Answer] = field(default_factory=list)
    asked: list[tuple[str, str, str | None]] = field(default_factory=list)
    url: str = ""

    def problem(self, status: int, **values: object) -> None:
        self.answers.append((status, {"Content-Type": PROBLEM}, json.dumps({"detail": "why", **values}).encode()))


@pytest.fixture
def remote() -> Iterator[Remote]:
    told = Remote()

    def answer(request: BaseHTTPRequestHandler) -> Answer:
        told.asked.append((request.command, request.path, request.headers["Authorization"]))
        request.rfile.read(int(request.headers.get("Content-Length", 0)))
        return told.answers.pop(0)

    with answering(answer) as address:
        told.url = f"{address}/artseek"
        yield told


def test_the_key_goes_along_below_the_path_of_the_address(remote: Remote) -> None:
    remote.answers = [(200, {"Content-Type": "application/json"}, b'{"a": 1}'), (204, {}, b"")]
    api = Api(remote.url + "/", "key.secret")
    assert api.get("/collections") == {"a": 1}
    assert api.delete("/evaluations/e") is None
    assert remote.asked == [
        ("GET", "/artseek/api/v1/collections", "Bearer key.secret"),
        ("DELETE", "/artseek/api/v1/evaluations/e", "Bearer key.secret"),
    ]


def test_who_has_too_much_to_do_is_asked_again(remote: Remote) -> None:
    for status in (429, 503):
        remote.answers.append((status, {"Content-Type": PROBLEM, "Retry-After": "0"}, b'{"detail": "later"}'))
    remote.answers.append((200, {"Content-Type": "application/json"}, b"[]"))
    assert Api(remote.url, "").get("/jobs") == []
    assert [key for _, _, key in remote.asked] == [None] * 3


@pytest.mark.parametrize(
    ("status", "values", "kind", "message"),
    [
        (401, {}, Refused, r"why \(ARTSEEK_KEY takes the key\)"),
        (403, {}, Refused, "why"),
        (404, {}, NotFound, "why"),
        (409, {}, Refused, "why"),
        (413, {}, Refused, "why"),
        (422, {"errors": [{"field": "body.k", "message": "is too large"}]}, Invalid, "body.k is too large"),
        (422, {"rejected": [{"name": "a"}]}, Refused, "why"),
        (429, {}, Unavailable, "why"),
        (500, {}, Refused, "why"),
        (503, {}, Unavailable, "why"),
    ],
)
def test_a_refusal_has_the_words_of_the_system(
    remote: Remote, status: int, values: dict[str, object], kind: type[ArtseekError], message: str
) -> None:
    remote.problem(status, **values)
    with pytest.raises(kind, match=f"^{message}$"):
        Api(remote.url, "k").get("/x")


@pytest.mark.parametrize(
    ("status", "media_type", "body"),
    [
        (200, "text/html", b"<h1>Welcome</h1>"),
        (200, "application/json", b"{"),
        (502, "text/html", b"<h1>Bad Gateway</h1>"),
        (404, "application/json", b'"nothing here"'),
    ],
)
def test_what_is_no_artseek_is_told_as_that(remote: Remote, status: int, media_type: str, body: bytes) -> None:
    remote.answers.append((status, {"Content-Type": media_type}, body))
    with pytest.raises(Unavailable, match=r"is (ARTSEEK_URL its|this the address of Artseek's) page"):
        Api(remote.url, "").get("/x")


def test_what_is_too_large_is_sent_in_halves_and_a_file_that_is_refused_is_told(remote: Remote) -> None:
    part = [(Source(Path(name), name, "a"), b"x") for name in ("1", "2", "3")]
    good: Answer = (202, {"Content-Type": "application/json"}, b'{"job": "j"}')
    remote.problem(413)
    remote.problem(413)  # the first alone
    remote.problem(422, rejected=[{"name": "2", "code": "format", "reason": "why"}, {"name": "3"}])
    answers: list[object] = []
    rejected: list[Any] = []
    send_part(Api(remote.url, ""), "/x", part, fields=list, answers=answers, rejected=rejected)
    assert (answers, [refusal["name"] for refusal in rejected]) == ([], ["1", "2", "3"])
    assert rejected[0]["code"] == "too-large"
    remote.answers = [good]
    send_part(Api(remote.url, ""), "/x", part, fields=list, answers=answers, rejected=rejected)
    assert answers == [{"job": "j"}]


def test_a_request_has_files_of_one_label_and_not_too_many(tmp_path: Path) -> None:
    sources = []
    for number in range(70):
        path = tmp_path / f"{number}.jpg"
        path.write_bytes(b"\xff\xd8\xff" + b"x" * number)
        sources.append(Source(path, path.name, "a" if number < 66 else "b"))
    rejected: list[Any] = []
    sizes = [len(part) for part in parts_of(sources, max_bytes=71, rejected=rejected)]
    assert sizes == [64, 2, 3]
    assert [(refusal["name"], refusal["code"]) for refusal in rejected] == [("69.jpg", "too-large")]


def test_what_is_downloaded_goes_to_the_file_part_by_part_and_a_refusal_does_not(
    remote: Remote, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remote_api, "_PART", 1000)
    body = bytes(range(256)) * 40
    remote.answers = [(200, {}, body)]
    remote.problem(404)
    file = _Noting()
    Api(remote.url, "").download("/x", file)
    with pytest.raises(NotFound, match="why"):
        Api(remote.url, "").download("/x", file)
    assert (file.getvalue(), max(file.written)) == (body, 1000)


class _Noting(io.BytesIO):
    """A file that notes how much is written into it at a time."""

    def __init__(self) -> None:
        super().__init__()
        self.written = list[int]()

    def write(self, data: Any, /) -> int:
        self.written.append(len(data))
        return super().write(data)
