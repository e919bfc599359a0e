"""Fetches a picture from an address that a user names.

A user must not reach through this service what they cannot reach themselves: servers of its network, of its machine,
or the metadata of a cloud. Each host is looked up once, all of its addresses have to be public, and the connection is
made to an address that was looked at; each redirect is a new address. Neither proxies nor cookies nor credentials are
used. What a server sends is bounded in bytes, before and after unpacking, and in time, however slowly it comes.
"""

import logging
import os
import socket
import ssl
import threading
from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from time import monotonic
from typing import Any, BinaryIO, Final, Protocol, Self

import certifi
import urllib3
from urllib3.connection import HTTPConnection, HTTPSConnection

from shared.errors import Invalid, Unavailable
from shared.fetching.admitted import is_numeric, places
from shared.fetching.places import PORTS, Place, check_port, is_public
from shared.images.contract import ImageRefused
from shared.images.sniffing import sniff

_log = logging.getLogger(__name__)

_CHUNK: Final = 64 * 1024
_HEAD: Final = 4096  # bytes that tell what kind of file it is
_MOST_ADDRESSES: Final = 4  # of a host that are tried
_AT_ONCE: Final = 4
_REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})
_HEADERS: Final = {"User-Agent": "Artseek", "Accept": "image/*", "Accept-Encoding": "identity"}

Resolve = Callable[[str, int], Sequence[str]]
"""Returns the numeric addresses of a host name; raises `OSError` if there are none."""


class FetchRefused(Invalid):
    """Nothing is fetched from an address; `code` is a short word for programs, the message says why, and what helps."""

    def __init__(self, message: str, code: str = "not-fetched") -> None:
        super().__init__(message)
        self.code = code


@dataclass(frozen=True)
class FetchLimits:
    """What a picture may cost.

    Attributes:
        max_bytes: Most bytes, as they come and unpacked.
        seconds: Most seconds from the look-up of the name to the last byte.
        redirects: Most redirects that are followed.
    """

    max_bytes: int
    seconds: float = 15.0
    redirects: int = 3


class FetchSettings(Protocol):
    """The settings of a fetcher, with the meanings that `shared.settings` gives."""

    @property
    def fetch(self) -> bool: ...  # noqa: D102 -- the settings say it
    @property
    def fetch_allow(self) -> str: ...  # noqa: D102
    @property
    def fetch_seconds(self) -> float: ...  # noqa: D102
    @property
    def max_query_bytes(self) -> int: ...  # noqa: D102


