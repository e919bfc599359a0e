"""The query service as it runs: a process of its own, or several, on servers that a test has filled."""

import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
from prometheus_client.parser import text_string_to_metric_families

from services.query.processes.handover import OtherProcess
from services.query.processes.process_group import socket_path
from shared.rpc.query import query_pb2 as messages
from shared.rpc.query.client import QueryClient
from shared.rpc.query.connecting import connect_query
from tests.support.eventually import PATIENCE_S, eventually
from tests.support.paths import ROOT
from tests.support.processes import bare_environment, free_port
from tests.support.servers import Servers

_WORKER = "services.query.processes.worker"


class RunningQueryService:
    """A query service that has been started, with a copy of the segments in a folder of its own."""

    def __init__(self, servers: Servers, folder: Path, *, processes: int, **settings: str) -> None:
        folder.mkdir()
        self.count, self._log = processes, folder / "log"
        self.listen, self._metrics = (f"127.0.0.1:{free_port()}" for _ in range(2))
        self.copy = folder / "copy"
        self.settings = servers.settings.model_copy(update={"query_target": self.listen})
        own = {
            "ARTSEEK_DATA": str(servers.folder),
            "ARTSEEK_QUERY_LISTEN": self.listen,
            "ARTSEEK_QUERY_METRICS_LISTEN": self._metrics,
            "ARTSEEK_QUERY_COPY": str(self.copy),
            "ARTSEEK_QUERY_PROCESSES": str(processes),
        }
        environment = bare_environment(**{**own, **settings})
        with self._log.open("w") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "services.query"], cwd=ROOT, env=environment, stdout=log, stderr=log
            )

    def wait_until_complete(self) -> None:
        """Wait until every process answers."""
        eventually(self._is_complete, explain=self._log.read_text)

    def _is_complete(self) -> bool:
        assert self.process.poll() is None, self._log.read_text()
        return self._log.read_text().count("serving at") >= self.count and (
            self.count == 1 or self.sum_of("artseek_query_processes") == self.count
        )

    def workers(self) -> list[psutil.Process]:
        """Return the processes that answer, by their numbers."""
        children = psutil.Process(self.process.pid).children()
        found = [child for child in children if child.status() != psutil.STATUS_ZOMBIE and _WORKER in child.cmdline()]
        return sorted(found, key=lambda child: int(child.cmdline()[-2]))

    def client(self) -> QueryClient:
        """Return a client of the service."""
        return connect_query(self.settings, deadline_s=PATIENCE_S)

    def search_in(self, worker: psutil.Process, request: messages.SearchRequest) -> messages.SearchResponse:
        """Return what one process answers to what is handed to it."""
        *_, folder, number, _ = worker.cmdline()
        process = OtherProcess(socket_path(Path(folder), int(number)))
        try:
            answer = process.answer("/artseek.query.v1.Query/Search", request.SerializeToString(), PATIENCE_S)
        finally:
            process.close()
        return messages.SearchResponse.FromString(answer)

    def sum_of(self, sample: str) -> float:
        """Return what the metrics say under a name, over all labels; 0 if they say nothing, or cannot be read."""
        token = self.settings.metrics_token.get_secret_value()
        request = urllib.request.Request(
            f"http://{self._metrics}/metrics", headers={"Authorization": f"Bearer {token}"}
        )
        try:
            with urllib.request.urlopen(request, timeout=PATIENCE_S) as answer:  # noqa: S310
                text = answer.read().decode()
        except OSError:
            return 0.0
        families = text_string_to_metric_families(text)
        return sum(found.value for family in families for found in family.samples if found.name == sample)

    def stop(self) -> int:
        """Stop it as its parent does; returns its exit status."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(PATIENCE_S)


@contextmanager
def query_service(servers: Servers, folder: Path, *, processes: int, **settings: str) -> Iterator[RunningQueryService]:
    """Run a query service during the block; it has to stop as it should."""
    running = RunningQueryService(servers, folder, processes=processes, **settings)
    try:
        running.wait_until_complete()
        yield running
    finally:
        if running.process.poll() is None:
            assert running.stop() == 0
