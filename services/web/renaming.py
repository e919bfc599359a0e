"""Renames collections, for the API and the pages; links with an old name lead to the new one."""

import time
from typing import Final
from urllib.parse import urlencode

from flask import Flask, redirect, request, url_for
from flask.typing import ResponseReturnValue

from services.web.access.auditing import note_detail
from services.web.access.gate import authorize_name, new_name
from services.web.clients import WebClients
from services.web.languages import told
from services.web.problems import Problem, problem_of, problem_response, wants_problem
from services.web.quotas import submit_counted
from shared.errors import NotFound
from shared.messaging.job_submission import wait_for_end

_PATIENCE_S = 5.0
_POLL_S = 0.05
_PARTS: Final = ("name", "collection")  # of paths, that name a collection; addresses of searches have the second


def rename_collection(clients: WebClients, name: str, new: str) -> str | None:
    """Have a collection renamed; returns the job if it is not done yet, None if the collection has its new name.

    Raises:
        NotFound: There is no such collection.
        Problem: It keeps its name, and why; or the new one is not for who asks, or they have too much under way.
    """
    clients.catalog.get(name)
    authorize_name(new)
    note_detail(f"to {new}")
    if clients.catalog.is_there(new):
        raise Problem(409, "taken", told("there is a collection %(name)s already: choose another name", name=repr(new)))
    jobs, queue = clients.state.jobs, clients.queue
    job = submit_counted("rename", name, lambda job: queue.rename(job=job, collection=name, new=new))
    until = time.monotonic() + _PATIENCE_S
    ended = wait_for_end(jobs, job, deadline_s=_PATIENCE_S, poll_s=_POLL_S)
    if ended is None:
        return job
    if ended.counts.rejected:
        raise Problem(409, "not-renamed", jobs.outcome(job).reasons)
    while time.monotonic() < until:
        try:
            clients.query.collection(new)
        except NotFound:
            time.sleep(_POLL_S)
        else:
            return None
    return job


def attach(app: Flask) -> None:
    """Have pages of a collection that was renamed found under its new name."""
    app.register_error_handler(NotFound, _lead_on)


def _lead_on(error: NotFound) -> ResponseReturnValue:
    address = None if wants_problem() or request.method not in {"GET", "HEAD"} else _new_address()
    return problem_response(problem_of(error)) if address is None else redirect(address)


def _new_address() -> str | None:
    """Return the address of this request with what its collection is called now; None if that has its name still."""
    path, query = dict(request.view_args or {}), request.args.to_dict(flat=False)
    part = next((part for part in _PARTS if part in path), None)
    name = path[part] if part is not None else request.args.get("collection")
    new = new_name(name) if name and request.endpoint is not None else None
    if new is None:
        return None
    if part is not None:
        path[part] = new
    else:
        query["collection"] = [new]
    return url_for(request.endpoint or "", **path) + (f"?{urlencode(query, doseq=True)}" if query else "")
