"""Tunes the index of a collection: when it is due, or on request."""

from services.maintenance.exclusive_access import ExclusiveAccess
from services.maintenance.generation_builder import GenerationBuilder
from services.maintenance.rebuilding import IndexRebuilder
from shared.clients import Clients
from shared.errors import Invalid, NotFound
from shared.index.tuning_due import is_tuning_due
from shared.messaging.messages import TuningRequest
from shared.state.outcomes import Outcome
from shared.storage.catalog import EmbeddingSet


class IndexTuner:
    """Tunes indexes. Collections of fewer than `exact_below` images are scanned exactly by default."""

    def __init__(
        self,
        clients: Clients,
        builder: GenerationBuilder,
        rebuilder: IndexRebuilder,
        access: ExclusiveAccess,
        *,
        exact_below: int,
    ) -> None:
        self._catalog, self._state = clients.catalog, clients.state
        self._builder, self._rebuilder, self._access = builder, rebuilder, access
        self._exact_below = exact_below

    def maintain(self, *, collection: str, job: str | None = None) -> None:
        """Tune the index if that is due; a collection that does not exist needs nothing."""
        try:
            active = self._catalog.get(collection)
        except NotFound:
            active = None
        if active is not None and self._is_due(active):
            with self._access.hold(active):
                if self._is_due(active):  # or another worker has just done it
                    self._builder.build(active, TuningRequest())
        if job:
            self._state.jobs.report(job, 0, Outcome())

    def _is_due(self, active: EmbeddingSet) -> bool:
        state = self._rebuilder.ensure_restored(active)
        return is_tuning_due(state, self._state.claims.count(active.name), exact_below=self._exact_below)

    def tune(self, *, collection: str, job: str, request: TuningRequest, apply: bool) -> None:
        """Tune the index as requested, due or not; without `apply`, only tell what would be chosen.

        The job's result is the report.

        Raises:
            NotFound: There is no such collection.
            Invalid: The collection has no image.
        """
        if self._state.jobs.reported(job, 0):
            return
        active = self._catalog.get(collection)
        self._rebuilder.ensure_restored(active)
        with self._access.hold(active):
            report = self._builder.build(active, request) if apply else self._builder.predict(active, request)
        if report is None:
            raise Invalid(f"the collection {collection!r} has no image to tune an index to: add some first")
        self._state.jobs.set_result(job, report.to_json())
        self._state.jobs.report(job, 0, Outcome(affected=self._state.claims.count(active.name)))
