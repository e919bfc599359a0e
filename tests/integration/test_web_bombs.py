"""Images that take long to decode, eight at a time, against the running system: everybody else is answered."""

import hashlib
from concurrent.futures import ThreadPoolExecutor

from shared.storage.layout import image_id
from tests.support import bombs
from tests.support.eventually import PATIENCE_S
from tests.support.stack import Stack
from tests.support.web_client import SEARCH, Client, picture


def test_health_and_searches_by_id_go_on_while_bombs_are_decoded(stack: Stack) -> None:
    client = Client(stack.url)
    good = picture(77)
    assert client.upload("bombs", [("good.jpg", good)])["added"] == 1
    query = {"id": image_id(hashlib.sha256(good).hexdigest()), "k": 1}
    bomb = bombs.hidden_scans(3500, 90)
    with ThreadPoolExecutor(8) as threads:
        searches = [
            threads.submit(client.call, SEARCH, name="bombs", body=bomb, headers={"Content-Type": "image/tiff"})
            for _ in range(8)
        ]
        answered = 0
        while not all(search.done() for search in searches):
            health, by_id = client.send("GET", "/healthz"), client.call(SEARCH, name="bombs", value=query)
            assert (health.status, by_id.status) == (200, 200)
            answered += not all(search.done() for search in searches)
        assert answered
        statuses = [search.result(PATIENCE_S).status for search in searches]
    assert set(statuses) <= {200, 503}  # it is a picture after all; who finds the queue full is told to come back
    assert 200 in statuses
    refused = client.call(SEARCH, name="bombs", body=bombs.scans(64, 101), headers={"Content-Type": "image/jpeg"})
    assert (refused.status, refused.json["code"]) == (422, "too-complex")
