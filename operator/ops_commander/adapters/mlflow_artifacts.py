"""Artifacts and registered models of MLflow over its REST API: streamed, bounded, and through the server alone.

Only artifacts that the tracking server proxies (`mlflow server --serve-artifacts`) are read and written: so nothing
here needs rights to an object store, and no URI of a stranger is ever followed.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote, urlsplit

import aiohttp
from yarl import URL

_CHUNK: Final = 1024 * 1024
_MAX_ANSWER: Final = 16 * 1024 * 1024
_MAX_LISTED: Final = 10_000
_PROXY: Final = "/api/2.0/mlflow-artifacts/artifacts/"
_MOST_REMEMBERED: Final = 1000
_RUN_ID: Final = re.compile(r"[A-Za-z0-9_-]{1,64}")
_UNSAFE: Final = re.compile(r"[\x00-\x1f\x7f\\#%?]")


class ArtifactError(Exception):
    """MLflow has not got or taken something; the text names run and path, and what was expected."""


class NotThere(ArtifactError):
    """The run, the file or the version does not exist."""


class TooLarge(ArtifactError):
    """A file has more bytes than it may have."""


class Unsupported(ArtifactError):
    """A name or a place that is never read or written."""


class Unreachable(ArtifactError):
    """MLflow does not answer now; it may later."""


@dataclass(frozen=True, slots=True)
class Downloaded:
    """A file as it came."""

    path: Path
    sha256: str
    size: int
    modified_at: datetime | None
    """When it was written: as the server says it, but not after its run ended, because a server in front of an
    object store says when it has fetched it."""


@dataclass(frozen=True, slots=True)
class Listed:
    """An entry of a folder of artifacts. `size` is in bytes, None for a folder."""

    path: str
    is_dir: bool
    size: int | None


@dataclass(frozen=True, slots=True)
class ModelVersion:
    """A version of a registered model."""

    name: str
    version: str
    run_id: str
    source: str
    status: str


@dataclass(frozen=True, slots=True)
class Run:
    """A run, and where its artifacts are: a path below the server's proxy."""

    run_id: str
    status: str
    root: str
    ended_at: datetime | None


class MLflowArtifacts:
    """A tracking server that keeps artifacts. Calls may run at the same time; `close` ends its connections."""

    def __init__(self, url: str, *, timeout: float = 30.0) -> None:
        """`timeout` is in seconds: of a call, and of each piece of a file that is streamed."""
        self._url = url.rstrip("/")
        self._call = aiohttp.ClientTimeout(total=timeout)
        self._stream = aiohttp.ClientTimeout(total=None, sock_connect=timeout, sock_read=timeout)
        self._session: aiohttp.ClientSession | None = None
        self._runs: dict[str, Run] = {}

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()

    async def run(self, run_id: str) -> Run:
        """A run that is not deleted; one that has ended is remembered.

        Raises NotThere, and Unsupported where the server does not proxy its artifacts.
        """
        if known := self._runs.get(checked_run(run_id)):
            return known
        body = await self._get("runs/get", f"run {run_id}", run_id=run_id)
        info = body.get("run", {}).get("info", {})
        if info.get("lifecycle_stage") == "deleted":
            raise NotThere(f"run {run_id} was deleted: expected a run that exists")
        ended = info.get("end_time")
        found = Run(
            run_id=run_id,
            status=str(info.get("status", "?")),
            root=self.proxied(str(info.get("artifact_uri", "")), f"run {run_id}"),
            ended_at=datetime.fromtimestamp(int(ended) / 1000, UTC) if ended else None,
        )
        if found.ended_at:
            if len(self._runs) >= _MOST_REMEMBERED:
                self._runs.clear()
            self._runs[run_id] = found
        return found

    async def upload(self, run_id: str, path: str, data: bytes) -> str:
        """Write an artifact, over what was there; the sha256 of what was read back. Raises ArtifactError."""
        where = _where(run_id, path)
        target = await self._address(run_id, path)
        async with self._asked("PUT", target, where, self._call, data=io.BytesIO(data)) as response:
            await _read(response, where)
        wanted = hashlib.sha256(data).hexdigest()
        found = hashlib.sha256()
        size, _ = await self._streamed(run_id, path, len(data), found.update)
        if found.hexdigest() != wanted:
            raise ArtifactError(f"{where} reads back as {size} other bytes: expected {len(data)} of sha256 {wanted}")
        return wanted

    async def download(self, run_id: str, path: str, target: Path, *, max_bytes: int) -> Downloaded:
        """Stream an artifact into a new file. Raises ArtifactError, OSError; then the file is not there.

        More than `max_bytes` is TooLarge: at once where the server tells the size, else as soon as they came.
        """
        digest = hashlib.sha256()
        # Only a file that is made here is written, and taken away again.
        descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            with os.fdopen(descriptor, "wb") as sink:

                def take(piece: bytes) -> None:
                    digest.update(piece)
                    sink.write(piece)

                size, modified = await self._streamed(run_id, path, max_bytes, take)
        except BaseException:
            os.unlink(target)  # noqa: PTH108 - one system call
            raise
        return Downloaded(target, digest.hexdigest(), size, modified)

    async def digest(self, run_id: str, path: str, *, max_bytes: int) -> tuple[str, int]:
        """sha256 and size of an artifact, which is kept nowhere. Raises as `download`."""
        digest = hashlib.sha256()
        size, _ = await self._streamed(run_id, path, max_bytes, digest.update)
        return digest.hexdigest(), size

    async def list(self, run_id: str, path: str = "") -> list[Listed]:
        """What is in a folder of a run; nothing where there is no such folder. Raises ArtifactError."""
        query = {"run_id": run_id, **({"path": checked_path(path)} if path else {})}
        where, found = _where(run_id, path), []
        while True:
            body = await self._get("artifacts/list", where, **query)
            for item in body.get("files", []):
                is_dir, size = bool(item.get("is_dir")), item.get("file_size")
                found.append(Listed(str(item["path"]), is_dir, None if is_dir or size is None else int(size)))
            if len(found) > _MAX_LISTED:
                raise TooLarge(f"{where} holds more than {_MAX_LISTED} entries: expected fewer")
            if not body.get("next_page_token"):
                return found
            query["page_token"] = str(body["next_page_token"])

    async def resolve(self, name: str, *, version: str | None = None, alias: str | None = None) -> ModelVersion:
        """A version of a registered model: by its number, or the one that an alias points to now."""
        if version is not None:
            what = f"version {version} of model {name}"
            body = await self._get("model-versions/get", what, name=name, version=version)
        elif alias is not None:
            what = f"alias {alias} of model {name}"
            body = await self._get("registered-models/alias", what, name=name, alias=alias)
        else:
            raise ValueError("neither version nor alias is given: expected one of them")
        found = body.get("model_version", {})
        return ModelVersion(
            name=str(found.get("name", "")),
            version=str(found.get("version", "")),
            run_id=str(found.get("run_id") or ""),
            source=str(found.get("source") or ""),
            status=str(found.get("status", "")),
        )

    def proxied(self, uri: str, what: str) -> str:
        """The path below the server's proxy that an artifact URI names. Raises Unsupported for other places."""
        parts = urlsplit(uri)
        own = parts.netloc in ("", urlsplit(self._url).netloc)
        path = parts.path
        if parts.scheme in ("http", "https") and _PROXY in path:
            path = path.split(_PROXY, 1)[1]
        elif parts.scheme != "mlflow-artifacts":
            expected = "expected mlflow-artifacts:, which the tracking server itself serves"
            raise Unsupported(f"{what} keeps its artifacts at a URI of scheme {parts.scheme or 'none'!r}: {expected}")
        if not own:
            raise Unsupported(f"{what} keeps its artifacts on {parts.netloc}: expected the tracking server itself")
        return checked_path(path.strip("/"))

    # Requests.

    async def _address(self, run_id: str, path: str) -> URL:
        root = (await self.run(run_id)).root
        return URL(f"{self._url}{_PROXY}{quote(f'{root}/{checked_path(path)}')}", encoded=True)

    async def _streamed(
        self, run_id: str, path: str, max_bytes: int, take: Callable[[bytes], object]
    ) -> tuple[int, datetime | None]:
        """Size, and when it was written."""
        where = _where(run_id, path)
        address = await self._address(run_id, path)
        async with self._asked("GET", address, where, self._stream) as response:
            if (response.content_length or 0) > max_bytes:
                raise TooLarge(f"{where} has {response.content_length} bytes: expected at most {max_bytes}")
            size = 0
            async for piece in response.content.iter_chunked(_CHUNK):
                size += len(piece)
                if size > max_bytes:
                    raise TooLarge(f"{where} has more than {max_bytes} bytes: expected at most {max_bytes}")
                take(piece)
            modified = _time(response.headers.get("Last-Modified"))
        ended = (await self.run(run_id)).ended_at
        known = [each for each in (modified, ended) if each is not None]
        return size, min(known, default=None)

    async def _get(self, call: str, what: str, **query: str) -> dict[str, Any]:
        address = URL(f"{self._url}/api/2.0/mlflow/{call}").with_query(query)
        async with self._asked("GET", address, what, self._call) as response:
            data = await _read(response, what)
        try:
            body = json.loads(data)
        except ValueError as error:
            raise Unreachable(f"{what}: MLflow answered no JSON to {call}") from error
        if not isinstance(body, dict):
            raise Unreachable(f"{what}: MLflow answered {type(body).__name__} to {call}: expected an object")
        return body

    @asynccontextmanager
    async def _asked(
        self, method: str, address: URL, what: str, timeout: aiohttp.ClientTimeout, data: io.BytesIO | None = None
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """An answer that is 200; errors of the connection, also while it is read, are Unreachable."""
        if self._session is None:
            self._session = aiohttp.ClientSession(headers={"Accept-Encoding": "identity"})
        try:
            async with self._session.request(
                method, address, data=data, timeout=timeout, allow_redirects=False
            ) as response:
                if response.status in (400, 404):
                    raise NotThere(f"{what} is not in MLflow ({await _reason(response)}): expected it to exist")
                if response.status != 200:
                    raise Unreachable(f"{what}: MLflow answered {response.status}")
                yield response
        except (TimeoutError, aiohttp.ClientError) as error:
            raise Unreachable(f"{what}: {type(error).__name__} from MLflow") from error


def checked_run(run_id: str) -> str:
    """The id of a run. Raises Unsupported for what is none."""
    if not _RUN_ID.fullmatch(run_id):
        raise Unsupported(f"{run_id[:200]!r} is no id of a run: expected letters, digits, _ and -")
    return run_id


def checked_path(path: str) -> str:
    """A path below a run's artifacts. Raises Unsupported for one that leaves them, or that servers read differently."""
    if not path or _UNSAFE.search(path) or any(part in ("", ".", "..") for part in path.split("/")):
        expected = "expected names joined by /, without '..' and without any of \\ # % ?"
        raise Unsupported(f"{path[:200]!r} is no path of an artifact: {expected}")
    return path


def _where(run_id: str, path: str) -> str:
    return f"{path or 'the artifacts'} of run {run_id}"


def _time(text: str | None) -> datetime | None:
    try:
        found = parsedate_to_datetime(text or "")
    except ValueError:
        return None
    return found if found.tzinfo else found.replace(tzinfo=UTC)


async def _read(response: aiohttp.ClientResponse, what: str) -> bytes:
    found = bytearray()
    async for piece in response.content.iter_chunked(_CHUNK):
        found += piece
        if len(found) > _MAX_ANSWER:
            raise Unreachable(f"{what}: MLflow answered more than {_MAX_ANSWER} bytes")
    return bytes(found)


async def _reason(response: aiohttp.ClientResponse) -> str:
    """MLflow's own words for an error."""
    try:
        body = json.loads((await response.content.read(4096)).decode())
        return " ".join(str(body.get("message") or body.get("detail") or response.status).split())[:300]
    except (ValueError, AttributeError):
        return str(response.status)
