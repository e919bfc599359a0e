"""Changes the accounts of others, for the API and the pages of those who administer.

Nobody changes their own account so: whoever changes accounts can do so afterwards too, so there is always somebody.
"""

from services.web.access.auditing import note_detail
from services.web.access.gate import current_gate, requester
from services.web.access.setting_up import access_store
from services.web.languages import marked, told
from services.web.problems import Problem
from shared.access import Account, Grant
from shared.access.accounts import account_name


def add_account(name: str, grants: tuple[Grant, ...], password: str) -> Account:
    """Add an account.

    Raises:
        Problem: There is one of this name.
        Invalid: Name or password do not fit.
    """
    wanted = account_name(name)
    note_detail(f"account {wanted}", words_of(grants))
    if wanted in current_gate().access.state().accounts:
        raise Problem(
            409,
            "taken",
            told("there is an account %(name)s already: use another name, or change it", name=repr(wanted)),
        )
    return access_store().add_account(wanted, grants, password=password, by=str(requester()))


def set_grants(name: str, grants: tuple[Grant, ...]) -> Account:
    """Give somebody other roles; their sessions end."""
    account = _of_somebody_else(name)
    note_detail(words_of(grants))
    return access_store().set_grants(account.name, grants)


def set_password(name: str, password: str) -> Account:
    """Give somebody another password; their sessions end."""
    account = _of_somebody_else(name)
    note_detail("another password")
    return access_store().set_password(account.name, password)


def set_disabled(name: str, *, disabled: bool) -> Account:
    """Shut somebody out, or let them in again."""
    account = _of_somebody_else(name)
    note_detail("disabled" if disabled else "enabled")
    return access_store().set_disabled(account.name, disabled=disabled)


def remove_account(name: str) -> None:
    """Remove somebody's account, with its keys and share links."""
    account = _of_somebody_else(name)
    access_store().remove_account(account.name)


def words_of(grants: tuple[Grant, ...]) -> str:
    """Return roles in words."""
    return ", ".join(map(str, grants)) or "no role"


def _of_somebody_else(name: str) -> Account:
    """Return an account that is not the one that asks.

    Raises:
        NotFound: There is none of this name.
        Problem: It is the one that asks.
    """
    account = access_store().account(name)
    if account.name == requester().account:
        raise Problem(
            409,
            "own-account",
            marked(
                "this is your own account: the page “Account” changes its password, and another administrator all else"
            ),
        )
    return account
