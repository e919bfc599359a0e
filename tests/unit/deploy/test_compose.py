"""The compose file against the local system, the images and its own format."""

import ipaddress
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import jsonschema
import pytest
from annotated_types import Le
from check_jsonschema.builtin_schemas import get_builtin_schema

from local.data_folder import DataFolder
from local.system import LocalSystem
from services.model_server.__main__ import parse as parse_model_server
from services.producer.sync.digest_cache import default_path
from shared.health import container_check
from shared.messaging.task_queue import EMBED, EVALUATE, INDEX, MAINTENANCE
from shared.settings import Settings
from tests.support import container_files as files
from tests.support.paths import ROOT
from tests.support.processes import free_port


@pytest.mark.parametrize("path", [files.COMPOSE, *files.OVERLAYS], ids=lambda path: path.name)
def test_compose_files_fit_the_specification(path: Path) -> None:
    schema = get_builtin_schema("vendor.compose-spec")
    content = files.overlay(path)
    validator = jsonschema.validators.validator_for(schema)(schema)
    assert [error.message for error in validator.iter_errors(content)] == []


def test_workers_run_as_the_local_system_runs_them(tmp_path: Path) -> None:
    local = LocalSystem(DataFolder(tmp_path), host="127.0.0.1", port=free_port(), models=tmp_path)
    commands = {child.name: list(child.command)[1:] for child in local.services()}
    for service in ("embedder", "indexer", "maintenance", "evaluator", "query", "web"):
        assert files.targets()[service].command() == ["python", *commands[service]]
        assert "command" not in files.services()[service]
        assert "entrypoint" not in files.services()[service]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("service", "queue"),
    [("embedder", EMBED), ("indexer", INDEX), ("maintenance", MAINTENANCE), ("evaluator", EVALUATE)],
)
def test_workers_take_the_queues_that_their_tasks_are_sent_to(service: str, queue: str) -> None:
    command = files.targets()[service].command()
    application = command[command.index("-A") + 1]
    asked = (
        f"import json, {application} as worker; app = worker.app; "
        "tasks = [name for name in app.tasks if not name.startswith('celery.')]; "
        "print(json.dumps({name: app.amqp.router.route({}, name)['queue'].name for name in tasks}))"
    )
    done = subprocess.run([sys.executable, "-c", asked], cwd=ROOT, capture_output=True, text=True, check=True)
    routes = json.loads(done.stdout)
    assert all(task.startswith(f"{service}.") for task in routes)
    assert set(routes.values()) == {queue} == {command[command.index("-Q") + 1]}


def test_the_model_is_served_from_where_it_is_exported() -> None:
    export = files.targets()["model"].command()
    assert export[3:] == ["--out", "/models", "--base-path", "/models"]
    serving = files.services()["serving"]
    stand_in = files.override()["services"]["serving"]
    image = files.targets()["model-server"].command()
    assert stand_in["entrypoint"] == image[:3]
    threads = "--tensorflow_intra_op_parallelism=${ARTSEEK_MODEL_THREADS:-0}"
    assert set(stand_in["command"]) == {*image[3:], threads}
    command = [files.interpolated(word, {"ARTSEEK_MODEL_THREADS": "5"}) for word in stand_in["command"]]
    options = parse_model_server(command)
    assert (options.host, options.port) == ("0.0.0.0", 8500)  # noqa: S104
    assert options.tensorflow_intra_op_parallelism == 5
    common = {word for word in serving["command"] if "batching" not in word}
    assert common == {word for word in stand_in["command"] if not word.startswith("--host")}
    assert str(options.model_config_file) == "/models/models.config"
    assert files.services()["model"]["volumes"] == ["models:/models"]
    assert "models:/models:ro" in serving["volumes"]


def test_a_batch_of_the_largest_size_fits_into_one_of_the_model_server() -> None:
    (limit,) = [item.le for item in Settings.model_fields["batch_size"].metadata if isinstance(item, Le)]
    text = (ROOT / "deploy" / "batching.config").read_text("utf-8")
    assert re.findall(r"(?m)^max_batch_size \{ value: (\d+) \}$", text) == [str(limit)]


