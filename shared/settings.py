"""What the environment may set: one immutable `Settings`, read from ``ARTSEEK_…`` names and the data folder's file.

The local stack writes the names of its own servers into ``<data>/settings.env``, so that every command which is given
the same data folder reaches the same system. A name in the process environment wins over the file.
"""

import os
from pathlib import Path
from typing import Literal

from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict

SETTINGS_FILE = "settings.env"

EXACT_BELOW = 20_000
"""Images of a collection under which `mode=auto` scans exactly."""

BUCKET_LIMIT = 20_000
"""Images that a search takes from one bucket."""


class Settings(BaseSettings):
    """All settings; the environment name of a field is ``ARTSEEK_`` and its name in capitals."""

    model_config = SettingsConfigDict(env_prefix="ARTSEEK_", frozen=True, extra="ignore", env_file_encoding="utf-8")

    data: Path = Field(Path("data"), description="Folder of the local stack: its servers' files, secrets and settings.")

    index_url: SecretStr = Field(
        SecretStr("redis://127.0.0.1:6379/0"),
        description="Redis or Valkey (6.2 or newer) with buckets, ids and jobs; "
        "`redis+cluster://:password@host:port,host:port` names a cluster by some of its nodes.",
    )
    broker_url: SecretStr = Field(
        SecretStr("redis://127.0.0.1:6380/0"), description="Redis or Valkey that carries the task queues."
    )

    s3_endpoint: str = Field("127.0.0.1:9000", description="host:port of the S3 object store.")
    s3_access_key: SecretStr = Field(SecretStr(""), description="Access key of the object store.")
    s3_secret_key: SecretStr = Field(SecretStr(""), description="Secret key of the object store.")
    s3_secure: bool = Field(False, description="Whether the object store is reached by HTTPS.")  # noqa: FBT003
    s3_region: str = Field("us-east-1", description="Region name that requests to the object store are signed for.")
    s3_bucket: str = Field("artseek", description="Bucket that holds originals, segments and manifests.")

    serving_target: str = Field("127.0.0.1:8500", description="host:port of the model server's gRPC API.")
    model: str = Field("efficientnet-lite0", description="Model that a new collection is embedded with.")
    model_version: int | None = Field(
        None, ge=1, description="Version of `ARTSEEK_MODEL`; unset: the latest one served."
    )

    models: Path = Field(Path("data/models"), description="Folder of the exported models for `artseek models`.")

    query_target: str = Field("127.0.0.1:8600", description="host:port at which the query service is reached.")
    query_listen: str = Field("127.0.0.1:8600", description="host:port at which the query service listens.")
    query_metrics_listen: str = Field(
        "127.0.0.1:8601", description="host:port at which the query service shows its metrics to Prometheus."
    )
    query_copy: Path = Field(Path("data/query"), description="Folder of the query service's copy of the segments.")
    exact_below: int = Field(
        EXACT_BELOW, ge=0, description="`mode=auto` scans collections under this many images exactly."
    )
    bucket_limit: int = Field(
        BUCKET_LIMIT, ge=1, description="Most images that a search takes from one bucket of the index."
    )

    recall_sample: float = Field(
        0.01,
        ge=0,
        le=1,
        description="Share of the index's answers that are checked against an exact scan in the background; 0: none.",
    )

    web_listen: str = Field("127.0.0.1:8080", description="host:port at which the web page and REST API listen.")
    web_threads: int = Field(8, ge=1, le=256, description="Requests that the web service answers at a time.")

    max_file_bytes: int = Field(64 * 2**20, ge=1024, description="Largest image file that is taken, in bytes.")
    max_pixels: int = Field(50_000_000, ge=1024, description="Largest image that is decoded, in pixels.")
    max_upload_bytes: int = Field(256 * 2**20, ge=1024, description="Largest body of one upload, in bytes.")

    batch_size: int = Field(32, ge=1, le=256, description="Images of one embed task, and rows of its segment.")
    vector_type: Literal["float32", "float16"] = Field(
        "float32", description="`float32` or `float16`: how new embeddings are stored; float16 takes half the space."
    )
    visibility_timeout: int = Field(
        45, ge=10, description="Seconds after which the task of a worker that vanished is given to another."
    )
    log_level: str = Field(
        "INFO",
        pattern="^(DEBUG|INFO|WARNING|ERROR)$",
        description="Least severity that is logged: `DEBUG`, `INFO`, `WARNING` or `ERROR`.",
    )


def load_settings() -> Settings:
    """Return the settings of this process: environment, then ``<data>/settings.env``, then the defaults.

    Raises:
        pydantic.ValidationError: A value does not fit; the message names the setting and what is expected.
    """
    folder = Path(os.environ.get("ARTSEEK_DATA") or "data")
    return Settings(_env_file=folder / SETTINGS_FILE, data=folder)  # type: ignore[call-arg]


def environment_name(field: str) -> str:
    """Return the environment name of a field of `Settings`."""
    return f"ARTSEEK_{field.upper()}"
