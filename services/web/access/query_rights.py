"""Who may use a query set, and who sees its queries: those who may look at the collections that the queries come from.

Others see figures, classes and the names of sets. A set whose queries come from who knows where, since an earlier
version stored it, is open to those with a role in all collections.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final, cast

import pyarrow as pa
import pyarrow.compute as pc
from flask import g

from services.web.access.gate import may
from services.web.clients import web_clients
from services.web.problems import Problem
from shared.errors import Invalid, NotFound, Unavailable
from shared.evaluation.query_sets import LabelledQuery, QuerySets, source_of
from shared.evaluation.redaction import NO_DIGEST
from shared.evaluation.report import EvaluationReport
from shared.evaluation.rows import QueryRow

_UNSEEN: Final = {"name": "", "digest": NO_DIGEST, "id": 0, "in_collection": False}


@dataclass(frozen=True)
class ShownQueries:
    """Which queries of an evaluation the requester sees: those with these digests; None: all."""

    digests: frozenset[str] | None

    def __contains__(self, digest: str) -> bool:
        return self.digests is None or digest in self.digests

    def rows(self, table: pa.Table) -> pa.Table:
        """Return rows in which queries that are not shown have neither name nor digest nor id."""
        if self.digests is None:
            return table
        shown = pc.is_in(table["digest"], value_set=pa.array(sorted(self.digests), pa.string()))
        for name, value in _UNSEEN.items():
            place = table.schema.get_field_index(name)
            field = table.schema.field(place)
            column = pc.if_else(shown, table[name], pa.scalar(value, field.type))
            table = table.set_column(place, field, column)
        return table

    def row(self, row: QueryRow) -> QueryRow:
        """Return a row likewise."""
        if row["digest"] in self:
            return row
        return cast("QueryRow", {**row, **_UNSEEN})

    def report(self, report: EvaluationReport) -> EvaluationReport:
        """Return a report without copies of queries that are not shown, and without names of queries that failed."""
        queries = report.query_set
        if self.digests is None or not (queries.copies or queries.rejected):
            return report
        copies = None if queries.copies is None else tuple(copy for copy in queries.copies if copy.digest in self)
        rejected = tuple(replace(rejection, name="") for rejection in queries.rejected)
        return replace(report, query_set=replace(queries, copies=copies, rejected=rejected))


def shown_queries(report: EvaluationReport) -> ShownQueries:
    """Return which queries of an evaluation the requester sees.

    A sample is of the collection itself. Of a set that cannot be read, nothing is shown to those who may not see all.
    """
    if report.query_set.kind == "sample" or may("look"):
        return ShownQueries(None)
    queries = _queries(report.query_set.digest)
    if queries is not None and _are_seen(queries):
        return ShownQueries(None)
    seen = _seen_sources()
    return ShownQueries(frozenset(query.digest for query in queries or () if seen.issuperset(query.sources)))


def shown_report(report: EvaluationReport) -> EvaluationReport:
    """Return what the requester sees of an evaluation's report."""
    return shown_queries(report).report(report) if report.query_set.copies or report.query_set.rejected else report


def usable_names(sets: QuerySets) -> list[str]:
    """Return the names of the kept sets that the requester may use."""
    return [name for name in sets.names() if _is_usable(sets, name)]


def require_use(sets: QuerySets, name: str) -> None:
    """Make sure that the requester may use the set that is kept under a name, if there is one.

    Raises:
        Problem: They may not.
    """
    if not _is_usable(sets, name):
        raise Problem(
            403,
            "forbidden",
            f"you may not use the query set {name!r}: it has pictures of collections that you may not look at; an "
            "administrator can give you a role there",
        )


def _is_usable(sets: QuerySets, name: str) -> bool:
    if may("look"):
        return True
    try:
        queries = _queries(sets.kept(name))
    except NotFound:
        return True
    return queries is not None and _are_seen(queries)


def _queries(digest: str) -> Sequence[LabelledQuery] | None:
    """Return the queries of a set; None: it is gone, or cannot be read."""
    clients = web_clients()
    try:
        return QuerySets(clients.store, clients.state).get(digest).queries
    except (NotFound, Invalid):
        return None


def _are_seen(queries: Sequence[LabelledQuery]) -> bool:
    sources = {source for query in queries for source in query.sources}
    return not sources or _seen_sources().issuperset(sources)


def _seen_sources() -> frozenset[str]:
    """Return the collections that the requester may look at, as query sets know them; none if nobody tells."""
    found: frozenset[str] | None = g.get("seen_sources")
    if found is None:
        try:
            collections = web_clients().query.collections()
        except Unavailable:
            collections = []
        found = frozenset(source_of(known.created) for known in collections if may("look", known.name))
        g.seen_sources = found
    return found