@pytest.mark.parametrize("service", container_check.CHECKS)
def test_health_checks_ask_the_service_that_they_stand_beside(service: str) -> None:
    check = files.services()[service]["healthcheck"]
    assert check["test"] == ["CMD", "python", "-m", "shared.health.container_check", service]
    assert int(check["timeout"].rstrip("s")) > 5


def test_every_server_has_a_health_check() -> None:
    without = {name for name, service in files.services().items() if "healthcheck" not in service}
    assert without == {"model", "store-users", "producer", "backup"}  # which run once


def test_servers_listen_where_their_clients_look(secrets: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    query = files.settings("query", secrets, monkeypatch)
    web = files.settings("web", secrets, monkeypatch)
    assert query.query_listen == "0.0.0.0:8600"
    assert files.stages()["query"].arguments("EXPOSE") == ["8600 8601"]
    assert query.query_metrics_listen == "0.0.0.0:8601"
    assert web.query_target == files.settings("producer", secrets, monkeypatch).query_target == "query:8600"
    assert web.web_listen == "0.0.0.0:8080"
    assert files.stages()["web"].arguments("EXPOSE") == ["8080"]
    serving = files.services()["serving"]
    assert "--port=8500" in serving["command"]
    assert "/dev/tcp/127.0.0.1/8500" in serving["healthcheck"]["test"][-1]
    for service in ("embedder", "evaluator", "query", "web", "producer"):
        assert files.settings(service, secrets, monkeypatch).serving_target == "serving:8500"


NETWORKS = {
    "redis-broker": {"inside"},
    "redis-index": {"inside"},
    "objects": {"store"},
    "store-users": {"store"},
    "serving": {"inside"},
    "query": {"inside", "store", "monitoring"},
    "web": {"inside", "store", "monitoring", "front"},
    "proxy": {"front", "outside"},
    "prometheus": {"monitoring"},
    "grafana": {"monitoring", "outside"},
    "backup": {"inside", "store", "outside"},
    **{name: {"inside", "store"} for name in ("embedder", "indexer", "maintenance", "evaluator", "producer")},
}
"""Who is where; a service that others cannot do without is in few of them."""


def test_only_the_proxy_and_the_dashboards_can_be_reached_from_outside() -> None:
    networks = files.compose()["networks"]
    assert {name for name, network in networks.items() if not network.get("internal")} == {"outside"}
    assert files.services()["model"]["network_mode"] == "none"
    found = {name: set(service["networks"]) for name, service in files.services().items() if "networks" in service}
    assert found == NETWORKS
    with_ports = {name for name, service in files.services().items() if "ports" in service}
    assert with_ports == {"proxy", "grafana"}
    for name in with_ports:
        assert files.interpolated(files.services()[name]["ports"][0], {}).startswith("127.0.0.1:")


def test_monitoring_reaches_neither_the_object_store_nor_redis() -> None:
    reachable = {
        other
        for name in ("prometheus", "grafana")
        for other, its in NETWORKS.items()
        if its & NETWORKS[name] - {"outside"}
    }
    assert reachable == {"prometheus", "grafana", "web", "query"}


def test_the_page_trusts_the_proxy_alone(secrets: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    web = files.settings("web", secrets, monkeypatch)
    front = files.compose()["networks"]["front"]["ipam"]["config"][0]["subnet"]
    address = files.interpolated(files.services()["proxy"]["networks"]["front"]["ipv4_address"], {})
    assert web.trusted_proxies == f"{address}/32"
    hosts = list(ipaddress.ip_network(files.interpolated(front, {})).hosts())
    assert ipaddress.ip_address(address) in hosts[1:]  # the first is Docker's gateway
    assert {name for name, its in NETWORKS.items() if "front" in its} == {"proxy", "web"}
    assert web.public_url == f"https://localhost:{files.services()['proxy']['ports'][0].split(':-')[2].split('}')[0]}"


def test_the_proxy_takes_what_the_page_takes() -> None:
    text = (ROOT / "deploy" / "proxy" / "nginx.conf").read_text("utf-8")
    (megabytes,) = re.findall(r"client_max_body_size (\d+)m;", text)
    assert int(megabytes) * 2**20 == Settings.model_fields["max_upload_bytes"].default
    mounts = [mount.split(":")[1] for mount in files.services()["proxy"]["volumes"]]
    assert set(re.findall(r"_temp_path (/tmp)/", text)) | {"/etc/nginx/nginx.conf"} == set(mounts)
    secrets = set(re.findall(r"/run/secrets/([\w-]+);", text))
    assert secrets == files.secrets_of("proxy").keys()
    (port,) = re.findall(r"listen (\d+) ssl", text)
    assert files.services()["proxy"]["ports"][0].endswith(f":{port}")


def test_services_wait_for_what_they_need() -> None:
    services = files.services()
    for name, service in services.items():
        for needed, how in service.get("depends_on", {}).items():
            runs_once = needed in {"model", "store-users"}
            expected = "service_completed_successfully" if runs_once else "service_healthy"
            assert how == {"condition": expected}, (name, needed)
            assert runs_once or "healthcheck" in services[needed]
    for name in ("embedder", "indexer", "maintenance", "evaluator", "query", "web"):
        asked = str(services[name]["environment"])
        servers = {server for server in ("redis-index", "redis-broker", "objects") if server in asked}
        assert servers | {"store-users"} <= services[name]["depends_on"].keys()


def test_volumes_are_declared_used_and_writable() -> None:
    used: dict[str, set[str]] = {}
    for name, service in files.services().items():
        for mount in service.get("volumes", []):
            source, target = mount.split(":")[:2]
            if source.startswith("./"):
                assert (ROOT / source).exists()
                assert mount.endswith(":ro")
                continue
            used.setdefault(source, set()).add(name)
            if "build" in service:
                made = " ".join(files.stages()["base"].arguments("RUN"))
                assert (
                    f"install --directory --owner 10001 --group 10001 {target}" in made or f" {target} " in f"{made} "
                )
    assert used.keys() == files.compose()["volumes"].keys()
    assert {name for name, users in used.items() if len(users) > 1} == {"models"}


def test_the_web_and_query_services_write_into_their_volumes(
    secrets: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    replica = files.settings("query", secrets, monkeypatch).query_copy
    assert files.services()["query"]["volumes"] == [f"query:{replica}"]
    spool = files.environment("web", secrets)["TMPDIR"]
    assert files.services()["web"]["volumes"] == [f"spool:{spool}"]


def test_a_sync_finds_what_the_last_one_knew_of_files(monkeypatch: pytest.MonkeyPatch) -> None:
    producer = files.services()["producer"]
    (cache,) = (mount.split(":")[1] for mount in producer["volumes"] if mount.startswith("cache:"))
    monkeypatch.setenv("XDG_CACHE_HOME", files.stages()["producer"].environment()["XDG_CACHE_HOME"])
    assert default_path().is_relative_to(cache)


@pytest.mark.parametrize("name", files.services())
def test_containers_may_do_no_more_than_they_must(name: str) -> None:
    service = files.services()[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["restart"] == ("no" if name in {"model", "store-users", "producer", "backup"} else "unless-stopped")
    assert service["mem_limit"]
    assert not {"privileged", "cap_add", "devices", "pid", "ipc"} & service.keys()


def test_redis_is_set_up_as_the_local_valkey_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "environ", os.environ.copy())
    local = LocalSystem(DataFolder(tmp_path), host="127.0.0.1", port=free_port(), models=tmp_path)
    assert local.backing_servers()
    # What only one of them has: addresses and passwords, what tells one process of a machine from another, and what
    # Redis lacks.
    apart = {"bind", "port", "requirepass", "user", "dir", "latency-tracking", "proc-title-template"}
    here = _directives(ROOT / "deploy" / "redis.conf")
    for name in ("index", "broker"):
        there = _directives(tmp_path / f"valkey-{name}" / "valkey.conf")
        assert {key: value for key, value in here.items() if key not in apart} == {
            key: value for key, value in there.items() if key not in apart
        }
        assert f"redis-{name}:/data" in files.services()[f"redis-{name}"]["volumes"]
    assert here["dir"] == "/data"


def _directives(path: Path) -> dict[str, str]:
    lines = [line for line in path.read_text("utf-8").splitlines() if line and not line.startswith("#")]
    return {key: value for key, _, value in (line.partition(" ") for line in lines)}
