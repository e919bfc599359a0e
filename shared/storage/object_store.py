"""The object store: bytes under keys, in one bucket of any S3-compatible server."""

import io
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import BinaryIO, Self

import urllib3
from minio import Minio
from minio.commonconfig import CopySource
from minio.deleteobjects import DeleteObject
from minio.error import InvalidResponseError, S3Error, ServerError

from shared.errors import ObjectNotFound, StoreMisconfigured, StoreUnavailable
from shared.pem_files import read_pem
from shared.settings import Settings
from shared.storage.checked_file import CheckedFile
from shared.storage.link_roots import LinkRoots

_MISSING = frozenset({"NoSuchKey", "NoSuchObject", "NotFound"})
_PART = 2**20  # bytes of a download in memory at a time
_PIECE = 2**25  # bytes that are asked for at a time
# What no waiting mends, and the remedy. Whatever else a store refuses may pass: it starts, stops, is full or busy.
_KEYS = "check ARTSEEK_S3_ACCESS_KEY and ARTSEEK_S3_SECRET_KEY"
_RIGHTS = (
    f"{_KEYS}, and the bucket's policy: the keys need the rights to list ARTSEEK_S3_BUCKET and to read, write and "
    "delete its objects"
)
REMEDIES = {
    "AccessDenied": _RIGHTS,
    "AllAccessDisabled": _RIGHTS,
    "AccountProblem": _RIGHTS,
    "UnauthorizedAccess": _RIGHTS,
    "InvalidAccessKeyId": _KEYS,
    "SignatureDoesNotMatch": _KEYS,
    "InvalidToken": _KEYS,
    "ExpiredToken": _KEYS,
    "RequestTimeTooSkewed": "set the clock of this machine or of the store right",
    "AuthorizationHeaderMalformed": "check ARTSEEK_S3_REGION",
    "IllegalLocationConstraintException": "check ARTSEEK_S3_REGION",
    "PermanentRedirect": "check ARTSEEK_S3_ENDPOINT and ARTSEEK_S3_REGION",
    "NoSuchBucket": "check ARTSEEK_S3_BUCKET; a bucket of this name is made by `artseek ingest`",
    "InvalidBucketName": "check ARTSEEK_S3_BUCKET",
    "MethodNotAllowed": "check ARTSEEK_S3_ENDPOINT: it has to be that of an S3 API",
    "NotImplemented": "check ARTSEEK_S3_ENDPOINT: it has to be that of an S3 API",
}
_MAY_BE_THERE = {"BucketAlreadyOwnedByYou", "BucketAlreadyExists", "AccessDenied"}
_FAILURES = (S3Error, ServerError, InvalidResponseError, urllib3.exceptions.HTTPError, OSError)


def http_pool(connections: int, *, ca: Path | None = None, ca_setting: str = "ARTSEEK_S3_CA") -> urllib3.PoolManager:
    """Return what sends the requests of a store that `connections` threads share.

    Certificates of the store come from the authorities in the file `ca`, by default from those of this machine.

    Raises:
        Invalid: The file cannot be read.
    """
    if ca is not None:
        read_pem(ca_setting, ca)
    return urllib3.PoolManager(
        cert_reqs="CERT_REQUIRED",
        ca_certs=None if ca is None else str(ca),
        maxsize=connections,
        timeout=urllib3.Timeout(connect=3.0, read=30.0),
        retries=urllib3.Retry(
            total=2, backoff_factor=0.1, status_forcelist=(500, 502, 503, 504), raise_on_status=False
        ),
    )


@dataclass(frozen=True)
class StoredObject:
    """One line of a listing.

    Attributes:
        key: The key.
        size: Bytes.
        modified: When it was written by the server's clock, in seconds since 1970.
        etag: What the server tells versions of the object apart by; empty if it does not.
    """

    key: str
    size: int
    modified: float = 0.0
    etag: str = ""


