"""Whose request it is behind proxies: what ``X-Forwarded-For`` says counts as far as trusted proxies wrote it."""

import ipaddress
from collections.abc import Sequence
from functools import lru_cache

from shared.addresses import Network


def is_trusted(address: str, proxies: Sequence[Network]) -> bool:
    """Return whether an IP address is one of a trusted proxy."""
    found = _parsed(address)
    return found is not None and any(found in network for network in proxies)


def client_address(peer: str, forwarded_for: str, proxies: Sequence[Network]) -> str:
    """Return the IP address of the client: the last one that no trusted proxy has.

    Each proxy appends the address of its peer. So the list is read from its end, and what stands before the first
    address that is no trusted proxy was written by the client, who may write anything.
    """
    address = peer
    for entry in reversed(forwarded_for.split(",")):
        if not is_trusted(address, proxies):
            break
        found = _parsed(_without_port(entry.strip()))
        if found is None:
            break
        address = str(found)
    return address


@lru_cache(maxsize=4096)
def address_group(address: str) -> str:
    """Return what stands for a client: its IPv4 address, or the /64 network of its IPv6 address, which is its own."""
    found = _parsed(address)
    if found is not None and found.version == 6:
        return str(ipaddress.ip_network((found, 64), strict=False))
    return str(found or address)


def _parsed(address: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """Return the address, an IPv4 address in IPv6 clothes as itself; None if it is none."""
    try:
        found = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return None
    return getattr(found, "ipv4_mapped", None) or found


def _without_port(entry: str) -> str:
    if entry.startswith("["):
        return entry[1:].partition("]")[0]
    return entry.partition(":")[0] if entry.count(":") == 1 else entry
