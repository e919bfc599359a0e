"""The clients of the servers that every service works with, made from the settings in one place."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

from shared.rpc.serving import ServingClient
from shared.rpc.tls import grpc_tls
from shared.settings import Settings
from shared.state import State, connect
from shared.storage.catalog import Catalog
from shared.storage.object_store import ObjectStore
from shared.storage.trash import Trash

ConnectModel = Callable[[str, int | None], ServingClient]
"""Returns a client of the model server for a model and its version, None for the latest."""


@dataclass(frozen=True, kw_only=True)
class Clients:
    """Object store, Redis or Valkey, and model server. Nothing is sent until a client is used."""

    store: ObjectStore
    state: State
    connect_model: ConnectModel

    @cached_property
    def catalog(self) -> Catalog:
        """The collections as the object store has them."""
        return Catalog(self.store)

    @cached_property
    def trash(self) -> Trash:
        """The trash of the collections."""
        return Trash(self.store)


def connect_clients(settings: Settings, *, retries: int = 4, timeout_s: float = 5.0) -> Clients:
    """Return the clients for the settings; Redis is tried again `retries` times, each for `timeout_s`."""
    return Clients(
        store=ObjectStore.from_settings(settings),
        state=connect_state(settings, retries=retries, timeout_s=timeout_s),
        connect_model=model_connector(settings),
    )


def connect_state(settings: Settings, *, retries: int = 4, timeout_s: float = 5.0) -> State:
    """Return what Redis or Valkey holds, at the server of the settings."""
    client = connect(settings.index_url.get_secret_value(), retries=retries, timeout_s=timeout_s)
    return State.of(client, bucket_limit=settings.bucket_limit)


def model_connector(settings: Settings) -> ConnectModel:
    """Return what connects to models at the model server of the settings.

    Raises:
        Invalid: A certificate of the settings cannot be read.
    """
    tls = grpc_tls(settings)
    return lambda model, version: ServingClient(settings.serving_target, model, version=version, tls=tls)
