"""Requests that come by one connection are answered by all processes of a group: real servers, here in one process."""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import pytest

from services.query.processes.handover import HandoverServer
from services.query.processes.load_board import LoadBoard
from services.query.processes.process_group import ProcessGroup, board_path
from services.query.processes.request_sharing import RequestSharing, counted
from shared.rpc.query.client import NO_RETRY
from tests.support.eventually import PATIENCE_S, eventually

METHOD = "/artseek.test/Do"
Handler = Callable[[bytes, Any], bytes]


class Group:
    """Two processes, of which clients reach the first; each answers by a handler that a test may exchange."""

    def __init__(self, folder: Path) -> None:
        LoadBoard.make(board_path(folder), 2)
        self.members = [ProcessGroup(folder, number, 2) for number in range(2)]
        self.handlers: list[Handler] = [lambda *_, number=number: str(number).encode() for number in range(2)]
        for member in self.members:
            member.board.enter(member.number)
        self.second = self.serve_second()
        self.sharing = RequestSharing(self.members[0])
        self.front = grpc.server(ThreadPoolExecutor(8))
        handler = grpc.unary_unary_rpc_method_handler(self.sharing.shared(METHOD, self._handler(0)))
        self.front.add_generic_rpc_handlers([grpc.method_handlers_generic_handler("artseek.test", {"Do": handler})])
        address = f"unix:{folder / 'front'}"
        self.front.add_insecure_port(address)
        self.front.start()
        self.channel = grpc.insecure_channel(address)
        self.ask = self.channel.unary_unary(METHOD, None, None)

    def _handler(self, number: int) -> Handler:
        def answer(request: bytes, context: Any) -> bytes:
            return self.handlers[number](request, context)  # the present one

        return answer

    def serve_second(self) -> HandoverServer:
        """Have the second process listen, in place of the one before."""
        member = self.members[1]
        answer = counted(member, self._handler(1))
        server = HandoverServer(member.socket, {METHOD: answer})
        server.start()
        return server

    def loads(self) -> list[int | None]:
        """Return how busy each process is."""
        return [self.members[0].board.load(number) for number in range(2)]

    def close(self) -> None:
        """Stop the servers."""
        self.channel.close()
        self.front.stop(0).wait()
        self.second.stop(0)
        self.sharing.close()


@pytest.fixture
def group(tmp_path: Path) -> Iterator[Group]:
    made = Group(tmp_path)
    yield made
    made.close()


class Gate:
    """Holds requests in a handler until it is opened."""

    def __init__(self, answer: bytes) -> None:
        self._answer = answer
        self.opened = threading.Event()

    def __call__(self, _request: bytes, _context: Any) -> bytes:
        assert self.opened.wait(PATIENCE_S)
        return self._answer


def test_a_request_that_meets_another_goes_to_the_process_that_has_nothing_to_do(group: Group) -> None:
    group.handlers = gates = [Gate(b"0"), Gate(b"1")]  # type: ignore[assignment]
    calls = []
    for loads in ([1, 0], [1, 1], [2, 1], [2, 2]):
        calls.append(group.ask.future(b"", timeout=PATIENCE_S))
        eventually(group.loads, until=lambda found, loads=loads: found == loads)  # type: ignore[misc]
    for gate in gates:
        gate.opened.set()
    assert sorted(call.result() for call in calls) == [b"0", b"0", b"1", b"1"]
    assert eventually(group.loads, until=lambda found: found == [0, 0])


def test_a_process_that_is_away_is_handed_nothing(group: Group) -> None:
    group.members[1].board.leave(1)
    gate = Gate(b"0")
    group.handlers[0] = gate
    calls = [group.ask.future(b"", timeout=PATIENCE_S) for _ in range(3)]
    eventually(group.loads, until=lambda found: found == [3, None])
    gate.opened.set()
    assert {call.result() for call in calls} == {b"0"}


def test_a_request_whose_process_has_died_is_answered_here_and_its_successor_is_handed_others(group: Group) -> None:
    gate = Gate(b"0")
    group.handlers[0] = gate
    calls = [group.ask.future(b"", timeout=PATIENCE_S)]
    eventually(group.loads, until=lambda found: found == [1, 0])
    assert group.ask(b"", timeout=PATIENCE_S) == b"1"  # by a connection that is kept
    group.second.stop(0)  # the board still says that it takes requests
    calls.append(group.ask.future(b"", timeout=PATIENCE_S))
    eventually(group.loads, until=lambda found: found == [2, 0])
    group.second = group.serve_second()
    assert group.ask(b"", timeout=PATIENCE_S) == b"1"
    gate.opened.set()
    assert [call.result() for call in calls] == [b"0", b"0"]


def test_a_process_that_stops_finishes_what_it_was_handed(group: Group) -> None:
    group.handlers = gates = [Gate(b"0"), Gate(b"1")]  # type: ignore[assignment]
    calls = []
    for loads in ([1, 0], [1, 1]):
        calls.append(group.ask.future(b"", timeout=PATIENCE_S))
        eventually(group.loads, until=lambda found, loads=loads: found == loads)  # type: ignore[misc]
    with ThreadPoolExecutor(1) as pool:
        stopping = pool.submit(group.second.stop, PATIENCE_S)
        assert not calls[1].done()
        gates[1].opened.set()
        stopping.result(PATIENCE_S)
    assert calls[1].result() == b"1"
    gates[0].opened.set()
    assert calls[0].result() == b"0"


def test_a_request_that_takes_too_long_at_another_process_ends_in_time(group: Group) -> None:
    group.handlers = gates = [Gate(b"0"), Gate(b"1")]  # type: ignore[assignment]
    first = group.ask.future(b"", timeout=PATIENCE_S)
    eventually(group.loads, until=lambda found: found == [1, 0])
    with pytest.raises(grpc.RpcError) as caught:
        group.ask(b"", timeout=0.2)
    error: Any = caught.value
    assert error.code() == grpc.StatusCode.DEADLINE_EXCEEDED
    for gate in gates:
        gate.opened.set()
    assert first.result() == b"0"
    assert eventually(group.loads, until=lambda found: found == [0, 0])


def test_what_the_other_process_refuses_is_refused_in_its_words_and_not_tried_again(group: Group) -> None:
    asked: list[int] = []

    def refuse(_request: bytes, context: Any) -> bytes:
        asked.append(1)
        context.set_trailing_metadata((("artseek-code", "corrupt"),))
        context.abort(grpc.StatusCode.UNAVAILABLE, "the model server is away")
        raise AssertionError

    gate = Gate(b"0")
    group.handlers = [gate, refuse]
    first = group.ask.future(b"", timeout=PATIENCE_S)
    eventually(group.loads, until=lambda found: found == [1, 0])
    with pytest.raises(grpc.RpcError) as caught:
        group.ask(b"", timeout=PATIENCE_S)
    error: Any = caught.value
    assert (error.code(), error.details()) == (grpc.StatusCode.UNAVAILABLE, "the model server is away")
    assert {("artseek-code", "corrupt"), NO_RETRY} <= {(key, value) for key, value in error.trailing_metadata()}
    assert asked == [1]
    gate.opened.set()
    assert first.result() == b"0"
