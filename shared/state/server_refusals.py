"""What Redis and Valkey say when they do not do what they are asked, as our errors.

"Not now" passes by itself or once an operator helps: tasks wait for it. What no waiting mends names its setting.
"""

import re
from dataclasses import dataclass

import redis
from redis.exceptions import (
    AskError,
    AuthenticationError,
    AuthorizationError,
    ClusterError,
    InvalidResponse,
    RedisClusterException,
    TryAgainError,
)

from shared.errors import (
    BrokerMisconfigured,
    BrokerUnavailable,
    IndexMisconfigured,
    IndexUnavailable,
    Misconfigured,
    Unavailable,
)
from shared.state import cluster

_IS_CLUSTER = "it runs as a cluster: begin its URL, {setting}, with redis+cluster://"
_IS_SINGLE = "it runs as a single server: begin its URL, {setting}, with redis://"
_NOT_NOW = {
    "MISCONF": "it cannot write to its disk: look for a full disk and into its log",
    "NOREPLICAS": "fewer replicas follow it than its min-replicas-to-write asks for: start them, or lower it",
    "READONLY": "it is a replica at the moment: if that lasts, {setting} has to name the primary",
    "LOADING": "it reads its data",
    "OOM": "its memory is full: raise its maxmemory, or delete something",
    "MASTERDOWN": "its primary is away",
    "NOMASTERLINK": "its primary is away",
    "CLUSTERDOWN": "a node of its cluster is lost or still starting",
    "TRYAGAIN": "a slot of its cluster is on the move",
    "BUSY": "a script keeps it busy",
    "UNBLOCKED": "it has become a replica",
    "BUSYKEY": "it is busy",
    "INPROG": "it changes from primary to replica or back",
    "IOERR": "it cannot reach its disk or a node of its cluster",
}
_NO_WRITES = {"MISCONF", "NOREPLICAS", "READONLY", "OOM"}
_WRONG = {
    "NOAUTH": "check the password in {setting}",
    "WRONGPASS": "check user and password in {setting}",
    "NOPERM": "the user in {setting} lacks a right that this service needs (docs/security.md says which there are)",
    "DENIED": "it takes no connections from other machines: give it a password, and name that in {setting}",
}
# Answers that begin with ERR: part of the text, and the remedy.
_WRONG_TEXTS = {
    "unknown command": "it lacks or renames a command: Redis 6.2, Valkey 7.2 or newer is needed, with all commands",
    "without any password configured": "it has no password: leave the one in {setting} out",
    "invalid password": "check the password in {setting}",
    "wrong number of arguments for 'auth'": "check user and password in {setting}",
    "db index is out of range": "it has fewer databases: put a smaller number at the end of {setting}",
    "unknown subcommand": "it is too old: Redis 6.2, Valkey 7.2 or newer is needed",
    "cluster support disabled": _IS_SINGLE,
}
_NOT_NOW_TEXTS = {"max number of clients reached": "raise its maxclients, or find out who holds connections"}
# In a pipeline, redis-py puts its own words before those of the server; a script's error has a line and a dash before.
_IN_PIPELINE = re.compile(r"^Command # \d+ \(.*?\) of pipeline caused error: ", re.DOTALL)
_CODE = re.compile(r"^(?:ERR )?(?:.*?@?user_script:\s?\d+: -?)?-?([A-Z]{3,})\b")


@dataclass(frozen=True)
class ServerKind:
    """Which Redis or Valkey is spoken to: what it is called, its setting, and the errors that tell of it."""

    title: str
    setting: str
    unavailable: type[Unavailable]
    misconfigured: type[Misconfigured]

    def failure(self, error: Exception) -> Unavailable | None:
        """Return what the failure of a command means to whoever asked; None: it is a fault of the command.

        `error` is one of redis-py or of the operating system.
        """
        if isinstance(error, Unavailable):
            return error
        text = _IN_PIPELINE.sub("", str(error))
        code = getattr(error, "status_code", None) or "ERR"
        if code == "ERR":  # redis-py knows only some of the codes
            code = _code(text)
        return self._wrong_setting(error, code, text) or self._not_now(error, code, text)

    def _wrong_setting(self, error: Exception, code: str, text: str) -> Misconfigured | None:
        if isinstance(error, AskError):  # also a MovedError: a client for a cluster follows it
            return self._misconfigured("does not hold all keys", _IS_CLUSTER)
        if isinstance(error, InvalidResponse):
            return self._misconfigured(
                f"speaks another protocol: {_described(error)}",
                "another server answers at that address: correct {setting}",
            )
        remedy = _WRONG.get(code) or next((_WRONG_TEXTS[part] for part in _WRONG_TEXTS if part in text.lower()), None)
        if remedy is None and isinstance(error, AuthenticationError | AuthorizationError):
            remedy = _WRONG["WRONGPASS"]
        return None if remedy is None else self._misconfigured(f"refuses us: {text}", remedy)

    def _not_now(self, error: Exception, code: str, text: str) -> Unavailable | None:
        if isinstance(error, ClusterError | RedisClusterException | TryAgainError):
            return self.unavailable(
                f"{self.title} does not answer for all keys: {_described(error)}; "
                "a node of its cluster is lost or still starting (a cluster's URL begins with redis+cluster://)"
            )
        remedy = _NOT_NOW.get(code) or next((_NOT_NOW_TEXTS[part] for part in _NOT_NOW_TEXTS if part in text), None)
        if remedy is not None:
            what = "takes no writes" if code in _NO_WRITES else "takes nothing at the moment"
            said = _described(error) if code in text else f"{code} {_described(error)}"
            return self.unavailable(f"{self.title} {what}: {said}; {remedy.format(setting=self.setting)}")
        if isinstance(error, redis.ConnectionError | redis.TimeoutError | OSError):
            return self.unavailable(f"{self.title} does not answer: {_described(error)}")
        return None

    def _misconfigured(self, what: str, remedy: str) -> Misconfigured:
        return self.misconfigured(f"{self.title} {what}; {remedy.format(setting=self.setting)}")


INDEX = ServerKind("the index (Redis or Valkey)", "ARTSEEK_INDEX_URL", IndexUnavailable, IndexMisconfigured)
BROKER = ServerKind("the broker (Redis or Valkey)", "ARTSEEK_BROKER_URL", BrokerUnavailable, BrokerMisconfigured)


def _code(text: str) -> str:
    found = _CODE.match(text)
    return found[1] if found else ""


def _described(error: Exception) -> str:
    place, text = cluster.place_of(error), _IN_PIPELINE.sub("", str(error))
    return f"{place}: {text}" if place and place not in text else text
