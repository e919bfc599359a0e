"""What a process tree listens at, from the kernel, and strangers who try each of these doors without credentials."""

import socket
import ssl
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import grpc
import psutil
from grpc_health.v1 import health_pb2, health_pb2_grpc

ORIGIN = "https://evil.example"
_ANSWER_S = 2.0  # a server that says nothing for so long has not let anybody in
_REFUSALS = {400, 401, 403, 404, 405}
_GRPC_REFUSALS = {
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.UNAUTHENTICATED,
    grpc.StatusCode.PERMISSION_DENIED,
    grpc.StatusCode.DEADLINE_EXCEEDED,
}
_REDIS_ANSWERS = (b"+", b"*", b"$", b":", b"%")
_TLS_HANDSHAKE = b"\x16"
_ACCEPTS = 0x10000  # a Unix socket that listens


@dataclass(frozen=True)
class Door:
    """Where a process listens: at an address and port, or at a file."""

    process: str
    address: tuple[str, int] | str
    kind: str

    def __str__(self) -> str:
        place = self.address if isinstance(self.address, str) else f"{self.address[0]}:{self.address[1]}"
        return f"{self.process} at {self.kind} {place}"

    @property
    def target(self) -> str:
        """The address as gRPC writes it."""
        if isinstance(self.address, str):
            return f"unix:{self.address}"
        host, port = self.address
        return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"

    def connect(self) -> socket.socket:
        """Return a connection."""
        if isinstance(self.address, str):
            connection = socket.socket(socket.AF_UNIX)
            connection.settimeout(_ANSWER_S)
            connection.connect(self.address)
            return connection
        return socket.create_connection(self.address, timeout=_ANSWER_S)


def doors(tree: Iterable[psutil.Process]) -> list[Door]:
    """Return all that processes listen at: TCP and UDP ports, and Unix sockets, named or not."""
    found: dict[tuple[tuple[str, int] | str, bool], Door] = {}
    unix = _unix_listeners()
    for process in tree:
        with suppress(psutil.NoSuchProcess):
            for connection in process.net_connections("inet"):
                is_udp = connection.type == socket.SOCK_DGRAM
                if connection.status == psutil.CONN_LISTEN or (is_udp and not connection.raddr):
                    address = (connection.laddr.ip.removeprefix("::ffff:"), connection.laddr.port)
                    found[address, is_udp] = Door(process.name(), address, "udp" if is_udp else "tcp")
            for inode in _socket_inodes(process.pid) & unix.keys():
                found[unix[inode], False] = Door(process.name(), unix[inode], "unix")
    return list(found.values())


def _unix_listeners() -> dict[str, str]:
    """Return the paths of the Unix sockets that listen, by their inodes."""
    lines = (line.split() for line in Path("/proc/net/unix").read_text().splitlines()[1:])
    return {line[6]: line[7] if len(line) > 7 else "" for line in lines if int(line[3], 16) & _ACCEPTS}


def _socket_inodes(pid: int) -> set[str]:
    inodes = set()
    for link in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(OSError):
            target = str(link.readlink())
            if target.startswith("socket:["):
                inodes.add(target[8:-1])
    return inodes


def let_in(door: Door, requests: Sequence[tuple[str, str]], authorities: Sequence[bytes]) -> Iterator[str]:
    """Try a door as a web page, as a gRPC client and as a client of Redis would; yields each way that was let in."""
    speaks_tls = _speaks_tls(door)
    for secure in (False, True) if speaks_tls else (False,):
        if secure and not _ask(door, _http("GET", "/"), secure=True):
            break  # who has no certificate gets to no path
        for method, path in requests:
            answer = _ask(door, _http(method, path), secure=secure)
            if _is_http_let_in(answer, is_preflight=method == "OPTIONS"):
                yield f"{'HTTPS' if secure else 'HTTP'} {method} {path}: {answer[:80]!r}"
    answer = _ask(door, b"PING\r\n", secure=False)
    if answer.startswith(_REDIS_ANSWERS):
        yield f"Redis PING: {answer[:80]!r}"
    trusted = [grpc.ssl_channel_credentials(authority) for authority in authorities] if speaks_tls else []
    for credentials in (None, *trusted):
        code = _grpc_code(door, credentials)
        if code not in _GRPC_REFUSALS:
            yield f"gRPC {'with TLS' if credentials else 'without TLS'}: {code}"


def _http(method: str, path: str) -> bytes:
    lines = [
        f"{method} {path} HTTP/1.1",
        "Host: localhost",
        f"Origin: {ORIGIN}",
        "Access-Control-Request-Method: DELETE",
        "Content-Length: 0",
        "Connection: close",
    ]
    return "\r\n".join([*lines, "", ""]).encode()


def _ask(door: Door, request: bytes, *, secure: bool) -> bytes:
    """Send a request; returns what came back, empty if the connection was closed or nothing was said."""
    answer = b""
    with suppress(OSError), door.connect() as plain:
        connection: socket.socket = plain
        if secure:
            connection = _trusting().wrap_socket(plain)
        connection.sendall(request)
        while part := connection.recv(65536):
            answer += part
            if not answer.startswith(b"HTTP/") or b"\r\n\r\n" in answer:
                break
    return answer


def _speaks_tls(door: Door) -> bool:
    """Return whether a server answers to the first words of TLS; whether it wants a certificate comes after that."""
    with suppress(OSError), door.connect() as plain:
        hello = ssl.MemoryBIO()
        session = _trusting().wrap_bio(ssl.MemoryBIO(), hello)
        with suppress(ssl.SSLWantReadError):
            session.do_handshake()
        plain.sendall(hello.read())
        return plain.recv(1) == _TLS_HANDSHAKE
    return False


def _trusting() -> ssl.SSLContext:
    """Return TLS that takes any server for what it says that it is."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def _is_http_let_in(answer: bytes, *, is_preflight: bool) -> bool:
    if not answer.startswith(b"HTTP/"):
        return False
    head = answer.split(b"\r\n\r\n")[0].lower()
    if is_preflight:  # only then does a browser send what the page wants to
        return b"access-control-allow-origin" in head
    return int(head.split()[1]) not in _REFUSALS


def _grpc_code(door: Door, credentials: grpc.ChannelCredentials | None) -> grpc.StatusCode:
    options = [("grpc.enable_http_proxy", 0), ("grpc.ssl_target_name_override", "localhost")]
    opened = (
        grpc.insecure_channel(door.target, options=options)
        if credentials is None
        else grpc.secure_channel(door.target, credentials, options=options)
    )
    with opened as channel:
        try:
            health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=_ANSWER_S)
        except grpc.RpcError as error:
            return error.code()
    return grpc.StatusCode.OK
