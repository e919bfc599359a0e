"""Health, readiness and metrics of the running system."""

import json
import re
from functools import partial

import pytest

from services.web.app import create_app
from tests.support.eventually import eventually
from tests.support.stack import Stack
from tests.support.web_client import Client, picture


@pytest.fixture(scope="module")
def client(stack: Stack) -> Client:
    return Client(stack.url)


def metric(client: Client, pattern: str) -> float:
    text = client.send("GET", "/metrics").body.decode()
    found = re.search(rf"^{pattern} (\S+)$", text, re.MULTILINE)
    return float(found[1]) if found else 0.0


def test_every_part_is_up(client: Client) -> None:
    reply = eventually(lambda: client.send("GET", "/readyz"), until=lambda seen: seen.status == 200)
    assert reply.json["ready"] is True
    assert all(part == {"up": True, "reason": None} for part in reply.json["parts"].values())
    assert client.send("GET", "/healthz").json == {"alive": True}


def test_requests_and_searches_are_counted(client: Client) -> None:
    image = client.call("GET /collections/{name}/images", name="default", query={"limit": 1}).json["images"][0]["id"]
    requests = r'artseek_http_requests_total\{endpoint="api.search",method="POST",status="%d"\}'
    ranks = r'artseek_search_stage_seconds_count\{mode="exact",stage="rank"\}'
    candidates = r'artseek_search_candidates_sum\{mode="exact"\}'
    before = [metric(client, pattern) for pattern in (requests % 200, requests % 422, ranks, candidates)]
    size = 0
    for _ in range(3):
        found = client.call("POST /collections/{name}/search", name="default", value={"id": image, "mode": "exact"})
        size = found.json["collection_size"]
    client.call("POST /collections/{name}/search", name="default", value={"id": 0})
    after = [metric(client, pattern) for pattern in (requests % 200, requests % 422, ranks, candidates)]
    assert [b - a for a, b in zip(before, after, strict=True)] == [3, 1, 3, 3 * size]
    seconds = r'artseek_http_request_seconds_count\{endpoint="api.search",method="POST"\}'
    assert metric(client, seconds) >= 4


def test_a_scrape_shows_parts_queues_and_collections(client: Client) -> None:
    images = client.call("GET /collections/{name}", name="default").json["images"]
    assert metric(client, r'artseek_collection_images\{collection="default"\}') == images > 0
    workers = ("embedder", "indexer", "maintenance", "evaluator")
    for part in ("index", "broker", "object store", "query service", "model server", *workers):
        eventually(partial(metric, client, rf'artseek_part_up\{{part="{part}"\}}'), until=lambda up: up == 1.0)
    text = client.send("GET", "/metrics").body.decode()
    queues = set(re.findall(r'^artseek_queue_messages\{queue="(\w+)"\}', text, re.MULTILINE))
    assert queues == {"embed", "index", "maintenance", "evaluate"}
    assert re.search(r"^process_resident_memory_bytes ", text, re.MULTILINE)


def test_strangers_make_no_new_metrics(client: Client) -> None:
    for number in range(5):
        client.send("GET", f"/nothing-{number}")
        client.call("POST /collections/{name}/search", name=f"nothing-{number}", value={"id": 1})
    assert b"nothing-" not in client.send("GET", "/metrics").body


def test_a_part_that_is_down_is_the_one_that_is_named(stack: Stack) -> None:
    """The same application on the running system, but for one wrong address."""
    settings = stack.settings.model_copy(update={"serving_target": "127.0.0.1:1"})
    app = create_app(settings).test_client()

    def down() -> dict[str, str]:
        answer = app.get("/readyz")
        assert answer.status_code == 503
        return {part: state["reason"] for part, state in json.loads(answer.data)["parts"].items() if not state["up"]}

    found = eventually(down, until=lambda parts: len(parts) == 1)  # on a busy machine others may take too long to ask
    assert "127.0.0.1:1" in found["model server"]


def test_large_uploads_leave_the_process_small(client: Client) -> None:
    """Files are taken in one after the other where they are large, whatever many clients send at once."""
    large = picture(1, form="BMP", size=(2400, 2400))  # 17 MB
    client.call("POST /collections/{name}/search", name="default", fields=[("image", ("large.bmp", large))])
    for _ in range(3):
        fields = [("images", (f"{number}.bmp", large + bytes([number]))) for number in range(4)]
        client.call("POST /collections/{name}/images", name="web-large", fields=fields)
    assert metric(client, "process_resident_memory_bytes") < 400e6
