"""The evaluator's worker as a process of its own: whatever breaks in it, a job ends, and says why."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from shared.messaging.celery_app import make_app
from shared.messaging.messages import EvaluationRequest
from shared.messaging.task_queue import EVALUATE, EVALUATE_COLLECTION, TaskQueue
from shared.state import Client, Jobs
from shared.state.job_ids import new_job_id
from shared.storage.object_store import ObjectStore
from tests.support.eventually import PATIENCE_S, eventually
from tests.support.paths import ROOT
from tests.support.processes import bare_environment
from tests.support.servers import Servers


@contextmanager
def worker(servers: Servers, log: Path, how: str) -> Iterator[None]:
    """Run a worker that is broken in some way."""
    environment = bare_environment(
        ARTSEEK_DATA=str(servers.settings.data),
        ARTSEEK_TEST_BREAK=how,
    )
    command = [*("celery", "-A", "tests.support.broken_evaluator", "worker", "-Q", EVALUATE), "-c", "1"]
    with log.open("w") as file:
        process = subprocess.Popen(
            [sys.executable, "-m", *command], cwd=ROOT, env=environment, stdout=file, stderr=file
        )
    try:
        yield
    finally:
        process.terminate()
        process.wait(PATIENCE_S)


def wait_for_end(jobs: Jobs, job: str, log: Path) -> None:
    eventually(lambda: jobs.get(job), until=lambda seen: seen.done, explain=log.read_text)


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ("make", "RuntimeError: the test breaks make; see the evaluator's log"),
        ("give-up", "RuntimeError: the test breaks give-up; see the evaluator's log"),
        ("die", "its worker died 4 times at it"),
    ],
)
def test_a_job_ends_whatever_breaks(
    servers: Servers, store: ObjectStore, redis: Client, tmp_path: Path, how: str, said: str
) -> None:
    store.ensure_bucket()
    jobs, job = Jobs(redis), new_job_id()
    jobs.create(job, "art", kind="evaluate")
    TaskQueue(make_app(servers.settings, name="tests")).evaluate(
        job=job, collection="art", request=EvaluationRequest(sample=5)
    )
    with worker(servers, tmp_path / "log", how):
        wait_for_end(jobs, job, tmp_path / "log")
    (failure,) = jobs.outcome(job).rejected
    assert said in failure.reason


def test_a_message_that_is_not_understood_ends_its_job(
    servers: Servers, store: ObjectStore, redis: Client, tmp_path: Path
) -> None:
    """As an evaluator finds it that is older than who sent it."""
    store.ensure_bucket()
    jobs, job = Jobs(redis), new_job_id()
    jobs.create(job, "art", kind="evaluate")
    message: dict[str, Any] = {"job": job, "collection": "art", "request": {"sample": 5, "mood": "good"}}
    make_app(servers.settings, name="tests").send_task(EVALUATE_COLLECTION, kwargs=message)
    with worker(servers, tmp_path / "log", "die"):
        wait_for_end(jobs, job, tmp_path / "log")
    (failure,) = jobs.outcome(job).rejected
    assert "mood" in failure.reason


def test_a_message_with_other_keys_ends_its_job(
    servers: Servers, store: ObjectStore, redis: Client, tmp_path: Path
) -> None:
    """As an evaluator finds it that is newer than the program that sent it."""
    store.ensure_bucket()
    jobs, job = Jobs(redis), new_job_id()
    jobs.create(job, "art", kind="evaluate")
    message: dict[str, Any] = {"job": job, "collection": "art", "trial": {"sample": 5}}
    make_app(servers.settings, name="tests").send_task(EVALUATE_COLLECTION, kwargs=message)
    with worker(servers, tmp_path / "log", "die"):
        wait_for_end(jobs, job, tmp_path / "log")
    (failure,) = jobs.outcome(job).rejected
    assert "'trial'" in failure.reason
