"""Holds the container files against the code, the lock files and their own formats, since no engine runs them here."""

import ast
import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tomllib
from collections.abc import Mapping
from functools import cache
from importlib.metadata import packages_distributions
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import jsonschema
import pytest
from annotated_types import Le
from check_jsonschema.builtin_schemas import get_builtin_schema
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from local.data_folder import DataFolder
from local.system import LocalSystem
from services.model_server.__main__ import parse as parse_model_server
from shared.health import container_check
from shared.messaging.task_queue import EMBED, EVALUATE, INDEX, MAINTENANCE
from shared.settings import Settings, environment_name
from tests.support import container_files as files
from tests.support.paths import ROOT
from tests.support.processes import free_port
from training.backend import LIBRARIES, TENSORFLOW

ENVIRONMENT_NAMES = {environment_name(field): field for field in Settings.model_fields}
# What docker-compose.yml takes from .env beside the names of settings.
COMPOSE_NAMES = {"ARTSEEK_PORT", "ARTSEEK_GRAFANA_PORT", "ARTSEEK_INDEX_PASSWORD", "ARTSEEK_BROKER_PASSWORD"}
SECRETS = {"ARTSEEK_INDEX_PASSWORD", "ARTSEEK_BROKER_PASSWORD", "ARTSEEK_S3_ACCESS_KEY", "ARTSEEK_S3_SECRET_KEY"}
CLIENTS = ("embedder", "indexer", "maintenance", "evaluator", "query", "web", "producer")
ENTRIES = {
    "embedder": "services.embedder.app",
    "indexer": "services.indexer.app",
    "maintenance": "services.maintenance.app",
    "evaluator": "services.evaluator.app",
    "query": "services.query.__main__",
    "web": "services.web.__main__",
    "producer": "cli.__main__",
    "model": "training.export",
    "model-server": "services.model_server.__main__",
}
EXTRAS = {target: "training" if target == "model" else target for target in ENTRIES}
IMAGE_PYTHON = {"python_version": "3.13", "python_full_version": "3.13.14", "sys_platform": "linux"}


