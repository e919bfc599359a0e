"""``python -m shared.state.cluster_setup``: makes one cluster of the nodes that `ARTSEEK_INDEX_URL` names.

The nodes share the slots alike, in the order of the URL. It may run again, and go on where an earlier run ended: nodes
whose addresses have changed find each other anew by it, and slots that a node holds stay where they are.
"""

import logging
import socket
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from itertools import groupby
from typing import Any, Final

import redis

from shared.errors import ArtseekError, IndexUnavailable, Invalid
from shared.logs import configure
from shared.settings import load_settings
from shared.state.cluster import SCHEMES, parse_cluster_url

_log = logging.getLogger(__name__)

SLOTS: Final = 16_384
_PATIENCE_S = 60.0
_PAUSE_S = 0.2
_FEWEST = 3

Range = tuple[int, int]


def make_cluster(url: str, *, patience_s: float = _PATIENCE_S) -> None:
    """Join the nodes of a cluster's URL, which may be new, and give them the slots that no node has.

    Raises:
        Invalid: The URL is not that of a cluster, or names too few nodes.
        IndexUnavailable: A node does not answer in time, or they do not become a cluster.
    """
    if not url.startswith(SCHEMES):
        raise Invalid("ARTSEEK_INDEX_URL is not that of a cluster: expected redis+cluster://…@host:port,host:port,…")
    places, options = parse_cluster_url(url)
    if len(places) < _FEWEST:
        raise Invalid(f"ARTSEEK_INDEX_URL names {len(places)} nodes: a cluster has at least {_FEWEST}")
    nodes: list[Any] = [redis.Redis(host=host, port=port, socket_timeout=5.0, **options) for host, port in places]
    until = time.monotonic() + patience_s
    for (host, port), node in zip(places, nodes, strict=True):
        _wait(node.ping, until, f"the node {host}:{port} does not answer")
    for host, port in places[1:]:  # by address: a node takes no name
        nodes[0].execute_command("CLUSTER", "MEET", socket.gethostbyname(host), port)
    for (host, port), node in zip(places, nodes, strict=True):
        _wait(partial(_knows, node, len(places)), until, f"the node {host}:{port} does not find the others")
    held = _held_slots(nodes[0])
    for number, ((host, port), node) in enumerate(zip(places, nodes, strict=True)):
        wanted = range(number * SLOTS // len(places), (number + 1) * SLOTS // len(places))
        if ranges := _ranges([slot for slot in wanted if slot not in held]):
            node.execute_command("CLUSTER", "ADDSLOTSRANGE", *(bound for each in ranges for bound in each))
            _log.info("the node %s:%d holds %d slots more", host, port, sum(last - first + 1 for first, last in ranges))
    for (host, port), node in zip(places, nodes, strict=True):
        _wait(partial(_is_whole, node), until, f"the cluster is not whole, as the node {host}:{port} sees it")
    _log.info("%d nodes are a cluster", len(places))


def _wait(is_so: Callable[[], Any], until: float, fault: str) -> None:
    """Wait until something is so.

    Raises:
        IndexUnavailable: It is not, in time; or the node refuses to answer.
    """
    while True:
        reason = ""
        try:
            if is_so():
                return
        except redis.AuthenticationError as error:
            raise IndexUnavailable(f"{fault}: {error}") from None
        except (redis.RedisError, OSError) as error:
            reason = f": {error}"
        if time.monotonic() > until:
            raise IndexUnavailable(f"{fault}{reason}")
        time.sleep(_PAUSE_S)


def _info(node: Any) -> dict[str, str]:
    found: dict[str, str] = node.execute_command("CLUSTER INFO")
    return found


def _knows(node: Any, nodes: int) -> bool:
    return int(_info(node)["cluster_known_nodes"]) >= nodes


def _is_whole(node: Any) -> bool:
    info = _info(node)
    return info["cluster_state"] == "ok" and int(info["cluster_slots_ok"]) == SLOTS


def _held_slots(node: Any) -> set[int]:
    """Return the slots that any node holds, as a node of the cluster knows it."""
    shown: bytes | str = node.execute_command("CLUSTER", "NODES")
    text = shown.decode() if isinstance(shown, bytes) else shown
    held: set[int] = set()
    for line in text.splitlines():
        for words in line.split()[8:]:
            if not words.startswith("["):  # a slot that is on its way is listed where it is, too
                first, _, last = words.partition("-")
                held.update(range(int(first), int(last or first) + 1))
    return held


def _ranges(slots: Sequence[int]) -> list[Range]:
    """Return ascending slots as ranges, with their last ones."""
    grouped = groupby(enumerate(slots), key=lambda item: item[1] - item[0])
    found = [[slot for _, slot in group] for _, group in grouped]
    return [(group[0], group[-1]) for group in found]


def main() -> int:
    """Make the cluster; returns the exit status."""
    configure("INFO")
    try:
        make_cluster(load_settings().index_url.get_secret_value())
    except (ArtseekError, OSError, redis.RedisError) as error:
        _log.error("%s", error)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
