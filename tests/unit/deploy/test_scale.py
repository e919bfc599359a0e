"""The overlay for large collections: services are told of its nodes, and start once these have met."""

import re
import subprocess
from typing import Any

import pytest

from shared.state.cluster import parse_cluster_url
from tests.support import container_files as files
from tests.support.paths import ROOT

TEXT = files.SCALE.read_text("utf-8")


def overlaid() -> dict[str, dict[str, Any]]:
    return dict(files.overlay(files.SCALE)["services"])


def nodes() -> list[str]:
    """The hosts of the nodes, as the overlay says to name them to deploy/make-secrets.sh."""
    (named,) = re.findall(r"INDEX_NODES=(\S+)", TEXT)
    return [place.removesuffix(":6379") for place in named.split(",")]


@pytest.fixture(scope="module")
def secrets_of_cluster(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("cluster")
    environment = {"PATH": "/usr/bin:/bin", "INDEX_NODES": ",".join(f"{node}:6379" for node in nodes())}
    script = ["/bin/sh", str(ROOT / "deploy" / "make-secrets.sh")]
    subprocess.run(script, cwd=folder, env=environment, check=True)
    return {file.name: file.read_text("ascii") for file in (folder / "secrets").iterdir()}


def test_the_nodes_are_those_that_have_the_place_of_one_in_the_first_file() -> None:
    found = {name for name, service in overlaid().items() if "OPTIONS" in service.get("environment", {})}
    assert found == set(nodes())
    assert nodes()[0] == "redis-index"
    for name in nodes():
        service = overlaid()[name]
        words = service["environment"]["OPTIONS"].split()
        options = dict(zip(words[::2], words[1::2], strict=True))
        assert options["--cluster-enabled"] == "yes"
        assert options["--cluster-require-full-coverage"] == "no"
        assert (options["--cluster-preferred-endpoint-type"], options["--cluster-announce-hostname"]) == (
            "hostname",
            name,
        )
        if name != "redis-index":
            assert service["extends"] == {"file": files.COMPOSE.name, "service": "redis-index"}
            assert service["volumes"] == [f"{name}:/data"]
            assert name in files.overlay(files.SCALE)["volumes"]


def test_every_user_of_the_index_waits_for_the_cluster_and_is_told_of_its_nodes(
    secrets_of_cluster: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    users = {name for name in files.services() if "index-url" in files.secrets_of(name)} - {"producer", "backup"}
    waiting = {name for name, service in overlaid().items() if "redis-index-cluster" in service.get("depends_on", {})}
    assert waiting == users
    for service in users:
        found = files.settings(service, secrets_of_cluster, monkeypatch)
        places, options = parse_cluster_url(found.index_url.get_secret_value())
        assert places == [(node, 6379) for node in nodes()]
        assert f"{service} {options['password']}" in secrets_of_cluster["index_passwords"].splitlines()
    plain = secrets_of_cluster["broker_url_web"]  # the queues need one server
    assert plain.startswith("redis://web:")
    assert set(overlaid()["redis-index-cluster"]["depends_on"]) == set(nodes())


def test_replicas_of_the_query_service_share_no_folder() -> None:
    query = overlaid()["query"]
    (mount,) = files.services()["query"]["volumes"]
    assert query["volumes"] == [mount.partition(":")[2]]  # a volume without a name: each container has its own
    assert query["deploy"]["replicas"] > 1
