"""Addresses as settings name them: the public address of the page, host names, proxies, and where a server listens."""

import ipaddress
import re
from dataclasses import dataclass
from typing import Final, Self
from urllib.parse import SplitResult, urlsplit

Network = ipaddress.IPv4Network | ipaddress.IPv6Network

_NAME: Final = re.compile(r"(\*\.)?[a-z0-9_]([a-z0-9_-]*[a-z0-9_])?(\.[a-z0-9_]([a-z0-9_-]*[a-z0-9_])?)*")
_PREFIX: Final = re.compile(r"(/[A-Za-z0-9_~-][A-Za-z0-9._~-]*)*")


@dataclass(frozen=True)
class PublicUrl:
    """Where the page is for its users: ``https://archive.example/artseek``.

    Attributes:
        scheme: ``http`` or ``https``.
        netloc: The host, with ``:port`` if the address has one.
        host: The host alone, without the brackets of an IPv6 address.
        prefix: The path under which everything lies, without a slash at its end; often empty.
    """

    scheme: str
    netloc: str
    host: str
    prefix: str

    @classmethod
    def parse(cls, text: str) -> Self:
        """Return the parts of an address.

        Raises:
            ValueError: It is none; the message says what is expected.
        """
        shown = without_user(text)
        try:
            parts = urlsplit(text)
            host, _port = parts.hostname or "", parts.port
        except ValueError as error:
            raise ValueError(f"{shown!r} is no address: {error}") from None
        if parts.scheme not in {"http", "https"} or not _is_host(host):
            raise ValueError(
                f"{shown!r} is no address; expected one like https://archive.example or with a path behind"
            )
        if parts.username is not None or parts.query or parts.fragment or text.endswith(("?", "#")):
            raise ValueError(f"{shown!r} has more than scheme, host and path; leave out user, query and fragment")
        prefix = parts.path.rstrip("/")
        if not _PREFIX.fullmatch(prefix):
            raise ValueError(
                f"the path {parts.path!r} is not taken; expected names of A-Z a-z 0-9 . _ ~ - between slashes"
            )
        return cls(parts.scheme, _netloc(parts, host), host, prefix)

    def __str__(self) -> str:
        return f"{self.scheme}://{self.netloc}{self.prefix}"


def _netloc(parts: SplitResult, host: str) -> str:
    shown = f"[{host}]" if ":" in host else host
    default = {"http": 80, "https": 443}[parts.scheme]
    return shown if parts.port in {None, default} else f"{shown}:{parts.port}"


def _is_host(host: str) -> bool:
    return is_ip(host) or (_NAME.fullmatch(host) is not None and not host.startswith("*"))


def without_user(url: str) -> str:
    """Return an address as it may be shown: without user and password, which messages and logs must not have."""
    return re.sub(r"(//|^)[^/@\s]*@", r"\1…@", url)


def host_names(text: str) -> tuple[str, ...]:
    """Return the host names of a list with commas, in lower case; ``*.example.org`` stands for all names below it.

    Raises:
        ValueError: One of them is no host name.
    """
    names = [name.strip().lower().strip("[]").rstrip(".") for name in text.split(",") if name.strip()]
    for name in names:
        if not is_ip(name) and not _NAME.fullmatch(name):
            raise ValueError(
                f"{name!r} is no host name; expected names like archive.example or *.example.org, no ports"
            )
    return tuple(names)


def origins(text: str) -> tuple[str, ...]:
    """Return the origins (``https://museum.example``) of a list with commas, as browsers write them.

    Raises:
        ValueError: One of them is none.
    """
    found = [PublicUrl.parse(part.strip()) for part in text.split(",") if part.strip()]
    for address in found:
        if address.prefix:
            raise ValueError(f"{address} has a path; an origin is scheme and host alone, like https://museum.example")
    return tuple(f"{address.scheme}://{address.netloc}" for address in found)


def networks(text: str) -> tuple[Network, ...]:
    """Return the IP addresses and networks (``10.0.0.0/8``) of a list with commas.

    Raises:
        ValueError: One of them is neither.
    """
    return tuple(_network(name.strip()) for name in text.split(",") if name.strip())


def _network(name: str) -> Network:
    try:
        return ipaddress.ip_network(name)
    except ValueError as error:
        raise ValueError(f"{name!r} is neither an IP address nor a network such as 10.0.0.0/8: {error}") from error


def host_of(address: str) -> str:
    """Return the host of ``host:port`` in lower case, without the brackets of an IPv6 address; "" if it has none."""
    try:
        return (urlsplit(f"//{address}").hostname or "").rstrip(".")
    except ValueError:
        return ""


def is_ip(host: str) -> bool:
    """Return whether a host is an IP address rather than a name."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def is_loopback(host: str) -> bool:
    """Return whether a host, as a name or an address, means this machine and can be reached from it alone."""
    if host == "localhost" or host.endswith(".localhost"):
        return True
    return is_ip(host) and ipaddress.ip_address(host).is_loopback