@pytest.fixture(scope="module")
def secrets(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The passwords that the command in .env.example makes."""
    folder = tmp_path_factory.mktemp("env")
    example = (ROOT / ".env.example").read_text("utf-8")
    command = "\n".join(re.findall(r"(?m)^#   (\(umask .*)$", example))
    subprocess.run(["/bin/sh", "-euc", command], cwd=folder, check=True)
    made = folder / ".env"
    assert made.stat().st_mode & 0o077 == 0
    return dict(line.split("=", 1) for line in made.read_text("ascii").splitlines())


def environment(service: str, secrets: Mapping[str, str]) -> dict[str, str]:
    """The environment that a service of ours gets: the image's, and over it the compose file's."""
    stage = files.stages()[files.ours()[service]]
    given = files.services()[service].get("environment", {})
    return stage.environment() | {name: files.interpolated(str(text), secrets) for name, text in given.items()}


def settings(service: str, secrets: Mapping[str, str], monkeypatch: pytest.MonkeyPatch) -> Settings:
    """The settings that a service of ours reads from that environment."""
    for name in ENVIRONMENT_NAMES:
        monkeypatch.delenv(name, raising=False)
    for name, text in environment(service, secrets).items():
        monkeypatch.setenv(name, text)
    return Settings(_env_file=None)  # type: ignore[call-arg]


OPTIONAL = set(LIBRARIES) - {TENSORFLOW}
"""What a user may install to train with, and what is imported only where it is in use."""


@cache
def needs(target: str) -> tuple[set[str], set[str]]:
    """The modules of ours that a target runs, its health check included, and the foreign names that they import."""
    entries: dict[str, ast.AST | None] = {ENTRIES[target]: None}
    if target in container_check.CHECKS:
        entries["shared.health.container_check"] = _only_the_check_of(target)
    return files.closure(entries)


def _only_the_check_of(service: str) -> ast.Module:
    tree = files.tree_of("shared.health.container_check")
    wanted = {container_check.CHECKS[service].__name__}
    functions = {node.name: node for node in tree.body if isinstance(node, ast.FunctionDef)}
    for node in ast.walk(functions[min(wanted)]):
        if isinstance(node, ast.Name) and node.id in functions:
            wanted.add(node.id)
    rest = [node for node in tree.body if not isinstance(node, ast.FunctionDef)]
    return ast.Module([*rest, *(functions[name] for name in sorted(wanted))], [])


def locked(name: str) -> set[str]:
    """The distributions that a lock file installs into an image."""
    text = (ROOT / "requirements" / f"{name}.txt").read_text("utf-8")
    requirements = [Requirement(line.rstrip(" \\")) for line in text.splitlines() if re.match(r"\w", line)]
    assert all(str(requirement.specifier).startswith("==") for requirement in requirements)
    return {
        canonicalize_name(requirement.name)
        for requirement in requirements
        if requirement.marker is None
        or any(
            requirement.marker.evaluate(IMAGE_PYTHON | {"platform_machine": machine})
            for machine in ("x86_64", "aarch64")
        )
    }


def declared(extra: str) -> set[str]:
    """The distributions that an extra names."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    named = [*project["dependencies"], *project["optional-dependencies"][extra]]
    return {canonicalize_name(Requirement(text).name) for text in named}


def distributions(names: set[str]) -> dict[str, set[str]]:
    """The distributions that may carry each imported name."""
    carriers = packages_distributions()
    # A namespace that several distributions share.
    special = {"google": {"protobuf"}}
    return {
        name: special.get(name) or {canonicalize_name(found) for found in carriers.get(name, [])}
        for name in {name.split(".")[0] for name in names}
    }


# ---- the formats


@pytest.mark.parametrize("path", [files.COMPOSE, files.OVERRIDE], ids=lambda path: path.name)
def test_compose_files_fit_the_specification(path: Path) -> None:
    schema = get_builtin_schema("vendor.compose-spec")
    content = files.compose() if path == files.COMPOSE else files.override()
    validator = jsonschema.validators.validator_for(schema)(schema)
    assert [error.message for error in validator.iter_errors(content)] == []


def test_hadolint_finds_nothing_in_the_dockerfile() -> None:
    hadolint = Path(sysconfig.get_path("scripts")) / "hadolint"
    done = subprocess.run(
        [str(hadolint), "--no-color", str(ROOT / "Dockerfile")], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (0, "")


def test_images_are_pinned_to_a_release() -> None:
    images = [service["image"] for service in files.services().values() if "image" in service]
    (base,) = files.stages()[""].arguments("ARG")
    assert base.startswith("PYTHON_IMAGE=")
    assert files.stages()["base"].parent == "${PYTHON_IMAGE}"
    for image in [*images, base.partition("=")[2]]:
        assert re.search(r":[\w.-]*\d+[.-]\d+[.-]\d+[\w.-]*(@sha256:[0-9a-f]{64})?$", image), (
            f"{image} names no exact release"
        )
    parents = {stage.parent for name, stage in files.stages().items() if name not in {"", "base"}}
    assert parents == {"base", "builder"}


# ---- targets and what is in them


def test_every_target_is_used_and_every_used_one_exists() -> None:
    of_override = {service["build"]["target"] for service in files.override()["services"].values()}
    assert files.targets().keys() == ENTRIES.keys() == set(files.ours().values()) | of_override


@pytest.mark.parametrize("target", ENTRIES)
def test_a_target_holds_the_code_that_it_runs_and_no_other_service(target: str) -> None:
    paths = [ROOT / path for path in files.copied(target)]
    modules, _ = needs(target)
    for module in modules:
        file = files.file_of(module)
        assert file is not None
        assert any(file == path or path in file.parents for path in paths), f"{target} lacks {module}"
    own = {path.relative_to(ROOT).parts[1] for path in paths if path.parent == ROOT / "services"}
    assert len(own - {"__init__.py"}) == (0 if target == "model" else 1)


@pytest.mark.parametrize("target", ENTRIES)
def test_a_target_installs_what_its_code_imports(target: str) -> None:
    extra = EXTRAS[target]
    (install,) = [text for text in files.stages()[f"{target}-builder"].arguments("RUN") if "requirements/" in text]
    assert f"--require-hashes --requirement requirements/{extra}.txt" in install
    installed = locked(extra)
    found = distributions(needs(target)[1])
    missing = {name: its for name, its in found.items() if name not in OPTIONAL and not its & installed}
    assert missing == {}


@pytest.mark.parametrize("target", CLIENTS)
def test_an_extra_names_nothing_that_its_service_does_not_import(target: str) -> None:
    imported = set().union(*distributions(needs(target)[1]).values())
    assert declared(EXTRAS[target]) - imported == set()


@pytest.mark.parametrize("target", CLIENTS)
def test_clients_of_the_model_server_go_without_tensorflow(target: str) -> None:
    assert not {name for name in locked(target) if name.startswith(("tensorflow", "keras", "tensorboard"))}


@pytest.mark.slow
def test_a_package_takes_along_the_files_that_are_no_code(tmp_path: Path) -> None:
    source, installed = tmp_path / "source", tmp_path / "installed"
    for path in [*files.copied("web"), "pyproject.toml", "README.md", "LICENSE"]:
        replica = shutil.copytree if (ROOT / path).is_dir() else shutil.copy
        (source / path).parent.mkdir(parents=True, exist_ok=True)
        replica(ROOT / path, source / path)
    (install,) = [text for text in files.stages()["web-builder"].arguments("RUN") if text.endswith(" .")]
    options = install.partition(" install ")[2].replace("/opt/artseek", str(installed)).split()
    subprocess.run([sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", *options], cwd=source, check=True)
    expected = {path.relative_to(source) for name in ("shared", "services") for path in (source / name).rglob("*.*")}
    found = {path.relative_to(installed) for path in installed.rglob("*.*")}
    assert {path for path in expected - found if "__pycache__" not in path.parts} == set()
    assert Path("services/web/templates") in {path.parent for path in expected}


def test_the_build_gets_every_file_that_it_copies() -> None:
    lines = (ROOT / ".dockerignore").read_text("utf-8").splitlines()
    passed = {line[1:] for line in lines if line.startswith("!")}
    assert "*" in lines
    sources: set[str] = set()
    for stage in files.stages().values():
        for arguments in stage.arguments("COPY"):
            if not arguments.startswith("--from="):
                sources.update(path.split("/")[0] for path in arguments.split()[:-1])
    assert sources == passed
    assert all((ROOT / source).exists() for source in sources)


@pytest.mark.parametrize("target", ENTRIES)
def test_targets_do_not_run_as_root(target: str) -> None:
    stage = files.targets()[target]
    assert stage.arguments("USER") == ["10001:10001"]
    assert stage.parent == "base"
    service = next(
        (files.services()[name] for name, used in files.ours().items() if used == target),
        files.services()["serving"],
    )
    assert service.get("user", "10001:10001") == "10001:10001"


# ---- commands


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


@pytest.mark.parametrize("target", ENTRIES)
def test_commands_name_modules_that_are_there(target: str) -> None:
    command = files.targets()[target].command()
    assert command[:2] == ["python", "-m"]
    module = command[command.index("-A") + 1] if "-A" in command else command[2]
    assert importlib.util.find_spec(module) is not None
    assert ENTRIES[target] in {module, f"{module}.__main__"}


def test_the_model_is_served_from_where_it_is_exported() -> None:
    export = files.targets()["model"].command()
    assert export[3:] == ["--out", "/models", "--base-path", "/models"]
    serving = files.services()["serving"]
    stand_in = files.override()["services"]["serving"]
    image = files.targets()["model-server"].command()
    assert stand_in["entrypoint"] == image[:3]
    assert set(stand_in["command"]) == set(image[3:])
    options = parse_model_server(stand_in["command"])
    assert (options.host, options.port) == ("0.0.0.0", 8500)  # noqa: S104
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
    assert without == {"model", "producer"}  # which run once


# ---- environment


def test_variables_are_settings_or_documented() -> None:
    text = files.COMPOSE.read_text("utf-8") + files.OVERRIDE.read_text("utf-8")
    used = {name for name, _, _ in files.variables(text)}
    assert used <= ENVIRONMENT_NAMES.keys() | COMPOSE_NAMES
    example = (ROOT / ".env.example").read_text("utf-8")
    documented = re.findall(r"(?m)^#?(ARTSEEK_\w+)=", example)
    assert sorted(documented) == sorted(used)
    for service in files.services().values():
        given = {name for name in service.get("environment", {}) if name.startswith("ARTSEEK_")}
        assert given <= ENVIRONMENT_NAMES.keys()
    for target, stage in files.targets().items():
        given = {name for name in stage.environment() if name.startswith("ARTSEEK_")}
        assert given <= ENVIRONMENT_NAMES.keys(), target


def test_defaults_are_those_of_the_settings() -> None:
    example = (ROOT / ".env.example").read_text("utf-8")
    documented = dict(re.findall(r"(?m)^#(ARTSEEK_\w+)=(.+)$", example))
    for name, operator, operand in files.variables(files.COMPOSE.read_text("utf-8")):
        if operator == ":-":
            assert documented[name] == operand
            if name not in COMPOSE_NAMES:
                assert str(Settings.model_fields[ENVIRONMENT_NAMES[name]].default) == operand


def test_no_password_has_a_default(secrets: dict[str, str]) -> None:
    found = [(name, operator) for name, operator, _ in files.variables(files.COMPOSE.read_text("utf-8"))]
    assert {name for name, operator in found if operator != ":-"} == SECRETS
    assert {operator for name, operator in found if name in SECRETS} == {":?"}
    assert re.findall(r"(?m)^(ARTSEEK_\w+)=(.*)$", (ROOT / ".env.example").read_text("utf-8")) == [
        (name, "") for name in secrets
    ]
    assert secrets.keys() == SECRETS
    assert all(re.fullmatch(r"[0-9a-f]{40}", password) for password in secrets.values())
    assert len(set(secrets.values())) == len(SECRETS)


def test_no_password_is_on_a_command_line() -> None:
    for service in files.services().values():
        for words in (service.get("command"), service.get("entrypoint"), service.get("healthcheck", {}).get("test")):
            assert not any(secret in str(words) for secret in SECRETS)
        assert "--requirepass" not in str(service)
        assert "redis-cli -a" not in str(service)


def test_servers_and_clients_have_the_same_passwords(secrets: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    found = settings("web", secrets, monkeypatch)
    for url, server in ((found.index_url, "redis-index"), (found.broker_url, "redis-broker")):
        parts = urlsplit(url.get_secret_value())
        assert (parts.hostname, parts.port) == (server, 6379)
        given = files.interpolated(files.services()[server]["environment"]["REDISCLI_AUTH"], secrets)
        assert parts.password == given
    minio = files.services()["minio"]["environment"]
    assert found.s3_access_key.get_secret_value() == files.interpolated(minio["MINIO_ROOT_USER"], secrets)
    assert found.s3_secret_key.get_secret_value() == files.interpolated(minio["MINIO_ROOT_PASSWORD"], secrets)
    assert found.s3_endpoint == "minio:9000"
    assert ":9000" in files.services()["minio"]["command"]


def _read_settings(target: str) -> set[str]:
    """The settings that the code of a target reads."""
    fields = set(Settings.model_fields)
    modules, _ = needs(target)
    nodes = (node for module in modules for node in ast.walk(files.tree_of(module)))
    return {
        node.attr
        for node in nodes
        if isinstance(node, ast.Attribute) and node.attr in fields and ast.unparse(node.value).endswith("settings")
    }


@pytest.mark.parametrize("service", CLIENTS)
def test_a_service_is_told_where_everything_is_that_it_asks(
    service: str, secrets: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    found = settings(service, secrets, monkeypatch)
    read = _read_settings(service)
    assert read
    local = {name for name in read if "127.0.0.1" in _shown(getattr(found, name)) and not name.endswith("_listen")}
    assert local == set(), f"{service} would look for these in its own container"
    given = {ENVIRONMENT_NAMES[name] for name in environment(service, secrets) if name in ENVIRONMENT_NAMES}
    assert given - read == set(), f"{service} is given what it does not read"


def _shown(value: Any) -> str:
    return str(value.get_secret_value() if hasattr(value, "get_secret_value") else value)


# ---- networks, ports, volumes, limits


def test_servers_listen_where_their_clients_look(secrets: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    query = settings("query", secrets, monkeypatch)
    web = settings("web", secrets, monkeypatch)
    assert query.query_listen == "0.0.0.0:8600"
    assert files.stages()["query"].arguments("EXPOSE") == ["8600 8601"]
    assert query.query_metrics_listen == "0.0.0.0:8601"
    assert web.query_target == settings("producer", secrets, monkeypatch).query_target == "query:8600"
    assert web.web_listen == "0.0.0.0:8080"
    assert files.stages()["web"].arguments("EXPOSE") == ["8080"]
    assert files.services()["web"]["ports"] == ["127.0.0.1:${ARTSEEK_PORT:-8080}:8080"]
    serving = files.services()["serving"]
    assert "--port=8500" in serving["command"]
    assert "/dev/tcp/127.0.0.1/8500" in serving["healthcheck"]["test"][-1]
    for service in ("embedder", "evaluator", "query", "web", "producer"):
        assert settings(service, secrets, monkeypatch).serving_target == "serving:8500"


def test_only_the_page_and_the_dashboards_can_be_reached_from_outside() -> None:
    assert files.compose()["networks"] == {"inside": {"internal": True}, "outside": {}}
    for name, service in files.services().items():
        if name == "model":
            assert (service["network_mode"], "networks" in service) == ("none", False)
        else:
            assert service["networks"] == (["inside", "outside"] if name in {"web", "grafana"} else ["inside"])
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", []))
        assert ("ports" in service) == (name in {"web", "grafana"})


def test_services_wait_for_what_they_need() -> None:
    services = files.services()
    for name, service in services.items():
        for needed, how in service.get("depends_on", {}).items():
            expected = "service_completed_successfully" if needed == "model" else "service_healthy"
            assert how == {"condition": expected}, (name, needed)
            assert needed == "model" or "healthcheck" in services[needed]
    for name in ("embedder", "indexer", "maintenance", "evaluator", "query", "web"):
        asked = str(services[name]["environment"])
        servers = {server for server in ("redis-index", "redis-broker", "minio") if server in asked}
        assert servers <= services[name]["depends_on"].keys()


def test_volumes_are_declared_used_and_writable() -> None:
    used: dict[str, set[str]] = {}
    for name, service in files.services().items():
        for mount in service.get("volumes", []):
            source, target = mount.split(":")[:2]
            if source.startswith("./"):
                assert (ROOT / source).is_file()
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
    replica = settings("query", secrets, monkeypatch).query_copy
    assert files.services()["query"]["volumes"] == [f"query:{replica}"]
    spool = environment("web", secrets)["TMPDIR"]
    assert files.services()["web"]["volumes"] == [f"spool:{spool}"]


@pytest.mark.parametrize("name", files.services())
def test_containers_may_do_no_more_than_they_must(name: str) -> None:
    service = files.services()[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["restart"] == ("no" if name in {"model", "producer"} else "unless-stopped")
    assert service["mem_limit"]
    assert not {"privileged", "cap_add", "devices", "pid", "ipc"} & service.keys()


# ---- Redis


def test_redis_is_set_up_as_the_local_valkey_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "environ", os.environ.copy())
    local = LocalSystem(DataFolder(tmp_path), host="127.0.0.1", port=free_port(), models=tmp_path)
    assert local.stores()
    # What only one of them has: addresses and passwords, and what Redis lacks.
    apart = {"bind", "port", "requirepass", "dir", "latency-tracking"}
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
