"""Counts log-ins that failed, by name and by address, so that passwords cannot be tried out."""

import hashlib
import ipaddress
from typing import Final

from shared.state.connection import Client, guarded

WINDOW_S: Final = 900
"""Seconds in which failures count together."""

MOST_OF_NAME_AT_ADDRESS: Final = 10
MOST_OF_NAME: Final = 100  # so many that nobody elsewhere is locked out by somebody who tries a few
MOST_OF_ADDRESS: Final = 50


class LogIns:
    """Counts every try before the password is looked at: many at the same time count as many one after another."""

    def __init__(self, client: Client) -> None:
        self._redis = client

    def begin(self, name: str, address: str) -> int:
        """Count a try to log in; returns the seconds to wait before another, 0 if this one may go on."""
        wait = 0
        for key, most in (
            (_key("both", f"{name} {_network(address)}"), MOST_OF_NAME_AT_ADDRESS),
            (_key("name", name), MOST_OF_NAME),
            (_key("address", _network(address)), MOST_OF_ADDRESS),
        ):
            with guarded():
                pipeline = self._redis.pipeline(transaction=False)
                pipeline.set(key, 0, nx=True, ex=WINDOW_S)
                pipeline.incr(key)
                pipeline.ttl(key)
                _, count, left = pipeline.execute()
            if count > most:
                wait = max(wait, int(left), 1)
        return wait

    def succeeded(self, name: str, address: str) -> None:
        """Note that a log-in was right: the failures before it do not count any more."""
        with guarded():
            pipeline = self._redis.pipeline(transaction=False)
            pipeline.delete(_key("both", f"{name} {_network(address)}"))
            for key in (_key("name", name), _key("address", _network(address))):
                pipeline.decr(key)
                pipeline.expire(key, WINDOW_S)
            pipeline.execute()


def _key(kind: str, text: str) -> str:
    return f"log-in:{kind}:{hashlib.sha256(text.encode()).hexdigest()[:32]}"


def _network(address: str) -> str:
    """Return whose address it is: of IPv6, a subscriber has at least all with the same first 64 bits."""
    try:
        found = ipaddress.ip_address(address)
    except ValueError:
        return address
    if isinstance(found, ipaddress.IPv6Address):
        return str(found.ipv4_mapped or ipaddress.ip_network((int(found), 64), strict=False).network_address)
    return str(found)
