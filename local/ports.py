"""Ports of the local servers: free ones, none of them handed out twice, not even to two systems."""

import random
import socket
import weakref
from collections.abc import Iterable, Mapping
from contextlib import ExitStack

_GRPC_OFFSET = 10_000  # SeaweedFS listens for gRPC at each port + 10,000
# With their twins below the ports that Linux gives to outgoing connections, which might take the place of a server
# that is being started again.
_LOWEST, _HIGHEST = 20_000, 22_768


class PortTaken(Exception):
    """A port that was asked for by name is in use; the message says by which name."""


def is_free(port: int, host: str = "127.0.0.1") -> bool:
    """Return whether a server could listen at the port now."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
    return True


def require_free(port: int, host: str, name: str, remedy: str) -> None:
    """Check that a port can be listened at.

    Raises:
        PortTaken: It cannot.
    """
    if not is_free(port, host):
        raise PortTaken(f"port {port} of {host}, for the {name}, is in use or not allowed; {remedy}")


class FreePorts:
    """Finds free ports, preferring those of an earlier start; `reserved` ones are for somebody else.

    They are ours as long as this object lives: another one, of any process and user of the machine, leaves them, though
    the server may take its time until it listens, or be away for a moment.
    """

    def __init__(self, earlier: Mapping[str, int], *, reserved: Iterable[int] = ()) -> None:
        self._earlier = earlier
        self._reserved = frozenset(reserved)

    def take(self, name: str, *, with_grpc_twin: bool = False) -> int:
        """Return a free port for the server `name`.

        Raises:
            PortTaken: There is none.
        """
        # In no order, so that two systems that start at the same time seldom choose the same port.
        candidates = random.sample(range(_LOWEST, _HIGHEST), _HIGHEST - _LOWEST)
        if name in self._earlier:
            candidates.insert(0, self._earlier[name])
        for port in candidates:
            twins = [port, port + _GRPC_OFFSET] if with_grpc_twin else [port]
            if self._reserved.isdisjoint(twins) and all(is_free(twin) for twin in twins) and self._claim(twins):
                return port
        raise PortTaken(f"no free port between {_LOWEST} and {_HIGHEST} for the {name}; stop some other servers")

    def _claim(self, ports: Iterable[int]) -> bool:
        """Make ports ours, all or none, for whoever chooses ports in this way; returns whether they were nobody's.

        The claim is UDP's port of the same number: nothing of ours listens there, only one process can have it, and
        the kernel takes it back when the process dies, however it does.
        """
        with ExitStack() as claims:
            for port in ports:
                claim = claims.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
                try:
                    claim.bind(("127.0.0.1", port))
                    claim.connect(("127.0.0.1", port))  # with itself: it takes nobody's datagrams
                except OSError:
                    return False
            weakref.finalize(self, claims.pop_all().close)
        return True
