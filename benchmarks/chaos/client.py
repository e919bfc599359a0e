"""Requests to the web service, as a program makes them that takes no answer for granted."""

import http.client
import json
import secrets
import time
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks.chaos.journal import Journal
from benchmarks.chaos.times import Absences

API = "/api/v1"
_TIMEOUT_S = 90.0
_POLL_S = 0.2


class Lost(Exception):
    """A request was not answered, or was told to come again: what became of it is unknown."""


@dataclass(frozen=True)
class Answer:
    """An answer: its status and its body, if that is JSON."""

    status: int
    body: Any

    @property
    def code(self) -> str:
        """The code of a problem, "" if there is none."""
        return str(self.body.get("code", "")) if isinstance(self.body, dict) else ""


@dataclass(frozen=True)
class Part:
    """A part of a form: a field's name, the file's name ("" for a text), and its content."""

    field: str
    file: str
    content: bytes


class Client:
    """Sends requests; what must not be answered is noted as a violation."""

    def __init__(self, url: str, journal: Journal, absences: Absences) -> None:
        self._url, self._journal, self._absences = url, journal, absences

    def send(
        self,
        method: str,
        path: str,
        *,
        body: object = None,
        form: Sequence[Part] = (),
        allowed: Sequence[int] = (),
    ) -> Answer:
        """Send a request to the API and return its answer.

        A status that is not below 300 and not in `allowed` is a violation, but for a 503 with ``Retry-After``.

        Raises:
            Lost: It was a 503, a violation, or there was no answer.
        """
        content, headers = _encoded(body, form)
        request = urllib.request.Request(self._url + API + path, content, headers, method=method)  # noqa: S310
        began = time.monotonic()
        try:
            with urllib.request.urlopen(request, timeout=_TIMEOUT_S) as response:  # noqa: S310 -- our own address
                status, text, answered = response.status, response.read(), response.headers
        except urllib.error.HTTPError as error:
            try:
                status, text, answered = error.code, error.read(), error.headers
            except (OSError, http.client.HTTPException) as broken:
                raise self._unanswered(method, path, began, broken) from None
        except (OSError, http.client.HTTPException) as error:
            raise self._unanswered(method, path, began, error) from None
        answer = Answer(status, _json(text))
        if status < 300 or status in allowed:
            return answer
        if status == 503 and answered.get("Retry-After"):
            raise Lost(f"503 {answer.code}")
        detail = text[:300].decode(errors="replace")
        self._journal.violation(f"{method} {path} was answered with {status}: {detail}")
        raise Lost(str(status))

    def job(self, job: str, *, patience_s: float) -> dict[str, Any] | None:
        """Wait for the end of a job; returns None if it was forgotten, or does not end in time."""
        until = time.monotonic() + patience_s
        while time.monotonic() < until:
            try:
                answer = self.send("GET", f"/jobs/{job}", allowed=[404])
            except Lost:
                time.sleep(_POLL_S)
                continue
            if answer.status == 404:
                return None
            if answer.body["state"] in {"done", "cancelled"}:
                return dict(answer.body)
            time.sleep(_POLL_S)
        return None

    def _unanswered(self, method: str, path: str, began: float, error: Exception) -> Lost:
        if not self._absences.since("web", began):
            waited = time.monotonic() - began
            self._journal.violation(f"{method} {path} was not answered within {waited:.1f} s, and web was up: {error}")
        return Lost(f"no answer: {error}")


def _encoded(body: object, form: Sequence[Part]) -> tuple[bytes | None, Mapping[str, str]]:
    if form:
        boundary = secrets.token_hex(16)
        parts = [
            f'--{boundary}\r\nContent-Disposition: form-data; name="{part.field}"'.encode()
            + (f'; filename="{part.file}"\r\nContent-Type: image/{part.file[-3:]}' if part.file else "").encode()
            + b"\r\n\r\n"
            + part.content
            + b"\r\n"
            for part in form
        ]
        content = b"".join(parts) + f"--{boundary}--\r\n".encode()
        return content, {"Content-Type": f"multipart/form-data; boundary={boundary}"}
    if body is not None:
        return json.dumps(body).encode(), {"Content-Type": "application/json"}
    return None, {}


def _json(text: bytes) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return None
