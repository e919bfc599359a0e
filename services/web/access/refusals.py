"""What those are told who may not do what they ask for: which role it takes, or to log in."""

from typing import Final

from services.web.languages import Told, marked, told
from services.web.problems import Problem
from shared.access import Action
from shared.access.roles import needed_role

_FORBIDDEN: Final[dict[Action, str]] = {
    "look": marked(
        "you may not look at the collection %(name)s: it takes the role '%(role)s'; an administrator can give it"
    ),
    "originals": marked(
        "the originals of the collection %(name)s are not given to you; an administrator can open them to you"
    ),
    "inspect": marked(
        "you may not see jobs and evaluations of the collection %(name)s: it takes the role '%(role)s'; an "
        "administrator can give it"
    ),
    "change": marked(
        "you may not change the collection %(name)s: it takes the role '%(role)s'; an administrator can give it"
    ),
    "administer": marked(
        "you may not administer the collection %(name)s: it takes the role '%(role)s'; an administrator can give it"
    ),
}


class LogInNeeded(Problem):
    """Ends the request of somebody who has to log in first."""

    def __init__(self) -> None:
        super().__init__(
            401,
            "unauthenticated",
            marked("this takes a log-in, or an API key: send it as `Authorization: Bearer KEY`"),
            headers={"WWW-Authenticate": 'Bearer realm="Artseek"'},
        )


def forbidden(action: Action, collection: str) -> Problem:
    """Return what somebody is told who may not do something in a collection."""
    return Problem(403, "forbidden", told(_FORBIDDEN[action], name=repr(collection), role=_role_for(action)))


def forbidden_everywhere(action: Action) -> Problem:
    """Return what somebody is told who may do something in no collection at all."""
    detail = marked("this takes the role '%(role)s' in some collection; an administrator can give it")
    return Problem(403, "forbidden", told(detail, role=_role_for(action)))


def forbidden_in_all(action: Action) -> Problem:
    """Return what somebody is told who may not do something in all collections."""
    detail = marked("this takes the role '%(role)s' in all collections; an administrator can give it")
    return Problem(403, "forbidden", told(detail, role=_role_for(action)))


def forbidden_name(collection: str) -> Problem:
    """Return what somebody is told who may not give a collection a name."""
    detail = marked(
        "you may not name a collection %(name)s: that takes the role '%(role)s' in a collection of this name, or in "
        "all; an administrator can give it"
    )
    return Problem(403, "forbidden", told(detail, name=repr(collection), role=_role_for("change")))


def _role_for(action: Action) -> Told:
    return told(needed_role(action))
