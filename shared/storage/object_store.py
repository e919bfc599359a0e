"""The object store: bytes under keys, in one bucket of any S3-compatible server."""

import io
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import urllib3
from minio import Minio
from minio.deleteobjects import DeleteObject
from minio.error import InvalidResponseError, S3Error, ServerError

from shared.errors import ObjectNotFound, StoreUnavailable
from shared.settings import Settings

_MISSING = frozenset({"NoSuchKey", "NoSuchBucket", "NoSuchObject", "NotFound"})
_PART = 2**20  # bytes of a download in memory at a time
# What the store says while it starts, stops or is overloaded. Anything else it refuses is a fault of ours.
_TRANSIENT = frozenset(
    {"InternalError", "ServiceUnavailable", "SlowDown", "RequestTimeout", "XMinioServerNotInitialized"}
)
_FAILURES = (S3Error, ServerError, InvalidResponseError, urllib3.exceptions.HTTPError, OSError)


@dataclass(frozen=True)
class StoredObject:
    """One line of a listing: the key, and the size in bytes."""

    key: str
    size: int


class ObjectStore:
    """Puts, gets, lists and deletes objects; every failure to reach the server is a `StoreUnavailable`."""

    def __init__(self, client: Minio, bucket: str) -> None:
        self._client = client
        self._bucket = bucket

    @classmethod
    def from_settings(cls, settings: Settings, *, connections: int = 16) -> Self:
        """Return a store for the settings; nothing is sent yet. It may be shared by `connections` threads."""
        pool = urllib3.PoolManager(
            maxsize=connections,
            timeout=urllib3.Timeout(connect=3.0, read=30.0),
            retries=urllib3.Retry(
                total=2, backoff_factor=0.1, status_forcelist=(500, 502, 503, 504), raise_on_status=False
            ),
        )
        client = Minio(
            settings.s3_endpoint,
            access_key=settings.s3_access_key.get_secret_value(),
            secret_key=settings.s3_secret_key.get_secret_value(),
            secure=settings.s3_secure,
            region=settings.s3_region,
            http_client=pool,
        )
        return cls(client, settings.s3_bucket)

    def ensure_bucket(self) -> None:
        """Create the bucket if it does not exist."""
        try:
            if not self._client.bucket_exists(self._bucket):
                self._client.make_bucket(self._bucket)
        except _FAILURES as error:
            if isinstance(error, S3Error) and error.code in {"BucketAlreadyOwnedByYou", "BucketAlreadyExists"}:
                return
            raise self._failure("reach", self._bucket, error) from error

    def put(self, key: str, data: bytes, media_type: str = "application/octet-stream") -> None:
        """Write an object whole: readers see the old one or the new one, never a part."""
        try:
            self._client.put_object(self._bucket, key, io.BytesIO(data), len(data), content_type=media_type)
        except _FAILURES as error:
            raise self._failure("write", key, error) from error

    def get(self, key: str, *, start: int = 0, size: int = 0) -> bytes:
        """Return an object's bytes: all, or at most `size` of them from `start` on, none behind its end.

        Raises:
            ObjectNotFound: There is no such object.
        """
        try:
            response = self._client.get_object(self._bucket, key, offset=start, length=size)
            try:
                return response.read()
            finally:
                response.close()
                response.release_conn()
        except _FAILURES as error:
            if isinstance(error, S3Error) and error.code == "InvalidRange":
                return b""
            raise self._failure("read", key, error) from error

    def download(self, key: str, path: Path) -> None:
        """Write an object's bytes to a file, a part at a time: a large one takes no more memory than a small one.

        Raises:
            ObjectNotFound: There is no such object.
        """
        try:
            response = self._client.get_object(self._bucket, key)
            try:
                with path.open("wb") as file:
                    for part in response.stream(_PART):
                        file.write(part)
            finally:
                response.close()
                response.release_conn()
        except _FAILURES as error:
            raise self._failure("read", key, error) from error

    def exists(self, key: str) -> bool:
        """Return whether there is such an object."""
        try:
            self._client.stat_object(self._bucket, key)
        except _FAILURES as error:
            failure = self._failure("look up", key, error)
            if isinstance(failure, ObjectNotFound):
                return False
            raise failure from error
        return True

    def delete(self, keys: Iterable[str]) -> None:
        """Delete objects; those that do not exist are passed over."""
        try:
            for error in self._client.remove_objects(self._bucket, [DeleteObject(key) for key in keys]):
                if error.code not in _MISSING:
                    raise StoreUnavailable(f"the object store did not delete {error.name!r}: {error.message}")
        except _FAILURES as error:
            raise self._failure("delete from", self._bucket, error) from error

    def list(self, prefix: str) -> Iterator[StoredObject]:
        """Yield the objects whose keys start with `prefix`, in the order of their keys."""
        try:
            for item in self._client.list_objects(self._bucket, prefix=prefix, recursive=True):
                yield StoredObject(item.object_name, item.size or 0)
        except _FAILURES as error:
            failure = self._failure("list", prefix, error)
            if not isinstance(failure, ObjectNotFound):
                raise failure from error

    def _failure(self, verb: str, key: str, error: Exception) -> Exception:
        if isinstance(error, S3Error):
            if error.code in _MISSING:
                return ObjectNotFound(f"the object store has no {key!r}")
            if error.code not in _TRANSIENT:
                return StoreUnavailable(
                    f"the object store refused to {verb} {key!r}: {error.code}: {error.message}; "
                    "check ARTSEEK_S3_ACCESS_KEY, ARTSEEK_S3_SECRET_KEY and ARTSEEK_S3_BUCKET"
                )
        return StoreUnavailable(f"cannot {verb} {key!r} in the object store: {error}")
