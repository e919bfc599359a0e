"""What the service counts about itself, in Prometheus' terms: requests, and the stages of searches."""

import time
from dataclasses import dataclass
from typing import Final

from flask import Flask, Response, current_app, g, request
from prometheus_client import CollectorRegistry, Counter, Histogram, ProcessCollector

from shared.rpc.query import MODE_NAMES, SearchResponse

_NAME = "artseek-measures"
_METHODS: Final = frozenset({"GET", "HEAD", "POST", "DELETE", "OPTIONS"})
_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.02, 0.03, 0.05, 0.1, 0.2, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
_CANDIDATES = tuple(digit * 10**power for power in range(1, 6) for digit in (1, 2, 5))


@dataclass(frozen=True)
class Measures:
    """The counters and histograms of one application."""

    registry: CollectorRegistry
    requests: Counter
    seconds: Histogram
    stages: Histogram
    candidates: Histogram


def attach(app: Flask) -> None:
    """Measure every request of the application."""
    registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    app.extensions[_NAME] = Measures(
        registry,
        Counter("artseek_http_requests", "Requests answered.", ["endpoint", "method", "status"], registry=registry),
        Histogram(
            "artseek_http_request_seconds",
            "Time until the answer was ready.",
            ["endpoint", "method"],
            buckets=_SECONDS,
            registry=registry,
        ),
        Histogram(
            "artseek_search_stage_seconds",
            "Time that searches spent in each stage.",
            ["stage", "mode"],
            buckets=_SECONDS,
            registry=registry,
        ),
        Histogram(
            "artseek_search_candidates",
            "Images that a search ranked exactly.",
            ["mode"],
            buckets=_CANDIDATES,
            registry=registry,
        ),
    )
    app.before_request(_begin)
    app.after_request(_count)


def measures() -> Measures:
    """Return the measures of the application that answers this request."""
    found: Measures = current_app.extensions[_NAME]
    return found


def searched(found: SearchResponse, *, stages: bool = True) -> None:
    """Count a search by its answer; its stages too, if they are its own."""
    mode = MODE_NAMES[found.mode]
    measures().candidates.labels(mode).observe(found.candidates)
    for stage, spent in found.timings_ms.items() if stages else ():
        measures().stages.labels(stage, mode).observe(spent / 1000)


def _begin() -> None:
    g.began = time.perf_counter()


def _count(answer: Response) -> Response:
    endpoint = request.endpoint or "none"
    method = request.method if request.method in _METHODS else "other"
    measures().requests.labels(endpoint, method, str(answer.status_code)).inc()
    measures().seconds.labels(endpoint, method).observe(time.perf_counter() - g.began)
    return answer
