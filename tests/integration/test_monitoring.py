"""The metrics of the running services: all that alerts and dashboards name is there, and live recall among it."""

import subprocess
import sys
import time
import urllib.request
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from shared.errors import NotFound
from shared.rpc.query import MODES, QueryClient, QueryRefused, SearchBatchRequest, SearchRequest
from shared.rpc.query.connecting import connect_query
from shared.rpc.query.query_pb2 import BatchQuery
from shared.state import connect
from shared.state.recall_log import HourOfRecall, RecallLog, hour_of
from tests.support import monitoring_files
from tests.support.eventually import PATIENCE_S, eventually
from tests.support.paths import ROOT
from tests.support.processes import bare_environment, free_port
from tests.support.stack import Stack
from tests.support.web_client import Client, picture


@dataclass(frozen=True)
class Query:
    """A query service, a replica of the system's own, that checks all of the index's answers."""

    client: QueryClient
    metrics: str
    token: str

    def page(self) -> str:
        return fetch(self.metrics, token=self.token)

    def value(self, name: str, **labels: str) -> float:
        return sum(
            sample.value
            for family in text_string_to_metric_families(self.page())
            for sample in family.samples
            if sample.name == name and labels.items() <= sample.labels.items()
        )


def fetch(address: str, *, token: str = "") -> str:
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    request = urllib.request.Request(address, headers=headers)  # noqa: S310 -- our own
    with urllib.request.urlopen(request, timeout=PATIENCE_S) as answer:  # noqa: S310
        return str(answer.read().decode())


@pytest.fixture(scope="module")
def query(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Query]:
    folder = tmp_path_factory.mktemp("replica")
    listen, shows = (f"127.0.0.1:{free_port()}" for _ in range(2))
    environment = bare_environment(
        ARTSEEK_DATA=str(stack.data),
        ARTSEEK_QUERY_LISTEN=listen,
        ARTSEEK_QUERY_METRICS_LISTEN=shows,
        ARTSEEK_QUERY_COPY=str(folder / "copy"),
        ARTSEEK_RECALL_SAMPLE="1",
    )
    log = folder / "log"
    with log.open("w") as file:
        process = subprocess.Popen(
            [sys.executable, "-m", "services.query"], cwd=ROOT, env=environment, stdout=file, stderr=file
        )
    try:

        def is_serving() -> bool:
            said = log.read_text()
            assert process.poll() is None, said
            return "serving at" in said

        eventually(is_serving, explain=log.read_text)
        with connect_query(stack.settings.model_copy(update={"query_target": listen})) as client:
            yield Query(client, f"http://{shows}/metrics", stack.settings.metrics_token.get_secret_value())
    finally:
        process.terminate()
        assert process.wait(PATIENCE_S) == 0, log.read_text()


def exposed(*texts: str) -> dict[str, set[str]]:
    """The names under which Prometheus knows what is shown, and the labels of each, as far as there are samples."""
    names: defaultdict[str, set[str]] = defaultdict(set)
    endings = {"counter": ("_total",), "histogram": ("_bucket", "_sum", "_count"), "summary": ("_sum", "_count")}
    for text in texts:
        for family in text_string_to_metric_families(text):
            for ending in endings.get(family.type, ("",)):
                names[f"{family.name}{ending}"] |= {"le"} if ending == "_bucket" else set()
            for sample in family.samples:
                names[sample.name] |= sample.labels.keys()
    return dict(names)


