"""The end of a run: all work ends, and what is stored is compared with the model."""

import json
import time
from collections.abc import Iterator
from typing import Any

from benchmarks.chaos.client import Lost
from benchmarks.chaos.model import ABSENT, Entry, Standing
from benchmarks.chaos.run import Run
from shared.errors import Unavailable
from shared.messaging.celery_app import make_app
from shared.messaging.task_queue import TaskQueue

_PATIENCE_S = 420.0  # for work to end: some waits until a lost message is sent again
_PAUSE_S = 1.0
_CALM_LOOKS = 3
_PAGE = 500
_VERIFY_PATIENCE_S = 300.0


def settle(run: Run) -> None:
    """Wait until all work has ended, then compare; what differs is noted as a violation."""
    began = time.monotonic()
    if not _is_calm(run):
        run.journal.violation(f"the system has not come to rest within {_PATIENCE_S:g} s: {_unfinished(run)}")
    run.journal.waited("rest", time.monotonic() - began)
    _verify(run)
    found = _listing(run)
    for entry in run.model.entries():
        actual = found.pop((entry.collection, entry.picture.id), ABSENT)
        if actual not in entry.possible:
            possible = " or ".join(sorted(map(str, entry.possible)))
            run.journal.violation(f"{entry} is {actual}, and not {possible}")
        elif actual.place == "present":
            _search(run, entry)
    for (collection, image), actual in found.items():
        run.journal.violation(f"{collection}/{image} is {actual}, and was never added there")


def _is_calm(run: Run) -> bool:
    """Wait until the system is ready, no job is unfinished and no message on its way, in several looks in a row."""
    queue = TaskQueue(make_app(run.system.settings, name="chaos"))
    until, calm = time.monotonic() + _PATIENCE_S, 0
    while calm < _CALM_LOOKS:
        if time.monotonic() > until:
            return False
        try:
            is_calm = run.system.is_ready() and not _unfinished(run) and not queue.held()
        except (Lost, Unavailable):
            is_calm = False
        calm = calm + 1 if is_calm else 0
        time.sleep(_PAUSE_S)
    return True


def _unfinished(run: Run) -> list[dict[str, Any]]:
    return [job for state in ("open", "running") for job in run.client.send("GET", f"/jobs?state={state}").body["jobs"]]


def _verify(run: Run) -> None:
    """Verify everything. An index that lost its pins leaves originals that nothing holds: those may be mended."""
    arguments = ["verify", "--all-originals", "--json"]
    for repairing in (False, True):
        more = ["--repair"] if repairing else []
        status, out = run.command(*arguments, *more, patience_s=_VERIFY_PATIENCE_S)
        if status is None or not out:
            run.journal.violation("artseek verify did not end")
            return
        report = json.loads(out)
        kinds = {finding["kind"] for finding in report["findings"] if not finding["repaired"]}
        run.journal.note(f"verified: {out.strip()}")
        if report["ok"]:
            return
        if repairing or not _has_forgotten(run) or kinds != {"original-unheld"}:
            run.journal.violation(f"verify found damage: {json.dumps(report['findings'])}")
            return


def _has_forgotten(run: Run) -> bool:
    return any(run.journal.disturbances[name] for name in ("empty valkey-index", "cut the log of valkey-index"))


def _listing(run: Run) -> dict[tuple[str, int], Standing]:
    """Return where each image is that a collection or its trash lists."""
    found: dict[tuple[str, int], Standing] = {}
    collections = run.client.send("GET", "/collections").body["collections"]
    for collection in (item["name"] for item in collections):
        for image in _pages(run, f"/collections/{collection}/trash"):
            found[collection, image["id"]] = Standing("trash", image["label"] or "")
        images = list(_pages(run, f"/collections/{collection}/images"))
        for image in images:
            found[collection, image["id"]] = Standing("present", image["label"] or "")
        if len(images) != len({image["id"] for image in images}):
            run.journal.violation(f"{collection} lists an image twice")
    return found


def _pages(run: Run, path: str) -> Iterator[dict[str, Any]]:
    offset, total = 0, 1
    while offset < total:
        body = run.client.send("GET", f"{path}?limit={_PAGE}&offset={offset}").body
        yield from body["images"]
        offset, total = offset + _PAGE, body["total"]


def _search(run: Run, entry: Entry) -> None:
    """Check that an image is found, by an exact search and by the index."""
    for mode in ("exact", "lsh"):
        body = {"id": entry.picture.id, "k": 3, "mode": mode}
        try:
            answer = run.client.send("POST", f"/collections/{entry.collection}/search", body=body, allowed=[404])
        except Lost as lost:
            run.journal.violation(f"at rest, a search was answered with {lost}")
            return
        if answer.status != 200 or entry.picture.id not in [hit["id"] for hit in answer.body["hits"]]:
            run.journal.violation(f"at rest, a search (mode={mode}) for {entry} does not find it: {answer}")
