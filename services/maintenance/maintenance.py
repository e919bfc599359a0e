"""The maintenance worker: its tasks on the clients of one worker process."""

import secrets
from collections.abc import Callable
from dataclasses import dataclass
from typing import Self

from services.maintenance.compaction import Compactor
from services.maintenance.dropping import Dropper
from services.maintenance.exclusive_access import ExclusiveAccess
from services.maintenance.generation_builder import GenerationBuilder
from services.maintenance.mapping import Mapper
from services.maintenance.model_change import ModelChanger
from services.maintenance.orphan_collecting import OrphanCollector
from services.maintenance.purging import Purger
from services.maintenance.rebuilding import IndexRebuilder
from services.maintenance.record_tidying import RecordTidier
from services.maintenance.region_making import RegionMaker
from services.maintenance.relabelling import Relabeller
from services.maintenance.renaming import Renamer
from services.maintenance.trash_cleaning import TrashCleaner
from services.maintenance.tuning import IndexTuner
from shared.index.deletion import ImageDeleter
from shared.index.generations import GenerationCache
from shared.index.originals import Originals
from shared.messaging.worker import WorkerClients
from shared.settings import EXACT_BELOW, ORPHAN_HOURS, TRASH_DAYS


def _random_seed() -> int:
    return secrets.randbits(53)


@dataclass(frozen=True)
class Maintenance:
    """What takes minutes: it must not hold up new segments and deletions, which the indexer does."""

    tuner: IndexTuner
    rebuilder: IndexRebuilder
    compactor: Compactor
    model_changer: ModelChanger
    region_maker: RegionMaker
    dropper: Dropper
    renamer: Renamer
    purger: Purger
    trash_cleaner: TrashCleaner
    orphan_collector: OrphanCollector
    relabeller: Relabeller
    record_tidier: RecordTidier
    mapper: Mapper

    @classmethod
    def of(
        cls,
        clients: WorkerClients,
        *,
        exact_below: int = EXACT_BELOW,
        trash_days: float = TRASH_DAYS,
        orphan_hours: float = ORPHAN_HOURS,
        new_seed: Callable[[], int] = _random_seed,
    ) -> Self:
        """Return the maintenance worker on clients; `new_seed` gives the seed of a new generation."""
        generations = GenerationCache(clients.store)
        deleter, originals = ImageDeleter(clients, generations), Originals(clients, clients.queue)
        compactor, builder = Compactor(clients), GenerationBuilder(clients, new_seed=new_seed)
        access = ExclusiveAccess(clients.state, compactor)
        rebuilder, dropper = IndexRebuilder(clients, builder, access), Dropper(clients, originals)
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
            region_maker=RegionMaker(clients, rebuilder=rebuilder, deleter=deleter, dropper=dropper),
            dropper=dropper,
            renamer=Renamer(clients, access=access, rebuilder=rebuilder, dropper=dropper),
            purger=Purger(clients, compactor=compactor, deleter=deleter, originals=originals),
            trash_cleaner=TrashCleaner(clients, originals, days=trash_days),
            orphan_collector=OrphanCollector(clients, originals, grace_h=orphan_hours),
            relabeller=Relabeller(clients, generations, access),
            record_tidier=RecordTidier(clients),
            mapper=Mapper(clients, access),
        )
