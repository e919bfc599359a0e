"""A request as it is read: its limits, and what is refused at its header."""

import copy
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from waitress.adjustments import Adjustments
from waitress.parser import HTTPRequestParser
from waitress.utilities import BadRequest, RequestEntityTooLarge, RequestHeaderFieldsTooLarge

from services.web.http.limits import ServerLimits

_NOTHING = b"GET / HTTP/1.0\r\n"  # stands for a header that is not looked at


@dataclass(frozen=True)
class Head:
    """What is known of a request when its header is there; the names in `headers` look like ``CONTENT_LENGTH``."""

    method: str
    path: str
    headers: Mapping[str, str]
    client: str
    chunked: bool = False

    @property
    def length(self) -> int | None:
        """Bytes of the body; None if the header does not tell, since it comes in chunks."""
        if self.chunked:
            return None
        length = self.headers.get("CONTENT_LENGTH", "0")
        return int(length) if length.isdecimal() else 0


def last_words(status: str, text: str, *fields: str) -> bytes:
    """Return an answer that the server gives without the application, after which it closes the connection."""
    body = f"{text}\n".encode()
    lines = [f"HTTP/1.1 {status}", "Connection: close", *fields, "Content-Type: text/plain; charset=utf-8"]
    return "\r\n".join([*lines, f"Content-Length: {len(body)}", "", ""]).encode() + body


@dataclass(frozen=True)
class Admission:
    """Whether a request is read on: how many bytes its body may have, or the error that it is answered with."""

    most: int = 0
    error: Exception | None = None


Admit = Callable[[Head], Admission]


class RequestLineTooLong(BadRequest):  # type: ignore[misc]
    """The first line of a request is too long."""

    code = 414
    reason = "URI Too Long"


class Request(HTTPRequestParser):  # type: ignore[misc]
    """Reads a request.

    Attributes:
        begun: When its first byte came, in seconds of the monotonic clock.
        refusal: The error that the application answers the request with; its body is not read.
    """

    path = ""  # until the header is there, or if it is none

    def __init__(self, adjustments: Adjustments, limits: ServerLimits, admit: Callable[["Request"], Admission]) -> None:
        super().__init__(adjustments)
        self.begun = time.monotonic()
        self.refusal: Exception | None = None
        self._limits, self._admit = limits, admit
        self._too_large = TooLarge(0)

    def received(self, data: bytes) -> int:
        """Take bytes; returns how many of them belong to this request."""
        in_header = not self.headers_finished
        if in_header and self._is_line_too_long(data):
            self._fail(RequestLineTooLong(f"a request line has at most {self._limits.line} bytes"))
            return len(data)
        consumed = int(super().received(data))
        if in_header and self.headers_finished and not self.empty and self.error is None:
            self._decide()
        if isinstance(self.error, RequestEntityTooLarge):
            self.refuse(self._too_large)
        return consumed

    def parse_header(self, header_plus: bytes) -> None:
        """Read the header, unless its lines are too long or too many."""
        line, *fields = header_plus.split(b"\r\n")
        most = self._limits.line
        if len(line) > most:
            self._fail(RequestLineTooLong(f"a request line has at most {most} bytes"))
        elif sum(map(bool, fields)) > self._limits.fields or any(len(field) > most for field in fields):
            text = f"a header has at most {self._limits.fields} fields of at most {most} bytes each"
            self._fail(RequestHeaderFieldsTooLarge(text))
        else:
            super().parse_header(header_plus)

    def refuse(self, error: Exception) -> None:
        """Read no more of the request, and let the application answer it with an error."""
        self.close()
        self.body_rcv = None
        self.error, self.refusal = None, error
        self.completed, self.expect_continue = True, False

    def head(self, client: str) -> Head:
        """Return what the header tells."""
        return Head(self.command, self.path, self.headers, client, chunked=self.chunked)

    def _decide(self) -> None:
        admission = self._admit(self)
        if admission.error is not None:
            self.refuse(admission.error)
        elif self.body_rcv is not None:
            self._too_large = TooLarge(admission.most)
            self.adj = copy.copy(self.adj)
            self.adj.max_request_body_size = admission.most + 1
            if self.content_length > admission.most:
                self.refuse(self._too_large)

    def _is_line_too_long(self, data: bytes) -> bool:
        start: bytes = self.header_plus[: self._limits.line + 1]
        start += data[: self._limits.line + 1 - len(start)]
        return len(start) > self._limits.line and b"\n" not in start

    def _fail(self, error: BadRequest) -> None:
        super().parse_header(_NOTHING)
        self.error, self.completed = error, True


class Overloaded(Exception):
    """A request is not read because the server, or its client, has too much in hand; the message says what."""


class TooLarge(Exception):
    """A body has more bytes than are taken."""

    def __init__(self, most: int) -> None:
        super().__init__(f"at most {most:,} bytes are taken")
        self.most = most


REFUSAL = "artseek.refusal"
"""Where the environment of a request says that it was refused at its header: the error to answer with."""
