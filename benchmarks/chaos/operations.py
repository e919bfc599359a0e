"""Operations on the collections, as users ask for them, and what their answers say of the model."""

import json
import random
import shutil
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

from benchmarks.chaos.client import Lost, Part
from benchmarks.chaos.model import ABSENT, COLLECTIONS, Entry, Place
from benchmarks.chaos.model_versions import NAME, VERSIONS
from benchmarks.chaos.outcomes import added, await_change, lose, moved, note_added
from benchmarks.chaos.pictures import LABELS
from benchmarks.chaos.run import JOB_PATIENCE_S, Run

Operation = Callable[[Run, random.Random, str], None]
_SOME_REJECTED = 3  # exit status of `artseek ingest`


def upload(run: Run, choice: random.Random, collection: str) -> None:
    """Add new pictures, and at times some that the collection has, had, or another one has."""
    _upload(run, choice, "upload", collection, _to_add(run, choice, collection))


def cancel(run: Run, choice: random.Random, collection: str) -> None:
    """Add pictures, and cancel the job at once."""
    _upload(run, choice, "cancel", collection, run.model.new(collection, choice.randint(4, 12)), cancelled=True)


def relabel(run: Run, choice: random.Random, collection: str) -> None:
    """Add pictures again that the collection has, with another label."""
    _ingest(run, "relabel", collection, run.model.take(choice, collection, "present", 3), choice.choice(LABELS))


def ingest(run: Run, choice: random.Random, collection: str) -> None:
    """Add a folder of pictures with the command."""
    _ingest(run, "ingest", collection, _to_add(run, choice, collection), choice.choice(LABELS))


def delete(run: Run, choice: random.Random, collection: str) -> None:
    """Delete an image, or purge it."""
    _delete(run, choice, collection, purge=False)


def purge(run: Run, choice: random.Random, collection: str) -> None:
    """Purge an image of the collection or of its trash."""
    _delete(run, choice, collection, purge=True)


def delete_many(run: Run, choice: random.Random, collection: str) -> None:
    """Delete several images with one request, into the trash or for good."""
    entries = run.model.take(choice, collection, "present", choice.randint(2, 6))
    if not entries:
        return
    purged = choice.random() < 0.3
    changed = {entry: moved(entry, "absent" if purged else "trash") for entry in entries}
    body = {"ids": [entry.picture.id for entry in entries], "purge": purged}
    try:
        answer = run.client.send("POST", f"/collections/{collection}/delete", body=body)
    except Lost as lost:
        lose(run, changed)
        run.journal.operation("delete many", "unanswered", str(lost))
        return
    way = await_change(run, entries, changed, answer.body["job"])
    run.journal.operation("delete many", way, ", ".join(map(str, entries)))


def restore(run: Run, choice: random.Random, collection: str) -> None:
    """Restore an image from the trash."""
    for entry in run.model.take(choice, collection, "trash", 1):
        changed = {entry: moved(entry, "present")}
        path = f"/collections/{collection}/trash/{entry.picture.id}/restore"
        try:
            answer = run.client.send("POST", path, allowed=[404])
        except Lost as lost:
            lose(run, changed)
            run.journal.operation("restore", "unanswered", f"{entry}: {lost}")
            continue
        if answer.status == 404:
            run.journal.violation(f"{entry} is in the trash, and restoring it was answered with 404: {answer.body}")
            run.model.lose(entry)
            continue
        run.journal.operation("restore", await_change(run, [entry], changed, answer.body["job"]), str(entry))


def compact(run: Run, _: random.Random, collection: str) -> None:
    """Merge the segments."""
    _command(run, "compact", collection)


def rebuild(run: Run, _: random.Random, collection: str) -> None:
    """Restore the index from the object store."""
    _command(run, "rebuild", collection)


def evaluate(run: Run, choice: random.Random, collection: str) -> None:
    """Evaluate the collection; at times delete what came of it."""
    body = {"collection": collection, "sample": choice.randint(2, 12), "k": 5, "seed": choice.randint(0, 9)}
    try:
        answer = run.client.send("POST", "/evaluations", body=body, allowed=[404, 422])
        if answer.status != 202:
            run.journal.operation("evaluate", answer.code)
            return
        job = run.client.job(answer.body["job"], patience_s=JOB_PATIENCE_S)
        failures = [] if job is None else [refusal["reason"] for refusal in job["rejected"]]
        way = "unknown" if job is None else "failed" if failures else str(job["state"])
        run.journal.operation("evaluate", way, "; ".join(failures))
        if choice.random() < 0.3:
            run.client.send("DELETE", f"/evaluations/{answer.body['evaluation']}", allowed=[404])
    except Lost as lost:
        run.journal.operation("evaluate", "unanswered", str(lost))


def change_model(run: Run, choice: random.Random, collection: str) -> None:
    """Change a collection to one of the versions of the model, which may be the one that it has."""
    version = choice.choice(VERSIONS)
    status, _ = run.command("models", "use", f"{NAME}:{version}", "--collection", collection, "--json")
    run.journal.operation("change model", _way(status), f"{collection} to version {version}")


def drop(run: Run, choice: random.Random, _: str) -> None:
    """Make a collection of a few pictures, some of which another one has, and mostly delete it again."""
    collection = f"short-{choice.randrange(10**6):06}"
    shared = run.model.known(choice, choice.choice(COLLECTIONS), "present")
    entries = run.model.new(collection, choice.randint(1, 4))
    if shared is not None:
        entries += run.model.of_pictures(collection, [shared.picture])
    _upload(run, choice, "create collection", collection, entries)
    mine = run.model.take(choice, collection, "present", len(entries))
    if len(mine) < len(entries) or choice.random() < 0.2:
        run.model.release(mine)
        return
    gone = dict.fromkeys(mine, (ABSENT,))
    try:
        answer = run.client.send("DELETE", f"/collections/{collection}", allowed=[409])
    except Lost as lost:
        lose(run, gone)
        run.journal.operation("drop collection", "unanswered", str(lost))
        return
    if answer.status == 202:
        run.journal.operation("drop collection", await_change(run, mine, gone, answer.body["job"]), collection)
    elif answer.status == 409:
        lose(run, gone)
        run.journal.operation("drop collection", "refused", str(answer.body))
    else:
        for entry in mine:
            run.model.settle(entry, ABSENT)
        run.journal.operation("drop collection", "done", collection)


