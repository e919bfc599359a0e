"""Searches all along: each is answered with 200, or with 503 and ``Retry-After``."""

import random
import time

from benchmarks.chaos.client import Answer, Lost, Part
from benchmarks.chaos.model import COLLECTIONS, Entry
from benchmarks.chaos.run import Run

# What a search can be out of date by. Workers, the broker and the model server cannot make it so.
_KNOWING = ("valkey-index", "query", "objects", "network", "disk", "web")
_MODES = ("auto", "exact", "lsh")
_PAUSE_S = 0.2


def search(run: Run, number: int) -> None:
    """Search until the run is over."""
    choice = random.Random(f"{run.seed} searcher {number}")  # noqa: S311 -- choices, no secrets
    while not run.over.is_set():
        entry = run.model.known(choice, choice.choice(COLLECTIONS), "present")
        if entry is not None:
            _search(run, choice, entry)
        run.over.wait(choice.uniform(0, _PAUSE_S))


def _search(run: Run, choice: random.Random, entry: Entry) -> None:
    since, mode = entry.since, choice.choice(_MODES)
    path = f"/collections/{entry.collection}/search"
    began = time.monotonic()
    answer: Answer | None
    try:
        if choice.random() < 0.6:
            body = {"id": entry.picture.id, "k": 10, "mode": mode}
            answer = run.client.send("POST", path, body=body, allowed=[404])
        else:
            form = [Part("image", entry.picture.name, entry.picture.content), Part("mode", "", mode.encode())]
            answer = run.client.send("POST", path, form=form, allowed=[404])
        status = str(answer.status)
    except Lost as lost:
        answer, status = None, str(lost).partition(":")[0]
    run.journal.search(status, time.monotonic() - began)
    if not run.absences.since("web", began):
        run.journal.waited("search, while web is left alone", time.monotonic() - began)
    if answer is not None:
        _check(run, answer, entry, mode=mode, since=since, began=began)


def _check(run: Run, answer: Answer, entry: Entry, *, mode: str, since: float, began: float) -> None:
    """Compare an answer with the model: `since` the image was there, and the search began at `began`."""
    if any(run.absences.since(server, since) for server in _KNOWING):
        return
    is_still_there = entry.is_certain and entry.since == since
    if answer.status == 404:
        if is_still_there:
            run.journal.violation(f"{entry} is in the collection, and a search for it was answered with 404")
        return
    hits = [hit["id"] for hit in answer.body["hits"]]
    if is_still_there and mode == "exact" and entry.picture.id not in hits:
        run.journal.violation(f"{entry} is in the collection, and an exact search for it did not find it")
    for hit in hits:
        found = run.model.find(entry.collection, hit)
        gone = found is not None and found.is_certain and found.standing.place != "present" and found.since < began
        if found is None or (gone and not any(run.absences.since(server, found.since) for server in _KNOWING)):
            run.journal.violation(f"a search found {hit} in {entry.collection}, which is not there: {found}")
