"""The server: accepts connections, looks after them every second, and stops in good order."""

import logging
import socket
import time
from collections import Counter
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from waitress import wasyncore
from waitress.adjustments import Adjustments
from waitress.server import TcpWSGIServer

from services.web.http.connection import Connection, Phase
from services.web.http.dispatcher import FairDispatcher
from services.web.http.limits import ServerLimits, allow_files
from services.web.http.request import Admission, Admit, Head, Overloaded, last_words
from shared.addresses import Network

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication

_log = logging.getLogger(__name__)
_FULL = last_words("503 Service Unavailable", "Too many connections; try later on.", "Retry-After: 5")
_ACCEPTED = 64  # connections in a row, before those that wait are looked after
_LOOKS_S = 2.0  # within which connections are looked at again, unless the server itself is held up
_RECV = 64 * 1024  # bytes read at a time


class Server(TcpWSGIServer):  # type: ignore[misc]
    """Serves an application at one address.

    Attributes:
        limits: What clients may take.
        proxies: The trusted proxies: behind them, a client is who they say.
        stopping: Whether no more requests are taken.
        newcomers: Connections that were accepted and not looked at yet.
        threads_per_client: Threads that work for one client at a time at most.
    """

    channel_class = Connection

    def __init__(
        self,
        application: "WSGIApplication",
        *,
        listen: str,
        threads: int,
        admit: Admit,
        limits: ServerLimits | None = None,
        proxies: Sequence[Network] = (),
        threads_per_client: int | None = None,
        urgent: frozenset[str] = frozenset(),
    ) -> None:
        self.limits, self.proxies = limits or ServerLimits(), proxies
        self.stopping = False
        self.newcomers: list[Connection] = []
        self._looked = time.monotonic()
        self._admit, self._urgent = admit, urgent
        allow_files(self.limits.connections)
        adjustments = Adjustments(
            listen=listen,
            threads=threads,
            ident="Artseek",
            server_name=listen.rpartition(":")[0],
            recv_bytes=_RECV,
            inbuf_overflow=_RECV,
            outbuf_high_watermark=self.limits.answer,
            connection_limit=2**31,  # places are made by `handle_accept`
            cleanup_interval=1,
            log_socket_errors=False,
            max_request_header_size=self.limits.header,
            clear_untrusted_proxy_headers=False,  # the application looks after them
            asyncore_use_poll=True,
        )
        self.threads_per_client = threads_per_client or threads
        dispatcher = FairDispatcher(threads, per_client=self.threads_per_client, stand_ins=self.limits.held)
        super().__init__(application, dispatcher=dispatcher, adj=adjustments)

    @property
    def connections(self) -> list[Connection]:
        """The open connections."""
        return list(self.active_channels.values())

    def is_urgent(self, path: str) -> bool:
        """Return whether a request is worked on at once, whatever else waits."""
        return path in self._urgent

    def admit_request(self, connection: Connection, head: Head) -> Admission:
        """Decide at its header whether a request is read on."""
        if connection.through_proxy:
            group = connection.turn
            others = [other for other in self.connections if other is not connection and other.turn == group]
            if sum(other.phase > Phase.HEADER for other in others) >= self.limits.per_client:
                return Admission(error=Overloaded("you have too many requests in progress; wait for some of them"))
        return self._admit(head)

    def run(self, until: Callable[[], bool]) -> None:
        """Serve until that holds, which is looked at every second and after each `wake`; then stop in good order."""
        while not until():
            wasyncore.loop(timeout=1, use_poll=True, map=self._map, count=1)
        self._stop()

    def wake(self) -> None:
        """Have `run` look at once whether it is to stop; a signal handler may call it."""
        self.pull_trigger()

    def _stop(self) -> None:
        self.stopping = True
        self.accepting = False
        self.del_channel()
        self.socket.close()
        until = time.monotonic() + self.limits.stop_s
        while time.monotonic() < until:
            for connection in self.connections:
                if connection.phase < Phase.BODY:
                    connection.handle_close()
            if not self.connections:
                break
            wasyncore.loop(timeout=0.2, use_poll=True, map=self._map, count=1)
        self.task_dispatcher.shutdown(timeout=1)
        wasyncore.close_all(self._map, ignore_all=True)

    # What waitress calls

    def bind_server_socket(self) -> None:
        """Listen; at ``[::]`` for IPv4 too."""
        if self.family == socket.AF_INET6:
            self.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        super().bind_server_socket()

    def handle_accept(self) -> None:
        """Accept a connection; where places are short, the one that needs its place least is closed for it."""
        for _ in range(_ACCEPTED):
            super().handle_accept()
            if not self.newcomers:
                return
            newcomer = self.newcomers.pop()
            if not self._make_room(newcomer):
                newcomer.send(_FULL)
                newcomer.handle_close()

    def maintenance(self, now: float) -> None:  # noqa: ARG002 -- not the clock that we want
        """Close connections that wait too long, and those that keep too much, or threads, in wait of slow clients."""
        moment = time.monotonic()
        silence, self._looked = moment - self._looked - _LOOKS_S, moment
        for connection in self.connections:
            if silence > 0:
                connection.forgive(silence, moment)
            connection.look(moment)
        self._bound(moment, Phase.BODY, self.limits.bodies, lambda connection: connection.body_bytes)
        self._bound(moment, Phase.ANSWER, self.limits.answers, lambda connection: connection.total_outbufs_len)
        self._bound_held(moment)

    def _make_room(self, newcomer: Connection) -> bool:
        connections = [connection for connection in self.connections if not connection.will_close]
        if not newcomer.through_proxy:
            mine = [other for other in connections if not other.through_proxy and other.turn == newcomer.turn]
            if len(mine) > self.limits.per_client and not self._close_one(mine, newcomer):
                return False
        return len(connections) <= self.limits.connections or self._close_one(connections, newcomer)

    def _close_one(self, connections: Sequence[Connection], newcomer: Connection) -> bool:
        """Close the connection that needs its place least; returns False if all of them get on."""
        now = time.monotonic()
        others = [other for other in connections if other is not newcomer and self._is_idle_or_slow(other, now)]
        if not others:
            return False
        min(others, key=lambda other: self._need(other, now)).handle_close()
        return True

    def _need(self, connection: Connection, now: float) -> tuple[Phase, float, float]:
        """Return what connections are compared by when one of them has to go: the least first."""
        phase = connection.phase
        return phase, connection.rate(now) if phase >= Phase.BODY else 0.0, connection.waits_since()

    def _is_idle_or_slow(self, connection: Connection, now: float) -> bool:
        if connection.phase < Phase.BODY:
            return True
        return connection.phase < Phase.WORK and connection.rate(now) < self.limits.slow_rate

    def _bound(self, now: float, phase: Phase, most: int, size_of: Callable[[Connection], int]) -> None:
        """Close the slowest connections of a phase until they keep no more than so many bytes together."""
        those = sorted(
            (connection for connection in self.connections if connection.phase == phase),
            key=lambda connection: connection.rate(now),
        )
        total = sum(map(size_of, those))
        for connection in those:
            if total <= most:
                return
            total -= size_of(connection)
            _log.warning("a connection of %s was closed: slow clients hold %d bytes", connection.client, total)
            connection.give_up()

    def _bound_held(self, now: float) -> None:
        """Close the slowest connections of the clients that hold most threads, until there is one in for each."""
        held = [connection for connection in self.connections if connection.holds_thread]
        while len(held) > self.limits.held:
            of_client = Counter(connection.turn for connection in held)
            slowest = min(held, key=lambda connection: (-of_client[connection.turn], connection.rate(now)))
            held.remove(slowest)
            _log.warning("a connection of %s was closed: slow clients hold %d threads", slowest.client, len(held) + 1)
            slowest.give_up()
