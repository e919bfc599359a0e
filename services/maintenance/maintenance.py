"""The maintenance worker: its tasks on the clients of one worker process."""

import secrets
from collections.abc import Callable
from dataclasses import dataclass
from typing import Self

from services.maintenance.compaction import Compactor
from services.maintenance.dropping import Dropper
from services.maintenance.exclusive_access import ExclusiveAccess
from services.maintenance.generation_builder import GenerationBuilder
from services.maintenance.model_change import ModelChanger
from services.maintenance.rebuilding import IndexRebuilder
from services.maintenance.tuning import IndexTuner
from shared.index.deletion import ImageDeleter
from shared.index.generations import GenerationCache
from shared.messaging.worker import WorkerClients
from shared.settings import EXACT_BELOW


def _random_seed() -> int:
    return secrets.randbits(53)


@dataclass(frozen=True)
class Maintenance:
    """What takes minutes: it must not hold up new segments and deletions, which the indexer does."""

    tuner: IndexTuner
    rebuilder: IndexRebuilder
    compactor: Compactor
    model_changer: ModelChanger
    dropper: Dropper

    @classmethod
    def of(
        cls, clients: WorkerClients, *, exact_below: int = EXACT_BELOW, new_seed: Callable[[], int] = _random_seed
    ) -> Self:
        """Return the maintenance worker on clients; `new_seed` gives the seed of a new generation."""
        generations = GenerationCache(clients.store)
        deleter = ImageDeleter(clients, clients.queue, generations)
        compactor, builder = Compactor(clients), GenerationBuilder(clients, new_seed=new_seed)
        access = ExclusiveAccess(clients.state, compactor)
        rebuilder, dropper = IndexRebuilder(clients, generations, builder, access), Dropper(clients, deleter)
        return cls(
            tuner=IndexTuner(clients, builder, rebuilder, access, exact_below=exact_below),
            rebuilder=rebuilder,
            compactor=compactor,
            model_changer=ModelChanger(
                clients,
                builder=builder,
                rebuilder=rebuilder,
                compactor=compactor,
                deleter=deleter,
                dropper=dropper,
                exact_below=exact_below,
            ),
            dropper=dropper,
        )
