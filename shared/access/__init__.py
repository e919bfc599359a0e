"""Who may do what: roles, accounts, API keys, and whom a collection is open to. Knows nothing of HTTP."""

from shared.access.access import Access
from shared.access.access_store import AccessStore
from shared.access.accounts import AccessState, Account, ApiKey, CollectionAccess, Visibility
from shared.access.openness import open_to_all
from shared.access.roles import ANONYMOUS, OWNER, ROLES, Action, Grant, Requester, Role, grants_of

__all__ = [
    "ANONYMOUS",
    "OWNER",
    "ROLES",
    "Access",
    "AccessState",
    "AccessStore",
    "Account",
    "Action",
    "ApiKey",
    "CollectionAccess",
    "Grant",
    "Requester",
    "Role",
    "Visibility",
    "grants_of",
    "open_to_all",
]
