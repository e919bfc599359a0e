"""Which addresses pictures may be fetched from: how an address is read, and which numeric addresses are public."""

import ipaddress
import re
from collections.abc import Collection
from dataclasses import dataclass
from typing import Final, Self
from urllib.parse import urljoin

from urllib3.exceptions import LocationParseError
from urllib3.util import parse_url

from shared.fetching.admitted import is_numeric

LONGEST: Final = 4096
"""Characters of an address."""

PORTS: Final = frozenset({80, 443, 8080, 8443})
"""Ports of public hosts that are asked."""

_DEFAULT_PORTS: Final = {"http": 80, "https": 443}
_EXPECTED: Final = "expected one such as https://host/picture.jpg"
_NUMBER: Final = re.compile(r"(0x[0-9a-f]*|[0-9]+)", re.ASCII)
_ODD: Final = re.compile(r"[\x00-\x20\x7f\\]")

# What `ipaddress` does not know, or not in every version of Python.
_NOT_PUBLIC_4: Final = [
    ipaddress.IPv4Network(text)
    for text in (
        "0.0.0.0/8",
        "10.0.0.0/8",
        "100.64.0.0/10",  # carrier-grade NAT, and the metadata of some clouds
        "127.0.0.0/8",
        "168.63.129.16/32",  # the host of a virtual machine of Azure
        "169.254.0.0/16",  # link-local, and the metadata of most clouds
        "172.16.0.0/12",
        "192.0.0.0/24",
        "192.0.2.0/24",
        "192.31.196.0/24",
        "192.52.193.0/24",
        "192.88.99.0/24",  # relays of 6to4
        "192.168.0.0/16",
        "192.175.48.0/24",
        "198.18.0.0/15",
        "198.51.100.0/24",
        "203.0.113.0/24",
        "224.0.0.0/4",
        "240.0.0.0/4",
    )
]
_GLOBAL_6: Final = ipaddress.IPv6Network("2000::/3")  # neither mapped IPv4, nor NAT64, nor anything local, lies in it
_NOT_PUBLIC_6: Final = [
    ipaddress.IPv6Network(text)
    for text in (
        "2001::/23",  # Teredo and other protocols
        "2001:db8::/32",
        "2002::/16",  # 6to4
        "2620:4f:8000::/48",
        "3fff::/20",
    )
]
_ISATAP: Final = frozenset({0x00005EFE, 0x02005EFE})  # above the IPv4 address that such an address wraps


def is_public(text: str) -> bool:
    """Return whether a numeric address is one of the public internet, which anybody can reach."""
    address = ipaddress.ip_address(text)
    if not address.is_global or address.is_multicast or address.is_reserved:
        return False
    if isinstance(address, ipaddress.IPv4Address):
        return not any(address in network for network in _NOT_PUBLIC_4)
    if address.scope_id or address not in _GLOBAL_6 or (int(address) >> 32) & 0xFFFFFFFF in _ISATAP:
        return False
    return not any(address in network for network in _NOT_PUBLIC_6)


@dataclass(frozen=True)
class Place:
    """An address as a request needs it.

    Attributes:
        scheme: ``http`` or ``https``.
        host: Name or numeric address, small letters, without brackets.
        port: Number of the port.
        target: Path and query, percent-encoded.
    """

    scheme: str
    host: str
    port: int
    target: str

    @classmethod
    def parse(cls, text: str) -> Self:
        """Return the parts of an address.

        Raises:
            ValueError: It is none that is fetched; the message says why, and shows nothing behind the host.
        """
        if len(text) > LONGEST:
            raise ValueError(f"the address has {len(text):,} characters, at most {LONGEST:,} are taken")
        if _ODD.search(text):
            raise ValueError("the address has spaces, backslashes or control characters: write them as %20, %5C")
        try:
            url = parse_url(text)
        except LocationParseError:
            raise ValueError(
                "this is no address that can be read; expected one such as https://host/picture.jpg"
            ) from None
        if url.scheme not in _DEFAULT_PORTS:
            kind = f"{url.scheme[:20]!r} addresses are" if url.scheme else "an address without http:// or https:// is"
            raise ValueError(f"{kind} not fetched: give one that begins with http:// or https://")
        if url.auth is not None:
            raise ValueError("the address has a user or password before @: leave them out")
        host = (url.host or "").removeprefix("[").removesuffix("]").lower().rstrip(".")
        if not host or "%" in host:
            raise ValueError(f"the address names no host; {_EXPECTED}")
        if not is_numeric(host) and _NUMBER.fullmatch(host.rpartition(".")[2]):
            raise ValueError("the host looks like a number: write an IPv4 address as four decimal numbers")
        port = _DEFAULT_PORTS[url.scheme] if url.port is None else url.port
        if not 1 <= port <= 65_535:
            raise ValueError(f"{port} is no port")
        target = url.path or "/"
        if url.query is not None:
            target += f"?{url.query}"
        return cls(url.scheme, host, port, target)

    def joined(self, location: str) -> Self:
        """Return where a redirect leads from here.

        Raises:
            ValueError: See `parse`.
        """
        try:
            return self.parse(urljoin(f"{self.origin}{self.target}", location))
        except UnicodeError:
            raise ValueError("this is no address that can be read") from None

    @property
    def origin(self) -> str:
        """Scheme, host and port: what messages and logs show of it."""
        return f"{self.scheme}://{self.host_header}"

    @property
    def host_header(self) -> str:
        """The host as a request names it, with a port that is not the usual one."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == _DEFAULT_PORTS[self.scheme] else f"{host}:{self.port}"

    @property
    def place(self) -> str:
        """Host and port as `ARTSEEK_FETCH_ALLOW` names them."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def check_port(place: Place, ports: Collection[int]) -> None:
    """Refuse a port that no public host is asked at.

    Raises:
        ValueError: It is one.
    """
    if place.port not in ports:
        usual = ", ".join(map(str, sorted(ports)))
        raise ValueError(
            f"port {place.port} is not fetched from, only {usual}; an administrator can admit this host by "
            f"ARTSEEK_FETCH_ALLOW={place.place}"
        )
