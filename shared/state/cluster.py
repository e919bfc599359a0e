"""A client for an index that is spread over the nodes of a Redis or Valkey Cluster.

redis-py's `RedisCluster` knows the nodes and their slots and follows a slot that moved. What it lacks for a node that
is lost for a while is added here: it is made only when it is first used, it pauses between attempts, and a pipeline
fails as a whole instead of trying each of its commands by itself at a node that does not answer.
"""
# mypy: disable-error-code="no-untyped-call"
# redis-py annotates its cluster client only in part.

import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, TypeVar
from urllib.parse import urlsplit

import redis
from redis.backoff import ExponentialBackoff, NoBackoff
from redis.cluster import ClusterNode, RedisCluster
from redis.commands import CoreCommands
from redis.connection import parse_url
from redis.crc import key_slot
from redis.exceptions import AskError, RedisClusterException, SlotNotCoveredError, TryAgainError
from redis.retry import Retry
from redis.utils import str_if_bytes

from shared.errors import Invalid

SCHEMES = ("redis+cluster://", "rediss+cluster://")

_Answer = TypeVar("_Answer")

_AWAY = (redis.ConnectionError, redis.TimeoutError)
_MAY_PASS = (*_AWAY, redis.exceptions.ClusterDownError, SlotNotCoveredError)
_REDIRECTED = (AskError, TryAgainError)  # MovedError is an AskError
_UNSETTLED = (*_MAY_PASS, *_REDIRECTED)
# Another server answers, which may have the address of a former node.
_FOREIGN = (redis.AuthenticationError, redis.exceptions.InvalidResponse)


def connect_cluster(url: str, *, timeout_s: float, retries: int) -> "Lazy":
    """Return a client for the cluster of which `url` names one or more nodes; nothing is sent yet.

    What may pass is tried again as for a single server, but only within `timeout_s`: a node that hangs is not waited
    for twice.

    Raises:
        Invalid: The URL is not ``redis+cluster://[[user]:password@]host:port[,host:port…]``.
    """
    nodes, options = parse_cluster_url(url)
    options = {"protocol": 2, "socket_timeout": timeout_s, "socket_connect_timeout": timeout_s} | options

    def make() -> Cluster:
        return _patiently(lambda: Cluster(nodes, timeout_s=timeout_s, retries=retries, **options), timeout_s, retries)

    return Lazy(make)


def parse_cluster_url(url: str) -> tuple[list[tuple[str, int]], dict[str, Any]]:
    """Return the nodes that a cluster's URL names, as host and port, and the options of their connections.

    Raises:
        Invalid: It is no such URL; the message does not repeat it, since it holds a password.
    """
    expected = "a cluster's URL is redis+cluster://[[user]:password@]host:port[,host:port…]"
    try:
        parts = urlsplit(url)
        account, _, hosts = parts.netloc.rpartition("@")
        found = [urlsplit(f"//{host}") for host in hosts.split(",")]
        nodes = [(host.hostname or "", host.port or 6379) for host in found]
        plain = parts._replace(scheme=parts.scheme.removesuffix("+cluster"), netloc=f"{account}@node")
        options = parse_url(plain.geturl())
    except ValueError as error:
        raise Invalid(f"{expected}: {error}") from error
    if not all(host for host, _ in nodes):
        raise Invalid(f"{expected}: a host is empty")
    if options.pop("db", 0):
        raise Invalid(f"{expected}: a cluster has no database but 0")
    del options["host"]
    if options.pop("connection_class", None):
        options["ssl"] = True
    return nodes, options


class Lazy:
    """Stands for a client that is made when it is first used, since making a `RedisCluster` already asks its nodes."""

    def __init__(self, make: "Callable[[], Cluster]") -> None:
        self._make = make
        self._made: Cluster | None = None
        self._lock = threading.Lock()

    def __getattr__(self, name: str) -> Any:
        if self._made is None:
            with self._lock:
                if self._made is None:
                    self._made = self._make()
        return getattr(self._made, name)


