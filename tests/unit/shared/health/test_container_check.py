"""The health checks of containers in which nothing runs: they fail, in time, and say why."""

import os
import subprocess
import sys

import pytest

from shared.health import container_check
from tests.support.eventually import PATIENCE_S
from tests.support.processes import free_port


def _check(service: str, **environment: str) -> tuple[int, str]:
    done = subprocess.run(
        [sys.executable, "-m", "shared.health.container_check", service],
        env={**os.environ, "ARTSEEK_DATA": os.devnull, **environment},
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    return done.returncode, done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("service", ["embedder", "indexer", "maintenance", "evaluator"])
def test_a_worker_without_a_broker_is_not_well(service: str) -> None:
    status, said = _check(service, ARTSEEK_BROKER_URL=f"redis://127.0.0.1:{free_port()}/0")
    assert (status, "broker" in said, "Traceback" in said) == (1, True, False)


@pytest.mark.slow
@pytest.mark.parametrize("service", ["query", "web"])
@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0"])  # noqa: S104
def test_a_server_that_does_not_listen_is_not_well(service: str, host: str) -> None:
    port = free_port()
    status, said = _check(service, **{f"ARTSEEK_{service.upper()}_LISTEN": f"{host}:{port}"})
    assert (status, f"nothing answers at 127.0.0.1:{port}" in said, "Traceback" in said) == (1, True, False)


@pytest.mark.slow
def test_a_setting_that_does_not_fit_is_named() -> None:
    status, said = _check("web", ARTSEEK_WEB_THREADS="many")
    assert (status, "web_threads" in said) == (1, True)


def test_there_is_a_check_for_each_service_that_runs_on() -> None:
    assert container_check.CHECKS.keys() == {"embedder", "indexer", "maintenance", "evaluator", "query", "web"}
