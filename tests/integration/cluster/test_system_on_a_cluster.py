"""The whole system on a cluster."""

import json
import sys
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from subprocess import PIPE, Popen
from typing import Any

import pytest

from local.child_processes import Child, Children
from local.data_folder import DataFolder
from local.system import LocalSystem
from shared.health import heartbeat
from shared.health.readiness import WORKERS
from shared.state import State, connect
from shared.stopping import StopSignal
from tests.support.cluster_servers import ClusterServers, buckets_of
from tests.support.eventually import PATIENCE_S, eventually
from tests.support.forked_command import run_command
from tests.support.processes import bare_environment, free_port
from tests.support.stack import exported_models


class NeverStopped(StopSignal):
    """No signal of the test run is meant for the system."""

    def __init__(self) -> None:
        self.requested = False


@pytest.fixture
def system(tmp_path: Path, cluster: ClusterServers) -> Iterator[dict[str, str]]:
    """The local system's parts, all but its index: that is the cluster. Gives the environment that reaches them."""
    models = exported_models()
    local = LocalSystem(DataFolder(tmp_path / "data"), host="127.0.0.1", port=free_port(), models=models)
    environment = {
        "ARTSEEK_INDEX_URL": cluster.url,
        "ARTSEEK_VISIBILITY_TIMEOUT": "10",
        "ARTSEEK_BUCKET_MEMORY_MB": "0",  # buckets in memory would answer for a lost node
    }
    index = connect(cluster.url)

    def moved(child: Child) -> Child:
        ready = child.ready
        if child.name in WORKERS:  # the local system would look for its heartbeat in its own index
            ready = partial(lambda name: name in heartbeat.beats(index), child.name)
        return replace(child, environment={**child.environment, **environment}, ready=ready)

    with Children(local.folder.path / "logs", NeverStopped()) as children:
        children.start([child for child in local.backing_servers() if child.name != "valkey-index"])
        children.start([moved(child) for child in local.services()])
        yield {"ARTSEEK_DATA": str(local.folder.path), **environment}


def test_the_system_runs_on_a_cluster_also_through_the_loss_of_a_node(
    system: dict[str, str], cluster: ClusterServers, gallery: Path
) -> None:
    images = sorted(path for path in gallery.rglob("*") if path.is_file())
    index = connect(cluster.url, retries=0)

    def asked(*arguments: str, check: bool = True) -> dict[str, Any]:
        status, printed, told = run_command((*arguments, "--json"), bare_environment(**system), timeout_s=PATIENCE_S)
        assert not check or status == 0, told
        return dict(json.loads(printed))

    def found_by_index() -> bool:
        try:
            found = asked("search", str(images[3]), "--mode", "lsh", "-k", "3")
        except AssertionError:
            return False
        return bool(found["mode"] == "lsh" and found["hits"][0]["name"].endswith(images[3].name))

    eventually(lambda: asked("status", check=False)["ready"])
    command = ["-m", "cli", "ingest", str(gallery), "--labels-from-folders", "--json"]
    ingestion = Popen([sys.executable, *command], env=bare_environment(**system), stdout=PIPE, text=True)
    try:
        eventually(lambda: State.of(index).claims.count("default") > 0)
        lost = cluster.holder("members:default")
        lost.kill()
        eventually(
            lambda: asked("status", check=False)["parts"]["index"]["reason"],
            until=lambda reason: lost.name in (reason or ""),
        )
        cluster.revive()
        printed, _ = ingestion.communicate(timeout=PATIENCE_S)
    finally:
        ingestion.kill()
    summary = json.loads(printed)
    assert (summary["added"] + summary["duplicates"], summary["rejected"]) == (len(images), [])
    eventually(found_by_index)
    assert State.of(index).claims.count("default") == len(images)
    # Each search for this image looks into the buckets that hold it.
    image = asked("search", str(images[3]), "--mode", "exact", "-k", "1")["hits"][0]["id"]
    holders = (
        node
        for node, buckets in zip(cluster.nodes, buckets_of(cluster), strict=True)
        if any(node.client.sismember(bucket, image) for bucket in buckets)
    )
    next(holders).kill()
    assert not found_by_index()
    found = asked("search", str(images[3]), "--mode", "exact", "-k", "3")
    assert found["hits"][0]["name"].endswith(images[3].name)
    cluster.revive()
    eventually(found_by_index)

    asked("delete", "--whole-collection")
    assert not any(buckets_of(cluster))
