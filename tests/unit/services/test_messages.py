"""Every message ends its job: of each task of each worker, one with a field more, one less, or one of another type."""

import copy
import inspect
import json
import types
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, is_dataclass
from types import SimpleNamespace
from typing import Any, get_args, get_origin, get_type_hints
from unittest.mock import Mock

import pytest
from celery.exceptions import Reject
from celery.signals import task_unknown

from services.embedder import app as embedder_app
from services.evaluator import app as evaluator_app
from services.indexer import app as indexer_app
from services.maintenance import app as maintenance_app
from shared.errors import Invalid, Unavailable
from shared.evaluation.index_setting import IndexSetting
from shared.messaging import task_queue, worker
from shared.messaging.message_fields import FORMAT, FORMAT_FIELD, read_fields
from shared.messaging.messages import BatchImage, EvaluationRequest, TuningRequest
from shared.messaging.task_queue import TaskQueue
from shared.state.outcomes import Outcome, Rejection

APPS = {
    "embedder": embedder_app,
    "indexer": indexer_app,
    "maintenance": maintenance_app,
    "evaluator": evaluator_app,
}
TASKS: dict[str, tuple[Any, Callable[..., None]]] = {
    name: (module, task)
    for module in APPS.values()
    for name, task in module.app.tasks.items()
    if not name.startswith("celery.")
}
OUTCOME = Outcome({"a": 2}, 1, (Rejection("x", "odd", "it is odd"),), 3)
ITEMS = [BatchImage("ab" * 32, "a.png", None, 7), BatchImage("cd" * 32, "b.png", "b", 8, 1.5)]


class Sent:
    """Takes what a queue sends."""

    def __init__(self) -> None:
        self.messages: dict[str, dict[str, Any]] = {}

    def send_task(self, name: str, *, kwargs: dict[str, Any]) -> None:
        self.messages[name] = json.loads(json.dumps(kwargs))


def sent_messages() -> dict[str, dict[str, Any]]:
    """Return a message of every task, as the queue sends it."""
    sent = Sent()
    queue = TaskQueue(sent)  # type: ignore[arg-type]
    queue.embed(job="j", batch=2, collection="art", items=ITEMS, set_name="art.2", before=OUTCOME)
    queue.index(set_name="art", segment="j-000002", job="j", batch=2, outcome=OUTCOME)
    queue.delete(job="j", collection="art", image_ids=[1, 2], purge=True)
    queue.purge(job="j", collection="art", image_ids=[1], had=[1])
    queue.clean_trash()
    queue.collect_orphans()
    queue.drop(job="j", collection="art")
    queue.maintain(job="j", collection="art")
    queue.rebuild(job="j", collection="art", fit=True)
    queue.tune(job="j", collection="art", request=TuningRequest(recall=0.9, families=("voronoi",)), apply=True)
    queue.compact(job="j", collection="art")
    grid = (IndexSetting(family="voronoi", cells=8), IndexSetting(family="p-stable", space="plain", width=1.5))
    queue.evaluate(job="j", collection="art", request=EvaluationRequest(query_set="ab", kept="mine", grid=grid))
    queue.map(job="j", collection="art", anew=True)
    queue.change_model(job="j", collection="art", model="m", version=None)
    queue.switch_regions(job="j", collection="art", on=True)
    queue.make_regions(job="j", collection="art")
    return sent.messages


def example(hint: Any) -> Any:
    """Return a value of JSON that fits a type hint."""
    if isinstance(hint, types.UnionType):
        return example(next(kind for kind in get_args(hint) if kind is not types.NoneType))
    if get_origin(hint) is list:
        return [example(get_args(hint)[0])]
    if is_dataclass(hint):
        return {name: example(kind) for name, kind in get_type_hints(hint).items()}
    return {str: "art", int: 1, float: 1.5, bool: True}[hint]


