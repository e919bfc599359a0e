"""Prints accounts and API keys."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

from cli.printing.console import compact_table, out, plain
from shared.access import Account, ApiKey, Grant
from shared.access.audit import AuditAnswer
from shared.schemas.access import ShareAnswer


def print_accounts(accounts: Sequence[Account]) -> None:
    """Print a table of accounts."""
    if not accounts:
        out.print("There is no account; `artseek users add NAME --role admin` adds one.")
        return
    table = compact_table("name", "may", "made", "by")
    for account in accounts:
        table.add_row(
            plain(account.name),
            "nothing: disabled" if account.disabled else plain(_roles(account.grants)),
            _day(account.created),
            plain(account.by),
        )
    out.print(table)


def print_keys(keys: Sequence[ApiKey], uses: Mapping[str, float]) -> None:
    """Print a table of API keys, and when they were last used."""
    if not keys:
        out.print("There is no API key; `artseek keys create --role viewer` makes one.")
        return
    table = compact_table("id", "may", "account", "made", "ends", "last used", "for")
    for key in keys:
        table.add_row(
            key.id,
            plain(_roles(key.grants)),
            plain(key.account),
            _day(key.created),
            "never" if key.expires is None else _day(key.expires),
            _day(uses[key.id]) if key.id in uses else "never",
            plain(key.note),
        )
    out.print(table)


def print_shares(shares: Sequence[ShareAnswer]) -> None:
    """Print a table of share links, and the address of each."""
    if not shares:
        out.print("There is no share link; `artseek share create` makes one.")
        return
    table = compact_table("id", "shows", "by", "made", "ends")
    for share in shares:
        images = len(share["images"])
        table.add_row(
            share["id"],
            "the collection" if not images else f"{images} image{'' if images == 1 else 's'}",
            plain(share["by"]),
            share["created"][:10],
            share["expires"][:10],
        )
    out.print(table)
    for share in shares:
        out.print(share["url"], soft_wrap=True, markup=False)


def _roles(grants: Sequence[Grant]) -> str:
    return ", ".join(str(grant) if grant.collection else f"{grant.role} of everything" for grant in grants) or "no role"


def _day(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d")


def print_audit(entries: Sequence[AuditAnswer]) -> None:
    """Print entries of the audit log."""
    if not entries:
        out.print("The audit log has no such entry.")
        return
    table = compact_table("when", "who", "from", "what", "collection", "images", "answer")
    for entry in entries:
        images = entry["images"]
        table.add_row(
            entry["at"][:19].replace("T", " "),
            plain(entry["who"]),
            plain(entry["address"]),
            plain(f"{entry['what']} {entry['detail']}".strip()),
            plain(entry["collection"]),
            str(images[0]) if len(images) == 1 else f"{len(images)} images" if images else "",
            str(entry.get("status", "")),
        )
    out.print(table)