class Fetcher:
    """Fetches pictures. Any number of threads may call it; few are fetched at once.

    Args:
        limits: What a picture may cost.
        allowed: Hosts with ports that are asked wherever they are; see `places`.
        on: Whether anything is fetched at all.
        ports: Ports of other hosts that are asked.
        resolve: Looks a host name up.
    """

    def __init__(
        self,
        limits: FetchLimits,
        *,
        allowed: Collection[str] = (),
        on: bool = True,
        ports: Collection[int] = PORTS,
        resolve: Resolve | None = None,
    ) -> None:
        self._limits, self._allowed, self._on, self._ports = limits, frozenset(allowed), on, ports
        self._resolve = resolve or _addresses_of
        self._places = threading.BoundedSemaphore(_AT_ONCE)
        self._lookups = ThreadPoolExecutor(2 * _AT_ONCE, thread_name_prefix="lookup")

    @classmethod
    def from_settings(cls, settings: FetchSettings) -> Self:
        """Return a fetcher as the settings say."""
        limits = FetchLimits(settings.max_query_bytes, settings.fetch_seconds)
        return cls(limits, allowed=places(settings.fetch_allow), on=settings.fetch)

    def fetch(self, url: str, file: BinaryIO) -> int:
        """Write the picture at an address into a file; returns its size in bytes.

        Raises:
            FetchRefused: The address, or what is there, is not taken.
            Unavailable: Too many pictures are fetched at the moment.
        """
        if not self._on:
            raise FetchRefused(
                "pictures are not fetched by address here (ARTSEEK_FETCH=off): save the picture and search by the file",
                "fetch-off",
            )
        place = self._checked(lambda: Place.parse(url))
        if not self._places.acquire(timeout=1.0):
            raise Unavailable("too many pictures are fetched at the moment; try again in a while")
        try:
            with _Deadline(self._limits.seconds) as deadline:
                return self._follow(place, file, deadline)
        finally:
            self._places.release()

    def _follow(self, place: Place, file: BinaryIO, deadline: "_Deadline") -> int:
        for _ in range(self._limits.redirects + 1):
            _log.info("fetching a picture from %s", place.origin)
            with self._response(place, deadline) as response:
                location = response.headers.get("Location") if response.status in _REDIRECTS else None
                if location is None:
                    return self._save(response, place, file, deadline)
            place = self._checked(lambda: place.joined(location), f"{place.origin} redirects, and ")  # noqa: B023
        raise FetchRefused(
            f"{place.origin} is the end of more than {self._limits.redirects} redirects: give the last address"
        )

    def _checked(self, parse: Callable[[], Place], before: str = "") -> Place:
        """Return an address that may be asked, going by its text."""
        try:
            place = parse()
            if place.place not in self._allowed:
                check_port(place, self._ports)
        except ValueError as error:
            raise FetchRefused(f"{before}{error}", "address") from None
        return place

    @contextmanager
    def _response(self, place: Place, deadline: "_Deadline") -> Iterator[urllib3.BaseHTTPResponse]:
        """Ask for the picture, with the body still to be read."""
        response: urllib3.BaseHTTPResponse | None = None
        for address in self._addresses(place, deadline):
            pool = _pool(place, address, deadline)
            try:
                response = pool.urlopen(
                    "GET",
                    place.target,
                    headers={**_HEADERS, "Host": place.host_header},
                    redirect=False,
                    retries=False,
                    preload_content=False,
                    decode_content=True,
                )
                break
            except (urllib3.exceptions.NewConnectionError, urllib3.exceptions.ConnectTimeoutError):
                pool.close()
            except (urllib3.exceptions.HTTPError, OSError) as error:
                pool.close()
                raise self._broken(place, deadline, error) from error
        if response is None:
            raise _unreachable(place)
        try:
            yield response
        except (urllib3.exceptions.HTTPError, OSError) as error:
            raise self._broken(place, deadline, error) from error
        finally:
            response.close()
            pool.close()

    def _addresses(self, place: Place, deadline: "_Deadline") -> Sequence[str]:
        """Return the numeric addresses of a host, looked up once; all of them may be asked."""
        found: Sequence[str]
        if is_numeric(place.host):
            found = [place.host]
        else:
            answer: Future[Sequence[str]] = self._lookups.submit(self._resolve, place.host, place.port)
            try:
                found = list(answer.result(deadline.left()))
            except (OSError, TimeoutError, UnicodeError):
                answer.cancel()
                raise _unreachable(place) from None
        if not found or (place.place not in self._allowed and not all(map(is_public, found))):
            raise _unreachable(place)
        return found[:_MOST_ADDRESSES]

    def _save(self, response: urllib3.BaseHTTPResponse, place: Place, file: BinaryIO, deadline: "_Deadline") -> int:
        if response.status != 200:
            raise FetchRefused(f"{place.origin} answers with status {response.status} where a picture is expected")
        announced = response.headers.get("Content-Length", "")
        if announced.isascii() and announced.isdecimal() and int(announced[:20]) > self._limits.max_bytes:
            raise self._too_large(place)
        head, size, known = b"", 0, False
        for chunk in response.stream(_CHUNK, decode_content=True):
            size += len(chunk)
            if size > self._limits.max_bytes or response.tell() > self._limits.max_bytes:
                raise self._too_large(place)
            if not known:
                head += chunk
                if len(head) >= _HEAD:
                    _check_kind(head, place)
                    known = True
            file.write(chunk)
        if deadline.over:  # the connection was ended, which looks like the end of the body
            raise self._too_slow(place)
        if not known:
            _check_kind(head, place)
        return size

    def _too_large(self, place: Place) -> FetchRefused:
        limit = self._limits.max_bytes
        return FetchRefused(f"the file at {place.origin} has more than the {limit:,} bytes that are taken", "too-large")

    def _too_slow(self, place: Place) -> FetchRefused:
        return FetchRefused(
            f"{place.origin} takes longer than {self._limits.seconds:g} s to send the picture: save it and search by "
            "the file, or raise ARTSEEK_FETCH_SECONDS"
        )

    def _broken(self, place: Place, deadline: "_Deadline", error: Exception) -> FetchRefused:
        """Return the refusal for a connection that was made and did not bring a picture."""
        if deadline.over or isinstance(error, urllib3.exceptions.TimeoutError):
            return self._too_slow(place)
        if isinstance(error, urllib3.exceptions.SSLError) or isinstance(error.__cause__, ssl.SSLError):
            return FetchRefused(f"{place.origin} has no valid certificate: save the picture and search by the file")
        return FetchRefused(f"{place.origin} sends no whole answer: save the picture and search by the file")


