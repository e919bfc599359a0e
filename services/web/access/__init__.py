"""Who asks, and whether they may: ways in, the rule of each route, and what enforces it."""

from services.web.access.gate import (
    authorize,
    authorize_evaluation,
    authorize_somewhere,
    may,
    may_somewhere,
    open_collections,
    requester,
    seen_collections,
)
from services.web.access.query_rights import require_use, shown_queries, shown_report, usable_names
from services.web.access.rules import (
    BY_LINK,
    IMPERSONAL,
    OPEN,
    SIGNED_IN,
    GuardedBlueprint,
    Rule,
    each,
    of_evaluation,
    of_job,
    of_path,
    of_system,
    of_view,
)

__all__ = [
    "BY_LINK",
    "IMPERSONAL",
    "OPEN",
    "SIGNED_IN",
    "GuardedBlueprint",
    "Rule",
    "authorize",
    "authorize_evaluation",
    "authorize_somewhere",
    "each",
    "may",
    "may_somewhere",
    "of_evaluation",
    "of_job",
    "of_path",
    "of_system",
    "of_view",
    "open_collections",
    "requester",
    "require_use",
    "seen_collections",
    "shown_queries",
    "shown_report",
    "usable_names",
]
