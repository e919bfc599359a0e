"""The script that pins images, on a registry of the tests: the real ones cannot be asked from everywhere."""

import hashlib
import json
import re
import shutil
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from scripts import image_digests
from scripts.image_digests import Image
from tests.support.paths import ROOT


class Registry(ThreadingHTTPServer):
    """Gives the manifests of its images to whoever shows the token that it gives to everybody."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Request)
        self.manifests: dict[str, bytes] = {}
        self.lies = False

    @property
    def address(self) -> str:
        """Its host and port."""
        return f"127.0.0.1:{self.server_port}"


class _Request(BaseHTTPRequestHandler):
    server: Registry

    def do_GET(self) -> None:
        path, _, query = self.path.partition("?")
        manifest = self.server.manifests.get(path)
        headers = {}
        if path == "/token":
            status, content = 200, json.dumps({"token": f"for {query}"}).encode()
        elif not self.headers.get("Authorization", "").startswith("Bearer for scope=repository%3A"):
            status, content = 401, b""
            headers["WWW-Authenticate"] = f'Bearer realm="http://{self.server.address}/token",service="registry"'
        elif manifest is None or "application/vnd.oci.image.index.v1+json" not in self.headers["Accept"]:
            status, content = 404, b""
        else:
            status, content = 200, manifest
            headers["Docker-Content-Digest"] = digest(b"other bytes" if self.server.lies else manifest)
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)


def digest(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


@pytest.fixture
def registry(monkeypatch: pytest.MonkeyPatch) -> Iterator[Registry]:
    with Registry() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        monkeypatch.setattr(image_digests, "DOCKER_HUB", server.address)
        monkeypatch.setenv("no_proxy", "127.0.0.1")
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """The container files of this repository, to be changed."""
    for file in image_digests.container_files(ROOT):
        replica = tmp_path / file.relative_to(ROOT)
        replica.parent.mkdir(exist_ok=True)
        shutil.copy(file, replica)
    return tmp_path


def fill(registry: Registry, root: Path) -> dict[str, str]:
    """Give the registry all images that the files name; returns their digests."""
    texts = [file.read_text("utf-8") for file in image_digests.container_files(root)]
    named = {name for text in texts for name in re.findall(r"(?m)(?:image: |PYTHON_IMAGE=)(\S+:[\w.-]+)", text)}
    images = {name: Image.parse(name) for name in named if not name.endswith(":local")}
    for name, image in images.items():
        registry.manifests[f"/v2/{image.repository}/manifests/{image.tag}"] = f"manifest of {name}".encode()
    return {name: digest(f"manifest of {name}".encode()) for name in images}


def test_every_image_gets_the_digest_of_its_tag(
    registry: Registry, root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    digests = fill(registry, root)
    assert len(digests) > 6
    assert image_digests.main(["--scheme", "http", "--check"], root=root) == 1
    listed = capsys.readouterr().out
    assert all(f"{name}@{expected}" in listed for name, expected in digests.items())
    assert image_digests.main(["--scheme", "http"], root=root) == 0
    texts = "\n".join(file.read_text("utf-8") for file in image_digests.container_files(root))
    for name, expected in digests.items():
        assert f"{name}@{expected}\n" in texts
    assert "image: artseek-model-server:local\n" in texts
    assert image_digests.main(["--scheme", "http", "--check"], root=root) == 0
    before = {file: file.read_bytes() for file in image_digests.container_files(root)}
    assert image_digests.main(["--scheme", "http"], root=root) == 0
    assert {file: file.read_bytes() for file in before} == before


def test_a_tag_that_was_moved_is_named(registry: Registry, root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fill(registry, root)
    assert image_digests.main(["--scheme", "http"], root=root) == 0
    (path,) = (path for path in registry.manifests if "/grafana/grafana/" in path)
    registry.manifests[path] = b"other bytes"
    capsys.readouterr()
    assert image_digests.main(["--scheme", "http", "--check"], root=root) == 1
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith("docker-compose.yml: image: grafana/grafana:")
    assert digest(b"other bytes") in line


@pytest.mark.parametrize("fault", ["a tag that is not there", "a digest that its bytes do not have"])
def test_nothing_is_written_if_a_registry_gives_no_digest(
    registry: Registry, root: Path, fault: str, capsys: pytest.CaptureFixture[str]
) -> None:
    fill(registry, root)
    if fault == "a tag that is not there":
        registry.manifests.popitem()
    else:
        registry.lies = True
    before = {file: file.read_bytes() for file in image_digests.container_files(root)}
    assert image_digests.main(["--scheme", "http"], root=root) == 1
    assert {file: file.read_bytes() for file in before} == before
    assert registry.address in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("nginx:1.30.5-alpine", (image_digests.DOCKER_HUB, "library/nginx", "1.30.5-alpine")),
        ("grafana/grafana:12.3.3", (image_digests.DOCKER_HUB, "grafana/grafana", "12.3.3")),
        ("quay.io/a/b:1", ("quay.io", "a/b", "1")),
        ("localhost:5000/b:1", ("localhost:5000", "b", "1")),
    ],
)
def test_an_image_without_a_registry_is_docker_hubs(text: str, parts: tuple[str, str, str]) -> None:
    image = Image.parse(text)
    assert (image.registry, image.repository, image.tag) == parts
