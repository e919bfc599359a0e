"""What the environment may set: one immutable `Settings`, read from ``ARTSEEK_…`` names and the data folder's file.

The local stack writes the names of its own servers into ``<data>/settings.env``, so that every command which is given
the same data folder reaches the same system. A name in the process environment wins over the file.
"""

import os
from pathlib import Path
from typing import Annotated, Literal, Self
from urllib.parse import quote, urlsplit

from pydantic import BeforeValidator, Field, SecretStr, ValidationInfo, field_validator, model_validator
from pydantic_settings import BaseSettings, EnvSettingsSource, PydanticBaseSettingsSource, SettingsConfigDict

from shared.secret_files import SecretFiles
from shared.storage.link_roots import LinkRoots
from shared.web_settings import WebSettings

SETTINGS_FILE = "settings.env"

EXACT_BELOW = 20_000
"""Images of a collection under which `mode=auto` scans exactly."""

BUCKET_LIMIT = 20_000
"""Images that a search takes from one bucket."""

BUCKET_MEMORY_MB = 64
"""Megabytes of buckets that a query service holds."""

ORPHAN_HOURS = 24.0
"""Hours for which an original is kept that nothing holds."""

TRASH_DAYS = 30.0
"""Days for which a deleted image can be restored."""


_QUERY_BYTES = 64 * 2**20

PemFile = Annotated[Path | None, BeforeValidator(lambda value: value or None)]
"""The path of a file with certificates or a key; none where the setting is empty."""


