"""The rule of each route: what one has to be allowed to do, and in which collection.

Routes are made with their rules: there is no way to add one without. `services/web/access/gate.py` enforces them.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, Literal

from flask import Blueprint

from shared.access import Action

Place = Literal["nowhere", "system", "path", "job", "evaluation", "view", "each", "link"]


@dataclass(frozen=True)
class Rule:
    """What a request to a route takes.

    Attributes:
        action: What the requester has to be allowed to do; None: anything, or nothing at all.
        place: Where the collection's name comes from: a `path`, the `job` or `evaluation` that a path names, or the
            `view`, which reads it from a query or body and calls `authorize`. A list of things of `each` collection
            shows those that the requester may see. `system`: it takes a role in all collections.
        name: The part of the path that names it.
        signed_in: Whether it takes at least an account or a key.
        impersonal: Whether it is answered to nobody in particular: nobody looks up who asks.
    """

    action: Action | None
    place: Place = "nowhere"
    name: str = ""
    signed_in: bool = False
    impersonal: bool = False


IMPERSONAL: Final = Rule(None, impersonal=True)
"""Anybody may ask, and all get the same answer, which shared caches may keep, whichever other parts are down."""


OPEN: Final = Rule(None)
"""Anybody may ask, and learns nothing of what is stored."""

SIGNED_IN: Final = Rule(None, signed_in=True)
"""Whoever has logged in or has a key may ask, of themselves."""


BY_LINK: Final = Rule(None, "link")
"""Whoever has a share link may ask: the view looks at the link, and calls `note_authorized`."""


def of_system(action: Action) -> Rule:
    """Return the rule of what concerns the whole system."""
    return Rule(action, "system", signed_in=True)


def of_path(action: Action, name: str = "name") -> Rule:
    """Return the rule of a path with the name of a collection."""
    return Rule(action, "path", name)


def of_job(action: Action) -> Rule:
    """Return the rule of a path with the id of a job."""
    return Rule(action, "job", "id", signed_in=True)


def of_evaluation(action: Action) -> Rule:
    """Return the rule of a path with the id of an evaluation."""
    return Rule(action, "evaluation", "id", signed_in=True)


def of_view(action: Action, *, signed_in: bool = False) -> Rule:
    """Return the rule of a route whose query or body names a collection: its view calls `authorize`."""
    return Rule(action, "view", signed_in=signed_in)


def each(action: Action, *, signed_in: bool = False) -> Rule:
    """Return the rule of a list over collections: its view asks for those that the requester may see."""
    return Rule(action, "each", signed_in=signed_in)


class GuardedBlueprint(Blueprint):
    """A blueprint whose routes each have a rule: ``@blueprint.get("/jobs", access=each("inspect"))``."""

    def __init__(self, name: str, import_name: str, **options: Any) -> None:
        super().__init__(name, import_name, **options)
        self.rules: dict[str, Rule] = {}

    def add_url_rule(  # type: ignore[override]  # a route without a rule is no route
        self,
        rule: str,
        endpoint: str | None = None,
        view_func: Callable[..., Any] | None = None,
        provide_automatic_options: bool | None = None,  # noqa: FBT001 -- as Flask has it
        *,
        access: Rule,
        **options: Any,
    ) -> None:
        """Add a route with its rule."""
        name = str(endpoint or getattr(view_func, "__name__", ""))
        if self.rules.setdefault(name, access) != access:
            raise ValueError(f"the endpoint {self.name}.{name} has two rules")
        super().add_url_rule(rule, endpoint, view_func, provide_automatic_options=provide_automatic_options, **options)
