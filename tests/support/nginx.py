"""A real nginx in front of the web service, where there is one."""

import os
import re
import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from local.certificates import make_certificates
from tests.support.eventually import PATIENCE_S, eventually
from tests.support.paths import ROOT
from tests.support.processes import free_port

_TEMPORARY = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")


def executable() -> str:
    """Return nginx's path; the test is skipped where there is none, or fails if it has to be there."""
    found = os.environ.get("ARTSEEK_NGINX") or shutil.which("nginx", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
    if found is None:
        reason = "no nginx: it is not installed, and ARTSEEK_NGINX names none"
        if os.environ.get("ARTSEEK_REQUIRE_NGINX") == "1":
            pytest.fail(reason)
        pytest.skip(reason)
    return found


def recipe(web: int) -> str:
    """Return the locations that `docs/reverse-proxy.md` tells to write, before a web service at this port."""
    (found,) = re.findall(r"```nginx\n(.*?)```", (ROOT / "docs" / "reverse-proxy.md").read_text("utf-8"), re.DOTALL)
    return str(found).replace("127.0.0.1:8080", f"127.0.0.1:{web}")


@contextmanager
def nginx(folder: Path, locations: str, *, tls: bool = False) -> Iterator[int]:
    """Run nginx with these locations during a block; yields its port of 127.0.0.1.

    With `tls` its certificate is of an authority of its own, which nobody trusts.
    """
    port = free_port()
    secure = ""
    if tls:
        _, certificate, key = make_certificates("nginx")
        (folder / "certificate").write_text(certificate)
        (folder / "key").write_text(key)
        secure = f"ssl_certificate {folder / 'certificate'}; ssl_certificate_key {folder / 'key'};"
    paths = "\n".join(f"{name}_temp_path {folder / name};" for name in _TEMPORARY)
    (folder / "nginx.conf").write_text(f"""
        daemon off; master_process off; pid {folder / "nginx.pid"}; error_log {folder / "error.log"};
        events {{ worker_connections 256; }}
        http {{
            access_log off;
            {paths}
            server {{ listen 127.0.0.1:{port}{" ssl" * tls}; {secure} {locations} }}
        }}
        """)
    with _running(folder, port):
        yield port


@contextmanager
def _running(folder: Path, port: int) -> Iterator[None]:
    command = [executable(), "-p", str(folder), "-c", str(folder / "nginx.conf"), "-e", str(folder / "error.log")]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    try:

        def ready() -> bool:
            assert process.poll() is None, process.stderr and process.stderr.read().decode()
            with socket.create_connection(("127.0.0.1", port)):
                return True

        eventually(ready, trying=ConnectionError)
        yield
    finally:
        process.terminate()
        process.communicate(timeout=PATIENCE_S)


@contextmanager
def nginx_of_containers(folder: Path, configuration: str, page: str) -> Iterator[int]:
    """Run nginx by the configuration of the containers during a block, before a page at host:port.

    `folder` has ``tls-certificate`` and ``tls-key``. Yields nginx's port of 127.0.0.1. What an older nginx does not
    know, HTTP/2 by a line of its own, is left out.
    """
    port = free_port()
    replaced = {
        "worker_processes auto;": "daemon off; master_process off;",
        "/dev/stdout": "off",
        " /tmp/": f" {folder}/",
        "listen 8443 ssl": f"listen 127.0.0.1:{port} ssl",
        "http2 on;": "",
        "/run/secrets": str(folder),
        "web:8080": page,
    }
    for inside, here in replaced.items():
        assert inside in configuration
        configuration = configuration.replace(inside, here)
    (folder / "nginx.conf").write_text(configuration)
    with _running(folder, port):
        yield port
