"""Prometheus metrics of the web service: HTTP requests, and the stages of searches."""

import time
from dataclasses import dataclass
from typing import Final

from flask import Flask, Response, current_app, g, request
from prometheus_client import CollectorRegistry, Counter, Histogram, ProcessCollector

from shared.rpc.query import MODE_NAMES, SearchResponse

_NAME = "artseek-metrics"
_METHODS: Final = frozenset({"GET", "HEAD", "POST", "DELETE", "OPTIONS"})
_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.02, 0.03, 0.05, 0.1, 0.2, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
_CANDIDATES = tuple(digit * 10**power for power in range(1, 6) for digit in (1, 2, 5))


@dataclass(frozen=True)
class Metrics:
    """The counters and histograms of an application."""

    registry: CollectorRegistry
    requests: Counter
    request_seconds: Histogram
    stage_seconds: Histogram
    candidates: Histogram


def attach(app: Flask) -> None:
    """Create the metrics of the application and count every request."""
    registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    app.extensions[_NAME] = Metrics(
        registry=registry,
        requests=Counter(
            "artseek_http_requests", "Requests answered.", ["endpoint", "method", "status"], registry=registry
        ),
        request_seconds=Histogram(
            "artseek_http_request_seconds",
            "Time until the answer was ready.",
            ["endpoint", "method"],
            buckets=_SECONDS,
            registry=registry,
        ),
        stage_seconds=Histogram(
            "artseek_search_stage_seconds",
            "Time that searches spent in each stage.",
            ["stage", "mode"],
            buckets=_SECONDS,
            registry=registry,
        ),
        candidates=Histogram(
            "artseek_search_candidates",
            "Images that a search ranked exactly.",
            ["mode"],
            buckets=_CANDIDATES,
            registry=registry,
        ),
    )
    app.before_request(_start_timer)
    app.after_request(_count_request)


def current_metrics() -> Metrics:
    """Return the metrics of the application that handles this request."""
    metrics: Metrics = current_app.extensions[_NAME]
    return metrics


def count_search(response: SearchResponse, *, with_stages: bool = True) -> None:
    """Count a search.

    Set `with_stages` to False if the response carries the timings of a whole batch instead of its own.
    """
    metrics = current_metrics()
    mode = MODE_NAMES[response.mode]
    metrics.candidates.labels(mode).observe(response.candidates)
    if with_stages:
        for stage, milliseconds in response.timings_ms.items():
            metrics.stage_seconds.labels(stage, mode).observe(milliseconds / 1000)


def _start_timer() -> None:
    g.request_started = time.perf_counter()


def _count_request(response: Response) -> Response:
    endpoint = request.endpoint or "none"
    method = request.method if request.method in _METHODS else "other"
    metrics = current_metrics()
    metrics.requests.labels(endpoint, method, str(response.status_code)).inc()
    metrics.request_seconds.labels(endpoint, method).observe(time.perf_counter() - g.request_started)
    return response
