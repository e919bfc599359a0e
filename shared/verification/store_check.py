"""Checks what the object store holds beside collections: manifests, evaluations, query sets."""

from shared.clients import Clients
from shared.errors import Invalid, NotFound
from shared.evaluation.evaluations import Evaluations
from shared.evaluation.query_sets import QuerySets
from shared.storage import evaluation_layout, layout
from shared.storage.catalog import EmbeddingSet
from shared.verification.findings import Damage


class StoreCheck:
    """Checks the store as a whole."""

    def __init__(self, clients: Clients) -> None:
        self._store, self._state, self._catalog = clients.store, clients.state, clients.catalog
        self._evaluations = Evaluations(clients.store)
        self._query_sets = QuerySets(clients.store, clients.state)

    def embedding_sets(self, damage: Damage) -> tuple[list[EmbeddingSet], bool]:
        """Return all embedding sets that can be read, and whether these are all that have segments."""
        found: list[EmbeddingSet] = []
        complete = True
        for name in self._catalog.stored_names():
            try:
                active = self._catalog.get(name)
                found += [active, *self._catalog.unused_embedding_sets(name)]
            except NotFound:
                continue
            except Invalid:
                damage.add("manifest-unreadable", name, [layout.manifest_key(name)])
                complete = False
        for set_name in self._catalog.sets_without_manifest():
            damage.add("manifest-missing", layout.collection_of(set_name), [set_name])
            complete = False
        return found, complete

    def evaluations(self, damage: Damage, *, only: str | None) -> None:
        """Check evaluations, and the parts of those and of searches for duplicates that are under way."""
        for name, evaluation in self._evaluations.ids(only):
            try:
                self._evaluations.get(name, evaluation)
            except NotFound:
                continue
            except Invalid:
                damage.add("evaluation-unreadable", name, [evaluation])
        if only is None:
            begun = {item.key.split("/")[1] for item in self._store.list(evaluation_layout.EVALUATING)}
            begun |= {item.key.split("/")[1] for item in self._store.list(evaluation_layout.DUPLICATING)}
            damage.add("evaluation-leftover", None, (job for job in begun if not self._is_under_way(job)))

    def _is_under_way(self, job: str) -> bool:
        try:
            return not self._state.jobs.get(job).done
        except NotFound:
            return False

    def query_sets(self, damage: Damage) -> None:
        """Check that query sets can be read, and have the originals of their queries."""
        stored = {
            item.key.removeprefix(evaluation_layout.QUERIES) for item in self._store.list(evaluation_layout.QUERIES)
        }
        for digest in self._query_sets.digests():
            try:
                queries = self._query_sets.get(digest).queries
            except NotFound:
                continue
            except Invalid:
                damage.add("query-set-unreadable", None, [digest])
                continue
            damage.add("query-missing", None, {query.stored for query in queries} - stored)
