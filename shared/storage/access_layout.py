"""Where accounts, keys, share links and the audit log lie in the object store.

access/accounts/<name>.json                           accounts: roles, hash of the password
access/keys/<id>.json                                 API keys: roles, digest of the secret
access/collections/<name>.json                        whom a collection is open to
access/links/<id>.json                                share links
access/signing.json                                   what cookies and share links are signed with
audit/<day>/<id>.json                                 who did what, an object for each entry of a day
audit/<day>.jsonl                                     the entries of a day that is over
"""

from urllib.parse import quote

ACCESS = "access/"
ACCOUNTS = "access/accounts/"
API_KEYS = "access/keys/"
COLLECTION_ACCESS = "access/collections/"
SIGNING = "access/signing.json"
LINKS = "access/links/"
AUDIT = "audit/"


def account_key(name: str) -> str:
    """Return the key of an account."""
    return f"{ACCOUNTS}{quote(name, safe='')}.json"


def api_key_key(key: str) -> str:
    """Return the key of an API key, by its id."""
    return f"{API_KEYS}{key}.json"


def collection_access_key(collection: str) -> str:
    """Return the key of the object that says whom a collection is open to."""
    return f"{COLLECTION_ACCESS}{collection}.json"


def link_key(link: str) -> str:
    """Return the key of a share link, by its id."""
    return f"{LINKS}{link}.json"


def audit_day_prefix(day: str) -> str:
    """Return what the keys of the entries of a day of the audit log start with."""
    return f"{AUDIT}{day}/"


def audit_entry_key(day: str, entry: str) -> str:
    """Return the key of an entry of the audit log."""
    return f"{audit_day_prefix(day)}{entry}.json"


def audit_day_key(day: str) -> str:
    """Return the key of all entries of a day that is over."""
    return f"{AUDIT}{day}.jsonl"
