"""The page with the query service's metrics: shown to whoever sends the token, if there is one."""

import urllib.error
import urllib.request

import pytest
from prometheus_client import CollectorRegistry, Counter

from services.query import metrics_page
from tests.support.eventually import PATIENCE_S
from tests.support.processes import free_port


@pytest.mark.parametrize(
    ("token", "sent", "status"),
    [
        ("", None, 200),
        ("a token", "Bearer a token", 200),
        ("a token", None, 401),
        ("a token", "Bearer another", 401),
        ("a token", "Basic a token", 401),
        ("a token", "Bearer \xe4", 401),
    ],
)
def test_only_the_token_opens_it(token: str, sent: str | None, status: int) -> None:
    registry = CollectorRegistry()
    Counter("searches", "Searches.", registry=registry).inc()
    port = free_port()
    stop = metrics_page.serve(registry, f"127.0.0.1:{port}", token=token)
    try:
        headers = {} if sent is None else {"Authorization": sent}
        request = urllib.request.Request(f"http://127.0.0.1:{port}/metrics", headers=headers)
        try:
            with urllib.request.urlopen(request, timeout=PATIENCE_S) as answer:  # noqa: S310
                found, said = answer.status, answer.read()
        except urllib.error.HTTPError as error:
            found, said = error.code, error.read()
    finally:
        stop()
    assert found == status
    assert (b"searches_total" in said) == (status == 200)
