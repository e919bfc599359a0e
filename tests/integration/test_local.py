"""The local system: what it refuses, what it starts and where that listens, and that nothing of it stays behind."""

import json
import os
import signal
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import psutil
import pytest

from benchmarks.chaos.servers import TARGETS, Servers, part_of
from shared.errors import NotFound
from shared.state import connect
from shared.storage import layout
from shared.storage.object_store import ObjectStore
from tests.support.eventually import PATIENCE_S, eventually
from tests.support.paths import ROOT
from tests.support.processes import bare_environment, free_port, run_module
from tests.support.stack import Stack, launch, start_stack

LOOPBACK = {"127.0.0.1", "::1", "::ffff:127.0.0.1"}
SERVERS = {"valkey-index", "valkey-broker", "objects", "model-server"}
PARTS = SERVERS | {"query", "embedder", "indexer", "maintenance", "evaluator", "web"}


def processes_on(data: Path) -> list[psutil.Process]:
    """Return the processes that have to do with a data folder: by their environment or their command."""
    return [process for process in psutil.process_iter() if process.pid != os.getpid() and _is_on(process, data)]


def _is_on(process: psutil.Process, data: Path) -> bool:
    try:
        if process.status() == psutil.STATUS_ZOMBIE:
            return False
        return process.environ().get("ARTSEEK_DATA") == str(data) or str(data) in " ".join(process.cmdline())
    except (psutil.NoSuchProcess, psutil.AccessDenied):
        return False


def assert_nothing_is_left(data: Path) -> None:
    left = [(process.pid, process.cmdline()) for process in processes_on(data)]
    for pid, _ in left:
        os.kill(pid, signal.SIGKILL)
    assert left == []


