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
from shared.evaluation.grids import parse_grid
from shared.evaluation.query_sets import QuerySets
from shared.evaluation.report_json import EvaluationAnswer
from shared.evaluation.reports import Evaluations
from shared.evaluation.rows import rows_of
from shared.images import Limits
from shared.index.generations import collection_prefix
from shared.messaging.messages import EvaluationRequest
from shared.messaging.worker import WorkerClients, connect_worker
from shared.rpc.query import QueryClient
from shared.rpc.serving import ServingClient
from shared.state import connect
from shared.state.jobs import new_job_id
from shared.storage import layout, segments
from shared.storage.catalog import Catalog
from shared.storage.object_store import ObjectStore
from shared.tuning import survey, tune
from shared.tuning.goal import Goal
from tests.support.stack import Stack
from tests.support.web_client import Client, picture

NAME, K = "judged", 5
CLASSES = ("circles", "lines", "waves")
GRID: dict[str, Any] = {"tables": 4, "hashes": 4, "width": 0.6, "probes": 2}
Vectors = npt.NDArray[np.float64]


@pytest.fixture(scope="module")
def queries(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of labelled queries, one of which the collection `judged` holds, and two files that are none."""
    folder = tmp_path_factory.mktemp("judged")
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


class Kept:
    """What the store has of a collection and of the queries: for a computation of one's own."""

    def __init__(self, stack: Stack) -> None:
        self.store = ObjectStore.from_settings(stack.settings)
        catalog = Catalog(self.store)
        self.collection = catalog.get(NAME)
        ids, vectors, labels = [], [], []
        for name in catalog.segments(NAME):
            rows = segments.unpack(self.store.get(layout.segment_key(NAME, name)))
            ids += segments.ids_of(rows).tolist()
            vectors.append(segments.vectors_of(rows))
            labels += rows.column("label").to_pylist()
        order = np.argsort(ids)
        self.ids = np.array(ids)[order]
        self.vectors: Vectors = np.concatenate(vectors)[order].astype(np.float64)
        self.labels = np.array(labels, dtype=object)[order]

    def of_query(self, row: dict[str, Any]) -> Vectors:
        if row["in_collection"]:
            found: Vectors = self.vectors[self.ids == row["id"]][0]
            return found
        key = layout.embedding_key(self.collection.model, self.collection.version, row["digest"])
        return np.frombuffer(self.store.get(key), "<f4").astype(np.float64)

    def distances(self, query: Vectors, metric: str) -> Vectors:
        if metric == "euclidean":
            return np.asarray(np.linalg.norm(self.vectors - query, axis=1))
        return np.asarray(
            1 - self.vectors @ query / np.linalg.norm(self.vectors, axis=1) / np.linalg.norm(query), dtype=np.float64
        )


def by_hand(kept: Kept, row: dict[str, Any], run: dict[str, Any], among: npt.NDArray[np.bool_]) -> dict[str, float]:
    """Return the scores of a query by their definitions, of the images among which it is searched."""
    distances = kept.distances(kept.of_query(row), run["metric"])
    able = kept.ids != row["id"]
    if not run["distractors"]:
        able &= kept.labels != None  # noqa: E711 -- an array
    near = np.sort(distances[able])[:K]
    found = np.flatnonzero(able & among)
    best = found[np.lexsort((kept.ids[found], distances[found]))][:K]
    good = kept.labels[best] == row["label"]
    relevant = int((kept.labels[kept.ids != row["id"]] == row["label"]).sum())
    precisions = [good[: place + 1].sum() / (place + 1) for place in range(len(best)) if good[place]]
    scores = 1 - distances[best] if run["metric"] == "cosine" else 1 / (1 + distances[best])
    return {
        "p_at_k": good.sum() / K,
        "ap_at_k": sum(precisions) / min(K, relevant),
        "recall_at_k": float((distances[best] <= near[-1] + 1e-9).sum() / K),
        "candidates": float(len(found)),
        "mean_distance": float(distances[best].mean()) if len(best) else np.nan,
        "mean_similarity": float(scores.mean()) if len(best) else np.nan,
    }


def mean_of(values: list[float]) -> float | None:
    """Return the mean of what there is; a query that found nothing has no distance."""
    there = [value for value in values if np.isfinite(value)]
    return float(np.mean(there)) if there else None


def assert_by_hand(kept: Kept, run: dict[str, Any], rows: list[dict[str, Any]], among: Any) -> None:
    """Check a run's scores against those by hand; `among` gives the candidates of a query."""
    figures = [by_hand(kept, row, run, among(row)) for row in rows]
    for name in figures[0]:
        values = [one[name] for one in figures]
        assert run[name] == pytest.approx(mean_of(values), abs=1e-6), (run["id"], name)
        if name in rows[0]:
            assert [row[name] for row in rows] == pytest.approx(values, abs=1e-6)
        for label, its in run["per_class"].items():
            mine = [value for value, row in zip(values, rows, strict=True) if row["label"] == label]
            assert its[name] == pytest.approx(mean_of(mine), abs=1e-6)
            assert its["queries"] == len(mine)
    for name in ("p_at_k", "ap_at_k", "recall_at_k"):
        of_classes = [its[name] for its in run["per_class"].values()]
        assert run["macro"][name] == pytest.approx(np.mean(of_classes), abs=1e-9)
        low, high = run["interval"][name]
        assert low - 1e-9 <= run[name] <= high + 1e-9
    hits = sum(sum(row.values()) for row in run["confusion"].values())
    assert hits == sum(len(row["hits"]) for row in rows)


def rows_by_run(store: ObjectStore, evaluation: str) -> dict[str, list[dict[str, Any]]]:
    found: dict[str, list[dict[str, Any]]] = {}
    for row in rows_of(store, NAME, evaluation).to_pylist():
        found.setdefault(row["run"], []).append(row)
    return found


def scratch_keys(stack: Stack, evaluation: str) -> list[bytes]:
    """Return what an evaluation has in the index: its buckets, and its name among those that have some."""
    redis = connect(stack.settings.index_url.get_secret_value())
    noted = [b"scratch"] if redis.sismember("scratch", evaluation) else []
    return [*noted, *(key for key in redis.scan_iter(count=5000) if key.startswith(scratch_prefix(evaluation)))]


def test_every_figure_is_what_a_computation_from_the_same_vectors_gives(
    stack: Stack, queries: Path, tmp_path: Path
) -> None:
    (tmp_path / "grid.json").write_text(json.dumps(GRID))
    printed = stack.artseek(
        *("evaluate", str(queries), "--collection", NAME, "-k", str(K), "--keep", "shapes", "--json"),
        *("--grid", str(tmp_path / "grid.json")),
        check=False,  # 3: some files are no queries
    )
    report = json.loads(printed)
    assert (report["queries"], report["k"], report["changed"]) == (10, K, False)
    assert report["collection"]["images"] == 36
    assert report["collection"]["labelled"] == 24
    assert report["query_set"]["in_collection"] == 1
    assert {(one["name"], one["code"]) for one in report["query_set"]["rejected"]} == {
        (f"{CLASSES[1]}/broken.jpg", "not-an-image"),
        ("loose.jpg", "no-label"),
    }
    kept = Kept(stack)
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


def test_a_sample_is_judged_with_each_of_its_images_left_out(stack: Stack, queries: Path) -> None:
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
    worst = [one["ap_at_k"] for one in page.json["queries"]]
    assert len(worst) == 3
    assert worst == sorted(worst)
    assert all(len(one["hits"]) == K for one in page.json["queries"])
    none = client.call("GET /evaluations/{id}/queries", id=begun.json["job"], query={"run": "grid7-cosine-all"})
    assert none.status == 404
    assert client.call("GET /evaluations/{id}", id="nothing").status == 404
    assert client.call("POST /evaluations", value={"collection": NAME, "queries": "nowhere"}).status == 404
    assert client.call("POST /evaluations", value={"collection": NAME}).status == 422
    assert client.call("DELETE /jobs/{id}", id=begun.json["job"]).json["state"] == "done"  # it is too late
    assert client.call("DELETE /jobs/{id}", id="nothing").status == 404
    uploaded = client.upload("judged-elsewhere", [("one.jpg", picture(77))])
    assert client.call("DELETE /jobs/{id}", id=uploaded["id"]).status == 409


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
            query=mortal(QueryClient(self.stack.settings.query_target, deadline_s=120.0)),
            scratch=scratch,
            limits=Limits(),
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
def bench(stack: Stack, queries: Path) -> Iterator[Bench]:
    del queries
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
    failed = bench.stack.artseek("evaluate", str(tmp_path), "--collection", "judged-nowhere", check=False)
    assert failed == ""
    shown = bench.stack.artseek("evaluate", str(tmp_path), "--collection", "judged-elsewhere", check=False)
    assert shown == ""  # it has no labelled image: the evaluation fails
    assert bench.objects() == before


def test_two_evaluations_at_once_do_not_disturb_each_other(bench: Bench) -> None:
    other = EvaluationRequest(
        k=3, sample=10, seed=4, grid=parse_grid(json.dumps({**GRID, "tables": [3, 4], "width": 0.9}))
    )
    alone = [scores(bench.run(bench.evaluator(), bench.job(), request)) for request in (bench.request, other)]
    together: list[Any] = [None, None]

    def evaluate(place: int, request: EvaluationRequest) -> None:
        together[place] = scores(bench.run(bench.evaluator(), bench.job(), request))

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
