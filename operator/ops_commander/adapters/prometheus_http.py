"""How a Prometheus server is reached: credentials, TLS, bounds of size and time."""

from __future__ import annotations

import base64
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import requests
import urllib3.exceptions

from ops_commander.core.promql import DEFAULT_LABELS, PodLabels

MOST_BYTES: Final = 256 * 2**20
"""Of an answer that is read piece by piece."""
MOST_BYTES_AT_ONCE: Final = 64 * 2**20
"""Of one that is parsed as a whole."""
_PIECE: Final = 64 * 2**10


class QueryError(Exception):
    """Prometheus gave no usable answer; the text says why."""


class TooLarge(QueryError):
    """The answer does not fit within the bounds."""


@dataclass(frozen=True, slots=True)
class BearerToken:
    """A token in a file that somebody may replace at any time."""

    file: Path

    def header(self) -> str:
        return f"Bearer {_secret(self.file)}"


@dataclass(frozen=True, slots=True)
class Basic:
    username: str
    password_file: Path

    def header(self) -> str:
        pair = f"{self.username}:{_secret(self.password_file)}".encode()
        return f"Basic {base64.b64encode(pair).decode()}"


def _secret(file: Path) -> str:
    """Read for every request: a few bytes, and never an outdated token."""
    try:
        text = file.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise QueryError(f"credentials in {file} cannot be read: {why}") from None
    if not text or not text.isprintable():
        raise QueryError(f"credentials in {file} cannot be used: expected one line of text")
    return text


@dataclass(frozen=True, slots=True)
class Access:
    """Where a server is and how it is asked."""

    url: str
    timeout: timedelta = timedelta(seconds=4)
    lookback: timedelta = timedelta(seconds=31)
    """A series whose last sample is older is absent from answers."""
    name: str = "prometheus"
    labels: PodLabels = DEFAULT_LABELS
    auth: BearerToken | Basic | None = field(default=None, repr=False)
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    parameters: Mapping[str, str] = field(default_factory=dict, repr=False)
    """Sent with each query, in the URL: `dedup` of Thanos for example."""
    verify: bool | str = True
    """False, or a file of certificates to trust."""
    certificate: tuple[str, str] | None = None
    """Files with the client's certificate and key."""


Read = Callable[[Iterator[bytes]], Any]
"""Makes of a body, as it comes in, what its JSON stands for."""


class _Answer(requests.Response):
    """A 200 whose body is read when it is asked for."""

    def __init__(self, response: requests.Response, pieces: Iterator[bytes], read: Read) -> None:
        super().__init__()
        self.__dict__.update(response.__dict__)
        self._pieces, self._read = pieces, read

    def json(self, **_: Any) -> Any:
        try:
            with self:
                return self._read(self._pieces)
        except _UNREACHABLE as error:
            raise QueryError(f"Prometheus cannot be reached: {_kind(error)}") from None


class Session(requests.Session):
    """What the client sends goes through here: once, to this server only, and within bounds.

    `reads` says how the answers of an endpoint are read; the others are parsed as a whole.
    """

    def __init__(self, access: Access, reads: Mapping[str, Read] | None = None) -> None:
        super().__init__()
        self._access = access
        self._reads = {f"{access.url.rstrip('/')}{path}": read for path, read in (reads or {}).items()}
        self.verify = access.verify
        self.cert = access.certificate
        self.auth = self._sign  # also keeps requests from looking for a .netrc
        self.headers.update(access.headers)

    def _sign(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        if self._access.auth is not None:
            request.headers["Authorization"] = self._access.auth.header()
        return request

    def request(self, method: str | bytes, url: str | bytes, *_: Any, **options: Any) -> requests.Response:
        """Raises QueryError for every answer but 200, and for one that is too large or takes too long."""
        deadline = time.monotonic() + self._access.timeout.total_seconds() * 1.5
        # The client puts the query into the URL even of a POST; proxies limit the length of a URL.
        options["data"], options["params"] = options.get("params"), dict(self._access.parameters)
        options.update(allow_redirects=False, stream=True)
        read = self._reads.get(str(url))
        try:
            response = super().request(method, url, **options)
            if read is not None and response.status_code == 200:
                return _Answer(response, _pieces(response, deadline, MOST_BYTES), read)
            with response:
                body = b"".join(_pieces(response, deadline, MOST_BYTES_AT_ONCE))
        except _UNREACHABLE as error:
            raise QueryError(f"Prometheus cannot be reached: {_kind(error)}") from None
        response._content = body
        if response.status_code != 200:
            raise QueryError(_refusal(response))
        return response


_UNREACHABLE = (requests.RequestException, urllib3.exceptions.HTTPError, OSError)


def _pieces(response: requests.Response, deadline: float, most: int) -> Iterator[bytes]:
    """What comes in one piece at a time: the timeout of requests starts anew with each byte."""
    size = 0
    while piece := response.raw.read1(_PIECE, decode_content=True):
        size += len(piece)
        if size > most:
            raise TooLarge(f"the answer has more than {most // 2**20} MiB: aggregate by namespace and pod")
        if time.monotonic() > deadline:
            raise QueryError("no answer in time: it comes too slowly")
        yield piece


def _kind(error: BaseException) -> str:
    """Names of errors without their texts, which may hold addresses and headers."""
    names = [type(error).__name__]
    reason = getattr(error.args[0], "reason", None) if error.args else None
    inner = reason if isinstance(reason, BaseException) else None
    if inner is not None and type(inner).__name__ != names[0]:
        names.append(type(inner).__name__)
    return ", ".join(names)


def _refusal(response: requests.Response) -> str:
    status = f"{response.status_code} {response.reason or ''}".strip()
    if response.is_redirect:
        host = urlsplit(response.headers["location"]).hostname or "another path"
        return f"Prometheus redirects to {host} ({status}), which is not followed: set the URL that it leads to"
    said = _own_words(response)
    if response.status_code in (401, 403):
        return f"Prometheus refused the credentials ({status})"
    return f"Prometheus refused the query: {said[:300]}" if said else f"Prometheus answered {status}"


def _own_words(response: requests.Response) -> str:
    try:
        said = response.json()
    except (ValueError, RecursionError):
        return ""
    return str(said.get("error") or "") if isinstance(said, dict) else ""
