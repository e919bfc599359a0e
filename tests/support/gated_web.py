"""The web application with a gate of our own and no server behind it, to see whom it lets through."""

from collections.abc import Iterator
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, NoReturn

from services.web.access import browser_sessions, open_links
from services.web.access.gate import Gate
from services.web.access.ways_in import ApiKeys
from services.web.app import create_app
from services.web.clients import EXTENSION, web_clients
from shared.access import Access, AccessState, ApiKey, CollectionAccess, Grant, key_secrets
from shared.access.signing import Signing
from shared.errors import NotFound, Unavailable
from shared.rpc.query import Collection
from shared.settings import Settings
from shared.state.jobs import Job, unknown_job
from shared.state.outcomes import Counts

if TYPE_CHECKING:
    from flask import Flask

REFUSED = frozenset({401, 403, 404})


class Away:
    """A server that does not answer, whatever it is asked."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return Away()

    def __call__(self, *_: object, **__: object) -> NoReturn:
        raise Unavailable("away")


class _Jobs(Away):
    """Knows a job of the collection ``art``."""

    def get(self, job: str) -> Any:
        if job != "job-of-art":
            raise unknown_job(job)
        return Job(job, "tune", "art", 0.0, closed=True, total=0, batches=0, reported=0, counts=Counts())


class _Store(Away):
    """Has an evaluation of the collection ``art``, and no more."""

    def list(self, prefix: str) -> Iterator[Any]:
        found = SimpleNamespace(key="evaluations/art/evaluation-of-art.json")
        if not found.key.startswith(prefix):
            raise Unavailable("away")
        return iter([found])

    def put(self, key: str, *_: object) -> None:
        """Take an entry of the audit log, and nothing else."""
        if not key.startswith("audit/"):
            raise Unavailable("away")


class _Query(Away):
    """Has the collections ``art``, ``maps`` and ``open``."""

    def collections(self) -> list[Any]:
        return [self.collection(name) for name in ("art", "maps", "open")]

    def collection(self, name: str) -> Any:
        if name not in {"art", "maps", "open"}:
            raise NotFound(f"there is no collection {name!r}")
        return Collection(name=name, model="model")


class Door:
    """An application that needs a log-in, and API keys that open it."""

    def __init__(self, collections: dict[str, CollectionAccess] | None = None, **settings: str) -> None:
        self.keys: dict[str, ApiKey] = {}
        self.state = AccessState({}, self.keys, collections or {})
        access = Access(lambda: self.state, lambda: "1")
        self.gate = Gate(access, needs_log_in=True, ways_in=[ApiKeys(access, lambda _: None)])
        self.app: Flask = create_app(Settings(_env_file=None, **settings), gate=self.gate)  # type: ignore[arg-type, call-arg]
        with self.app.app_context():
            real = web_clients()
        self.app.extensions[EXTENSION] = SimpleNamespace(
            **vars(real) | {"store": _Store(), "query": _Query(), "state": _State(), "queue": Away(), "catalog": Away()}
        )
        browser_sessions.attach(self.app, access).signing = Signing(lambda: ["secret"])
        open_links.attach(self.app)
        self.client = self.app.test_client()

    def key(self, *grants: Grant) -> dict[str, str]:
        """Return the headers of somebody with these roles."""
        token, name, digest = key_secrets.new_token()
        self.keys[name] = ApiKey(name, digest, grants, "", "", created=0.0, expires=None, by="test")
        return {"Authorization": f"Bearer {token}"}


class _State(Away):
    jobs = _Jobs()
