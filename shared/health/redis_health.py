"""What a Redis or Valkey server says of its own health: whether it takes writes, forgets keys, and keeps what it holds.

A reason names the remedy. `Unavailable` is raised for what makes tasks wait or loses keys; what may soon do so is
returned as text.
"""

from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import Any, Final

from shared.errors import Misconfigured, Unavailable
from shared.state import Client, guarded
from shared.state.cluster import Lazy
from shared.state.server_refusals import ServerKind

PROBE_KEY: Final = "ready"
"""What is written and expires within a minute; in a cluster a number follows, one key for each node."""

_EXPIRY_S = 60
_FULL = 0.9
_PROBES = 4096  # names of keys that are tried until each node of a cluster has one: a few more than nodes are enough


def redis_health(client: Client, server: ServerKind) -> str | None:
    """Ask the server, or all servers of a cluster.

    Returns what should be mended soon, or None.

    Raises:
        Unavailable: One takes no writes, or may forget keys at any moment.
    """
    notes: list[str] = []
    for place, node in _nodes(client, server):
        with suppress(Misconfigured), guarded(server):  # INFO may be forbidden
            info = node.info()
            notes.extend(_notes(info, server, place))
    for place, key, node in _probes(client, server):
        try:
            with guarded(server):
                node.set(key, b"", ex=_EXPIRY_S)
        except Unavailable as error:
            if place and place not in str(error):
                raise type(error)(str(error).replace(server.title, server.title + place, 1)) from error
            raise
    return "; ".join(notes) or None


def _nodes(client: Client, server: ServerKind) -> Iterator[tuple[str, Client]]:
    if not isinstance(client, Lazy):
        yield "", client
        return
    with guarded(server):
        primaries = client.primaries()
    for place, node in primaries.items():
        yield f" at {place}", node


def _probes(client: Client, server: ServerKind) -> Iterator[tuple[str, str, Client]]:
    """Yield a key of each server that holds keys, and the client that writes it."""
    if not isinstance(client, Lazy):
        yield "", PROBE_KEY, client
        return
    with guarded(server):
        waiting = set(client.primaries())
        for number in range(_PROBES):
            key = f"{PROBE_KEY}:{number}"
            place = client.get_node_from_key(key).name
            if place in waiting:
                waiting.discard(place)
                yield f" at {place}", key, client
            if not waiting:
                return


def _notes(info: Mapping[str, Any], kind: ServerKind, place: str) -> Iterator[str]:
    server = kind.title + place
    used, most = int(info.get("used_memory", 0)), int(info.get("maxmemory", 0))
    policy = str(info.get("maxmemory_policy", "noeviction"))
    if policy != "noeviction":
        text = (
            f"{server} forgets keys when its memory is full (maxmemory-policy {policy}): "
            "set maxmemory-policy to noeviction"
        )
        if most:
            raise kind.unavailable(text)
        yield text
    if most and used > _FULL * most:
        yield (
            f"{server} uses {used / most:.0%} of its memory ({most / 2**20:.0f} MiB) and will refuse writes: "
            "raise its maxmemory, or delete collections"
        )
    failed = [
        what
        for field, what in (
            ("aof_last_write_status", "append to its file"),
            ("aof_last_bgrewrite_status", "rewrite its append-only file"),
            ("rdb_last_bgsave_status", "save a snapshot"),
        )
        if info.get(field, "ok") != "ok"
    ]
    if failed:
        yield f"{server} could not {' or '.join(failed)}: free some space on its disk; its log says why"