class Cluster(RedisCluster):
    """A `RedisCluster` that waits a moment for a lost node, and whose pipelines cost little more than a server's."""

    def __init__(self, nodes: Sequence[tuple[str, int]], *, timeout_s: float, retries: int, **options: Any) -> None:
        self._given = list(nodes)
        self._timeout_s, self._retries = timeout_s, retries
        super().__init__(
            startup_nodes=_nodes(nodes),
            retry=Retry(NoBackoff(), 0),  # `_patiently` does that
            require_full_coverage=False,  # what needs no lost slot goes on
            **options,
        )

    def execute_command(self, *args: Any, **options: Any) -> Any:
        """Send a command to the node that holds its key, or to those that such a command is for."""
        return self._patiently(lambda: self._send(*args, **options))

    def pipeline(self, transaction: bool | None = None, shard_hint: str | None = None) -> "Pipeline":  # noqa: ARG002, FBT001
        """Return a pipeline; nothing in it is a transaction."""
        if transaction:
            raise ValueError("a pipeline over the nodes of a cluster cannot be a transaction")
        return Pipeline(self)

    def script_load(self, script: Any) -> Any:
        """Load a script into the nodes that answer: where one is missing, it is loaded again."""
        answers, errors = [], []
        for node in self.get_primaries():
            try:
                answers.append(self.get_redis_connection(node).script_load(script))
            except _AWAY as error:
                errors.append(error)
        if not answers:
            raise errors[0]
        return answers[0]

    def get_node(self, host: str | None = None, port: int | None = None, node_name: str | None = None) -> Any:
        """Return a node; one that has no slots yet is known only by the answer that leads to it."""
        node: ClusterNode | None = super().get_node(host, port, node_name)
        if node is None and node_name:
            host, _, digits = node_name.rpartition(":")
            node = self.nodes_manager.nodes_cache.setdefault(node_name, ClusterNode(host, int(digits), "primary"))
        return node

    def primaries(self, *, lost: str | None = None) -> dict[str, redis.Redis]:
        """Return the nodes that hold the slots by now, by ``host:port``; the node that was `lost` is asked last."""
        self._patiently(lambda: self.nodes_manager.initialize(last_failed_node_name=lost))
        return {node.name: self.get_redis_connection(node) for node in self.get_primaries()}

    def lost(self) -> dict[str, str]:
        """Return the nodes that hold slots but do not serve them, by ``host:port``, and why not."""
        states, silent = {}, {}
        for node in self.get_primaries():
            try:
                states[node.name] = self.get_redis_connection(node).execute_command("CLUSTER INFO")["cluster_state"]
            except _AWAY as error:
                silent[node.name] = str(error)
        if silent:  # a replica may have taken the place of one
            held = self.primaries(lost=next(iter(silent)))
            silent = {name: error for name, error in silent.items() if name in held}
        # While a node is lost, the others say that the cluster is down.
        return silent or {name: "its cluster is not ready" for name, state in states.items() if state != "ok"}

    def run(self, commands: "Sequence[Command]") -> None:
        """Send commands to the nodes that hold their keys, all nodes at the same time, and wait for the answers.

        Commands for one key run in order. What fails because a node is away is sent again.

        Raises:
            redis.RedisError: The first error among the answers.
        """
        waiting = list(commands)

        def attempt() -> None:
            self._round(waiting)
            waiting[:] = [command for command in waiting if isinstance(command.answer, _UNSETTLED)]
            if any(isinstance(command.answer, _REDIRECTED) for command in waiting):
                self.nodes_manager.initialize()
                self._round(waiting)
            for command in waiting:
                if isinstance(command.answer, _REDIRECTED):  # its slot is on the move: follow this key by itself
                    command.answer = self._send(*command.args, **command.options)
            waiting[:] = [command for command in waiting if isinstance(command.answer, _UNSETTLED)]
            if waiting:
                error = waiting[0].answer
                self.nodes_manager.initialize(last_failed_node_name=place_of(error))
                raise error

        self._patiently(attempt)
        for command in commands:
            if isinstance(command.answer, Exception):
                raise command.answer

    def _send(self, *args: Any, **options: Any) -> Any:
        name, *rest = args
        if name == "XREAD":
            # RedisCluster would ask a node, perhaps the lost one, where in the command the key stands.
            options["target_nodes"] = self.get_node_from_key(rest[rest.index(b"STREAMS") + 1])
        return super().execute_command(str_if_bytes(name), *rest, **options)

    def _round(self, commands: "Sequence[Command]") -> None:
        """Send commands once and leave an answer or an error in each of them."""
        batches: dict[str, _Batch] = {}
        for command in commands:
            node = self.nodes_manager.get_node_from_slot(key_slot(self.encoder.encode(command.key)))
            if node.name not in batches:
                batches[node.name] = _Batch(node, self.get_redis_connection(node))
            batches[node.name].commands.append(command)
        try:
            for batch in batches.values():
                batch.write()
            for batch in batches.values():
                batch.read()
        finally:
            for batch in batches.values():
                batch.close()

    def _patiently(self, call: Callable[[], _Answer]) -> _Answer:
        def attempt() -> _Answer:
            try:
                return call()
            except SlotNotCoveredError:
                with suppress(RedisClusterException):
                    self.nodes_manager.initialize()
                raise
            except RedisClusterException as error:
                if error.__cause__ is not None:  # no node that is known answers: the URL may lead to other ones by now
                    self._start_from_url()
                raise
            except _FOREIGN:
                self._start_from_url()
                self.nodes_manager.initialize()
                return call()

        return _patiently(attempt, self._timeout_s, self._retries)

    def _start_from_url(self) -> None:
        """Have the nodes that the URL names asked too, when the nodes are learnt the next time."""
        manager = self.nodes_manager
        manager.startup_nodes = {node.name: node for node in _nodes(self._given)} | manager.startup_nodes


