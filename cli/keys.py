"""`artseek keys`: API keys, by which programs are let in."""

from typing import TypedDict

import click

from cli.clients import System
from cli.command import command
from cli.options import as_json_option
from cli.printing.access import print_keys
from cli.printing.console import err, out, plain, print_json
from cli.users import BY, access_of, collections_option
from cli.users import note as note_change
from shared.access import ROLES, ApiKey, grants_of
from shared.access.accounts import grants_to_json
from shared.errors import Unavailable
from shared.timestamps import rfc3339


class KeyAnswer(TypedDict):
    """An API key without its secret, as `--json` prints it; times are null where there are none."""

    id: str
    roles: list[dict[str, str | None]]
    account: str
    note: str
    created: str
    expires: str | None
    last_used: str | None
    by: str


@click.group("keys")
def keys() -> None:
    """Make, list and revoke API keys: programs send one as `Authorization: Bearer KEY`."""


@keys.command("create")
@click.option("--role", type=click.Choice(ROLES), required=True, help="What the key may do.")
@collections_option
@click.option("--expires", type=float, metavar="DAYS", help="Days after which it ends; default: never.")
@click.option("--note", default="", help="What it is for.")
@as_json_option
@command
def create_key(
    system: System,
    role: str,
    collections: tuple[str, ...],
    expires: float | None,
    note: str,
    *,
    as_json: bool,
) -> None:
    """Make an API key, and print it: it is not shown again."""
    system.store.ensure_bucket()
    note_change(system, "create_key", f"{role} {' '.join(collections)}".strip())
    key, token = access_of(system).create_key(grants_of(role, collections), days=expires, note=note, by=BY)
    if as_json:
        print_json({**_answer(key, {}), "key": token})
        return
    out.print(token, soft_wrap=True, markup=False)
    err.print("Keep it: it is not shown again. Programs send it as `Authorization: Bearer KEY`.", style="dim")


@keys.command("list")
@as_json_option
@command
def list_keys(system: System, *, as_json: bool) -> None:
    """List the API keys, the newest first."""
    found = sorted(access_of(system).load().keys.values(), key=lambda key: -key.created)
    try:
        uses = system.state.access_marks.uses()
    except Unavailable:
        uses = {}
    if as_json:
        print_json({"keys": [_answer(key, uses) for key in found]})
    else:
        print_keys(found, uses)


@keys.command("revoke")
@click.argument("key_id", metavar="ID")
@command
def revoke_key(system: System, key_id: str) -> None:
    """End the API key with this ID at once."""
    note_change(system, "revoke_key", key_id)
    access_of(system).revoke_key(key_id)
    out.print(f"{plain(key_id)} is revoked")


def _answer(key: ApiKey, uses: dict[str, float]) -> KeyAnswer:
    return KeyAnswer(
        id=key.id,
        roles=grants_to_json(key.grants),
        account=key.account,
        note=key.note,
        created=rfc3339(key.created),
        expires=None if key.expires is None else rfc3339(key.expires),
        last_used=rfc3339(uses[key.id]) if key.id in uses else None,
        by=key.by,
    )
