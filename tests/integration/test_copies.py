"""Copies between queries and collection on the running system: found by their pixels, and reported with the scores."""

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageOps

from services.evaluator.app import app, make_evaluator
from services.evaluator.copies import CopiesFound
from services.evaluator.evaluator import Evaluator
from shared.evaluation.evaluations import Evaluations
from shared.evaluation.report import EvaluationReport
from shared.evaluation.rows import rows_of
from shared.messaging.messages import EvaluationRequest
from shared.messaging.worker import connect_worker
from shared.state import Jobs, connect
from shared.state.job_ids import new_job_id
from shared.storage import evaluation_layout, layout
from shared.storage.object_store import ObjectStore
from tests.support.stack import Stack
from tests.support.web_client import picture

NAME, K = "copied", 3
CLASSES = ("boats", "trees")
NEAR = {"saved.jpg": False, "half.jpg": False, "cropped.jpg": False, "mirrored.jpg": True, "grey.jpg": False}


def changed(data: bytes, name: str) -> bytes:
    """Return another file of the same picture."""
    image = Image.open(io.BytesIO(data))
    width, height = image.size
    made = {
        "saved.jpg": image,
        "half.jpg": image.resize((width // 2, height // 2)),
        "cropped.jpg": image.crop((round(0.05 * width), 0, width, height)),
        "mirrored.jpg": ImageOps.mirror(image),
        "grey.jpg": image.convert("L"),
    }[name]
    file = io.BytesIO()
    made.save(file, "JPEG", quality=40)
    return file.getvalue()


@pytest.fixture(scope="module")
def queries(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Queries of two classes: four that the collection does not have, five near copies, and one that it holds."""
    folder = tmp_path_factory.mktemp("copied")
    for place, label in enumerate(CLASSES):
        for part, numbers in (("images", range(6)), ("queries", range(6, 8))):
            (folder / part / label).mkdir(parents=True)
            for number in numbers:
                (folder / part / label / f"{number}.jpg").write_bytes(picture(70_000 + 100 * place + number))
    for place, name in enumerate(NEAR):
        original = (folder / "images" / CLASSES[0] / f"{place}.jpg").read_bytes()
        (folder / "queries" / CLASSES[0] / name).write_bytes(changed(original, name))
    twin = (folder / "images" / CLASSES[1] / "0.jpg").read_bytes()
    (folder / "queries" / CLASSES[1] / "twin.jpg").write_bytes(twin)
    stack.artseek("ingest", str(folder / "images"), "--collection", NAME, "--labels-from-folders")
    return folder / "queries"


@pytest.fixture(scope="module")
def report(stack: Stack, queries: Path) -> dict[str, Any]:
    printed = stack.artseek("evaluate", str(queries), "--collection", NAME, "-k", str(K), "--keep", NAME, "--json")
    found: dict[str, Any] = json.loads(printed)
    return found


def test_near_copies_are_found_and_told_apart_from_twins(report: dict[str, Any], queries: Path) -> None:
    copies = {copy["name"].rpartition("/")[2]: copy for copy in report["query_set"]["copies"]}
    assert len(copies) == len(report["query_set"]["copies"])
    assert {name: copy["mirrored"] for name, copy in copies.items() if copy["kind"] == "near"} == NEAR
    assert [name for name, copy in copies.items() if copy["kind"] == "identical"] == ["twin.jpg"]
    for place, name in enumerate(NEAR):
        original = (queries.parent / "images" / CLASSES[0] / f"{place}.jpg").read_bytes()
        one = copies[name]
        assert one["image"] == layout.image_id(layout.digest_of(original))
        assert (one["label"], one["image_label"]) == (CLASSES[0], CLASSES[0])
        assert 0.9 <= one["similarity"] <= 1
        assert 0 <= one["distance"] < 1
    assert (copies["twin.jpg"]["similarity"], copies["twin.jpg"]["distance"]) == (1.0, 0.0)
    assert report["query_set"]["unchecked"] == 0


def test_figures_without_copies_are_those_of_the_other_queries(stack: Stack, report: dict[str, Any]) -> None:
    having = {copy["digest"] for copy in report["query_set"]["copies"]}
    rows = rows_of(ObjectStore.from_settings(stack.settings), NAME, report["id"]).to_pylist()
    for run in report["runs"]:
        its = [row for row in rows if row["run"] == run["id"] and row["digest"] not in having]
        assert run["without_copies"] == {
            "queries": 4,
            "p_at_k": pytest.approx(np.mean([row["p_at_k"] for row in its])),
            "ap_at_k": pytest.approx(np.mean([row["ap_at_k"] for row in its])),
        }


def test_the_command_says_that_copies_flatter(stack: Stack, report: dict[str, Any]) -> None:
    shown = " ".join(stack.artseek("evaluate", "--queries", NAME, "--collection", NAME, "-k", str(K)).split())
    clean, best = report["runs"][0]["without_copies"], report["runs"][0]
    assert "5 queries have near copies in the collection" in shown
    assert f"P@{K} is {clean['p_at_k']:.3f} instead of {best['p_at_k']:.3f}" in shown


def an_evaluator(stack: Stack) -> Evaluator:
    return make_evaluator(stack.settings, connect_worker(stack.settings, app))


def evaluated(stack: Stack, evaluator: Evaluator, request: EvaluationRequest) -> EvaluationReport:
    """Evaluate the collection in this process."""
    job = new_job_id()
    Jobs(connect(stack.settings.index_url.get_secret_value())).create(job, NAME, kind="evaluate")
    evaluator.evaluate(job=job, collection=NAME, request=request)
    return Evaluations(ObjectStore.from_settings(stack.settings)).get(NAME, job)


def test_a_sample_has_near_copies_and_no_twins(stack: Stack, report: dict[str, Any], tmp_path: Path) -> None:
    assert report
    (tmp_path / CLASSES[1]).mkdir()
    (tmp_path / CLASSES[1] / "again.jpg").write_bytes(changed(picture(70_105), "mirrored.jpg"))
    stack.artseek("ingest", str(tmp_path), "--collection", NAME, "--labels-from-folders")
    found = evaluated(stack, an_evaluator(stack), EvaluationRequest(k=K, sample=50))
    copies = found.query_set.copies or ()
    assert {copy.kind for copy in copies} == {"near"}
    ids = {(layout.image_id(copy.digest), copy.image_id) for copy in copies}
    assert ids == {(a, b) for b, a in ids}  # each is the copy of the other
    assert len(ids) == 2
    without_copies = found.runs[0].without_copies
    assert without_copies is not None
    assert without_copies.queries == found.queries - 2


def test_originals_that_are_gone_are_counted_and_nothing_fails(stack: Stack, report: dict[str, Any]) -> None:
    store = ObjectStore.from_settings(stack.settings)
    request = EvaluationRequest(k=K, query_set=report["query_set"]["digest"], kept=NAME)
    names = {one["name"]: one["digest"] for one in report["query_set"]["copies"]}
    gone = evaluation_layout.query_key(names[f"{CLASSES[0]}/half.jpg"])
    data = store.get(gone)
    store.delete([gone])
    try:
        found = evaluated(stack, an_evaluator(stack), request)
    finally:
        store.put(gone, data)
    assert found.query_set.unchecked == 1
    assert {copy.name for copy in found.query_set.copies or ()} == set(names) - {f"{CLASSES[0]}/half.jpg"}


def test_what_was_compared_by_an_attempt_that_died_is_not_compared_again(
    stack: Stack, report: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    request = EvaluationRequest(k=K, query_set=report["query_set"]["digest"], kept=NAME)
    redis = connect(stack.settings.index_url.get_secret_value())
    job = new_job_id()
    Jobs(redis).create(job, NAME, kind="evaluate")
    monkeypatch.setattr("services.evaluator.copies._PART", 4)
    calls: list[slice] = []
    dying = an_evaluator(stack)
    find = dying._copies.find

    def once(*arguments: Any, **options: Any) -> CopiesFound:
        calls.append(arguments[3])
        if len(calls) == 2:
            raise KeyboardInterrupt
        return find(*arguments, **options)

    monkeypatch.setattr(dying._copies, "find", once)
    with pytest.raises(KeyboardInterrupt):
        dying.evaluate(job=job, collection=NAME, request=request)
    again = an_evaluator(stack)
    real = again._copies.find

    def counting(*arguments: Any, **options: Any) -> CopiesFound:
        calls.append(arguments[3])
        return real(*arguments, **options)

    monkeypatch.setattr(again._copies, "find", counting)
    again.evaluate(job=job, collection=NAME, request=request)
    assert [part.start for part in calls] == [0, 4, 4, 8]
    found = Evaluations(ObjectStore.from_settings(stack.settings)).get(NAME, job)
    assert found.to_json()["query_set"]["copies"] == report["query_set"]["copies"]


def test_an_evaluation_is_cancelled_while_it_compares(
    stack: Stack, report: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    jobs = Jobs(connect(stack.settings.index_url.get_secret_value()))
    job = new_job_id()
    jobs.create(job, NAME, kind="evaluate")
    evaluator = an_evaluator(stack)
    find = evaluator._copies.find

    def cancelling(*arguments: Any, **options: Any) -> CopiesFound:
        jobs.cancel(job)
        return find(*arguments, **options)

    monkeypatch.setattr(evaluator._copies, "find", cancelling)
    request = EvaluationRequest(k=K, query_set=report["query_set"]["digest"], kept=NAME)
    evaluator.evaluate(job=job, collection=NAME, request=request)
    assert jobs.get(job).done
    store = ObjectStore.from_settings(stack.settings)
    assert not [item.key for item in store.list(evaluation_layout.evaluating_prefix(job))]
    assert (NAME, job) not in Evaluations(store).ids(NAME)
