"""Keeps two systems apart that were given the same Redis: each has an id, in its object store and in both Redis.

The object `system.json` is the system's id. The key `system` in the index and the broker says whose Redis it is; one
that was emptied takes the id anew. Two numbered databases of one server are two Redis.
"""

import logging
import os
import secrets
import signal
import threading
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Final

from pydantic import SecretStr

from shared.errors import Invalid, ObjectNotFound, OtherSystem, StoreMisconfigured, Unavailable
from shared.settings import Settings
from shared.state import Client, connect, guarded
from shared.state.locks import Lock, Locks
from shared.state.server_refusals import BROKER, INDEX, ServerKind
from shared.storage import layout
from shared.storage.object_store import ObjectStore
from shared.versioned import StoredKind
from shared.waits import WaitLog

KEY: Final = "system"
"""The key in the index and the broker."""

_KIND = StoredKind("system", newest=1)
_LOCK = Lock("system", "another process is naming the system")
_WAIT_S = 20.0
_PAUSE_S = 1.0
_REMEDY = (
    "give each system a Redis or Valkey, or a database number, of its own in {setting}; or, if that other system is no "
    "more, empty this one by FLUSHDB (in a local system that is stopped: remove the folders valkey-index and "
    "valkey-broker)"
)
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class System:
    """Which system this is: its id, and bucket and address of its object store when it got the id."""

    id: str
    bucket: str
    endpoint: str
    created: float

    def __str__(self) -> str:
        return f"the system {self.id[:12]} with the bucket {self.bucket!r} at {self.endpoint}"


def _system(values: Mapping[str, Any]) -> System:
    return System(str(values["id"]), str(values["bucket"]), str(values["endpoint"]), float(values["created"]))


class SystemIdentity:
    """Reads and writes the id of the system that the settings name."""

    def __init__(self, settings: Settings, store: ObjectStore) -> None:
        self._settings, self._store = settings, store
        self._known: System | None = None

    def known(self) -> System | None:
        """Return the system as its object store names it; None if no service was started yet.

        Raises:
            TooNew: A newer version of Artseek wrote it.
        """
        if self._known is None:
            try:
                data = self._store.get(layout.SYSTEM)
            except ObjectNotFound:
                return None
            except StoreMisconfigured as error:
                if getattr(error.__cause__, "code", "") == "NoSuchBucket":
                    return None
                raise
            self._known = _KIND.loads(data, _system, place=layout.SYSTEM)
        return self._known

    def take(self, index: Client, broker: Client | None) -> System:
        """Make sure that index and broker, if one is given, are of this system; the first call ever gives it its id.

        Raises:
            OtherSystem: One of them belongs to another.
        """
        system = self.known() or self._name(index)
        self.compare(index, INDEX)
        if broker is not None:
            self.compare(broker, BROKER)
        return system

    def compare(self, client: Client, server: ServerKind) -> None:
        """Make sure that a Redis is of this system, in one round trip; an emptied one takes the id anew.

        Raises:
            OtherSystem: It belongs to another.
        """
        own = self.known()
        if own is None:
            return
        with guarded(server):
            pipeline = client.pipeline(transaction=False)
            pipeline.set(KEY, _KIND.dumps(asdict(own)), nx=True)
            pipeline.get(KEY)
            holder = _holder(pipeline.execute()[1], server)
        if holder is not None and holder.id != own.id:
            raise self._refusal(server, holder, str(own))

    def _name(self, index: Client) -> System:
        with Locks(index).hold(_LOCK, wait_s=_WAIT_S):
            if (system := self.known()) is not None:
                return system
            with guarded(INDEX):
                holder = _holder(index.get(KEY), INDEX)
            if holder is not None:
                own = f"the bucket {self._settings.s3_bucket!r} at {self._settings.s3_endpoint}, which has no id yet"
                raise self._refusal(INDEX, holder, own)
            system = System(
                secrets.token_hex(16), self._settings.s3_bucket, self._settings.s3_endpoint, round(time.time(), 3)
            )
            self._store.ensure_bucket()
            self._store.put(layout.SYSTEM, _KIND.dumps(asdict(system)), "application/json")
            self._known = system
            return system

    def _refusal(self, server: ServerKind, holder: System, own: str) -> OtherSystem:
        return OtherSystem(
            f"{server.title} of {server.setting} belongs to {holder}, not to {own}: "
            f"{_REMEDY.format(setting=server.setting)}"
        )


def _holder(value: bytes | None, server: ServerKind) -> System | None:
    return None if value is None else _KIND.loads(value, _system, place=f"{KEY} in {server.title}")


def check_own_system(settings: Settings, broker_url: SecretStr | None, *, timeout_s: float = 5.0) -> None:
    """Make sure that the index of the settings and the broker are of the system whose object store they name.

    Args:
        settings: Name the object store and the index.
        broker_url: Where the broker is; None for a service that has nothing to do with it.
        timeout_s: How long a Redis may take to answer.

    Raises:
        OtherSystem: One of them belongs to another system.
        Unavailable: A server does not answer.
    """
    index, broker = (
        None if url is None else connect(url.get_secret_value(), timeout_s=timeout_s, retries=0)
        for url in (settings.index_url, broker_url)
    )
    SystemIdentity(settings, ObjectStore.from_settings(settings, connections=1)).take(index, broker)


def wait_for_own_system(settings: Settings, broker_url: SecretStr | None) -> None:
    """Check as `check_own_system` does, as soon as all servers answer.

    Raises:
        SystemExit: The check fails; the log says why.
    """
    wait_log = WaitLog(_log, "the start")
    while True:
        try:
            check_own_system(settings, broker_url)
        except Unavailable as error:
            wait_log.waits(error)
            time.sleep(_PAUSE_S)
        except Invalid as error:  # OtherSystem, TooNew
            _log.error("%s", error)
            raise SystemExit(1) from None
        else:
            wait_log.goes_on()
            return


def check_own_system_soon(settings: Settings, broker_url: SecretStr | None) -> None:
    """Check now if all servers answer; otherwise go on, and end the process if the check fails once they do.

    Raises:
        SystemExit: The check fails; the log says why.
    """
    try:
        check_own_system(settings, broker_url, timeout_s=2.0)
    except Invalid as error:
        _log.error("%s", error)
        raise SystemExit(1) from None
    except Unavailable:
        threading.Thread(target=_check_later, args=(settings, broker_url), name="system", daemon=True).start()


def _check_later(settings: Settings, broker_url: SecretStr | None) -> None:
    try:
        wait_for_own_system(settings, broker_url)
    except SystemExit:
        os.kill(os.getpid(), signal.SIGTERM)
