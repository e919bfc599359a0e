"""What the end of a job says of its images."""

from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.chaos.model import ABSENT, Entry, Place, Standing
from benchmarks.chaos.run import JOB_PATIENCE_S, Run

# Codes with which a good picture may be rejected: its batch was lost four times or cancelled, or its worker died at it.
_ALLOWED = frozenset({"lost", "cancelled", "interrupted", "set-aside", "not-deleted", "dropped"})


def note_added(run: Run, entries: Sequence[Entry], names: dict[str, Entry], label: str, job: dict[str, Any]) -> str:
    """Note what an ingest that has ended made of images, which it knows by names; returns the way it ended."""
    rejected = {refusal["name"]: refusal for refusal in job["rejected"]}
    _note_refusals(run, job)
    counted = job["added"] + job["duplicates"] + len(job["rejected"])
    unnamed = any(name not in names for name in rejected)
    if job["state"] == "done" and not unnamed and counted != len(entries):
        run.journal.violation(f"job {job['id']} ended and accounts for {counted} of {len(entries)} images: {job}")
    by_entry = {entry: name for name, entry in names.items()}
    for entry in entries:
        refusal = rejected.get(by_entry[entry])
        after = added(entry, label)
        if refusal is not None and refusal["code"] == "cancelled":
            run.model.release([entry])
        elif refusal is not None or unnamed or counted != len(entries):
            run.model.lose(entry, *after)
        else:
            run.model.settle(entry, *after)
    return "some rejected" if rejected else "done"


def added(entry: Entry, label: str) -> tuple[Standing, ...]:
    """Return what an image may be after it was added with a label: a duplicate may keep the label that it has."""
    if entry.standing.place == "present":
        return (*entry.possible, Standing("present", label))
    return (Standing("present", label),)


def await_change(run: Run, entries: Sequence[Entry], changed: Mapping[Entry, tuple[Standing, ...]], job_id: str) -> str:
    """Wait for a deletion, a purge or a restoration, and note what it made of images; returns the way it ended."""
    job = run.client.job(job_id, patience_s=JOB_PATIENCE_S)
    if job is None:
        lose(run, changed)
        return "unknown"
    _note_refusals(run, job)
    if job["rejected"]:
        lose(run, changed)
        return "rejected"
    for entry in entries:
        run.model.settle(entry, *changed[entry])
    return "done"


def lose(run: Run, changed: Mapping[Entry, tuple[Standing, ...]]) -> None:
    """Note that images may be as before, or as was asked for."""
    for entry, standings in changed.items():
        run.model.lose(entry, *standings)


def moved(entry: Entry, place: Place) -> tuple[Standing, ...]:
    """Return what an image is in another place: it keeps its label."""
    if place == "absent":
        return (ABSENT,)
    return tuple(Standing(place, standing.label) for standing in entry.possible)


def _note_refusals(run: Run, job: dict[str, Any]) -> None:
    for refusal in job["rejected"]:
        run.journal.refusal(refusal["code"], refusal["reason"])
        if refusal["code"] not in _ALLOWED:
            run.journal.violation(f"a {job['kind']} job rejected a good picture: {refusal}")