def built_message(task: Any) -> dict[str, Any]:
    """Return a message for a task that `sent_messages` does not send, as its annotations say."""
    hints = get_type_hints(inspect.unwrap(task.run))
    fields = {name: example(hint) for name, hint in hints.items() if name != "return"}
    return {**fields, FORMAT_FIELD: FORMAT, **({"job": "j"} if "job" in fields else {})}


SENT = sent_messages()
MESSAGES = {name: SENT.get(name) or built_message(task) for name, (_, task) in TASKS.items()}


@dataclass
class Reports:
    """The reports of jobs that workers make, and the calls of their tasks that got through."""

    reports: list[tuple[str, int, Outcome]] = field(default_factory=list)

    @property
    def state(self) -> "Reports":
        return self

    @property
    def jobs(self) -> "Reports":
        return self

    def report(self, job: str, batch: int, outcome: Outcome) -> None:
        self.reports.append((job, batch, outcome))


@pytest.fixture
def reports(monkeypatch: pytest.MonkeyPatch) -> Reports:
    found = Reports()
    for module in APPS.values():
        monkeypatch.setattr(module, "_clients", lambda: found)
    return found


def broken(message: dict[str, Any], path: tuple[Any, ...]) -> Iterator[dict[str, Any]]:
    """Yield copies of a message with one field more, less, or of another type, in it or anywhere inside."""
    value: Any = message
    for step in path:
        value = value[step]
    if path:
        for other in (None if value is not None else 3, {"an": "object"}, True if not isinstance(value, bool) else 3):
            changed = copy.deepcopy(message)
            parent: Any = changed
            for step in path[:-1]:
                parent = parent[step]
            parent[path[-1]] = other
            yield changed
    steps = list(value) if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else []
    for step in steps:
        yield from broken(message, (*path, step))


def test_each_task_has_a_message_here_and_understands_what_the_queue_sends() -> None:
    assert set(SENT) <= set(TASKS)
    for name, (_, task) in TASKS.items():
        run = inspect.unwrap(task.run)  # type: ignore[attr-defined]
        values = read_fields(run, MESSAGES[name], place="it")
        assert set(values) == set(MESSAGES[name]) - {FORMAT_FIELD}
        assert MESSAGES[name][FORMAT_FIELD] == FORMAT
        older = {key: value for key, value in MESSAGES[name].items() if key != FORMAT_FIELD}
        assert read_fields(run, older, place="it") == values


def test_records_in_messages_are_read_back_as_they_were() -> None:
    run = inspect.unwrap(TASKS[task_queue.EMBED_BATCH][1].run)  # type: ignore[attr-defined]
    values = read_fields(run, MESSAGES[task_queue.EMBED_BATCH], place="it")
    assert values["items"] == ITEMS
    assert Outcome.from_json(values["before"]) == OUTCOME
    run = inspect.unwrap(TASKS[task_queue.TUNE][1].run)  # type: ignore[attr-defined]
    assert read_fields(run, MESSAGES[task_queue.TUNE], place="it")["request"] == TuningRequest(
        recall=0.9, families=("voronoi",)
    )


@pytest.mark.parametrize("name", sorted(TASKS))
def test_a_message_that_is_not_understood_ends_its_job_with_the_reason(reports: Reports, name: str) -> None:
    task, message = TASKS[name][1], MESSAGES[name]

    def ends(changed: dict[str, Any], *said: str) -> None:
        reports.reports.clear()
        task(**changed)
        if "job" not in changed or not isinstance(changed["job"], str):
            assert reports.reports == []
            return
        ((job, batch, outcome),) = reports.reports
        assert (job, outcome.added) == ("j", {})
        whole = changed.get("batch") if "batch" in message else 0
        assert batch == whole if type(whole) is int else batch < 0
        reason = outcome.rejected[-1].reason
        for word in said:
            assert word in reason

    newer = f"sent by a newer Artseek (format {FORMAT + 1}; this one reads {FORMAT}): upgrade this worker"
    ends({**message, FORMAT_FIELD: FORMAT + 1}, newer)
    ends({**message, FORMAT_FIELD: "new"}, "the format 'new'")
    ends({**message, "mood": "good"}, "'mood', which this version does not know")
    required = [
        name
        for name, parameter in inspect.signature(task.run).parameters.items()  # type: ignore[attr-defined]
        if parameter.default is inspect.Parameter.empty
    ]
    for missing in required:
        ends({key: value for key, value in message.items() if key != missing}, f"lacks the field {missing!r}")
    task("a value without a name", **message)


