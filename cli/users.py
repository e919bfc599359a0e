"""`artseek users`: who has an account, and what it may do."""

from pathlib import Path

import click

from cli.clients import System
from cli.command import command
from cli.options import as_json_option
from cli.printing.access import print_accounts
from cli.printing.console import out, plain, print_json
from shared.access import ROLES, AccessStore, Account, Grant, grants_of
from shared.access.audit import AuditLog
from shared.access.links import OPERATOR
from shared.schemas.access import account_answer, accounts_answer

BY = OPERATOR
"""Who is said to have made what these commands make."""

role_option = click.option("--role", type=click.Choice(ROLES), help="What the account may do; default: nothing.")
collections_option = click.option(
    "--collection", "collections", multiple=True, help="Only in this collection; may be given more than once."
)
_password_file = click.option(
    "--password-file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="File with the password; without it, it is asked for.",
)


def access_of(system: System) -> AccessStore:
    """Return the accounts and keys of a system."""
    return AccessStore(system.store, system.state)


@click.group("users")
def users() -> None:
    """Say who may log in to the page, and what they may do there."""


@users.command("add")
@click.argument("name")
@role_option
@collections_option
@_password_file
@as_json_option
@command
def add_user(
    system: System,
    name: str,
    role: str | None,
    collections: tuple[str, ...],
    password_file: Path | None,
    *,
    as_json: bool,
) -> None:
    """Add an account NAME; viewers look and search, curators change, admins give roles."""
    if collections and role is None:
        raise click.UsageError("--collection says where a role counts: give --role too")
    grants = () if role is None else grants_of(role, collections)
    system.store.ensure_bucket()
    password = _password(password_file)
    note(system, "add_user", f"{name}: {_words(grants)}")
    _show(access_of(system).add_account(name, grants, password=password, by=BY), as_json=as_json)


@users.command("list")
@as_json_option
@command
def list_users(system: System, *, as_json: bool) -> None:
    """List the accounts."""
    accounts = sorted(access_of(system).load().accounts.values(), key=lambda account: account.name)
    if as_json:
        print_json(accounts_answer(accounts))
    else:
        print_accounts(accounts)


@users.command("remove")
@click.argument("name")
@command
def remove_user(system: System, name: str) -> None:
    """Remove the account NAME, with its keys and share links."""
    note(system, "remove_user", name)
    access_of(system).remove_account(name)
    out.print(f"{plain(name)} is removed, with its keys")


@users.command("password")
@click.argument("name")
@_password_file
@command
def set_password(system: System, name: str, password_file: Path | None) -> None:
    """Give the account NAME another password; its sessions end."""
    access = access_of(system)
    access.account(name)
    password = _password(password_file)
    note(system, "change_password", name)
    access.set_password(name, password)
    out.print(f"{plain(name)} has another password; its sessions have ended")


@users.command("roles")
@click.argument("name")
@role_option
@collections_option
@as_json_option
@command
def set_roles(system: System, name: str, role: str | None, collections: tuple[str, ...], *, as_json: bool) -> None:
    """Give the account NAME a role in place of those it has, or none; its sessions end."""
    if collections and role is None:
        raise click.UsageError("--collection says where a role counts: give --role too")
    grants = () if role is None else grants_of(role, collections)
    note(system, "change_roles", f"{name}: {_words(grants)}")
    _show(access_of(system).set_grants(name, grants), as_json=as_json)


@users.command("disable")
@click.argument("name")
@command
def disable_user(system: System, name: str) -> None:
    """Shut the account NAME out, until `enable`; its sessions end, and its keys rest."""
    note(system, "disable_user", name)
    access_of(system).set_disabled(name, disabled=True)
    out.print(f"{plain(name)} is disabled: its sessions have ended, its keys rest")


@users.command("enable")
@click.argument("name")
@command
def enable_user(system: System, name: str) -> None:
    """Let the account NAME in again."""
    note(system, "enable_user", name)
    access_of(system).set_disabled(name, disabled=False)
    out.print(f"{plain(name)} is enabled")


def note(system: System, what: str, detail: str) -> None:
    """Write into the audit log what is about to be changed."""
    AuditLog(system.store).begin(who=BY, what=what, detail=detail)


def _words(grants: tuple[Grant, ...]) -> str:
    return ", ".join(map(str, grants)) or "no role"


def _password(file: Path | None) -> str:
    if file is not None:
        return file.read_text(encoding="utf-8").rstrip("\r\n")
    return str(click.prompt("Password", hide_input=True, confirmation_prompt=True, err=True))


def _show(account: Account, *, as_json: bool) -> None:
    if as_json:
        print_json(account_answer(account))
    else:
        print_accounts([account])
