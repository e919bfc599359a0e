"""The metrics of all processes of a query service as one: what they counted, the dead too, and how they are now."""

import logging
import resource
import threading
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Final

from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.metrics_core import Metric
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector
from prometheus_client.samples import Sample

from services.query.counts import Counts
from services.query.processes.handover import OtherProcess, Refused
from services.query.processes.process_group import socket_path

_log = logging.getLogger(__name__)

_TIMEOUT_S = 2.0
_CPU = "process_cpu_seconds"

STATES: Final = "/process/States"
"""The method by which a process is asked how it is: no request of a client, so it is not counted."""

COUNTS: Final = "counts"
"""The folder in that of a group in which Prometheus' client counts; its name is in `PROMETHEUS_MULTIPROC_DIR`."""


def _mean(values: list[float]) -> float:
    return sum(values) / len(values)


# What several processes say is added up, unless it is here.
_JOINED: dict[str, Callable[[list[float]], float]] = {
    "artseek_query_index_connected": min,
    "artseek_query_images": max,
    "artseek_query_damaged_segments": max,
    "artseek_live_recall_latest": _mean,
    "process_start_time_seconds": min,
    "process_max_fds": min,
}


def states_handler(states: CollectorRegistry) -> Callable[[bytes, object], bytes]:
    """Return what answers the supervisor's question how a process is."""

    def answer(_request: bytes, _context: object) -> bytes:
        return generate_latest(states)

    return answer


class JointMetrics(Collector):
    """Collects the metrics of the processes of a group, from the supervisor's process."""

    def __init__(self, folder: Path, count: int) -> None:
        self._counts = Counts()  # names and descriptions of what is counted; the counts themselves are in files
        self._files = MultiProcessCollector(None, str(folder / COUNTS))  # type: ignore[no-untyped-call]
        self._own = CollectorRegistry()
        ProcessCollector(registry=self._own)
        self._processes = [OtherProcess(socket_path(folder, number)) for number in range(count)]
        self._rising = RisingCounters()

    def describe(self) -> list[Metric]:
        """Return nothing: which collections there are is only known when it is asked."""
        return []

    def collect(self) -> Iterator[Metric]:
        """Yield what is counted, then how the processes are."""
        counted = {metric.name: metric for metric in self._files.collect()}  # type: ignore[no-untyped-call]
        for named in self._counts.registry.collect():
            yield counted.get(named.name, named)
        yield from self._rising.of(joined([list(self._own.collect()), *self._states()]))

    def _states(self) -> Iterator[list[Metric]]:
        for process in self._processes:
            try:
                answer = process.answer(STATES, b"", _TIMEOUT_S)
            except (OSError, Refused) as error:
                _log.debug("a process says nothing of itself: %s", error)
                continue
            yield list(text_string_to_metric_families(answer.decode()))


class RisingCounters:
    """Counters that are added up of processes, and never shown lower than before.

    A process that says nothing for a moment, or that has died and is not among the dead yet, is missing in a sum.
    """

    def __init__(self) -> None:
        self._shown: dict[tuple[str, tuple[tuple[str, str], ...]], float] = {}
        self._lock = threading.Lock()  # the page is shown by several threads

    def of(self, metrics: Iterable[Metric]) -> Iterator[Metric]:
        """Yield metrics, of which the counters are at least as high as the last time."""
        for metric in metrics:
            if metric.type == "counter":
                metric.samples = [self._risen(sample) for sample in metric.samples]
            yield metric

    def _risen(self, sample: Sample) -> Sample:
        key = sample.name, tuple(sorted(sample.labels.items()))
        with self._lock:
            self._shown[key] = value = max(sample.value, self._shown.get(key, 0.0))
        return sample._replace(value=value)


def joined(of_processes: list[list[Metric]]) -> Iterator[Metric]:
    """Yield each metric of some processes once, for all of them."""
    metrics: dict[str, Metric] = {}
    values: defaultdict[str, defaultdict[tuple[str, tuple[tuple[str, str], ...]], list[float]]]
    values = defaultdict(lambda: defaultdict(list))
    for metric in (metric for metrics_of_process in of_processes for metric in metrics_of_process):
        metrics.setdefault(metric.name, metric)
        for sample in metric.samples:
            values[metric.name][sample.name, tuple(sorted(sample.labels.items()))].append(sample.value)
    for name, metric in metrics.items():
        join = _JOINED.get(name, sum)
        shown = Metric(name, metric.documentation, metric.type)
        for (sample_name, labels), found in values[name].items():
            shown.add_sample(sample_name, dict(labels), join(found) + (_of_the_dead() if name == _CPU else 0.0))
        yield shown


def _of_the_dead() -> float:
    """Return the processor time of processes that have ended, so that the sum never falls."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime
