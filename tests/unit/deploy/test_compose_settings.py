"""The environment that the compose file gives to services: settings, defaults and passwords."""

import ast
import re
import subprocess
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from local import rights
from scripts import container_rights
from shared.settings import Settings
from tests.support import container_files as files
from tests.support.paths import ROOT

# What docker-compose.yml takes from .env beside the names of settings.
COMPOSE_NAMES = {
    "ARTSEEK_ADDRESS",
    "ARTSEEK_PORT",
    "ARTSEEK_GRAFANA_PORT",
    "ARTSEEK_PROXY_ADDRESS",
    "ARTSEEK_FRONT_SUBNET",
}
# Read by modules that others share with the page, of which they use other parts.
OF_THE_PAGE = {"public_url", "trusted_proxies", "max_upload_bytes"}
DEFAULTS_OF_ITS_OWN = {"ARTSEEK_PUBLIC_URL"}
PASSWORDS = {"index_password", "broker_password", "s3_access_key", "s3_secret_key", "admin_password", "metrics_token"}
CERTIFICATES = {"tls_certificate", "tls_key", "store_certificate", "store_key"}


def test_variables_are_settings_or_documented() -> None:
    text = "".join(path.read_text("utf-8") for path in (files.COMPOSE, *files.OVERLAYS))
    used = {name for name, _, _ in files.variables(text)}
    assert used <= files.ENVIRONMENT_NAMES.keys() | COMPOSE_NAMES
    example = (ROOT / ".env.example").read_text("utf-8")
    documented = re.findall(r"(?m)^#?(ARTSEEK_\w+)=", example)
    assert sorted(documented) == sorted(used)
    for service in files.services().values():
        given = {name for name in service.get("environment", {}) if name.startswith("ARTSEEK_")}
        assert given <= files.ENVIRONMENT_NAMES.keys()
    for target, stage in files.targets().items():
        given = {name for name in stage.environment() if name.startswith("ARTSEEK_")}
        assert given <= files.ENVIRONMENT_NAMES.keys(), target


def test_defaults_are_those_of_the_settings() -> None:
    example = (ROOT / ".env.example").read_text("utf-8")
    documented = dict(re.findall(r"(?m)^#(ARTSEEK_\w+)=(.*)$", example))
    for name, operator, operand in files.variables(files.COMPOSE.read_text("utf-8")):
        if operator == ":-" and operand:
            assert documented[name] == operand
            if name not in COMPOSE_NAMES | DEFAULTS_OF_ITS_OWN:
                assert str(Settings.model_fields[files.ENVIRONMENT_NAMES[name]].default) == operand


def test_every_secret_is_random_and_comes_from_a_file(secrets_folder: Path, secrets: dict[str, str]) -> None:
    of_services = {
        file
        for service in files.ours()
        for file in files.secrets_of(service).values()
        if re.search(r"_url|_key_[a-z]+$", file)
    }
    assert secrets.keys() == PASSWORDS | CERTIFICATES | of_services | {"index_passwords", "broker_passwords", "s3_keys"}
    assert secrets_folder.stat().st_mode & 0o077 == 0
    assert all(re.fullmatch(r"[0-9a-f]{40}", secrets[name]) for name in PASSWORDS)
    assert len({secrets[name] for name in PASSWORDS}) == len(PASSWORDS)
    declared = {name: secret["file"] for name, secret in files.compose()["secrets"].items()}
    assert declared == {name: f"./secrets/{name.replace('-', '_')}" for name in declared}
    used = {file for service in files.services() for file in files.secrets_of(service).values()}
    of_overlays = {
        Path(secret["file"]).name
        for path in files.OVERLAYS
        for secret in files.overlay(path).get("secrets", {}).values()
    }
    assert used == {Path(file).name for file in declared.values()}
    assert used | of_overlays - {"oidc_client_secret"} == secrets.keys()


def test_secrets_that_are_there_are_kept(tmp_path: Path) -> None:
    (tmp_path / "secrets").mkdir()
    for name in ("index_password", "tls_certificate", "tls_key"):
        (tmp_path / "secrets" / name).write_text(f"my own {name}", "ascii")
    for _ in range(2):
        subprocess.run(["/bin/sh", str(ROOT / "deploy" / "make-secrets.sh")], cwd=tmp_path, check=True)
    made = {file.name: file.read_text("ascii") for file in (tmp_path / "secrets").iterdir()}
    for name in ("index_password", "tls_certificate", "tls_key"):
        assert made[name] == f"my own {name}"
    assert made["index_url"] == "redis://:my own index_password@redis-index:6379/0"


def test_no_secret_is_in_an_environment_or_on_a_command_line() -> None:
    for service in files.services().values():
        for name, value in service.get("environment", {}).items():
            if re.search("PASSWORD|SECRET|TOKEN|KEY|_URL_FILE", name) and not name.startswith("GF_"):
                assert name.endswith("_FILE") or not files.interpolated(str(value), {}), name
        assert "--requirepass" not in str(service)
        assert "redis-cli -a" not in str(service)


def test_a_service_gets_its_own_secrets_alone(secrets: dict[str, str]) -> None:
    for service in files.ours():
        named = set(files.environment(service, secrets).values()) if service != "model" else set()
        named |= set(files.services()[service].get("command", []))
        used = {value.removeprefix("/run/secrets/") for value in named if value.startswith("/run/secrets/")}
        assert used == files.secrets_of(service).keys(), service
    assert "broker-url" not in files.secrets_of("query")
    assert files.secrets_of("proxy").keys() == {"tls-certificate", "tls-key"}