class Settings(WebSettings):
    """All settings; the environment name of a field is ``ARTSEEK_`` and its name in capitals.

    A secret may also be in a file: `shared.secret_files`.
    """

    model_config = SettingsConfigDict(
        env_prefix="ARTSEEK_",
        frozen=True,
        extra="ignore",
        env_file_encoding="utf-8",
        hide_input_in_errors=True,  # which may be a secret, or have one; our own messages say what may be said
    )

    data: Path = Field(Path("data"), description="Folder of the local stack: its servers' files, secrets and settings.")
    least_free_bytes: int = Field(
        2 * 2**30,
        ge=0,
        description="Free bytes on the data folder's disk below which `artseek status` warns, or a fiftieth of the "
        "disk if that is more; with a 64th of them, the object store counts as down.",
    )

    redis_ca: PemFile = Field(
        None,
        description="PEM file of the authorities that certificates of Redis or Valkey may come from, where their URLs "
        "begin with `rediss`; unset: those of this machine.",
    )
    index_url: SecretStr = Field(
        SecretStr("redis://127.0.0.1:6379/0"),
        description="Redis or Valkey (6.2 or newer) with buckets, ids and jobs; "
        "`rediss://` uses TLS; "
        "`redis+cluster://:password@host:port,host:port` names a cluster by some of its nodes.",
    )
    broker_url: SecretStr = Field(
        SecretStr("redis://127.0.0.1:6380/0"), description="Redis or Valkey that carries the task queues."
    )

    s3_endpoint: str = Field("127.0.0.1:9000", description="host:port of the S3 object store.")
    s3_access_key: SecretStr = Field(SecretStr(""), description="Access key of the object store.")
    s3_secret_key: SecretStr = Field(SecretStr(""), description="Secret key of the object store.")
    s3_secure: bool = Field(False, description="Whether the object store is reached by HTTPS.")  # noqa: FBT003
    s3_ca: PemFile = Field(
        None,
        description="PEM file of the authorities that the certificate of the object store may come from; "
        "unset: those of this machine.",
    )
    s3_region: str = Field("us-east-1", description="Region name that requests to the object store are signed for.")
    s3_bucket: str = Field("artseek", description="Bucket that holds originals, segments and manifests.")

    backup_s3_endpoint: str = Field("", description="host:port of the S3 store of backups to `s3://BUCKET/PREFIX`.")
    backup_s3_access_key: SecretStr = Field(SecretStr(""), description="Access key of the store of backups.")
    backup_s3_secret_key: SecretStr = Field(SecretStr(""), description="Secret key of the store of backups.")
    backup_s3_secure: bool = Field(True, description="Whether the store of backups is reached by HTTPS.")  # noqa: FBT003
    backup_s3_ca: PemFile = Field(
        None,
        description="PEM file of the authorities that the certificate of the store of backups may come from; "
        "unset: those of this machine.",
    )
    backup_s3_region: str = Field(
        "us-east-1", description="Region name that requests to the store of backups are signed for."
    )

    serving_target: str = Field("127.0.0.1:8500", description="host:port of the model server's gRPC API.")
    model: str = Field("efficientnet-lite0", description="Model that a new collection is embedded with.")
    model_version: int | None = Field(
        None, ge=1, description="Version of `ARTSEEK_MODEL`; unset: the latest one served."
    )

    model_threads: int = Field(
        0,
        ge=0,
        le=1024,
        description="Threads in which the model server computes an operation of the model; "
        "0: one for each core that it may use.",
    )
    models: Path = Field(Path("data/models"), description="Folder of the exported models for `artseek models`.")

    query_target: str = Field("127.0.0.1:8600", description="host:port at which the query service is reached.")
    query_listen: str = Field("127.0.0.1:8600", description="host:port at which the query service listens.")
    query_metrics_listen: str = Field(
        "127.0.0.1:8601", description="host:port at which the query service shows its metrics to Prometheus."
    )
    metrics_token: SecretStr = Field(
        SecretStr(""),
        description="What Prometheus has to send to see metrics, as `Authorization: Bearer`; empty: nothing to the "
        "query service, and an API key to the page, where that wants a log-in.",
    )
    query_processes: int = Field(
        0,
        ge=0,
        le=256,
        description="Processes of the query service, which share its port and its copy of the segments; "
        "0: one for each core, up to four.",
    )
    query_copy: Path = Field(Path("data/query"), description="Folder of the query service's copy of the segments.")
    exact_below: int = Field(
        EXACT_BELOW,
        ge=0,
        description="`mode=auto` scans exactly if fewer images than this pass the filters; windows of images likewise.",
    )
    proof_hits: int = Field(
        20,
        ge=0,
        le=100,
        description="Hits that are compared with the query, the first ones, where a search asks for proof; "
        "0: none, and the page does not offer it.",
    )
    bucket_limit: int = Field(
        BUCKET_LIMIT, ge=1, description="Most images that a search takes from one bucket of the index."
    )
    bucket_memory_mb: int = Field(
        BUCKET_MEMORY_MB,
        ge=0,
        description="Megabytes of buckets that the query service holds in memory, so that it need not fetch them; 0: "
        "none.",
    )

    recall_sample: float = Field(
        0.01,
        ge=0,
        le=1,
        description="Share of the index's answers that are checked against an exact scan in the background; 0: none.",
    )

    grpc_ca: PemFile = Field(
        None,
        description="PEM file of the authority that signs the certificates of query service, model server and their "
        "clients; set: gRPC uses TLS, and both sides show a certificate.",
    )
    grpc_certificate: PemFile = Field(None, description="PEM file of this process's certificate on gRPC.")
    grpc_key: PemFile = Field(None, description="PEM file of that certificate's private key.")

    link_roots: str = Field(
        "",
        description="Folders below which `--link` leaves originals where they are, absolute paths separated as those "
        "of PATH are; every service that reads originals needs the same, at the same paths.",
    )

    max_file_bytes: int = Field(
        2 * 2**30,
        ge=1024,
        description="Largest image file that is taken, in bytes; of those to search with, at most 64 MiB.",
    )
    max_pixels: int = Field(1_000_000_000, ge=1024, description="Largest image that is decoded, in pixels.")
    max_pages: int = Field(
        500,
        ge=1,
        le=100_000,
        description="Most pages of a document (a TIFF of several pages, a PDF): each becomes an image.",
    )
    decode_seconds: float = Field(
        30,
        ge=1,
        description="Seconds of processor time that decoding an image may take; ten times as many by the clock.",
    )
    decode_memory: int = Field(
        512 * 2**20,
        ge=16 * 2**20,
        description="Memory that decoding an image may take by estimate, in bytes; "
        "at twice as much, the decoder is stopped.",
    )
    max_upload_bytes: int = Field(256 * 2**20, ge=1024, description="Largest body of one upload, in bytes.")

    batch_size: int = Field(32, ge=1, le=256, description="Images of one embed task, and rows of its segment.")
    embed_processes: int = Field(
        0,
        ge=0,
        le=256,
        description="Processes of an embedder, each with a batch at work and two processes that decode; "
        "0: one for one core, two for two, up to four.",
    )
    vector_type: Literal["float32", "float16"] = Field(
        "float32", description="`float32` or `float16`: how new embeddings are stored; float16 takes half the space."
    )
    orphan_hours: float = Field(
        ORPHAN_HOURS, ge=1, description="Hours for which an original is kept that no collection, trash or upload holds."
    )
    trash_days: float = Field(
        TRASH_DAYS, ge=0, description="Days for which a deleted image can be restored from the trash."
    )
    visibility_timeout: int = Field(
        45,
        ge=10,
        description="Seconds of a worker's silence after which its tasks are given to another; "
        "a living worker keeps them.",
    )
    log_level: str = Field(
        "INFO",
        pattern="^(DEBUG|INFO|WARNING|ERROR)$",
        description="Least severity that is logged: `DEBUG`, `INFO`, `WARNING` or `ERROR`.",
    )

    @property
    def max_query_bytes(self) -> int:
        """Most bytes of a file to search with, which is held in memory."""
        return min(self.max_file_bytes, _QUERY_BYTES)

    @field_validator("s3_endpoint", "backup_s3_endpoint")
    @classmethod
    def _is_host_and_port(cls, text: str) -> str:
        if not set("/@").isdisjoint(text):
            raise ValueError("expected host:port, without a scheme or a user: ARTSEEK_…_SECURE says whether by HTTPS")
        return text

    @field_validator("link_roots")
    @classmethod
    def _are_folders(cls, text: str) -> str:
        LinkRoots.parse(text)
        return text

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003 -- a folder of secrets, which we do not have
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Return where values come from, the first before the next."""
        named = [source for source in (env_settings, dotenv_settings) if isinstance(source, EnvSettingsSource)]
        return (init_settings, *(SecretFiles(settings_cls, source) for source in named))

    @field_validator("index_url", "broker_url")
    @classmethod
    def _names_its_authority(cls, url: SecretStr, info: ValidationInfo) -> SecretStr:
        """Put `redis_ca` into an address, where every client of Redis finds it."""
        ca, text = info.data.get("redis_ca"), url.get_secret_value()
        _check_redis_url(text, may_be_cluster=info.field_name == "index_url")
        if ca is None or not text.startswith("rediss") or "ssl_ca_certs=" in text:
            return url
        return SecretStr(f"{text}{'&' if '?' in text else '?'}ssl_ca_certs={quote(str(ca), safe='/')}")

    @model_validator(mode="after")
    def _certificates_are_whole(self) -> Self:
        if (self.grpc_certificate is None) != (self.grpc_key is None):
            raise ValueError("ARTSEEK_GRPC_CERTIFICATE and ARTSEEK_GRPC_KEY belong together: expected both or none")
        if self.grpc_certificate is not None and self.grpc_ca is None:
            raise ValueError("ARTSEEK_GRPC_CERTIFICATE is set without ARTSEEK_GRPC_CA: gRPC would go without TLS")
        return self


def _check_redis_url(url: str, *, may_be_cluster: bool) -> None:
    """Make sure that a URL can be that of a Redis.

    Raises:
        ValueError: It cannot; the message does not show it, for it may have a password.
    """
    expected = "expected redis://[[user]:password@]host:port/number, or rediss:// for TLS"
    scheme = url.partition("://")[0]
    if scheme in {"redis+cluster", "rediss+cluster"}:
        if may_be_cluster:
            return  # several hosts, which only the client can tell apart
        raise ValueError(f"the queues need one plain Redis, not a cluster: {expected}")
    if scheme not in {"redis", "rediss", "unix"}:
        raise ValueError(f"this is no address of a Redis: {expected}")
    try:
        port = urlsplit(url).port
    except ValueError:
        raise ValueError(f"the port of this address is no number: {expected}") from None
    if port == 0:
        raise ValueError(f"the port of this address is 0: {expected}")


def load_settings() -> Settings:
    """Return the settings of this process: environment, then ``<data>/settings.env``, then the defaults.

    Raises:
        pydantic.ValidationError: A value does not fit; the message names the setting and what is expected.
    """
    folder = Path(os.environ.get("ARTSEEK_DATA") or "data")
    # Absolute: pydantic takes a leading ~ for somebody's home.
    return Settings(_env_file=folder.absolute() / SETTINGS_FILE, data=folder)  # type: ignore[call-arg]


def environment_name(field: str) -> str:
    """Return the environment name of a field of `Settings`."""
    return f"ARTSEEK_{field.upper()}"
