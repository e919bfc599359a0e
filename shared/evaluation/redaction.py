"""Takes images out of what evaluations and query sets remember of them: names, digests and pictures."""

import logging
from collections.abc import Collection as Container
from dataclasses import replace

import pyarrow as pa

from shared.clients import Clients
from shared.errors import IndexLost, Invalid, NotFound
from shared.evaluation.evaluations import Evaluations
from shared.evaluation.query_sets import LabelledQuery, QuerySets
from shared.evaluation.report import EvaluationReport
from shared.evaluation.rows import parquet, rows_of
from shared.storage import evaluation_layout, layout

_log = logging.getLogger(__name__)

NO_DIGEST = "0" * 64


class EvaluationRedactor:
    """Redacts evaluations; every call may run twice. The scores stay."""

    def __init__(self, clients: Clients) -> None:
        self._store, self._state, self._catalog = clients.store, clients.state, clients.catalog
        self._evaluations = Evaluations(clients.store)
        self._query_sets = QuerySets(clients.store, clients.state)

    def redact(self, image_ids: Container[int], *, collection: str | None = None) -> list[str]:
        """Take images out of the evaluations of a collection, or of all and of the query sets.

        Returns:
            What may name them and cannot be read, and why; of all collections, without their names.
        """
        unreadable: list[str] = []
        if not image_ids:
            return unreadable
        for name, evaluation in self._evaluations.ids(collection):
            try:
                self._redact_evaluation(name, evaluation, image_ids)
            except (Invalid, KeyError, TypeError, ValueError, pa.ArrowException) as error:
                text = f"the evaluation {evaluation} of {name!r} may name it and cannot be read: {error}"
                if collection is None:  # whoever purged the images may not know the collections of others
                    _log.error("%s", text)
                    text = "an evaluation of another collection may name it and cannot be read: the log names it"
                unreadable.append(text)
        if collection is None:
            unreadable += self._redact_query_sets(image_ids)
        return unreadable

    def redact_new(self, collection: str, evaluation: str) -> None:
        """Take images out of an evaluation, written a moment ago, that were purged while it was made.

        Raises:
            NotFound: There is no such evaluation, or no such collection any more.
            Unavailable: A server is away, or Redis has lost the collection.
        """
        active = self._catalog.get(collection)
        if self._state.index_states.get(active.name) is None:
            raise IndexLost(f"the index of {collection!r} was lost; it is restored from the object store")
        named = sorted(self._named(collection, evaluation) - self._with_pictures(collection, evaluation))
        holders = self._state.claims.holders(active.name, [layout.image_id(digest) for digest in named])
        gone = {
            layout.image_id(digest)
            for digest, holder in zip(named, holders, strict=True)
            if holder is None
            and not self._store.exists(evaluation_layout.query_key(digest))
            and not self._store.exists(layout.trash_key(collection, digest))
        }
        if gone:
            self._redact_evaluation(collection, evaluation, gone)

    def _named(self, collection: str, evaluation: str) -> set[str]:
        """Return the digests that an evaluation names: of its queries, and of copies of them."""
        table = rows_of(self._store, collection, evaluation)
        copies = self._evaluations.get(collection, evaluation).query_set.copies or ()
        return {*table.column("digest").to_pylist(), *(copy.digest for copy in copies)} - {NO_DIGEST, "", None}

    def _with_pictures(self, collection: str, evaluation: str) -> set[str]:
        """Return the digests of an evaluation's queries of which their set has a picture of its own."""
        try:
            queries = self._query_sets.get(self._evaluations.get(collection, evaluation).query_set.digest).queries
        except (NotFound, Invalid):  # a sample, which is no set; or a set that cannot be read
            return set()
        return {query.digest for query in queries if query.file}

    def _redact_evaluation(self, collection: str, evaluation: str, image_ids: Container[int]) -> None:
        try:
            table = rows_of(self._store, collection, evaluation)
            report = self._evaluations.get(collection, evaluation)
        except NotFound:  # it was removed meanwhile
            return
        digests = table.column("digest").to_pylist()
        named = [_is_of(digest, image_ids) for digest in digests]
        redacted = _without_copies(report, image_ids)
        if not any(named) and redacted is report:
            return
        for field, value in (("name", ""), ("digest", NO_DIGEST)):
            values = [value if hit else kept for hit, kept in zip(named, table.column(field).to_pylist(), strict=True)]
            place = table.schema.get_field_index(field)
            table = table.set_column(place, table.schema.field(place), pa.array(values, pa.string()))
        self._evaluations.put(collection, redacted, parquet(table))

    def _redact_query_sets(self, image_ids: Container[int]) -> list[str]:
        """Take images out of query sets, which keep the names by which evaluations know them; returns as `redact`."""
        unreadable: list[str] = []
        with self._query_sets.changing():
            sets: dict[str, tuple[LabelledQuery, ...]] = {}
            for set_digest in sorted(self._query_sets.digests()):
                try:
                    sets[set_digest] = self._query_sets.get(set_digest).queries
                except Invalid as error:
                    unreadable.append(f"a query set may name it and cannot be read: {error}")
            every = {query for queries in sets.values() for query in queries}
            named = {query for query in every if _is_of(query.digest, image_ids)}
            # Pictures first: who dies behind a set that names them no longer would leave them.
            pictures = {query.stored for query in named} - {query.stored for query in every - named}
            self._store.delete([evaluation_layout.query_key(stored) for stored in sorted(pictures)])
            for set_digest, queries in sets.items():
                kept = tuple(query for query in queries if query not in named)
                if len(kept) < len(queries):
                    self._query_sets.replace(set_digest, kept)
        for prefix in (evaluation_layout.QUERIES, evaluation_layout.EMBEDDINGS):
            keys = [item.key for item in self._store.list(prefix)]
            self._store.delete([key for key in keys if _is_of(key.rpartition("/")[2], image_ids)])
        return unreadable


def _is_of(digest: str, image_ids: Container[int]) -> bool:
    return digest != NO_DIGEST and layout.image_id(digest) in image_ids


def _without_copies(report: EvaluationReport, image_ids: Container[int]) -> EvaluationReport:
    """Return a report in which copies that are one of the images have neither name nor digest."""
    copies = report.query_set.copies
    if not any(_is_of(copy.digest, image_ids) for copy in copies or ()):
        return report
    redacted = tuple(
        replace(copy, name="", digest=NO_DIGEST) if _is_of(copy.digest, image_ids) else copy for copy in copies or ()
    )
    return replace(report, query_set=replace(report.query_set, copies=redacted))
