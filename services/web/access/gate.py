"""Enforces the rule of each route before its view is called, and answers views what the requester may see.

What one may not see answers as what does not exist; what one may see and not do answers 403. Whoever has not logged in
is told to, whatever there is.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from flask import Flask, Response, current_app, g, redirect, request
from werkzeug.wrappers import Response as WerkzeugResponse

from services.web.access import auditing
from services.web.access.cross_origin import is_from_named_site
from services.web.access.open_links import with_links
from services.web.access.refusals import (
    LogInNeeded,
    forbidden,
    forbidden_everywhere,
    forbidden_in_all,
    forbidden_name,
)
from services.web.access.rules import IMPERSONAL, GuardedBlueprint, Rule
from services.web.access.ways_in import WayIn
from services.web.clients import web_clients
from services.web.languages import told
from services.web.problems import Problem, problem_response, wants_problem
from services.web.static_files import ENDPOINT as STATIC
from shared.access import ANONYMOUS, OWNER, Access, AccessState, Action, Requester
from shared.access.roles import needed_role
from shared.errors import ArtseekError, Invalid, NotFound, Renamed, Unavailable
from shared.evaluation.evaluations import Evaluations, unknown_evaluation
from shared.rpc.query import Collection
from shared.state.jobs import Job, unknown_job
from shared.storage.layout import collection_name

_NAME: Final = "artseek-gate"
_NAMED: Final = {"user": "account", "key": "key"}  # parts of paths, and what the audit log calls them
_CHANGES: Final[frozenset[Action | None]] = frozenset({"change", "administer"})
_FRAGMENTS: Final = frozenset({"search.results_by_name", "search.results_by_file"})  # of pages, which scripts put in


@dataclass
class Gate:
    """What the rules are enforced with.

    Attributes:
        access: Who may do what.
        needs_log_in: Whether one has to log in at all.
        ways_in: How a request may say who sends it.
        rules: The rule of each endpoint.
        log_in_page: Returns where people log in, who then go on to what this request asks for.
    """

    access: Access
    needs_log_in: bool
    ways_in: list[WayIn] = field(default_factory=list)
    rules: dict[str, Rule] = field(default_factory=dict)
    log_in_page: Callable[[], str] | None = None


def attach(app: Flask, gate: Gate) -> None:
    """Find out who sends each request to the application; call it before what counts requests."""
    app.extensions[_NAME] = gate
    app.before_request(_identify)
    app.after_request(_finish)
    app.after_request(auditing.finish)
    app.register_error_handler(LogInNeeded, _send_to_log_in)
    for question in (may, may_somewhere):
        app.add_template_global(question)
    app.context_processor(lambda: {"requester": requester(), "needs_log_in": gate.needs_log_in})


def enforce_rules(app: Flask) -> None:
    """Refuse what the rules do not allow; call it after what counts requests, so that refusals are counted too."""
    app.before_request(_check)


def gather_rules(app: Flask) -> None:
    """Gather the rules of all routes, once all are added.

    Raises:
        RuntimeError: A route has none.
    """
    gate: Gate = app.extensions[_NAME]
    gate.rules[STATIC] = IMPERSONAL
    for name, blueprint in app.blueprints.items():
        if isinstance(blueprint, GuardedBlueprint):
            gate.rules.update({f"{name}.{endpoint}": rule for endpoint, rule in blueprint.rules.items()})
    for route in app.url_map.iter_rules():
        if route.endpoint not in gate.rules:
            raise RuntimeError(f"the route {route.rule} has no rule: say who may use it")


def current_gate() -> Gate:
    """Return the gate of the application that answers this request."""
    gate: Gate = current_app.extensions[_NAME]
    return gate


def requester() -> Requester:
    """Return who sent this request."""
    found: Requester | None = g.get("requester")
    return ANONYMOUS if found is None else found


def may(action: Action, collection: str | None = None) -> bool:
    """Return whether who sent this request may do something in a collection; None: in all of them."""
    asking = requester()
    return asking.kind == "owner" or _state().may(asking, action, collection)


def may_somewhere(action: Action) -> bool:
    """Return whether who sent this request may do something in some collection."""
    asking = requester()
    return asking.kind == "owner" or _state().may_somewhere(asking, action)


def _state() -> AccessState:
    """Return who may do what, as it was when this request first asked: a page may ask for each of its images."""
    found: AccessState | None = g.get("access_state")
    if found is None:
        found = g.access_state = current_gate().access.state()
    return found


def is_open_to_named_sites() -> bool:
    """Return whether a page of a site that the settings name sent this request, and may: it looks or searches."""
    rule = current_gate().rules.get(request.endpoint or "")
    return is_from_named_site() and rule is not None and rule.action in {None, "look"} and not rule.signed_in


# What views ask


def authorize(collection: str) -> None:
    """Make sure that the requester may do in a collection what the rule of this route says.

    Raises:
        NotFound: They may not see it, or there is none of this name.
        Problem: They may not do it, or have to log in first.
    """
    g.is_authorized = True
    rule = current_gate().rules[request.endpoint or ""]
    if rule.action is not None:
        _require(rule.action, collection)
        _note_change(rule.action, collection)


def authorize_name(collection: str) -> None:
    """Make sure that the requester may give a collection this name, which takes what changing one of this name takes.

    Who may not is told the same whether there is such a collection or not.

    Raises:
        Problem: They may not.
    """
    if not may("change", collection):
        raise forbidden_name(collection)


def note_authorized() -> None:
    """Note that the view has seen by itself that this request may be answered."""
    g.is_authorized = True


def authorize_evaluation(evaluation: str) -> str:
    """Make sure that the requester may do with an evaluation what the rule of this route says; returns its collection.

    Raises:
        NotFound: They may not see it, or there is none.
        Problem: They may not do it.
    """
    g.is_authorized = True
    rule = current_gate().rules[request.endpoint or ""]
    collection = _collection_of_evaluation(evaluation)
    if rule.action is not None:
        _require_inside(rule.action, collection, unknown_evaluation(evaluation))
        _note_change(rule.action, collection, detail=f"evaluation {evaluation}")
    return collection


def authorize_somewhere(*, detail: str = "") -> None:
    """Make sure that the requester may do somewhere what the rule of this route says, of what all collections share.

    `detail` names the thing, for the audit log.

    Raises:
        Problem: They may not.
    """
    g.is_authorized = True
    rule = current_gate().rules[request.endpoint or ""]
    if rule.action is not None:
        if not may_somewhere(rule.action):
            raise forbidden_everywhere(rule.action)
        _note_change(rule.action, "", detail=detail)


def seen_collections() -> list[Collection]:
    """Return the collections that the requester may look at, by name.

    Raises:
        LogInNeeded: There is none for those who have not logged in.
    """
    g.is_authorized = True
    seen = [collection for collection in web_clients().query.collections() if may("look", collection.name)]
    if not seen and not requester().is_signed_in:
        raise LogInNeeded
    return seen


def open_collections(action: Action) -> frozenset[str] | None:
    """Return the names of the collections in which the requester has the role for an action; None: in all."""
    g.is_authorized = True
    return requester().collections_with(needed_role(action))


# Before and after each view


def _identify() -> None:
    """Find out who sent the request. Whoever tried and failed is anonymous until `_check` refuses them."""
    gate = current_gate()
    rule = gate.rules.get(request.endpoint or "")
    try:
        g.requester = _who(gate, rule)
    except (Problem, ArtseekError) as error:
        g.requester, g.failed_way_in = ANONYMOUS, error


def _check() -> None:
    """Enforce the rule of the route."""
    failed: Exception | None = g.get("failed_way_in")
    if failed is not None:
        raise failed
    if request.endpoint is not None:  # else there is no such page, which everybody may know
        _enforce(current_gate().rules[request.endpoint])


def _who(gate: Gate, rule: Rule | None) -> Requester:
    if is_from_named_site():
        return ANONYMOUS
    if not gate.needs_log_in:
        return OWNER
    if rule is not None and rule.impersonal:
        return ANONYMOUS
    found = next((found for way_in in gate.ways_in if (found := way_in(request)) is not None), ANONYMOUS)
    return with_links(found, gate.access)


def _enforce(rule: Rule) -> None:
    if rule.signed_in and not requester().is_signed_in:
        raise LogInNeeded()
    if requester().kind == "owner":
        return
    if rule.action is None:
        if rule.signed_in:
            auditing.begin(str(requester()), detail=_named())
        return
    part = str((request.view_args or {}).get(rule.name, ""))
    match rule.place:
        case "system":
            if not may(rule.action):
                raise forbidden_in_all(rule.action)
            _note_change(rule.action, "", detail=_named())
        case "path":
            _require(rule.action, part)
            _note_change(rule.action, part)
        case "job":
            collection = _collection_of_job(web_clients().state.jobs.get(part))
            _require_inside(rule.action, collection, unknown_job(part))
            _note_change(rule.action, collection, detail=f"job {part}")
        case "evaluation":
            collection = _collection_of_evaluation(part)
            _require_inside(rule.action, collection, unknown_evaluation(part))
            _note_change(rule.action, collection, detail=f"evaluation {part}")
        case "view":
            if not may_somewhere(rule.action):
                raise forbidden_everywhere(rule.action) if requester().is_signed_in else LogInNeeded()
        case "each" | "nowhere":
            pass


def _named() -> str:
    """Return which account or key a path names, for the audit log."""
    return " ".join(
        f"{_NAMED[name]} {text[:128]}" for name, text in (request.view_args or {}).items() if name in _NAMED
    )


def _require(action: Action, collection: str) -> None:
    if may(action, collection):
        return
    if not requester().is_signed_in and action != "look":
        raise LogInNeeded()
    if may("look", collection):
        raise forbidden(action, collection)
    new = new_name(collection)
    if new is not None:
        raise Renamed(collection, new)
    raise _unknown(collection) if requester().is_signed_in else LogInNeeded()


def _note_change(action: Action, collection: str, *, detail: str = "") -> None:
    """Write into the audit log what a request is about to change, on a system where people are told apart."""
    if action in _CHANGES and requester().kind != "owner":
        auditing.begin(str(requester()), collection, detail=detail)


def new_name(collection: str) -> str | None:
    """Return what a collection that was renamed is called now; None if it was not, or the requester may not see it."""
    try:
        new = web_clients().catalog.current_name(collection_name(collection))
    except (Invalid, Unavailable):  # the store is away, or this is no name
        return None
    return new if new != collection and may("look", new) else None


def _unknown(collection: str) -> NotFound:
    return NotFound(told("there is no collection %(name)s", name=repr(collection[:80])))


def _require_inside(action: Action, collection: str, unknown: NotFound) -> None:
    """Make sure that the requester may do something with a thing of a collection, which is `unknown` to others."""
    if not may("inspect", collection):
        raise unknown
    if not may(action, collection):
        raise forbidden(action, collection)


def _collection_of_evaluation(evaluation: str) -> str:
    clients = web_clients()
    try:
        return Evaluations(clients.store).find(evaluation)
    except NotFound:  # it may be under way
        try:
            job = clients.state.jobs.get(evaluation)
        except NotFound:
            raise unknown_evaluation(evaluation) from None
        if job.kind != "evaluate":
            raise unknown_evaluation(evaluation) from None
        return _collection_of_job(job)


def _collection_of_job(job: Job) -> str:
    """Return the name by which a job's collection is judged: what it is called now, where roles have followed that."""
    return job.collection if may("inspect", job.collection) else new_name(job.collection) or job.collection


def _send_to_log_in(problem: LogInNeeded) -> WerkzeugResponse:
    """Lead people to where they log in; tell programs that they have to."""
    page = current_gate().log_in_page
    if wants_problem() or request.endpoint in _FRAGMENTS or page is None:
        return problem_response(problem)
    return redirect(page(), 303)


def _finish(response: Response) -> Response:
    """Keep answers to one requester from another, and make sure that views did what their rules say."""
    gate = current_gate()
    rule = gate.rules.get(request.endpoint or "")
    if (
        rule is not None
        and rule.place in {"view", "each", "link"}
        and not g.get("is_authorized")
        and response.status_code < 300
    ):
        raise RuntimeError(f"the view of {request.endpoint} has not asked who may see what it answers")
    if (
        rule is not None
        and rule.action in _CHANGES
        and requester().kind != "owner"
        and response.status_code < 400
        and auditing.is_missing()
    ):
        raise RuntimeError(f"the view of {request.endpoint} has not asked who may change what it changes")
    if gate.needs_log_in and not (rule is not None and rule.impersonal):
        response.headers.setdefault("Cache-Control", "private, no-cache")
        response.vary.update(("Authorization", "Cookie"))
    return response
