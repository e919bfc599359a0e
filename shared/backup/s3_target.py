"""Backups in a bucket of any S3 server: ``s3://bucket/prefix``, reached by the settings ``ARTSEEK_BACKUP_S3_…``."""

from collections.abc import Iterable, Iterator
from typing import BinaryIO

from minio import Minio

from shared.backup.target import TargetFile
from shared.errors import Invalid
from shared.settings import Settings
from shared.storage.object_store import REMEDIES, ObjectStore, http_pool

SCHEME = "s3://"
_BUCKET = "check the name of the bucket in s3://BUCKET/PREFIX, and make the bucket if there is none"
_REMEDIES = {
    code: remedy.replace("ARTSEEK_S3_BUCKET", "the bucket").replace("ARTSEEK_S3_", "ARTSEEK_BACKUP_S3_")
    for code, remedy in REMEDIES.items()
} | {"NoSuchBucket": _BUCKET, "InvalidBucketName": _BUCKET}


class S3Target:
    """Files as objects whose keys start with a prefix. The bucket must exist."""

    def __init__(self, store: ObjectStore, *, url: str, prefix: str) -> None:
        self._store, self._url, self._prefix = store, url, prefix

    @classmethod
    def from_settings(cls, url: str, settings: Settings, *, connections: int = 16) -> "S3Target":
        """Return the target that a URL names; nothing is sent yet.

        Raises:
            Invalid: The URL does not name a bucket, a setting is missing, or the bucket is the system's own.
        """
        bucket, _, prefix = url.removeprefix(SCHEME).partition("/")
        if not bucket:
            raise Invalid(f"{url!r} names no bucket: expected s3://BUCKET or s3://BUCKET/PREFIX")
        if not settings.backup_s3_endpoint:
            raise Invalid(
                f"{url} lies on a server that is not known: set ARTSEEK_BACKUP_S3_ENDPOINT (host:port), "
                "ARTSEEK_BACKUP_S3_ACCESS_KEY and ARTSEEK_BACKUP_S3_SECRET_KEY"
            )
        if (settings.backup_s3_endpoint, bucket) == (settings.s3_endpoint, settings.s3_bucket):
            raise Invalid(f"{url} is the bucket of the system itself: a backup must lie elsewhere")
        client = Minio(
            settings.backup_s3_endpoint,
            access_key=settings.backup_s3_access_key.get_secret_value(),
            secret_key=settings.backup_s3_secret_key.get_secret_value(),
            secure=settings.backup_s3_secure,
            region=settings.backup_s3_region,
            http_client=http_pool(connections, ca=settings.backup_s3_ca, ca_setting="ARTSEEK_BACKUP_S3_CA"),
        )
        prefix = prefix.strip("/")
        return cls(ObjectStore(client, bucket, remedies=_REMEDIES), url=url, prefix=f"{prefix}/" if prefix else "")

    def __str__(self) -> str:
        return self._url

    def list(self, folder: str) -> Iterator[TargetFile]:
        """Yield the files in a folder and its subfolders."""
        for item in self._store.list(f"{self._prefix}{folder}/" if folder else self._prefix):
            yield TargetFile(item.key.removeprefix(self._prefix), item.size, item.modified)

    def read(self, name: str) -> Iterator[bytes]:
        """Yield a file's bytes, a part at a time."""
        return self._store.stream(self._prefix + name)

    def write(self, name: str, file: BinaryIO, size: int) -> None:
        """Write a file whole."""
        self._store.upload(self._prefix + name, file, size)

    def delete(self, names: Iterable[str]) -> None:
        """Delete files; those that do not exist are passed over."""
        self._store.delete([self._prefix + name for name in names])
