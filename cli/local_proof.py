"""Proof on this machine: pictures are compared by processes of the command, and features kept in the store."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from shared.index.proving import Prover
    from shared.rpc.query import QueryClient
    from shared.settings import Settings


@contextmanager
def local_prover(settings: "Settings", query: "QueryClient") -> Iterator["Prover"]:
    """Yield what compares the images of the system that the settings name."""
    # What most commands do not need.
    from shared.index.proofs import Proofs  # noqa: PLC0415
    from shared.index.proving import Prover  # noqa: PLC0415
    from shared.storage.object_store import ObjectStore  # noqa: PLC0415

    proofs = Proofs.from_settings(settings, ObjectStore.from_settings(settings))
    try:
        yield Prover(proofs, query, most=settings.proof_hits)
    finally:
        proofs.close()