def test_live_recall_gets_to_its_address_and_into_the_metrics(stack: Stack, query: Query) -> None:
    web = Client(stack.url)
    eventually(
        lambda: query.client.collection("default"),
        until=lambda found: bool(found.generation) and not found.index_fault,  # until then searches scan exactly
    )
    other, created = (
        RecallLog(connect(stack.settings.index_url.get_secret_value())),
        query.client.collection("default").created,
    )
    other.write("default", HourOfRecall(hour_of(created) - 1, 1, 0.0))  # of another collection that had the name
    other.write("default", HourOfRecall(hour_of(time.time()), dropped=2))
    images = query.client.images("default", limit=20).images
    asked = [SearchRequest(collection="default", id=image.id, mode=MODES["lsh"], k=5) for image in images]
    for request in asked[:10]:
        assert query.client.search(request).mode == MODES["lsh"]
    options = SearchRequest(collection="default", mode=MODES["lsh"], k=5)
    query.client.search_batch(SearchBatchRequest(options=options, queries=[BatchQuery(id=images[0].id)]))
    options.for_evaluation = True
    query.client.search_batch(SearchBatchRequest(options=options, queries=[BatchQuery(id=images[0].id)]))
    query.client.search(SearchRequest(collection="default", id=images[0].id, mode=MODES["exact"]))
    eventually(lambda: query.value("artseek_live_recall_count"), until=lambda count: count >= 11)
    found: dict[str, Any] = eventually(
        lambda: web.call("GET /collections/{name}/recall", name="default").json,
        until=lambda seen: bool(seen["sampled"] >= 11),
    )
    total = query.value("artseek_live_recall_sum", collection="default")
    assert (found["collection"], found["sampled"], found["dropped"]) == ("default", 11, 2)
    assert found["recall"] == pytest.approx(total / 11)
    assert query.value("artseek_live_recall_latest") == pytest.approx(total / 11)
    assert sum(hour["sampled"] * (hour["recall"] or 0) for hour in found["hours"]) == pytest.approx(total)
    for hour in found["hours"]:
        began = datetime.fromisoformat(hour["hour"])
        assert (began.minute, began.second) == (0, 0)
        assert 0 <= (datetime.now(UTC) - began).total_seconds() < 7200
    assert query.value("artseek_query_searches_total", mode="lsh") == 11
    assert query.value("artseek_query_searches_total", mode="exact") == 1
    assert query.value("artseek_query_stage_seconds_count", mode="lsh", stage="rank") == 11
    assert query.value("artseek_query_requests_total", method="SearchBatch", code="OK") == 2
    assert query.value("artseek_query_images", collection="default") == len(
        query.client.images("default", limit=1000).images
    )


def test_a_request_that_fails_is_counted_by_its_status(query: Query) -> None:
    with pytest.raises(NotFound):
        query.client.search(SearchRequest(collection="nowhere", id=1))
    with pytest.raises(QueryRefused, match="nothing to search for"):
        query.client.search(SearchRequest(collection="default"))
    assert query.value("artseek_query_requests_total", method="Search", code="NOT_FOUND") == 1
    assert query.value("artseek_query_requests_total", method="Search", code="INVALID_ARGUMENT") == 1
    assert "nowhere" not in query.page()


def test_recall_of_a_collection_that_is_not_there_and_of_strange_days(stack: Stack) -> None:
    web = Client(stack.url)
    assert web.call("GET /collections/{name}/recall", name="nowhere").status == 404
    for days in (0, 91):
        reply = web.call("GET /collections/{name}/recall", name="default", query={"days": days})
        assert reply.status == 422
        assert "days" in reply.json["detail"]


def test_images_are_counted_by_what_became_of_them(stack: Stack) -> None:
    web = Client(stack.url)

    def counted() -> dict[str, float]:
        families = text_string_to_metric_families(fetch(f"{stack.url}/metrics"))
        return {
            next(iter(sample.labels.values())): sample.value
            for family in families
            if family.name in {"artseek_images", "artseek_images_rejected"}
            for sample in family.samples
        }

    before = counted()
    whole = picture(1, form="PNG", size=(200, 200))
    files = [
        ("images", ("a.png", whole)),
        ("images", ("b.png", whole)),
        ("images", ("c.png", whole[: len(whole) // 2])),
    ]
    done = web.finished(web.call("POST /collections/{name}/images", name="monitored", fields=files).json["job"])
    after = counted()
    rejected = {rejection["code"] for rejection in done["rejected"]}
    assert (done["added"], done["duplicates"], len(done["rejected"])) == (1, 1, 1)
    grown = {name: after[name] - before.get(name, 0) for name in after}
    assert {name: count for name, count in grown.items() if count} == {
        "added": 1,
        "duplicate": 1,
        **dict.fromkeys(rejected, 1),
    }


def test_alerts_and_dashboards_name_only_what_the_services_show(stack: Stack, query: Query) -> None:
    shown = exposed(fetch(f"{stack.url}/metrics"), query.page())
    for expression in monitoring_files.expressions():
        for selector in monitoring_files.selectors(expression):
            known = monitoring_files.OF_PROMETHEUS.get(selector.metric) or shown.get(selector.metric)
            assert known is not None, f"no service shows {selector.metric}: {expression}"
            if known - {"le"}:  # of what was never counted, only the name is shown
                assert selector.labels <= known | monitoring_files.OF_TARGETS, expression


def test_the_system_shows_the_metrics_of_its_own_query_service_to_whoever_has_the_token(stack: Stack) -> None:
    address = f"http://{stack.settings.query_metrics_listen}/metrics"
    with pytest.raises(urllib.error.HTTPError, match="401"):
        fetch(address, token="guessed")
    page = fetch(address, token=stack.settings.metrics_token.get_secret_value())
    assert "artseek_query_requests_total" in exposed(page)