def gives_up(data: Path, *arguments: str) -> str:
    """Run the local system, which is to end at once with an error, and return what it says."""
    done = subprocess.run(
        [sys.executable, "-m", "local", "--data", str(data), *arguments],
        cwd=ROOT,
        env=bare_environment(),
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    return done.stderr


def refused(data: Path, *arguments: str) -> str:
    """Run the local system, which is to give up and leave nothing behind, and return what it says."""
    said = gives_up(data, *arguments)
    assert_nothing_is_left(data)
    return said


@pytest.fixture(scope="module")
def started(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A system of these tests' own, of which they may kill what they like."""
    running = start_stack(tmp_path_factory.mktemp("local") / "data")
    yield running
    if running.process.poll() is None:
        running.stop()


def children(stack: Stack) -> dict[str, psutil.Process]:
    """Return the local system's children by the names of their logs, which is where they write."""
    found = {}
    for child in psutil.Process(stack.process.pid).children():
        log = Path(f"/proc/{child.pid}/fd/1").resolve()
        found[log.stem] = child
    return found


# Refused


def test_a_taken_port_is_told_by_name_and_nothing_is_started(tmp_path: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        said = refused(tmp_path / "data", "--port", str(port))
    assert str(port) in said
    assert "web page" in said
    assert "--port" in said


def test_an_address_that_is_not_of_this_machine_is_told(tmp_path: Path) -> None:
    assert "192.0.2.1" in refused(tmp_path / "data", "--port", str(free_port()), "--host", "192.0.2.1")


def test_a_data_folder_that_is_a_file_is_told(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("")
    assert str(tmp_path / "data") in refused(tmp_path / "data", "--port", str(free_port()))


def test_a_second_system_on_the_same_folder_is_refused(started: Stack) -> None:
    before = {name: child.pid for name, child in children(started).items()}
    said = gives_up(started.data, "--port", str(free_port()))
    assert str(started.data) in said
    assert {name: child.pid for name, child in children(started).items()} == before
    eventually(lambda: json.loads(started.artseek("status", "--json", check=False))["ready"])


# Running


def test_every_part_is_a_child(started: Stack) -> None:
    assert set(children(started)) == PARTS


def test_chaos_finds_every_process_that_it_disturbs(started: Stack) -> None:
    servers, own = Servers(started.process.pid), children(started)
    assert {target for target in TARGETS if not target.endswith("child")} == PARTS
    for target in TARGETS:
        found = eventually(partial(found_or_none, servers, target))
        parents = {process.ppid() if target.endswith("child") else process.pid for process in found}
        assert parents == {own[part_of(target)].pid}, target


def found_or_none(servers: Servers, target: str) -> list[psutil.Process]:
    try:
        return servers.find(target)
    except NotFound:  # a worker that has just started has no processes for tasks yet
        return []


def test_all_servers_listen_on_loopback_only(started: Stack) -> None:
    tree = [psutil.Process(started.process.pid), *psutil.Process(started.process.pid).children(recursive=True)]
    listening = [
        (process.name(), connection.laddr)
        for process in tree
        for connection in process.net_connections("all")
        if connection.status == psutil.CONN_LISTEN or (connection.laddr and not connection.raddr)
        if connection.family in {socket.AF_INET, socket.AF_INET6}
    ]
    assert {address.port for _, address in listening} >= set(
        json.loads((started.data / "ports.json").read_text()).values()
    )
    assert [(name, address) for name, address in listening if address.ip not in LOOPBACK] == []


def test_secrets_are_readable_by_their_owner_only(started: Stack) -> None:
    secrets = json.loads((started.data / "secrets.json").read_text())
    assert len(set(secrets.values())) == len(secrets) >= 4
    assert all(len(secret) >= 32 for secret in secrets.values())
    holding = {
        path
        for path in started.data.rglob("*")
        if path.is_file() and any(secret.encode() in path.read_bytes() for secret in secrets.values())
    }
    names = {"secrets.json", "settings.env", "valkey-index/valkey.conf", "valkey-broker/valkey.conf"}
    assert {started.data / name for name in names} <= holding
    assert {str(path): oct(path.stat().st_mode & 0o077) for path in holding} == dict.fromkeys(map(str, holding), "0o0")
    assert stat.S_IMODE(started.data.stat().st_mode) == 0o700


def test_the_servers_ask_for_their_secrets(started: Stack) -> None:
    settings = started.settings
    for url in (settings.index_url, settings.broker_url):
        secret = url.get_secret_value()
        assert connect(secret).ping()
        with pytest.raises(Exception, match=r"(?i)auth"):
            connect("redis://" + secret.rpartition("@")[2], retries=0).ping()


@pytest.mark.parametrize("name", sorted(PARTS))
def test_a_child_that_is_killed_is_started_again(started: Stack, name: str) -> None:
    before = children(started)[name]
    below = before.children(recursive=True)
    before.kill()
    eventually(lambda: children(started).get(name, before).pid != before.pid)
    eventually(lambda: not any(_is_alive(process) for process in below))  # they end as soon as they see it


def _is_alive(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def test_after_all_that_the_system_is_ready_again(started: Stack) -> None:
    started.wait_until_ready()
    eventually(lambda: json.loads(started.artseek("status", "--json", check=False))["ready"])


def test_what_was_added_is_there_after_a_stop_and_a_start(started: Stack, gallery: Path) -> None:
    """Stopped by an impatient user: Ctrl-C twice."""
    started.artseek("ingest", str(gallery), "--labels-from-folders")
    picture = sorted(gallery.rglob("*.jpg"))[0]
    search = ["search", str(picture), "--mode", "lsh", "--json"]
    before = json.loads(started.artseek(*search))
    written = [(started.data / name).read_text() for name in ("secrets.json", "ports.json")]
    started.process.send_signal(signal.SIGINT)
    time.sleep(0.05)
    started.process.send_signal(signal.SIGINT)
    assert started.process.wait(PATIENCE_S) == 0
    assert_nothing_is_left(started.data)

    again = start_stack(started.data)
    try:
        assert [(started.data / name).read_text() for name in ("secrets.json", "ports.json")] == written
        after = json.loads(again.artseek(*search))
        assert after["hits"] == before["hits"]
        assert after["mode"] == "lsh"
        store = ObjectStore.from_settings(again.settings)
        assert store.get(layout.original_key(layout.digest_of(picture.read_bytes()))) == picture.read_bytes()
        summary = json.loads(again.artseek("ingest", str(gallery), "--labels-from-folders", "--json"))
        assert summary["added"] == 0
    finally:
        again.process.kill()
        again.process.wait()
    if sys.platform == "linux":
        eventually(lambda: processes_on(started.data), until=[].__eq__)


# Stopped in the middle of a start


@pytest.mark.parametrize(
    ("children_wanted", "signals"),
    [
        (1, [signal.SIGTERM]),
        (1, [signal.SIGHUP]),
        (5, [signal.SIGINT] * 2),
    ],
)
def test_a_signal_in_the_middle_of_the_start_leaves_nothing(
    tmp_path: Path, children_wanted: int, signals: list[signal.Signals]
) -> None:
    data = tmp_path / "data"
    process = launch(data, port=free_port())
    parent = psutil.Process(process.pid)
    eventually(lambda: len(parent.children()) >= children_wanted)
    for number in signals:
        process.send_signal(number)
    assert process.wait(PATIENCE_S) == 0
    assert_nothing_is_left(data)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a process that its parent was killed")
@pytest.mark.parametrize("children_wanted", [1, 5])
def test_a_local_system_that_is_killed_in_the_middle_of_the_start_leaves_nothing(
    tmp_path: Path, children_wanted: int
) -> None:
    data = tmp_path / "data"
    process = launch(data, port=free_port())
    eventually(lambda: len(psutil.Process(process.pid).children()) >= children_wanted)
    process.kill()
    process.wait()
    eventually(lambda: processes_on(data), until=[].__eq__)


def test_the_usage_is_told() -> None:
    assert "--port" in run_module(["-m", "local", "--help"])
