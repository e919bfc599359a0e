"""What a client of the HTTP server may take: bytes, seconds, connections."""

import resource
from dataclasses import dataclass


@dataclass(frozen=True)
class ServerLimits:
    """The limits of one server.

    Attributes:
        line: Bytes of a request's first line, and of each field of its header.
        fields: Fields of a header.
        header: Bytes of a header.
        header_s: Seconds in which a header has to be there, from its first byte or the connection on.
        idle_s: Seconds for which a connection is kept without a request.
        window_s: Seconds in each of which a body or an answer has to make progress.
        least_rate: Bytes per second that a body or an answer moves at least, over each window.
        slow_rate: Bytes per second below which a connection may be closed where others need its place, and is if a
            thread waits for it. The slowest lines that people still have carry as much: 128 kbit/s.
        linger_s: Seconds in which the rest of a refused request is read, so that the client gets to see why.
        connections: Connections at a time.
        per_client: Connections, or requests through trusted proxies, of one client at a time.
        bodies: Bytes of bodies that are kept at a time for requests that are not whole yet.
        answers: Bytes of answers that are kept at a time for clients that are slow to read them.
        answer: Bytes of one answer that are kept, before the thread that makes it has to wait.
        held: Threads that wait for clients to read at a time; as many others stand in for them.
        stop_s: Seconds in which requests in progress are finished at a stop.
    """

    line: int = 8190
    fields: int = 64
    header: int = 65_536
    header_s: float = 20.0
    idle_s: float = 30.0
    window_s: float = 30.0
    least_rate: int = 1024
    slow_rate: int = 16 * 1024
    linger_s: float = 5.0
    connections: int = 1000
    per_client: int = 100
    bodies: int = 2 * 2**30
    answers: int = 2**30
    answer: int = 65 * 2**20
    held: int = 8
    stop_s: float = 20.0


def allow_files(connections: int) -> None:
    """Raise this process's limit of open files, as far as it may, to what so many connections need."""
    needed = 3 * connections + 512  # a connection's socket, its body and its answer
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < needed:
        resource.setrlimit(
            resource.RLIMIT_NOFILE, (needed if hard == resource.RLIM_INFINITY else min(needed, hard), hard)
        )