class ObjectStore:
    """Puts, gets, lists and deletes objects.

    Whatever keeps the server from it is a `StoreUnavailable`; what no waiting mends, a `StoreMisconfigured`.
    """

    def __init__(
        self,
        client: Minio,
        bucket: str,
        *,
        remedies: Mapping[str, str] = REMEDIES,
        link_roots: LinkRoots | None = None,
    ) -> None:
        """Work on a bucket.

        Args:
            client: Sends requests.
            bucket: Name of the bucket.
            remedies: What is said where the server answers with the code of an error.
            link_roots: Where the files lie that objects of this store link to (`shared.storage.original_files`).
        """
        self.link_roots = link_roots or LinkRoots()
        self._client = client
        self._bucket = bucket
        self._remedies = remedies

    @classmethod
    def from_settings(cls, settings: Settings, *, connections: int = 16) -> Self:
        """Return a store for the settings; nothing is sent yet. It may be shared by `connections` threads."""
        client = Minio(
            settings.s3_endpoint,
            access_key=settings.s3_access_key.get_secret_value(),
            secret_key=settings.s3_secret_key.get_secret_value(),
            secure=settings.s3_secure,
            region=settings.s3_region,
            http_client=http_pool(connections, ca=settings.s3_ca),
        )
        return cls(client, settings.s3_bucket, link_roots=LinkRoots.parse(settings.link_roots))

    def ensure_bucket(self) -> None:
        """Create the bucket if it does not exist; whoever may not look uses the one that there is."""
        try:
            if not self._client.bucket_exists(self._bucket):
                self._client.make_bucket(self._bucket)
        except _FAILURES as error:
            if isinstance(error, S3Error) and error.code in _MAY_BE_THERE:
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
        parts = self.stream(key)
        first = next(parts, b"")  # before there is a file: there may be no such object
        with path.open("wb") as file:
            for part in chain([first], parts):
                file.write(part)

    def stream(self, key: str) -> Iterator[bytes]:
        """Yield an object's bytes, a part at a time.

        They are asked for in pieces, since a store may read ahead of a reader that is slow: SeaweedFS keeps half a
        gigabyte of a large object.

        Raises:
            ObjectNotFound: There is no such object.
            StoreUnavailable: It was replaced meanwhile, or the store does not answer.
        """
        start, size, etag = 0, 1, None
        while start < size:
            before = start
            try:
                response = self._client.get_object(self._bucket, key, offset=start, length=_PIECE)
                try:
                    etag = etag or response.headers.get("ETag")
                    if response.headers.get("ETag") != etag:
                        raise StoreUnavailable(f"{key!r} was replaced in the object store while it was read")
                    size = int(response.headers.get("Content-Range", "/0").rpartition("/")[2])
                    for part in response.stream(_PART):
                        start += len(part)
                        yield part
                finally:
                    response.close()
                    response.release_conn()
            except _FAILURES as error:
                if isinstance(error, S3Error) and error.code == "InvalidRange" and not start:
                    return  # it is empty
                raise self._failure("read", key, error) from error
            if start == before and size:
                raise StoreUnavailable(f"the object store ended {key!r} at {start} of {size} bytes")

    def upload(self, key: str, file: BinaryIO, size: int, media_type: str = "application/octet-stream") -> None:
        """Write an object whole from the next `size` bytes of a file, a part at a time."""
        try:
            self._client.put_object(self._bucket, key, file, size, content_type=media_type)
        except _FAILURES as error:
            raise self._failure("write", key, error) from error

    def upload_checked(self, key: str, file: BinaryIO, size: int, digest: str) -> None:
        """Write an object whole from the next `size` bytes of a file that somebody may change meanwhile.

        There is no object, and one that is there stays as it is, unless these bytes have the SHA-256 `digest`.

        Raises:
            OSError: The file cannot be read, or has other bytes.
        """
        checked = CheckedFile(file, size, digest)
        try:
            # One part after the other: none is under way when the upload is given up.
            self._client.put_object(self._bucket, key, checked, size, num_parallel_uploads=1)  # type: ignore[arg-type]
        except _FAILURES as error:
            if checked.failure is not None:
                raise checked.failure from None
            raise self._failure("write", key, error) from error

    def copy(self, source: str, target: str) -> None:
        """Write a copy of an object under another key; the server does it.

        Raises:
            ObjectNotFound: There is no such object.
        """
        try:
            self._client.copy_object(self._bucket, target, CopySource(self._bucket, source))
        except _FAILURES as error:
            raise self._failure("copy", source, error) from error

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
                    raise self._refusal("delete", error.name or "", error.code, error.message)
        except _FAILURES as error:
            raise self._failure("delete from", self._bucket, error) from error

    def list(self, prefix: str) -> Iterator[StoredObject]:
        """Yield the objects whose keys start with `prefix`, in the order of their keys."""
        try:
            for item in self._client.list_objects(self._bucket, prefix=prefix, recursive=True):
                modified = item.last_modified.timestamp() if item.last_modified else 0.0
                etag = (item.etag or "").strip('"')
                yield StoredObject(item.object_name, item.size or 0, modified, etag)
        except _FAILURES as error:
            failure = self._failure("list", prefix, error)
            if not isinstance(failure, ObjectNotFound):
                raise failure from error

    def top_level(self) -> Iterator[str]:
        """Yield what is at the top of the bucket: keys without a slash, and the first parts of others with theirs."""
        try:
            for item in self._client.list_objects(self._bucket, recursive=False):
                yield str(item.object_name)
        except _FAILURES as error:
            failure = self._failure("list", self._bucket, error)
            if not isinstance(failure, ObjectNotFound):
                raise failure from error

    def children(self, prefix: str) -> Iterator[str]:
        """Yield the rests of keys right behind `prefix`, which ends with a slash, and the folders there, in order."""
        try:
            for item in self._client.list_objects(self._bucket, prefix=prefix, recursive=False):
                yield item.object_name.removeprefix(prefix).rstrip("/")
        except _FAILURES as error:
            failure = self._failure("list", prefix, error)
            if not isinstance(failure, ObjectNotFound):
                raise failure from error

    def folders(self, prefix: str) -> Iterator[str]:
        """Yield the names between `prefix`, which ends with a slash, and the next slash, each once, in order."""
        try:
            for item in self._client.list_objects(self._bucket, prefix=prefix, recursive=False):
                if item.is_dir:
                    yield item.object_name.removeprefix(prefix).rstrip("/")
        except _FAILURES as error:
            failure = self._failure("list", prefix, error)
            if not isinstance(failure, ObjectNotFound):
                raise failure from error

    def _failure(self, verb: str, key: str, error: Exception) -> Exception:
        if isinstance(error, S3Error):
            if error.code in _MISSING:
                return ObjectNotFound(f"the object store has no {key!r}")
            return self._refusal(verb, key, error.code, error.message)
        return StoreUnavailable(f"cannot {verb} {key!r} in the object store: {error}")

    def _refusal(self, verb: str, key: str, code: str | None, message: str | None) -> StoreUnavailable:
        """Return what an answer of the store means that names a code other than that of a missing object."""
        said = f"the object store refused to {verb} {key!r}: {code}: {message}"
        remedy = self._remedies.get(code or "")
        return StoreUnavailable(said) if remedy is None else StoreMisconfigured(f"{said}; {remedy}")