class _Deadline:
    """Ends what is under way when its time is over: a server that sends a byte now and then would keep it going."""

    def __init__(self, seconds: float) -> None:
        self._end = monotonic() + seconds
        self._lock = threading.Lock()
        self._connection: socket.socket | None = None
        self._timer = threading.Timer(seconds, self._expire)
        self._timer.daemon = True
        self.over = False

    def __enter__(self) -> Self:
        self._timer.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._timer.cancel()
        self._replace(None)

    def left(self) -> float:
        """Return the seconds that are left, never none at all."""
        return max(0.05, self._end - monotonic())

    def bind(self, connection: socket.socket) -> None:
        """Have a connection ended when time is over, in place of any other."""
        self._replace(connection.dup())

    def _replace(self, connection: socket.socket | None) -> None:
        with self._lock:
            if self._connection is not None:
                self._connection.close()
            self._connection = connection
            if self.over:
                self._shut()

    def _expire(self) -> None:
        with self._lock:
            self.over = True
            self._shut()

    def _shut(self) -> None:
        if self._connection is not None:
            with suppress(OSError):
                self._connection.shutdown(socket.SHUT_RDWR)


class _Http(HTTPConnection):
    """A connection that a deadline ends."""

    def __init__(self, *args: Any, deadline: _Deadline, **options: Any) -> None:
        super().__init__(*args, **options)
        self._deadline = deadline

    def _new_conn(self) -> socket.socket:
        made = super()._new_conn()
        self._deadline.bind(made)
        return made


class _Https(_Http, HTTPSConnection):
    """A connection by TLS that a deadline ends, while it is made too."""


def _pool(place: Place, address: str, deadline: _Deadline) -> urllib3.HTTPConnectionPool:
    """Return what connects to a numeric address, in the name of the host."""
    timeout = urllib3.Timeout(total=deadline.left())
    if place.scheme == "http":
        pool = urllib3.HTTPConnectionPool(address, place.port, timeout=timeout, deadline=deadline)
        pool.ConnectionCls = _Http
        return pool
    secure = urllib3.HTTPSConnectionPool(
        address,
        place.port,
        timeout=timeout,
        server_hostname=place.host,
        assert_hostname=place.host,
        cert_reqs="CERT_REQUIRED",
        ca_certs=os.environ.get("SSL_CERT_FILE") or certifi.where(),
        deadline=deadline,
    )
    secure.ConnectionCls = _Https
    return secure


def _addresses_of(host: str, port: int) -> list[str]:
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(address[0]) for *_, address in found))


def _unreachable(place: Place) -> FetchRefused:
    """Return the one refusal for whatever is not there or not public, so that it says nothing of what is inside."""
    return FetchRefused(
        f"no picture can be fetched from {place.origin}: nothing answers there, or it is no public address; save the "
        f"picture and search by the file, or have an administrator set ARTSEEK_FETCH_ALLOW={place.place}"
    )


def _check_kind(head: bytes, place: Place) -> None:
    """Refuse what is no picture, going by its first bytes."""
    try:
        sniff(head)
    except ImageRefused as error:
        hint = "; give the address of the picture itself" if error.reason == "not-an-image" else ""
        raise FetchRefused(f"what {place.origin} sends: {error.message}{hint}", error.reason) from None
