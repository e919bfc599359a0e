"""Accounts: who may log in, and what they may do. For those who administer the whole system."""

from typing import Annotated

from flask.typing import ResponseReturnValue
from pydantic import Field

from services.web.access import accounts, of_system
from services.web.access.gate import current_gate
from services.web.access.setting_up import access_store
from services.web.api.inputs import CollectionName, Input, checked
from services.web.api.openapi import Answer, Body, flat_schema
from services.web.api.operations import api, json_body, reply
from shared.access import Grant, Role
from shared.access.passwords import LEAST, MOST
from shared.schemas.access import AccountAnswer, AccountsAnswer, account_answer, accounts_answer

_MOST_ROLES = 1_000
UserName = Annotated[
    str, Field(pattern=r"^[a-z0-9][a-z0-9._@+-]{0,127}$", description="Name of the account.", examples=["ann"])
]
Password = Annotated[str, Field(min_length=LEAST, max_length=MOST, description="The password.")]


class UserPath(Input):
    """Path of an account."""

    user: UserName


class NewRole(Input):
    """A role in a collection; null: in all of them."""

    role: Role
    collection: CollectionName | None = None


Roles = Annotated[list[NewRole], Field(max_length=_MOST_ROLES, description="What the account may do.")]


class NewUser(Input):
    """An account that is to be added."""

    name: UserName
    password: Password
    roles: Annotated[Roles, Field(default_factory=list)]


class UserChanges(Input):
    """What is to be changed of an account; what is not given stays."""

    password: Annotated[Password | None, Field(description="Another password; null: as it is.")] = None
    roles: Annotated[Roles | None, Field(description="Roles in place of those it has; null: as they are.")] = None
    disabled: Annotated[bool | None, Field(description="Whether it is shut out, with its keys; null: as it is.")] = None


@api.operation(
    "GET",
    "/users",
    rule=of_system("administer"),
    answers={200: Answer("The accounts.", AccountsAnswer)},
    problems=(503,),
)
def list_users() -> ResponseReturnValue:
    """List the accounts by name."""
    return reply(accounts_answer(current_gate().access.state().accounts.values()))


@api.operation(
    "POST",
    "/users",
    rule=of_system("administer"),
    bodies={"application/json": Body(flat_schema(NewUser))},
    answers={201: Answer("The account.", AccountAnswer)},
    problems=(409, 503),
)
def add_user() -> ResponseReturnValue:
    """Add an account, which logs in by a password; 409: there is one of this name."""
    wanted = checked(NewUser, json_body(), "body", texts=False)
    return reply(account_answer(accounts.add_account(wanted.name, _grants(wanted.roles), wanted.password)), 201)


@api.operation(
    "GET",
    "/users/{user}",
    rule=of_system("administer"),
    path_model=UserPath,
    answers={200: Answer("The account.", AccountAnswer)},
    problems=(404, 503),
)
def get_user(path: UserPath) -> ResponseReturnValue:
    """Tell what an account may do."""
    return reply(account_answer(access_store().account(path.user)))


@api.operation(
    "PATCH",
    "/users/{user}",
    rule=of_system("administer"),
    path_model=UserPath,
    bodies={"application/json": Body(flat_schema(UserChanges))},
    answers={200: Answer("The account as it is now.", AccountAnswer)},
    problems=(404, 409, 503),
)
def change_user(path: UserPath) -> ResponseReturnValue:
    """Change what an account may do, its password, or whether it is shut out; its sessions end.

    409: it is the account that asks, which another administrator can change.
    """
    wanted = checked(UserChanges, json_body(), "body", texts=False)
    if wanted.password is not None:
        accounts.set_password(path.user, wanted.password)
    if wanted.roles is not None:
        accounts.set_grants(path.user, _grants(wanted.roles))
    if wanted.disabled is not None:
        accounts.set_disabled(path.user, disabled=wanted.disabled)
    return reply(account_answer(access_store().account(path.user)))


@api.operation(
    "DELETE",
    "/users/{user}",
    rule=of_system("administer"),
    path_model=UserPath,
    answers={204: Answer("The account is gone, with its keys and share links.")},
    problems=(404, 409, 503),
)
def remove_user(path: UserPath) -> ResponseReturnValue:
    """Remove an account; 409: it is the account that asks."""
    accounts.remove_account(path.user)
    return "", 204


def _grants(roles: list[NewRole]) -> tuple[Grant, ...]:
    """Return roles without those that are there twice."""
    return tuple(dict.fromkeys(Grant(role.role, role.collection) for role in roles))
