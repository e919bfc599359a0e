"""The metrics of several processes are shown as those of one service."""

import resource

import pytest
from prometheus_client import CollectorRegistry, Counter, Gauge, generate_latest
from prometheus_client.metrics_core import Metric
from prometheus_client.parser import text_string_to_metric_families

from services.query.processes.joint_metrics import RisingCounters, joined


def of_process(*, images: int, connected: int, memory: int, recall: float | None = None) -> list[Metric]:
    """What a process says of itself, as the supervisor gets it."""
    registry = CollectorRegistry()
    Gauge("artseek_query_images", "Images.", ["collection"], registry=registry).labels("art").set(images)
    Gauge("artseek_query_index_connected", "Connected.", registry=registry).set(connected)
    Gauge("artseek_query_processes", "Processes.", registry=registry).set(1)
    Gauge("process_resident_memory_bytes", "Memory.", registry=registry).set(memory)
    if recall is not None:
        Gauge("artseek_live_recall_latest", "Recall.", ["collection"], registry=registry).labels("art").set(recall)
    return list(text_string_to_metric_families(generate_latest(registry).decode()))


def test_states_are_joined_by_what_they_mean() -> None:
    found = {
        sample.name: (sample.labels, sample.value)
        for metric in joined(
            [
                of_process(images=7, connected=1, memory=100),
                of_process(images=8, connected=0, memory=50, recall=0.5),
                of_process(images=8, connected=1, memory=1, recall=1.0),
            ]
        )
        for sample in metric.samples
    }
    assert found == {
        "artseek_query_images": ({"collection": "art"}, 8),
        "artseek_query_index_connected": ({}, 0),
        "artseek_query_processes": ({}, 3),
        "process_resident_memory_bytes": ({}, 151),
        "artseek_live_recall_latest": ({"collection": "art"}, 0.75),
    }


def test_the_processor_time_of_dead_processes_is_counted_too() -> None:
    registry = CollectorRegistry()
    Counter("process_cpu_seconds", "Time.", registry=registry).inc(5)
    shown = list(joined([list(text_string_to_metric_families(generate_latest(registry).decode()))]))
    samples = [sample for metric in shown for sample in metric.samples]
    (total,) = (sample.value for sample in samples if sample.name == "process_cpu_seconds_total")
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert total == pytest.approx(5 + used.ru_utime + used.ru_stime)


def test_a_counter_does_not_fall_while_a_process_says_nothing_and_a_gauge_does() -> None:
    def shown(seconds: float, memory: float) -> dict[str, float]:
        registry = CollectorRegistry()
        Counter("process_cpu_seconds", "Time.", registry=registry).inc(seconds)
        Gauge("process_resident_memory_bytes", "Memory.", registry=registry).set(memory)
        metrics = list(text_string_to_metric_families(generate_latest(registry).decode()))
        return {sample.name: sample.value for metric in rising.of(metrics) for sample in metric.samples}

    rising = RisingCounters()
    found = [shown(*values) for values in ((5, 100), (3, 60), (8, 90))]
    assert [values["process_cpu_seconds_total"] for values in found] == [5, 5, 8]
    assert [values["process_resident_memory_bytes"] for values in found] == [100, 60, 90]
