"""Evaluating a collection on the running system: the scores, and evaluations that die, are cancelled, or meet."""

import json
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from services.evaluator.app import app
from services.evaluator.evaluator import Evaluator
from services.evaluator.scratch import Scratch, scratch_prefix
from shared.errors import Unavailable
from shared.evaluation.evaluations import Evaluations
from shared.evaluation.grids import parse_grid
from shared.evaluation.query_sets import QuerySets
from shared.evaluation.report_json import EvaluationAnswer
from shared.images import DirectDecoder
from shared.index.generations import collection_prefix
from shared.messaging.messages import EvaluationRequest
from shared.messaging.worker import WorkerClients, connect_worker
from shared.rpc.query.connecting import connect_query
from shared.rpc.serving import ServingClient
from shared.state import Jobs, connect
from shared.state.job_ids import new_job_id
from shared.storage.catalog import Catalog
from shared.tuning import survey, tune
from shared.tuning.goal import Goal
from tests.support.eventually import eventually
from tests.support.scores_by_hand import NAME, K, Kept, assert_by_hand, rows_by_run
from tests.support.stack import Stack
from tests.support.web_client import Client, picture

CLASSES = ("circles", "lines", "waves")
GRID: dict[str, Any] = {"tables": 4, "hashes": 4, "width": 0.6, "probes": 2}


@pytest.fixture(scope="module")
def queries(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of labelled queries, one of which the collection `evaluated` holds, and two files that are none."""
    folder = tmp_path_factory.mktemp("evaluated")
    for place, label in enumerate(CLASSES):
        for part, numbers in (("images", range(8)), ("queries", range(8, 11))):
            (folder / part / label).mkdir(parents=True)
            for number in numbers:
                (folder / part / label / f"{number}.jpg").write_bytes(picture(1000 * (place + 1) + number))
    twin = folder / "queries" / CLASSES[0] / "twin.jpg"
    twin.write_bytes((folder / "images" / CLASSES[0] / "0.jpg").read_bytes())
    (folder / "queries" / CLASSES[1] / "broken.jpg").write_bytes(b"no image at all")
    (folder / "queries" / "loose.jpg").write_bytes(picture(9000))
    (folder / "noise").mkdir()
    for number in range(12):
        (folder / "noise" / f"{number}.jpg").write_bytes(picture(5000 + number))
    stack.artseek("ingest", str(folder / "images"), "--collection", NAME, "--labels-from-folders")
    stack.artseek("ingest", str(folder / "noise"), "--collection", NAME)
    return folder / "queries"


def scratch_keys(stack: Stack, evaluation: str) -> list[bytes]:
    """Return what an evaluation has in the index: its buckets, and its name among those that have some."""
    redis = connect(stack.settings.index_url.get_secret_value())
    noted = [b"scratch"] if redis.sismember("scratch", evaluation) else []
    return [*noted, *(key for key in redis.scan_iter(count=5000) if key.startswith(scratch_prefix(evaluation)))]


@pytest.fixture(scope="module")
def printed(stack: Stack, queries: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    """What an evaluation by all queries prints, which keeps them under the name `shapes`."""
    grid = tmp_path_factory.mktemp("grid") / "grid.json"
    grid.write_text(json.dumps(GRID))
    return stack.artseek(
        *("evaluate", str(queries), "--collection", NAME, "-k", str(K), "--keep", "shapes", "--json"),
        *("--grid", str(grid)),
        check=False,  # 3: some files are no queries
    )


def test_every_figure_is_what_a_computation_from_the_same_vectors_gives(stack: Stack, printed: str) -> None:
    report = json.loads(printed)
    assert (report["queries"], report["k"], report["changed"]) == (10, K, False)
    assert report["collection"]["images"] == 36
    assert report["collection"]["labelled"] == 24
    assert report["query_set"]["in_collection"] == 1
    assert {(rejection["name"], rejection["code"]) for rejection in report["query_set"]["rejected"]} == {
        (f"{CLASSES[1]}/broken.jpg", "not-an-image"),
        ("loose.jpg", "no-label"),
    }
    kept = Kept(stack)
    stored = Evaluations(kept.store).get(NAME, report["id"]).to_json()
    assert stored["query_set"]["rejected"] == report["query_set"]["rejected"]  # also what was never sent
    rows = rows_by_run(kept.store, report["id"])
    everything = np.ones(len(kept.ids), dtype=np.bool_)
    wanted = {"exact-cosine-all", "exact-cosine-labelled", "exact-euclidean-all", "exact-euclidean-labelled"}
    assert {run["id"] for run in report["runs"] if run["search"] == "exact"} == wanted
    for run in report["runs"]:
        if run["search"] == "exact":
            assert_by_hand(kept, run, rows[run["id"]], lambda _: everything)
            assert run["candidate_fraction"] == 1.0
            assert run["recall_at_k"] == 1.0
        else:
            assert run["index"]["generation"] == report["collection"]["generation"] > 0
            assert 0 < run["candidates"] <= (36 if run["distractors"] else 24)
    assert len(report["runs"]) == 8

    # The grid: the same sample and seed give the same hash, whose keys say which images meet.
    ids, vectors = kept.ids, kept.vectors.astype(np.float32)
    family = tune(
        survey(lambda: [(ids, vectors)], len(ids), seed=0), Goal(seed=0, families=("p-stable",), **GRID)
    ).family
    keys = family.keys(vectors)

    def candidates(row: dict[str, Any]) -> npt.NDArray[np.bool_]:
        probes = family.probes(kept.of_query(row).astype(np.float32))
        return np.asarray((keys[:, :, None] == probes[None]).any(axis=(1, 2)))

    (setting,) = report["grid"]
    assert setting["index"]["tables"] == GRID["tables"]
    assert setting["buckets"] == sum(len(set(column)) for column in keys.T.tolist())
    shares = {run["candidate_fraction"] for run in setting["runs"]}
    assert all(0 < share < 1 for share in shares)  # or the grid would tell nothing
    for run in setting["runs"]:
        assert_by_hand(kept, run, rows[run["id"]], candidates)
    assert scratch_keys(stack, report["id"]) == []


def test_a_sample_is_evaluated_with_each_of_its_images_left_out(stack: Stack, queries: Path) -> None:
    del queries
    shown = stack.artseek("evaluate", "--sample", "9", "--collection", NAME, "-k", str(K))
    assert "exact cosine" in shown
    report = json.loads(stack.artseek("evaluate", "--sample", "9", "--collection", NAME, "-k", str(K), "--json"))
    assert report["query_set"]["kind"] == "sample"
    assert report["queries"] == report["query_set"]["in_collection"] == 9
    kept = Kept(stack)
    rows = rows_by_run(kept.store, report["id"])
    everything = np.ones(len(kept.ids), dtype=np.bool_)
    for run in report["runs"][:4]:
        assert_by_hand(kept, run, rows[run["id"]], lambda _: everything)
        assert all(row["id"] not in row["hits"] for row in rows[run["id"]])
        assert {row["candidates"] for row in rows[run["id"]]} == {35 if run["distractors"] else 23}
    evaluations = Evaluations(kept.store)
    again, before = (evaluations.get(name, evaluation) for name, evaluation in evaluations.ids(NAME)[:2])
    assert again.to_json() == report
    assert again.query_set.digest == before.query_set.digest  # the same images for the same seed


def test_evaluations_are_listed_told_and_begun_by_the_api(stack: Stack, queries: Path) -> None:
    del queries
    client = Client(stack.url)
    begun = client.call("POST /evaluations", value={"collection": NAME, "queries": "shapes", "k": K})
    assert begun.status == 202
    client.finished(begun.json["job"])
    found = client.call("GET /evaluations/{id}", id=begun.json["job"])
    assert found.status == 200
    assert found.json["query_set"]["kind"] == "kept"
    listed = client.call("GET /evaluations", query={"collection": NAME, "limit": 2}).json
    assert listed["evaluations"][0]["id"] == begun.json["job"]
    assert listed["evaluations"][0]["runs"][0]["p_at_k"] == found.json["runs"][0]["p_at_k"]
    assert listed["total"] >= 2
    page = client.call("GET /evaluations/{id}/queries", id=begun.json["job"], query={"order": "worst", "limit": 3})
    assert page.json["total"] == 10
    worst = [query["ap_at_k"] for query in page.json["queries"]]
    assert len(worst) == 3
    assert worst == sorted(worst)
    assert all(len(query["hits"]) == K for query in page.json["queries"])
    none = client.call("GET /evaluations/{id}/queries", id=begun.json["job"], query={"run": "grid7-cosine-all"})
    assert none.status == 404
    assert client.call("GET /evaluations/{id}", id="nothing").status == 404
    assert client.call("POST /evaluations", value={"collection": NAME, "queries": "nowhere"}).status == 404
    assert client.call("POST /evaluations", value={"collection": NAME}).status == 422
    assert client.call("DELETE /jobs/{id}", id=begun.json["job"]).json["state"] == "done"  # it is too late
    assert client.call("DELETE /jobs/{id}", id="nothing").status == 404
    rebuild = new_job_id()
    Jobs(connect(stack.settings.index_url.get_secret_value())).create(rebuild, NAME, kind="rebuild")
    assert client.call("DELETE /jobs/{id}", id=rebuild).status == 409  # it has no half that could be kept


# Evaluators in this process, on the servers of the running system


class Died(BaseException):
    """The process is gone."""


class Mortal:
    """Passes every call on to a real part; calls of one method are counted, and the last allowed one is fatal."""

    def __init__(self, real: Any, method: str, state: dict[str, Any]) -> None:
        self._real, self._method, self._state = real, method, state

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._real, name)
        if not callable(found):
            return found

        def call(*arguments: Any, **options: Any) -> Any:
            if self._state.get("dead"):
                raise Died
            if name == self._method:
                self._state["calls"] = self._state.get("calls", 0) + 1
                if self._state["calls"] == self._state.get("at"):
                    self._state["then"]()
            return found(*arguments, **options)

        return call


class Bench:
    """The servers of the running system, a query set, and evaluators on them."""

    def __init__(self, stack: Stack) -> None:
        self.stack = stack
        self.redis = connect(stack.settings.index_url.get_secret_value())
        self.clients = connect_worker(stack.settings, app)
        self.store, self.state, self.jobs = self.clients.store, self.clients.state, self.clients.state.jobs
        self.sets = QuerySets(self.store, self.state)
        self.begun: list[str] = []
        self.request = EvaluationRequest(
            k=K,
            query_set=self.sets.kept("shapes"),
            kept="shapes",
            grid=parse_grid(json.dumps({**GRID, "tables": [2, 4]})),
        )

    def job(self) -> str:
        job = new_job_id()
        self.begun.append(job)
        self.jobs.create(job, NAME, kind="evaluate")
        self.sets.use(self.request.query_set or "", job)
        return job

    def evaluator(
        self, method: str = "", calls: dict[str, Any] | None = None, *, clients: WorkerClients | None = None
    ) -> Evaluator:
        """Return an evaluator whose query service, buckets and scratch are `Mortal`."""

        def mortal(real: Any) -> Any:
            return Mortal(real, method, counted)

        counted = {} if calls is None else calls
        clients = clients or self.clients
        scratch = mortal(Scratch(self.redis, self.state))
        return Evaluator(
            replace(clients, state=replace(self.state, buckets=mortal(self.state.buckets))),
            query=mortal(connect_query(self.stack.settings, deadline_s=120.0)),
            scratch=scratch,
            decoder=DirectDecoder(),
            program="tests",
        )

    def run(self, evaluator: Evaluator, job: str, request: EvaluationRequest | None = None) -> EvaluationAnswer:
        evaluator.evaluate(job=job, collection=NAME, request=request or self.request)
        return Evaluations(self.store).get(NAME, job).to_json()

    def objects(self) -> set[str]:
        prefixes = ("evaluations/", "evaluating/", "querysets/", "queries/")
        return {item.key for prefix in prefixes for item in self.store.list(prefix)}

    def buckets(self) -> dict[bytes, set[bytes]]:
        prefix = collection_prefix(Catalog(self.store).get(NAME))
        keys = [key for key in self.redis.scan_iter(count=5000) if key.startswith(prefix)]
        return {key: self.redis.smembers(key) for key in keys}


@pytest.fixture
def bench(stack: Stack, printed: str) -> Iterator[Bench]:
    del printed  # it keeps the queries
    made = Bench(stack)
    live = made.buckets()
    yield made
    assert [scratch_keys(stack, job) for job in made.begun] == [[] for _ in made.begun]
    assert made.buckets() == live


def scores(report: EvaluationAnswer) -> Any:
    """Return what does not depend on how busy the machine is."""

    def without_times(value: Any) -> Any:
        if isinstance(value, dict):
            times = {"id", "created", "seconds", "build_s", "latency_ms", "stages_ms"}
            return {name: without_times(part) for name, part in value.items() if name not in times}
        return [without_times(part) for part in value] if isinstance(value, list) else value

    return without_times(report)


@pytest.mark.parametrize(("method", "at"), [("search_batch", 6), ("add", 2), ("candidates", 15)])
def test_an_evaluation_that_died_goes_on_where_it_was(bench: Bench, method: str, at: int) -> None:
    whole: dict[str, Any] = {}
    expected = bench.run(bench.evaluator(method, whole), bench.job())

    state: dict[str, Any] = {"at": at, "then": lambda: state.update(dead=True) or _die()}  # type: ignore[func-returns-value]
    job = bench.job()
    with pytest.raises(Died):
        bench.run(bench.evaluator(method, state), job)
    assert not bench.jobs.get(job).done
    if method != "search_batch":
        assert scratch_keys(bench.stack, job)  # which the next attempt, or the next start, removes
    again: dict[str, Any] = {}
    found = bench.run(bench.evaluator(method, again), job)
    assert scores(found) == scores(expected)
    assert again.get("calls", 0) < whole["calls"]
    assert bench.jobs.get(job).done
    assert not [key for key in bench.objects() if key.startswith(f"evaluating/{job}")]
    bench.evaluator().evaluate(job=job, collection=NAME, request=bench.request)  # delivered again: nothing to do


def _die() -> None:
    raise Died


def test_what_a_killed_evaluation_left_in_the_index_is_swept_at_the_next_start(bench: Bench) -> None:
    state: dict[str, Any] = {"at": 1, "then": lambda: state.update(dead=True) or _die()}  # type: ignore[func-returns-value]
    job = bench.job()
    with pytest.raises(Died):
        bench.run(bench.evaluator("candidates", state), job)
    assert scratch_keys(bench.stack, job)
    Scratch(bench.redis, bench.state).sweep()
    assert scratch_keys(bench.stack, job) == []
    bench.run(bench.evaluator(), job)


@pytest.mark.parametrize(("method", "at"), [("search_batch", 3), ("search", 30), ("candidates", 12)])
def test_a_cancelled_evaluation_leaves_nothing_behind(bench: Bench, method: str, at: int) -> None:
    before = bench.objects()
    job = bench.job()
    state: dict[str, Any] = {"at": at, "then": lambda: bench.jobs.cancel(job)}
    bench.evaluator(method, state).evaluate(job=job, collection=NAME, request=bench.request)
    assert state["calls"] >= at
    assert bench.objects() == before
    ended = bench.jobs.get(job)
    assert (ended.done, ended.cancelled) == (True, True)


def test_queries_that_only_a_cancelled_evaluation_used_go_with_it(bench: Bench, tmp_path: Path) -> None:
    before = bench.objects()
    (tmp_path / "dots").mkdir()
    (tmp_path / "dots" / "a.jpg").write_bytes(picture(31337))
    failed = bench.stack.artseek("evaluate", str(tmp_path), "--collection", "evaluated-nowhere", check=False)
    assert failed == ""
    shown = bench.stack.artseek("evaluate", str(tmp_path), "--collection", "evaluated-elsewhere", check=False)
    assert shown == ""  # it has no labelled image: the evaluation fails
    assert bench.objects() == before


def test_two_evaluations_at_once_do_not_disturb_each_other(bench: Bench) -> None:
    other = EvaluationRequest(
        k=3, sample=10, seed=4, grid=parse_grid(json.dumps({**GRID, "tables": [3, 4], "width": 0.9}))
    )
    alone = [scores(bench.run(bench.evaluator(), bench.job(), request)) for request in (bench.request, other)]
    together: list[Any] = [None, None]

    def evaluate(place: int, request: EvaluationRequest) -> None:
        # A worker makes a task anew for which a server was away, as it may be on a busy machine.
        together[place] = eventually(
            lambda: scores(bench.run(bench.evaluator(), bench.job(), request)), trying=Unavailable
        )

    threads = [
        threading.Thread(target=evaluate, args=(place, request)) for place, request in enumerate((bench.request, other))
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert together == alone


def test_nothing_is_embedded_twice(bench: Bench) -> None:
    embedded: list[int] = []

    def counting(model: str, version: int | None) -> ServingClient:
        embedded.append(1)
        return bench.clients.connect_model(model, version)

    bench.run(bench.evaluator(clients=replace(bench.clients, connect_model=counting)), bench.job())
    # The file that is no image is looked at again, and nothing else: no model is asked for it.
    assert len(embedded) <= 1
    own = {query.digest for query in bench.sets.get(bench.request.query_set or "").queries}  # others asked others
    keys = [item.key for item in bench.store.list("embeddings/") if item.key.rpartition("/")[2] in own]
    assert len(keys) == len(set(keys)) == 9  # the twin's embedding is the collection's
