"""The hosts that an administrator has admitted, as a setting names them."""

import ipaddress
import re
from typing import Final

_PLACE: Final = re.compile(r"(?P<host>\[[0-9a-f:.]+\]|[a-z0-9_.-]+):(?P<port>[0-9]{1,5})", re.ASCII)


def is_numeric(host: str) -> bool:
    """Return whether a host is a numeric address."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def places(text: str) -> list[str]:
    """Return hosts with ports of a list with commas, as `Place.place` writes them.

    Raises:
        ValueError: One is none.
    """
    found = []
    for item in filter(None, (part.strip().lower() for part in text.split(","))):
        match = _PLACE.fullmatch(item)
        if match is None or not 1 <= int(match["port"]) <= 65_535:
            raise ValueError(f"{item[:80]!r} is no host:port; expected one such as pictures.example:8080")
        host = match["host"].strip("[]")
        if match["host"].startswith("[") and not is_numeric(host):
            raise ValueError(f"{item[:80]!r} is no host:port: {host!r} is no IPv6 address")
        name = str(ipaddress.ip_address(host)) if is_numeric(host) else host.rstrip(".")
        found.append(f"[{name}]:{int(match['port'])}" if ":" in name else f"{name}:{int(match['port'])}")
    return found
