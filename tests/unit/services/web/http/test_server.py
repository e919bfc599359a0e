"""The HTTP server: slow clients cost no thread, late ones are let go, nobody takes all places, a stop is in order."""

import socket
import threading
import time
from collections.abc import Iterable
from contextlib import ExitStack
from dataclasses import replace
from http.client import HTTPResponse, IncompleteRead
from typing import TYPE_CHECKING

import pytest

from services.web.http.connection import Connection, Phase
from services.web.http.limits import ServerLimits
from services.web.http.request import REFUSAL, Admission, Head, Overloaded, TooLarge
from shared.addresses import networks
from tests.support.eventually import eventually
from tests.support.http_server import PATIENT, RunningServer, read_all, running

pytestmark = pytest.mark.slow  # it starts servers

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

HALF_A_HEADER = b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Slow: "
HALF_A_BODY = b"POST / HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 1000\r\n\r\nhalf"
LARGE = 32 * 2**20  # bytes: more than the buffers of two sockets hold


def echo(environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
    """Answer with what was sent; /large with many bytes; a refused request with its error's name."""
    refusal = environ.get(REFUSAL)
    body = environ["wsgi.input"].read() or environ["REQUEST_METHOD"].encode()
    if refusal is not None:
        body = type(refusal).__name__.encode()
    elif environ["PATH_INFO"] == "/large":
        body = b"x" * LARGE
    start_response("200 OK", [("Content-Length", str(len(body)))])
    return [b"" if environ["REQUEST_METHOD"] == "HEAD" else body]


class Gated:
    """An application whose requests to /held wait for the gate, and note the order in which they were begun."""

    def __init__(self) -> None:
        self.gate = threading.Event()
        self.begun: list[str] = []

    def __call__(self, environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
        self.begun.append(environ["PATH_INFO"])
        if environ["PATH_INFO"].startswith("/held"):
            self.gate.wait()
        return echo(environ, start_response)


def in_phase(running_server: RunningServer, phase: Phase, count: int) -> None:
    """Wait until so many connections are in a phase."""
    eventually(lambda: sum(other.phase == phase for other in running_server.server.connections) == count)


@pytest.mark.parametrize("places", [500, 50])
@pytest.mark.parametrize("sent", [HALF_A_HEADER, HALF_A_BODY, b""])
def test_two_hundred_slow_clients_keep_nobody_out(sent: bytes, places: int) -> None:
    with running(echo, limits=replace(PATIENT, per_client=places)) as served, ExitStack() as slow:
        for _ in range(200):
            slow.enter_context(served.connect()).send(sent)
        eventually(lambda: len(served.server.connections) == min(places, 200))
        assert served.ask() == (200, b"GET")


def test_clients_that_read_no_answer_hold_no_thread() -> None:
    with running(echo, threads=1) as served, ExitStack() as slow:
        for _ in range(3):
            slow.enter_context(served.connect(b"GET /large HTTP/1.1\r\nHost: a\r\n\r\n"))
        in_phase(served, Phase.ANSWER, 3)
        assert served.ask() == (200, b"GET")


@pytest.mark.parametrize(
    ("sent", "limits", "answer"),
    [
        (HALF_A_HEADER, replace(PATIENT, header_s=0), b"408"),
        (b"", replace(PATIENT, header_s=0), b""),
        (HALF_A_BODY, replace(PATIENT, window_s=0), b"408"),
        (b"GET /x HTTP/1.1\r\nHost: a\r\n\r\n", replace(PATIENT, idle_s=0), b"200"),
    ],
    ids=["header", "nothing", "body", "idle"],
)
def test_a_client_that_is_late_is_let_go(sent: bytes, limits: ServerLimits, answer: bytes) -> None:
    with running(echo, limits=limits) as served, served.connect(sent) as slow:
        assert read_all(slow)[9:12] == answer


def test_a_client_that_does_not_read_is_let_go() -> None:
    application = Gated()
    application.gate.set()
    limits = replace(PATIENT, window_s=0, least_rate=2**40)
    with running(application, limits=limits) as served, served.connect(b"GET /large HTTP/1.1\r\nHost: a\r\n\r\n"):
        eventually(lambda: application.begun)
        eventually(lambda: served.server.connections == [])


class Clock:
    """Time that a test can let pass."""

    def __init__(self) -> None:
        self.ahead = 0.0

    def monotonic(self) -> float:
        return time.monotonic() + self.ahead


@pytest.mark.parametrize(
    ("first", "rest"),
    [
        (b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n"),
        (HALF_A_HEADER, b"no\r\n\r\n"),
        (HALF_A_BODY, b"x" * 996),
    ],
    ids=["idle", "header", "body"],
)
def test_nobody_is_late_because_the_server_is_held_up(
    first: bytes, rest: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock, held_up, gate = Clock(), threading.Event(), threading.Event()
    for module in ("server", "connection", "request"):
        monkeypatch.setattr(f"services.web.http.{module}.time", clock)

    def admit(head: Head) -> Admission:
        if head.path == "/held-up":  # as by a disk that does not get on
            held_up.set()
            gate.wait()
        return Admission(most=2**20)

    limits = replace(PATIENT, header_s=60, idle_s=60, window_s=60)
    with running(echo, limits=limits, admit=admit) as served, served.connect(first) as prompt:
        if first.startswith(b"GET / ") and first.endswith(b"\r\n\r\n"):
            assert read_answer(prompt) == 200
        else:
            in_phase(served, Phase.BODY if first is HALF_A_BODY else Phase.HEADER, 1)
        looked = served.server._looked
        eventually(lambda: served.server._looked > looked)  # it is seen as it is now
        with served.connect(b"GET /held-up HTTP/1.1\r\nHost: a\r\n\r\n"):
            held_up.wait()
            prompt.sendall(rest)
            clock.ahead += 3600
            served.server.next_channel_cleanup = 0  # the first that it does then is to look for late clients
            gate.set()
            assert read_answer(prompt) == 200


def test_a_client_that_sends_on_is_not_late() -> None:
    limits = replace(PATIENT, window_s=0, least_rate=1)
    with running(echo, limits=limits) as served, served.connect(HALF_A_BODY) as steady:
        for _ in range(4):
            steady.sendall(b"x" * 249)
        assert read_answer(steady) == 200


def read_answer(connection: socket.socket) -> int:
    """Read a whole answer, in however many pieces it comes; returns its status."""
    with HTTPResponse(connection) as answer:
        answer.begin()
        answer.read()
        return answer.status


def read_some(connection: socket.socket) -> bytes:
    return connection.recv(65536)


def test_an_address_that_takes_all_its_places_closes_its_own_idle_ones() -> None:
    limits = replace(PATIENT, per_client=4)
    with running(echo, limits=limits) as served, ExitStack() as others:
        half = [others.enter_context(served.connect(HALF_A_HEADER))]
        in_phase(served, Phase.HEADER, 1)
        idle = others.enter_context(served.connect(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"))
        in_phase(served, Phase.IDLE, 1)
        half += [others.enter_context(served.connect(HALF_A_HEADER)) for _ in range(2)]
        in_phase(served, Phase.HEADER, 3)
        for victim in (idle, half[0]):  # the one that needs its place least, then the one that waits longest
            others.enter_context(served.connect(HALF_A_HEADER))
            assert b"408" not in read_all(victim)
        assert served.ask() == (200, b"GET")


def test_where_every_connection_is_worked_on_a_newcomer_is_told_so() -> None:
    application = Gated()
    limits = replace(PATIENT, per_client=2)
    with running(application, limits=limits) as served, ExitStack() as others:
        for _ in range(2):
            others.enter_context(served.connect(b"GET /held HTTP/1.1\r\nHost: a\r\n\r\n"))
        in_phase(served, Phase.WORK, 2)
        with served.connect() as newcomer:
            assert read_all(newcomer).startswith(b"HTTP/1.1 503 ")
        application.gate.set()


def test_behind_a_proxy_the_client_is_counted_and_not_the_proxy() -> None:
    application = Gated()
    limits = replace(PATIENT, per_client=2)
    with running(application, limits=limits, proxies=networks("127.0.0.1"), threads=4) as served, ExitStack() as others:
        for _ in range(2):
            request = b"GET /held HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 203.0.113.7\r\n\r\n"
            others.enter_context(served.connect(request))
        in_phase(served, Phase.WORK, 2)
        assert served.ask(headers={"X-Forwarded-For": "203.0.113.7"})[1] == Overloaded.__name__.encode()
        assert served.ask(headers={"X-Forwarded-For": "203.0.113.8"})[1] == b"GET"
        application.gate.set()


def test_slow_clients_hold_no_more_bytes_than_they_may() -> None:
    limits = replace(PATIENT, bodies=600)
    with running(echo, limits=limits) as served, ExitStack() as slow:
        for _ in range(3):
            slow.enter_context(served.connect(HALF_A_BODY + b"x" * 396))
        eventually(lambda: len(served.server.connections) == 1)


def test_a_body_that_is_too_long_is_refused_before_it_is_read() -> None:
    head = b"POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\n"
    with running(echo) as served:
        with served.connect(head + b"Content-Length: 1048577\r\n\r\n") as large:
            answer = read_all(large)
            assert answer.startswith(b"HTTP/1.1 200")  # and not 100
            assert answer.endswith(TooLarge.__name__.encode())
        with served.connect(head + b"Transfer-Encoding: chunked\r\n\r\n") as chunked:
            assert read_some(chunked) == b"HTTP/1.1 100 Continue\r\n\r\n"
            for _ in range(3):
                chunked.sendall(b"80000\r\n" + b"x" * 0x80000 + b"\r\n")
            chunked.shutdown(socket.SHUT_WR)
            assert read_all(chunked).endswith(TooLarge.__name__.encode())


def test_a_request_that_is_not_admitted_is_answered_by_the_application() -> None:
    def admit(head: Head) -> Admission:
        assert (head.method, head.path, head.length, head.client) == ("POST", "/x", 4, "127.0.0.1")
        return Admission(error=Overloaded("no"))

    with running(echo, admit=admit) as served:
        assert served.ask("/x", method="POST", body=b"body") == (200, Overloaded.__name__.encode())


def test_the_length_of_a_body_in_chunks_is_not_known_whatever_the_header_says() -> None:
    lengths: list[int | None] = []

    def admit(head: Head) -> Admission:
        lengths.append(head.length)
        return Admission(error=Overloaded("no"))

    with running(echo, admit=admit) as served:
        for length in (b"", b"Content-Length: 5\r\n"):
            head = b"POST / HTTP/1.1\r\nHost: a\r\n" + length + b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
            with served.connect(head) as connection:
                read_all(connection)
    assert lengths == [None, None]


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"GET /" + b"x" * 9000 + b" HTTP/1.1\r\nHost: a\r\n\r\n", b"414"),
        (b"x" * 9000, b"414"),
        (b"GET / HTTP/1.1\r\nX-Much: " + b"x" * 9000 + b"\r\n\r\n", b"431"),
        (b"GET / HTTP/1.1\r\n" + b"X-Many: x\r\n" * 70 + b"\r\n", b"431"),
        (b"GET / HTTP/1.1\r\n" + (b"X-Much: " + b"x" * 8000 + b"\r\n") * 9 + b"\r\n", b"431"),
        (b"GET / HTTP/1.1\r\nContent-Length: 1, 1\r\n\r\n", b"400"),
        (b"nonsense\r\n\r\n", b"400"),
        (b"POST / HTTP/1.1\r\nTransfer-Encoding: gzip\r\n\r\n", b"501"),
    ],
)
def test_what_is_no_request_is_refused(sent: bytes, status: bytes) -> None:
    with running(echo) as served, served.connect(sent) as connection:
        answer = read_some(connection)
        assert answer[9:12] == status
        assert b"Connection: close" in answer


def test_a_connection_serves_one_request_after_the_other() -> None:
    with running(echo) as served, served.connect() as connection:
        connection.sendall(b"HEAD / HTTP/1.1\r\nHost: a\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n")
        connection.sendall(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\nConnection: close\r\n\r\nbody")
        answers = read_all(connection)
        assert answers.count(b"HTTP/1.1 200 OK") == 3
        assert answers.endswith(b"body")
        assert b"Content-Length: 4\r\n" in answers.partition(b"\r\n\r\n")[0]


def test_header_and_body_are_sent_together(monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[bytes] = []

    def send(connection: Connection, data: bytes, do_close: bool = True) -> int:  # noqa: FBT001, FBT002 -- as waitress
        sent.append(data)
        return original(connection, data, do_close=do_close)

    original = Connection.send
    monkeypatch.setattr(Connection, "send", send)
    with running(echo) as served:
        assert served.ask() == (200, b"GET")
        assert served.ask(method="HEAD") == (200, b"")
        assert len(sent) == 2
        assert served.ask("/large") == (200, b"x" * LARGE)


def test_clients_take_turns() -> None:
    application = Gated()
    with running(application, threads=1, proxies=networks("127.0.0.1")) as served, ExitStack() as others:

        def send(path: str, client: str, waiting: int) -> None:
            request = f"GET {path} HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: {client}\r\n\r\n"
            others.enter_context(served.connect(request.encode()))
            in_phase(served, Phase.WORK, waiting)

        send("/held", "203.0.113.1", 1)
        for number in range(3):
            send(f"/first/{number}", "203.0.113.1", 2 + number)
        send("/second", "203.0.113.2", 5)
        assert served.ask("/healthz") == (200, b"GET")
        application.gate.set()
        eventually(lambda: len(application.begun) == 6)
    assert application.begun == ["/held", "/healthz", "/first/0", "/second", "/first/1", "/first/2"]


def test_one_client_leaves_a_thread_to_the_others() -> None:
    application = Gated()
    proxies = networks("127.0.0.1")
    with running(application, threads=2, per_client=1, proxies=proxies) as served, ExitStack() as others:
        for _ in range(3):
            request = b"GET /held HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 203.0.113.7\r\n\r\n"
            others.enter_context(served.connect(request))
        in_phase(served, Phase.WORK, 3)
        assert served.ask(headers={"X-Forwarded-For": "203.0.113.8"})[1] == b"GET"
        application.gate.set()


def test_requests_in_progress_are_finished_at_a_stop() -> None:
    application = Gated()
    with running(application) as served, ExitStack() as others:
        idle = others.enter_context(served.connect())
        held = others.enter_context(served.connect(b"GET /held HTTP/1.1\r\nHost: a\r\n\r\n"))
        body = others.enter_context(served.connect(HALF_A_BODY))
        in_phase(served, Phase.WORK, 1)
        in_phase(served, Phase.BODY, 1)
        served.stop()
        assert read_all(idle) == b""
        application.gate.set()
        body.sendall(b"x" * 996)
        for connection in (held, body):
            answer = read_all(connection)
            assert answer.startswith(b"HTTP/1.1 200")
            assert b"Connection: close" in answer
        served.thread.join()


LITTLE_KEPT = replace(PATIENT, answer=2**20)
"""Of an answer of `LARGE` bytes so little is kept that a thread has to wait for its client."""


def large_for(served: RunningServer, client: str, *, held: int = 1) -> socket.socket:
    """Return a connection of a client behind a proxy that has asked for much, and reads nothing yet.

    Then `held` threads wait for such clients.
    """
    made = served.connect(f"GET /large HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: {client}\r\n\r\n".encode())
    eventually(lambda: sum(other.holds_thread for other in served.server.connections) == held)
    return made


def is_whole(connection: socket.socket) -> bool:
    """Read a large answer; return whether all of it came."""
    with HTTPResponse(connection) as answer:
        answer.begin()
        try:
            return answer.read() == b"x" * LARGE
        except (IncompleteRead, ConnectionError):
            return False


def test_clients_that_are_slow_to_read_large_answers_keep_no_thread_from_the_others() -> None:
    proxies = networks("127.0.0.1")
    with running(echo, limits=LITTLE_KEPT, threads=2, proxies=proxies) as served, ExitStack() as others:
        slow = [
            others.enter_context(large_for(served, f"203.0.113.{number % 2}", held=number + 1)) for number in range(6)
        ]
        for client in ("203.0.113.0", "203.0.113.9"):
            assert served.ask(headers={"X-Forwarded-For": client}) == (200, b"GET")
        assert all(map(is_whole, slow))  # none was cut off for that
        assert served.ask() == (200, b"GET")


def test_where_too_many_threads_wait_the_slowest_of_who_holds_most_is_let_go() -> None:
    limits, proxies = replace(LITTLE_KEPT, held=2), networks("127.0.0.1")
    with running(echo, limits=limits, threads=2, proxies=proxies) as served, ExitStack() as others:
        alone = others.enter_context(large_for(served, "203.0.113.1"))
        greedy = [others.enter_context(served.connect()) for _ in range(3)]
        for connection in greedy:
            connection.sendall(b"GET /large HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 203.0.113.2\r\n\r\n")
        eventually(lambda: len(served.server.connections) == 2)
        assert served.ask() == (200, b"GET")
        assert is_whole(alone)
        assert sorted(map(is_whole, greedy)) == [False, False, True]


def test_a_client_that_a_thread_waits_for_has_to_read_faster_than_the_others() -> None:
    limits = replace(LITTLE_KEPT, window_s=0, least_rate=0, slow_rate=2**40)
    with running(echo, limits=limits, threads=1) as served, ExitStack() as others:
        held = others.enter_context(large_for(served, "203.0.113.1"))
        eventually(lambda: served.server.connections == [])
        assert not is_whole(held)
    with running(echo, limits=replace(limits, answer=2 * LARGE), threads=1) as served, ExitStack() as others:
        kept = others.enter_context(served.connect(b"GET /large HTTP/1.1\r\nHost: a\r\n\r\n"))
        in_phase(served, Phase.ANSWER, 1)
        looked = served.server._looked
        eventually(lambda: served.server._looked > looked)
        assert is_whole(kept)
