"""A system of indexer and maintenance worker, and places for its backups."""

from collections.abc import Callable
from pathlib import Path

import pytest
from minio import Minio

from shared.backup.folder_target import FolderTarget
from shared.backup.repository import Repository
from shared.backup.s3_target import S3Target
from shared.backup.target import Target
from shared.settings import Settings
from tests.support.indexing import Parts, parts_of
from tests.support.servers import Servers

BUCKET = "backups"


@pytest.fixture
def parts(servers: Servers) -> Parts:
    return parts_of(servers.settings)


@pytest.fixture
def settings(servers: Servers, tmp_path: Path) -> Settings:
    """The settings of the system, which keep backups on the same server, in another bucket."""
    found = servers.settings
    client = Minio(
        found.s3_endpoint,
        access_key=found.s3_access_key.get_secret_value(),
        secret_key=found.s3_secret_key.get_secret_value(),
        secure=False,
    )
    if not client.bucket_exists(BUCKET):
        client.make_bucket(BUCKET)
    return found.model_copy(
        update={
            "models": tmp_path / "models",
            "backup_s3_endpoint": found.s3_endpoint,
            "backup_s3_access_key": found.s3_access_key,
            "backup_s3_secret_key": found.s3_secret_key,
            "backup_s3_secure": False,
        }
    )


MakeTarget = Callable[[], Target]


@pytest.fixture(params=["folder", "s3"])
def target(request: pytest.FixtureRequest, settings: Settings, tmp_path: Path) -> Target:
    """An empty place for backups, of each kind."""
    if request.param == "folder":
        return FolderTarget(tmp_path / "backup")
    return S3Target.from_settings(f"s3://{BUCKET}/{tmp_path.name}", settings)


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    return Repository.create(FolderTarget(tmp_path / "backup"))