@dataclass
class Command:
    """A command in a pipeline, and what came of it."""

    args: tuple[Any, ...]
    options: dict[str, Any]
    answer: Any = None

    @property
    def key(self) -> Any:
        """Its first key: the others lie on the same server. Of a script, the number of keys comes before."""
        return self.args[3 if self.args[0] == "EVAL" else 1]


class Pipeline(CoreCommands):
    """Collects commands for any nodes and sends them together. All keys of a command have one slot."""

    _event_dispatcher: Any = None  # nothing here dispatches events

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._commands: list[Command] = []

    def __len__(self) -> int:
        return len(self._commands)

    def execute_command(self, *args: Any, **options: Any) -> "Pipeline":
        """Add a command; `target_nodes`, which `RedisCluster` itself may give, are those of the key anyway."""
        options.pop("target_nodes", None)
        self._commands.append(Command(args, options))
        return self

    def execute(self) -> list[Any]:
        """Send the commands; returns their answers in order, or raises the first error among them."""
        commands, self._commands = self._commands, []
        self._cluster.run(commands)
        return [command.answer for command in commands]


class _Batch:
    """The commands of one node: written at once and read afterwards, so that the nodes work at the same time."""

    def __init__(self, node: ClusterNode, client: redis.Redis) -> None:
        self.commands: list[Command] = []
        self._node, self._client = node, client
        self._connection: Any = None
        self._failed = self._answered = False

    def write(self) -> None:
        try:
            self._connection = self._client.connection_pool.get_connection()
            self._connection.send_packed_command(
                self._connection.pack_commands([command.args for command in self.commands])
            )
        except _AWAY as error:
            self._fail(error, self.commands)

    def read(self) -> None:
        if self._failed:
            return
        for place, command in enumerate(self.commands):
            try:
                command.answer = self._client.parse_response(self._connection, command.args[0], **command.options)
            except _AWAY as error:
                self._fail(error, self.commands[place:])
                return
            except redis.ResponseError as error:
                command.answer = self._placed(error)
        self._answered = True

    def close(self) -> None:
        if self._connection is not None:
            if not self._answered:
                self._connection.disconnect()
            self._client.connection_pool.release(self._connection)

    def _fail(self, error: Exception, commands: Sequence[Command]) -> None:
        self._failed = True
        for command in commands:
            command.answer = self._placed(error)

    def _placed(self, error: Exception) -> Exception:
        setattr(error, "connection", self._node)  # noqa: B010 -- where redis-py's own errors of a cluster have it
        return error


def place_of(error: BaseException) -> str | None:
    """Return the ``host:port`` of the node that an error came from, where redis-py tells it."""
    connection = getattr(error, "connection", None)
    host, port = getattr(connection, "host", None), getattr(connection, "port", None)
    return f"{host}:{port}" if host and port else None


def _nodes(addresses: Sequence[tuple[str, int]]) -> list[ClusterNode]:
    return [ClusterNode(host, port) for host, port in addresses]


def _patiently(call: Callable[[], _Answer], timeout_s: float, retries: int) -> _Answer:
    """Call again after a pause while what failed may pass."""
    until = time.monotonic() + timeout_s

    def attempt() -> _Answer:
        try:
            return call()
        except SlotNotCoveredError:
            raise
        except RedisClusterException as error:  # says in its text alone why no node could be asked
            reason = error.__cause__ or error
            if isinstance(reason, RedisClusterException) and isinstance(reason.__context__, redis.ResponseError):
                reason = reason.__context__
            raise reason from None

    return Retry(ExponentialBackoff(cap=0.5, base=0.05), retries, _MAY_PASS).call_with_retry(
        attempt,
        lambda _: None,
        lambda error: not isinstance(error, redis.AuthenticationError) and time.monotonic() < until,
    )
