"""The environment that the compose file gives to services: settings, defaults and passwords."""

import ast
import re
from typing import Any
from urllib.parse import urlsplit

import pytest

from shared.settings import Settings
from tests.support import container_files as files
from tests.support.paths import ROOT

# What docker-compose.yml takes from .env beside the names of settings.
COMPOSE_NAMES = {"ARTSEEK_PORT", "ARTSEEK_GRAFANA_PORT", "ARTSEEK_INDEX_PASSWORD", "ARTSEEK_BROKER_PASSWORD"}
SECRETS = {"ARTSEEK_INDEX_PASSWORD", "ARTSEEK_BROKER_PASSWORD", "ARTSEEK_S3_ACCESS_KEY", "ARTSEEK_S3_SECRET_KEY"}


def test_variables_are_settings_or_documented() -> None:
    text = files.COMPOSE.read_text("utf-8") + files.OVERRIDE.read_text("utf-8")
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
    documented = dict(re.findall(r"(?m)^#(ARTSEEK_\w+)=(.+)$", example))
    for name, operator, operand in files.variables(files.COMPOSE.read_text("utf-8")):
        if operator == ":-":
            assert documented[name] == operand
            if name not in COMPOSE_NAMES:
                assert str(Settings.model_fields[files.ENVIRONMENT_NAMES[name]].default) == operand


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
    found = files.settings("web", secrets, monkeypatch)
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


def _shown(value: Any) -> str:
    return str(value.get_secret_value() if hasattr(value, "get_secret_value") else value)