class RangeFile(io.RawIOBase):
    """An object as a file of which only the parts are fetched that are read.

    A library that reads it may wrap an error of the object store into one of its own, which says that the file is
    damaged. So the block of a ``with`` ends with the error of the store, whatever was raised in it.
    """

    def __init__(self, store: ObjectStore, key: str, *, tail_from: int | None = None) -> None:
        """Look the object up. What lies from `tail_from` on is fetched all at once, when some of it is first read.

        Raises:
            ObjectNotFound: There is no such object.
        """
        super().__init__()
        self._store, self._key, self._place = store, key, 0
        self._tail_from, self._tail = tail_from, b""
        self._failure: StoreUnavailable | ObjectNotFound | None = None
        self._size = next((item.size for item in store.list(key) if item.key == key), None)
        if self._size is None:
            raise ObjectNotFound(f"the object store has no {key!r}")

    def readable(self) -> bool:
        """Return True."""
        return True

    def seekable(self) -> bool:
        """Return True."""
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Go to a place."""
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._place, io.SEEK_END: self.size()}[whence]
        self._place = start + offset
        return self._place

    def tell(self) -> int:
        """Return the place."""
        return self._place

    def size(self) -> int:
        """Return the size of the object in bytes."""
        return self._size or 0

    def read(self, size: int = -1) -> bytes:
        """Return the next bytes, fewer at the end."""
        wanted = min(size if size >= 0 else self.size(), max(0, self.size() - self._place))
        try:
            data = self._fetched(wanted) if wanted else b""
        except (StoreUnavailable, ObjectNotFound) as failure:
            self._failure = failure
            raise
        self._place += len(data)
        return data

    def _fetched(self, size: int) -> bytes:
        if self._tail_from is None or self._place < self._tail_from:
            return self._store.get(self._key, start=self._place, size=size)
        if not self._tail:
            self._tail = self._store.get(self._key, start=self._tail_from, size=self.size() - self._tail_from)
        start = self._place - self._tail_from
        return self._tail[start : start + size]

    def __exit__(self, *_: object) -> None:
        self.close()
        if self._failure is not None:
            raise self._failure