def test_servers_and_clients_have_the_same_passwords(secrets: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    for service in files.CLIENTS:
        found = files.settings(service, secrets, monkeypatch)
        for url, server in ((found.index_url, "redis-index"), (found.broker_url, "redis-broker")):
            if (service, server) == ("query", "redis-broker"):
                continue
            parts = urlsplit(url.get_secret_value())
            assert (parts.hostname, parts.port) == (server, 6379)
            if service == "producer":  # the owner
                assert (parts.username, parts.password) == ("", secrets[files.secrets_of(server)["redis-password"]])
            else:
                lines = secrets[files.secrets_of(server)["redis-passwords"]].splitlines()
                assert (parts.username, f"{service} {parts.password}" in lines) == (service, True)
    found = files.settings("producer", secrets, monkeypatch)  # the owner's
    store = files.services()["objects"]
    for given, name in (
        (found.s3_access_key, "MINIO_ROOT_USER_FILE"),
        (found.s3_secret_key, "MINIO_ROOT_PASSWORD_FILE"),
    ):
        file = store["environment"][name].removeprefix("/run/secrets/")
        assert given.get_secret_value() == secrets[files.secrets_of("objects")[file]]
    assert found.s3_endpoint == "objects:9000"
    assert ":9000" in store["command"]
    assert "-s3.port=9000" in str(files.overlay(files.SEAWEEDFS)["services"]["objects"]["entrypoint"])


def test_services_may_do_at_redis_and_at_the_store_what_the_local_ones_may() -> None:
    for path, text in container_rights.files().items():
        assert (ROOT / "deploy" / path).read_text("ascii") == text, "run scripts/container_rights.py"
    folders = {path.partition("/")[0] for path in container_rights.files()}
    found = {str(file.relative_to(ROOT / "deploy")) for name in folders for file in (ROOT / "deploy" / name).iterdir()}
    assert found == container_rights.files().keys()


def test_a_policy_lets_a_service_do_what_it_needs_and_no_more() -> None:
    statements: Any = rights.store_policy("query", "artseek")["Statement"]
    allowed = {
        (action, resource)
        for statement in statements
        for action in statement["Action"]
        for resource in statement["Resource"]
    }
    assert ("s3:GetObject", "arn:aws:s3:::artseek/images/*") in allowed
    assert not [action for action, _ in allowed if "Put" in action or "Delete" in action]
    assert not [resource for _, resource in allowed if "access" in resource or resource.endswith("artseek/*")]


def test_each_service_has_a_key_of_the_store_of_its_own(
    secrets: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    pairs = [line.split() for line in secrets["s3_keys"].splitlines()]
    assert [pair[0] for pair in pairs] == [
        name for name in ("embedder", "indexer", "maintenance", "evaluator", "web", "query") if name in rights.SERVICES
    ]
    for name, access, secret in pairs:
        found = files.settings(name, secrets, monkeypatch)
        keys = (found.s3_access_key.get_secret_value(), found.s3_secret_key.get_secret_value())
        assert keys == (access, secret)
    words = [word for pair in pairs for word in pair[1:]]
    assert len({*words, secrets["s3_access_key"], secrets["s3_secret_key"]}) == len(words) + 2
    assert files.services()["store-users"]["command"] == ["/run/secrets/s3-keys", "/etc/store-users"]
    assert files.secrets_of("store-users").keys() == {"s3-access-key", "s3-secret-key", "s3-keys"}
    assert files.overlay(files.SEAWEEDFS)["services"]["store-users"] == {"command": []}


def _read_settings(target: str) -> set[str]:
    """The settings that the code of a target reads."""
    fields = set(Settings.model_fields)
    modules, _ = files.needs(target)
    nodes = (node for module in modules for node in ast.walk(files.tree_of(module)))
    return {
        node.attr
        for node in nodes
        if isinstance(node, ast.Attribute) and node.attr in fields and ast.unparse(node.value).endswith("settings")
    }


@pytest.mark.parametrize("service", files.CLIENTS)
def test_a_service_is_told_where_everything_is_that_it_asks(
    service: str, secrets: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    found = files.settings(service, secrets, monkeypatch)
    read = _read_settings(service)
    assert read
    local = {name for name in read if "127.0.0.1" in _shown(getattr(found, name)) and not name.endswith("_listen")}
    assert local == set(), f"{service} would look for these in its own container"
    names = files.environment(service, secrets).keys() & files.ENVIRONMENT_NAMES.keys()
    given = {files.ENVIRONMENT_NAMES[name] for name in names}
    assert given - read == set(), f"{service} is given what it does not read"


@pytest.mark.parametrize("service", files.CLIENTS)
def test_a_service_gets_each_setting_of_env_that_it_reads(service: str, secrets: dict[str, str]) -> None:
    """Else a setting holds for a part of the system, and the rest goes by the default."""
    offered = {
        files.ENVIRONMENT_NAMES[name]
        for name, _, _ in files.variables(files.COMPOSE.read_text("utf-8"))
        if name in files.ENVIRONMENT_NAMES
    }
    given = {files.ENVIRONMENT_NAMES.get(name) for name in files.environment(service, secrets)}
    missing = (offered & _read_settings(service)) - given
    if service != "web":
        missing -= OF_THE_PAGE
    assert {name for name in missing if not name.startswith("backup_s3_")} == set()  # those of the service `backup`


def _shown(value: Any) -> str:
    return str(value.get_secret_value() if hasattr(value, "get_secret_value") else value)