@pytest.mark.parametrize("name", sorted(TASKS))
def test_a_value_of_another_type_is_refused_wherever_it_is(reports: Reports, name: str) -> None:
    task = TASKS[name][1]
    run = inspect.unwrap(task.run)  # type: ignore[attr-defined]
    refused = 0
    for changed in broken(MESSAGES[name], ()):
        try:
            read_fields(run, changed, place="it")
        except Invalid as error:
            refused += any(said in str(error) for said in ("expected", "lacks", "does not know"))
            task(**changed)
    assert refused >= 2 * len(MESSAGES[name]) - 2
    assert all(job == "j" for job, _, _ in reports.reports)


def test_what_is_lost_of_a_batch_is_counted_image_by_image(reports: Reports) -> None:
    TASKS[task_queue.EMBED_BATCH][1](**{**MESSAGES[task_queue.EMBED_BATCH], "mood": 1})
    ((_, _, outcome),) = reports.reports
    assert [(rejection.name, rejection.code) for rejection in outcome.rejected] == [
        ("a.png", "error"),
        ("b.png", "error"),
    ]
    reports.reports.clear()
    TASKS[task_queue.INDEX_SEGMENT][1](**{**MESSAGES[task_queue.INDEX_SEGMENT], "mood": 1})
    ((_, _, outcome),) = reports.reports
    assert (outcome.duplicates, len(outcome.rejected)) == (1, 3)


def test_the_batch_that_a_message_does_not_tell_counts_once_and_as_no_other(reports: Reports) -> None:
    task, message = TASKS[task_queue.EMBED_BATCH][1], MESSAGES[task_queue.EMBED_BATCH]
    for collection in ("art", "art", "other"):
        task(**{**message, "batch": "2", "collection": collection})
    first, again, other = (batch for _, batch, _ in reports.reports)
    assert first == again != other
    assert max(first, other) < 0


def test_while_the_job_cannot_be_ended_the_message_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    def away() -> Any:
        raise Unavailable("Redis is away")

    monkeypatch.setattr(indexer_app, "_clients", away)
    monkeypatch.setattr("time.sleep", print)
    with pytest.raises(Reject) as caught:
        TASKS[task_queue.INDEX_SEGMENT][1](**{**MESSAGES[task_queue.INDEX_SEGMENT], "mood": 1})
    assert vars(caught.value)["requeue"]


def test_a_message_for_a_task_that_a_worker_does_not_know_ends_its_job(
    reports: Reports, monkeypatch: pytest.MonkeyPatch
) -> None:
    message = SimpleNamespace(payload=([], {"job": "j", "batch": 4, "extra": 1}, {}))
    monkeypatch.setattr(worker, "connect_state", Mock(return_value=reports))
    task_unknown.send(sender=None, message=message, exc=KeyError("x"), name="embedder.dream", id="1")
    job, batch, outcome = reports.reports[0]  # each app that is loaded here has told it
    assert (job, batch) == ("j", 4)
    assert "'embedder.dream' was sent by a newer Artseek: upgrade this worker" in outcome.rejected[0].reason


def test_an_error_of_a_task_itself_ends_its_job(reports: Reports, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(**_: object) -> None:
        raise KeyError("odd")

    monkeypatch.setattr(maintenance_app, "maintenance", fail)
    TASKS[task_queue.COMPACT][1](**MESSAGES[task_queue.COMPACT])
    ((_, _, outcome),) = reports.reports
    assert outcome.rejected[0].reason == "the maintenance worker failed: KeyError: 'odd'"
