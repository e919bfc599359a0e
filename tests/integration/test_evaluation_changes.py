"""An evaluation whose worker dies while images are replaced: kept results are not those of other queries."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from services.evaluator.app import app
from services.evaluator.checkpoints import CollectionState
from services.evaluator.evaluator import Evaluator
from services.evaluator.scratch import Scratch
from shared.evaluation.evaluations import Evaluations
from shared.images import DirectDecoder
from shared.messaging.messages import EvaluationRequest
from shared.messaging.worker import WorkerClients, connect_worker
from shared.rpc.query import QueryClient
from shared.rpc.query.connecting import connect_query
from shared.state import connect
from shared.state.job_ids import new_job_id
from tests.support.eventually import eventually
from tests.support.indexing import Died
from tests.support.stack import Stack
from tests.support.web_client import Client, picture

NAME = "evaluated-changing"
REQUEST = EvaluationRequest(k=3, sample=100)


class _DyingAt:
    """A query service whose client dies at a batch."""

    def __init__(self, query: QueryClient, batch: int) -> None:
        self._query, self._left = query, batch

    def __getattr__(self, name: str) -> Any:
        return getattr(self._query, name)

    def search_batch(self, request: Any) -> Any:
        self._left -= 1
        if self._left == 0:
            raise Died
        return self._query.search_batch(request)


@pytest.fixture
def client(stack: Stack, tmp_path: Path) -> Iterator[Client]:
    """Two classes of four images, with an index."""
    for place, label in enumerate("ab"):
        (tmp_path / label).mkdir()
        for number in range(4):
            (tmp_path / label / f"{number}.jpg").write_bytes(picture(63_000 + 10 * place + number))
    stack.artseek("ingest", str(tmp_path), "--collection", NAME, "--labels-from-folders")
    yield Client(stack.url)
    stack.artseek("delete", "--collection", NAME, "--whole-collection")


def results(clients: WorkerClients, job: str) -> Any:
    """Return the scores of each run, without what depends on how busy the machine is."""
    report = Evaluations(clients.store).get(NAME, job).to_json()
    return [
        {name: value for name, value in run.items() if name not in {"latency_ms", "stages_ms"}}
        for run in report["runs"]
    ]


def test_results_of_a_sample_are_not_kept_for_another_of_the_same_size(stack: Stack, client: Client) -> None:
    clients = connect_worker(stack.settings, app)
    query = connect_query(stack.settings, deadline_s=120.0)

    def evaluate(job: str, service: Any) -> None:
        scratch = Scratch(connect(stack.settings.index_url.get_secret_value()), clients.state)
        evaluator = Evaluator(clients, query=service, scratch=scratch, decoder=DirectDecoder(), program="tests")
        evaluator.evaluate(job=job, collection=NAME, request=REQUEST)

    def begun() -> str:
        job = new_job_id()
        clients.state.jobs.create(job, NAME, kind="evaluate")
        return job

    job, fresh = begun(), begun()
    before = CollectionState.of(query.collection(NAME))
    with pytest.raises(Died):
        evaluate(job, _DyingAt(query, 3))
    kept = {item.key.rpartition("/")[2] for item in clients.store.list(f"evaluating/{job}")}
    assert {"collection.json", "exact-cosine-all"} <= kept
    images = client.call("GET /collections/{name}/images", name=NAME).json["images"]
    gone = next(image["id"] for image in images if image["label"] == "a")
    client.call("DELETE /collections/{name}/images/{id}", name=NAME, id=gone)
    eventually(lambda: query.collection(NAME).images == 7)
    client.upload(NAME, [("new.jpg", picture(63_100))], label="a")
    eventually(lambda: query.collection(NAME).images == 8)
    assert CollectionState.of(query.collection(NAME)) == before  # it does not tell that anything has changed
    evaluate(job, query)
    evaluate(fresh, query)
    assert results(clients, job) == results(clients, fresh)
