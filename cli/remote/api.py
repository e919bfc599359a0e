"""Requests to the API of a remote system, whose refusals become errors with the words of the system."""

import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any, Final

import urllib3
from urllib3.fields import RequestField

from shared.errors import ArtseekError, Invalid, NotFound, Unavailable
from shared.schemas.urls import API

_BINARY: Final = "application/octet-stream"
_CONNECT_S: Final = 10.0
_READ_S: Final = 300.0
_PATIENCE_S: Final = 600.0  # how long a system may have too much to do
_NOT_NOW: Final = frozenset({429, 503})
_LONGEST_PAUSE_S: Final = 60.0
_PART: Final = 2**20  # bytes

File = tuple[str, str, bytes]
"""A file of a form: its field, its name, its bytes."""


class Refused(ArtseekError):
    """The system refused a request; `values` is the problem as it told it."""

    def __init__(self, message: str, status: int, values: Mapping[str, Any]) -> None:
        super().__init__(message)
        self.status, self.values = status, values


class Api:
    """Sends requests to the API below an address.

    Args:
        url: Where the page of the system is: scheme, host and path.
        key: API key; empty: none is sent.
        ca_file: Certificates of the authorities that the system's may come from; None: those of this machine.
    """

    def __init__(self, url: str, key: str, *, ca_file: Path | None = None) -> None:
        self.url = url.rstrip("/")
        self._headers = {"Accept": "application/json"} | ({"Authorization": f"Bearer {key}"} if key else {})
        self._pool = urllib3.PoolManager(
            timeout=urllib3.Timeout(connect=_CONNECT_S, read=_READ_S),
            retries=False,
            ca_certs=None if ca_file is None else str(ca_file),
        )

    def get(self, path: str) -> Any:
        """Return the JSON answer to GET.

        Raises:
            ArtseekError: See `request`.
        """
        return self.request("GET", path)

    def post(self, path: str, values: Mapping[str, object]) -> Any:
        """Return the JSON answer to POST with a JSON body.

        Raises:
            ArtseekError: See `request`.
        """
        body = json.dumps(values).encode()
        return self.request("POST", path, body=body, headers={"Content-Type": "application/json"})

    def post_form(self, path: str, fields: Sequence[tuple[str, str]], files: Sequence[File]) -> Any:
        """Return the JSON answer to POST with a form.

        Raises:
            ArtseekError: See `request`.
        """
        parts = [RequestField.from_tuples(name, text) for name, text in fields]
        parts += [RequestField.from_tuples(field, (name, data, _BINARY)) for field, name, data in files]
        body, content_type = urllib3.encode_multipart_formdata(parts)
        return self.request("POST", path, body=body, headers={"Content-Type": content_type})

    def delete(self, path: str) -> Any:
        """Return the JSON answer to DELETE, None if it has none.

        Raises:
            ArtseekError: See `request`.
        """
        return self.request("DELETE", path)

    def download(self, path: str, file: IO[bytes]) -> None:
        """Write the bytes of a file into another one.

        Raises:
            ArtseekError: See `request`.
        """
        self._download("GET", path, file, headers=self._headers)

    def download_by_post(self, path: str, values: Mapping[str, object], file: IO[bytes]) -> None:
        """Write the bytes that answer POST with a JSON body into a file.

        Raises:
            ArtseekError: See `request`.
        """
        headers = {**self._headers, "Accept": "*/*", "Content-Type": "application/json"}
        self._download("POST", path, file, body=json.dumps(values).encode(), headers=headers)
        file.seek(0)

    def _download(
        self, method: str, path: str, file: IO[bytes], *, body: bytes | None = None, headers: Mapping[str, str]
    ) -> None:
        try:
            answer = self._pool.request(
                method, f"{self.url}{API}{path}", body=body, headers=headers, preload_content=False
            )
            try:
                if answer.status != 200:
                    _checked(self.url, answer.status, answer.headers.get("Content-Type", ""), answer.data)
                for part in answer.stream(_PART):
                    file.write(part)
            finally:
                answer.close()  # a part of it may not be read
        except urllib3.exceptions.HTTPError as error:
            raise Unavailable(f"{self.url} does not answer: {error}") from error

    def request(
        self, method: str, path: str, *, body: bytes | None = None, headers: Mapping[str, str] | None = None
    ) -> Any:
        """Return the JSON answer to a request, None if it has none; a system with too much to do is asked again.

        Raises:
            NotFound: There is no such thing.
            Invalid: A value does not fit.
            Unavailable: The system does not answer, or has had too much to do for ten minutes.
            Refused: It answers, but does not do it.
        """
        end = time.monotonic() + _PATIENCE_S
        while True:
            try:
                answer = self._pool.request(
                    method, f"{self.url}{API}{path}", body=body, headers={**self._headers, **(headers or {})}
                )
            except urllib3.exceptions.LocationValueError as error:
                raise Invalid(f"{self.url!r} of ARTSEEK_URL is no address: {error}") from error
            except urllib3.exceptions.HTTPError as error:
                raise Unavailable(f"{self.url} does not answer: {error}") from error
            pause = _seconds_to_wait(answer.status, answer.headers)
            if pause is None or time.monotonic() + pause > end:
                return _checked(self.url, answer.status, answer.headers.get("Content-Type", ""), answer.data)
            time.sleep(pause)


def _checked(url: str, status: int, media_type: str, data: bytes) -> Any:
    """Return the values of a good answer.

    Raises:
        ArtseekError: It is none.
    """
    values: Any = None
    if "json" in media_type:
        try:
            values = json.loads(data)
        except ValueError as error:
            raise Unavailable(f"{url} sends what is no JSON: is this the address of Artseek's page?") from error
    if status < 300 and (values is not None or not data):
        return values
    if not isinstance(values, dict) or "detail" not in values:  # a proxy, or something else that is no Artseek
        raise Unavailable(f"{url} answers with status {status} and no words of Artseek: is ARTSEEK_URL its page?")
    detail = str(values["detail"])
    match status:
        case 401:
            raise Refused(f"{detail} (ARTSEEK_KEY takes the key)", status, values)
        case 404:
            raise NotFound(detail)
        case 429 | 503:
            raise Unavailable(detail)
        case 422 if not values.get("rejected"):
            errors = [f"{error['field']} {error['message']}" for error in values.get("errors", ())]
            raise Invalid("; ".join(errors) or detail)
        case _:
            raise Refused(detail, status, values)


def _seconds_to_wait(status: int, headers: Mapping[str, str]) -> float | None:
    """Return after how many seconds to ask again what was answered with a status; None: not at all."""
    if status not in _NOT_NOW:
        return None
    try:
        asked = float(headers.get("Retry-After", ""))
    except ValueError:  # a date, or nothing
        return None
    return min(max(asked, 0.1), _LONGEST_PAUSE_S)