OPERATIONS: Mapping[Operation, int] = {
    upload: 8, ingest: 2, delete: 5, restore: 4, purge: 2, delete_many: 2, relabel: 1, cancel: 2, compact: 1,
    rebuild: 1, evaluate: 2, drop: 2,
    change_model: 1,
}  # fmt: skip
"""The operations and how often each is chosen."""


def act(run: Run, number: int) -> None:
    """Do operations until the run is over: one after the other, as the seed and the thread's number choose."""
    choice = random.Random(f"{run.seed} actor {number}")  # noqa: S311 -- choices, no secrets
    while not run.over.is_set():
        (operation,) = choice.choices(list(OPERATIONS), list(OPERATIONS.values()))
        operation(run, choice, choice.choice(COLLECTIONS))
        run.over.wait(choice.uniform(0, 0.3))


def _to_add(run: Run, choice: random.Random, collection: str) -> list[Entry]:
    entries = run.model.new(collection, choice.randint(1, 8))
    places: tuple[Place, ...] = ("present", "trash", "absent")
    if choice.random() < 0.4:
        entries += run.model.take(choice, collection, choice.choice(places), 1)
    other = run.model.known(choice, choice.choice(COLLECTIONS), "present")
    if choice.random() < 0.4 and other is not None:
        entries += run.model.of_pictures(collection, [other.picture])
    return entries


def _upload(
    run: Run, choice: random.Random, operation: str, collection: str, entries: list[Entry], *, cancelled: bool = False
) -> None:
    label = choice.choice(LABELS)
    names = {entry.picture.name: entry for entry in entries}
    form = [Part("images", name, entry.picture.content) for name, entry in names.items()]
    try:
        answer = run.client.send(
            "POST", f"/collections/{collection}/images", form=[*form, Part("label", "", label.encode())]
        )
    except Lost as lost:
        _lose_added(run, entries, label)
        run.journal.operation(operation, "unanswered", f"{lost}: {', '.join(map(str, entries))}")
        return
    if cancelled:
        try:
            run.client.send("DELETE", f"/jobs/{answer.body['job']}", allowed=[404, 409])
        except Lost:
            run.journal.note("a cancellation was not answered")
    job = run.client.job(answer.body["job"], patience_s=JOB_PATIENCE_S)
    if job is None:
        _lose_added(run, entries, label)
        run.journal.operation(operation, "unknown", f"{answer.body['job']}: {', '.join(map(str, entries))}")
        return
    way = note_added(run, entries, names, label, job)
    run.journal.operation(operation, way, f"{answer.body['job']}: {', '.join(map(str, entries))}")


def _ingest(run: Run, operation: str, collection: str, entries: list[Entry], label: str) -> None:
    if not entries:
        return
    folder = Path(tempfile.mkdtemp(dir=run.scratch))
    names = {}
    (folder / label).mkdir()
    for entry in entries:
        (folder / label / entry.picture.name).write_bytes(entry.picture.content)
        names[f"{label}/{entry.picture.name}"] = entry
    status, out = run.command("ingest", str(folder), "--collection", collection, "--labels-from-folders", "--json")
    shutil.rmtree(folder)
    if status not in {0, _SOME_REJECTED}:
        _lose_added(run, entries, label)
        run.journal.operation(operation, "unknown", f"status {status}: {', '.join(map(str, entries))}")
        return
    way = note_added(run, entries, names, label, json.loads(out))
    run.journal.operation(operation, way, ", ".join(map(str, entries)))


def _delete(run: Run, choice: random.Random, collection: str, *, purge: bool) -> None:
    place: Place = "trash" if purge and choice.random() < 0.5 else "present"
    name = "purge" if purge else "delete"
    for entry in run.model.take(choice, collection, place, 1):
        changed = {entry: moved(entry, "absent" if purge else "trash")}
        path = f"/collections/{collection}/images/{entry.picture.id}{'?purge=true' if purge else ''}"
        began = entry.since
        try:
            answer = run.client.send("DELETE", path, allowed=[404, 409])
        except Lost as lost:
            lose(run, changed)
            run.journal.operation(name, "unanswered", f"{entry}: {lost}")
            continue
        if answer.status == 202:
            run.journal.operation(name, await_change(run, [entry], changed, answer.body["job"]), str(entry))
        elif answer.status == 204:
            run.model.settle(entry, *changed[entry])
            run.journal.operation(name, "done", str(entry))
        elif answer.status == 409:
            lose(run, changed)
            run.journal.operation(name, "refused", f"{entry}: {answer.body}")
        else:
            if not run.absences.any_since(began):
                run.journal.violation(f"{entry} is in the collection, and deleting it was answered with 404")
            lose(run, changed)
            run.journal.operation(name, "not found", str(entry))


def _command(run: Run, name: str, collection: str) -> None:
    status, _ = run.command(name, "--collection", collection, "--json")
    run.journal.operation(name, _way(status), collection)


def _way(status: int | None) -> str:
    return {0: "done", None: "not ended in time"}.get(status, "failed")


def _lose_added(run: Run, entries: list[Entry], label: str) -> None:
    for entry in entries:
        run.model.lose(entry, *added(entry, label))
