"""Every port of every process of the local system refuses whoever has no credentials; the page is guarded otherwise."""

import json
import stat
from pathlib import Path
from urllib.parse import urlsplit

import psutil
import pytest

from shared.state import connect
from shared.storage.object_store import ObjectStore
from tests.support.doors import Door, doors, let_in
from tests.support.stack import Stack, launcher_log

OBJECTS = ("/artseek/system.json", "/buckets/artseek/system.json")  # as the S3 port and the filer name it
REQUESTS = (
    *(("GET", path) for path in ("/", "/metrics", "/dir/status", "/debug/pprof/heap", *OBJECTS)),
    *((method, path) for method in ("POST", "DELETE", "OPTIONS") for path in OBJECTS),
)


def tree_of(stack: Stack) -> list[psutil.Process]:
    """Return the processes of a system."""
    parent = psutil.Process(stack.process.pid)
    return [parent, *parent.children(recursive=True)]


@pytest.fixture(scope="module")
def all_doors(stack: Stack) -> list[Door]:
    page = urlsplit(stack.url).port
    found = doors(tree_of(stack))
    assert page in {door.address[1] for door in found}
    return [door for door in found if isinstance(door.address, str) or door.address[1] != page]


def test_no_port_lets_a_stranger_in(stack: Stack, all_doors: list[Door]) -> None:
    ports = json.loads((stack.data / "ports.json").read_text("utf-8")).values()
    assert set(ports) <= {door.address[1] for door in all_doors if door.kind == "tcp"}
    authorities = [path.read_bytes() for path in sorted(stack.data.glob("certificates/*/ca.crt"))]
    opened = [
        f"{door}: {way}" for door in all_doors if door.kind == "tcp" for way in let_in(door, REQUESTS, authorities)
    ]
    assert opened == []
    store = ObjectStore.from_settings(stack.settings)
    assert store.exists("system.json")


def test_there_is_no_port_of_a_kind_that_was_not_tried(all_doors: list[Door]) -> None:
    assert {door.kind for door in all_doors} <= {"tcp", "unix"}


def test_unix_sockets_are_for_the_owner_alone(all_doors: list[Door]) -> None:
    files = [str(door.address) for door in all_doors if door.kind == "unix"]
    assert all(files), "a socket has no file whose mode could keep others away"
    open_to_others = [file for file in files if not _is_private(Path(file))]
    assert open_to_others == []


def _is_private(path: Path) -> bool:
    """Return whether no other user can reach a file: by its own mode, or by that of a folder that it lies in."""
    return any(not stat.S_IMODE(place.stat().st_mode) & 0o077 for place in (path, *path.parents))


def test_no_secret_is_in_a_command_line_or_in_a_log(stack: Stack) -> None:
    kept = json.loads((stack.data / "secrets.json").read_text("utf-8")).values()
    keys = [line for path in stack.data.glob("certificates/*/*.key") for line in path.read_text().splitlines()[1:-1]]
    secrets = [secret.encode() for secret in (*kept, *keys)]
    assert len(secrets) > 20
    told = {f"/proc/{process.pid}/cmdline": Path(f"/proc/{process.pid}/cmdline") for process in tree_of(stack)}
    told |= {path.name: path for path in (*(stack.data / "logs").iterdir(), launcher_log(stack.data))}
    assert [name for name, path in told.items() if any(secret in path.read_bytes() for secret in secrets)] == []


def test_every_service_has_the_rights_that_it_needs(stack: Stack) -> None:
    """By now the system has taken images and built an index."""
    for url in (stack.settings.index_url, stack.settings.broker_url):
        log = connect(url.get_secret_value()).execute_command("ACL", "LOG")
        entries = [dict(zip(entry[::2], entry[1::2], strict=True)) for entry in log]
        denied = [entry for entry in entries if entry[b"reason"] in {b"key", b"command", b"channel"}]
        assert denied == []
    refused = [path.name for path in (stack.data / "logs").iterdir() if b"AccessDenied" in path.read_bytes()]
    assert refused == []
