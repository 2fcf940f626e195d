"""The harness' own client of the API server: plain requests, and watches that begin with what is there."""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import aiohttp

MERGE = "application/merge-patch+json"


class Api:
    """Use as an async context manager."""

    def __init__(self, url: str, ca: Path, token: str) -> None:
        self._url, self._ca, self._token = url, ca, token

    async def __aenter__(self) -> Api:
        context = ssl.create_default_context(cafile=str(self._ca))
        connector = aiohttp.TCPConnector(ssl=context, limit=64)
        headers = {"Authorization": f"Bearer {self._token}"}
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=10)
        self._session = aiohttp.ClientSession(self._url, connector=connector, headers=headers, timeout=timeout)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._session.close()

    async def request(
        self, method: str, path: str, body: Mapping[str, Any] | None = None, kind: str = "application/json"
    ) -> dict[str, Any]:
        """Raises aiohttp.ClientError for every answer from 400 on."""
        data = None if body is None else json.dumps(body)
        async with self._session.request(method, f"/{path}", data=data, headers={"Content-Type": kind}) as response:
            answer: dict[str, Any] = await response.json()
            if response.status >= 400:
                message = f"{method} {path}: {answer.get('message')}"
                raise aiohttp.ClientResponseError(
                    response.request_info, response.history, status=response.status, message=message
                )
            return answer

    async def create(self, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        return await self.request("POST", path, body)

    async def merge(self, path: str, patch: Mapping[str, Any]) -> dict[str, Any]:
        return await self.request("PATCH", path, patch, MERGE)

    async def watch(self, path: str, labels: str = "") -> AsyncIterator[tuple[str, dict[str, Any]]]:
        """What is there as ADDED, then changes, for ever. A watch that breaks begins anew."""
        while True:
            async with self._session.get(f"/{path}", params={"watch": "true", "labelSelector": labels}) as response:
                if response.status == 429:  # also where the storage of a new kind is not there yet
                    await asyncio.sleep(float(response.headers.get("Retry-After", "1")))
                    continue
                response.raise_for_status()
                async for line in _lines(response.content):
                    event = json.loads(line)
                    if event["type"] in ("ADDED", "MODIFIED", "DELETED"):
                        yield event["type"], event["object"]


async def _lines(content: aiohttp.StreamReader) -> AsyncIterator[bytes]:
    """Lines of any length: the stream's own reader has a limit."""
    rest = b""
    async for chunk in content.iter_any():
        *whole, rest = (rest + chunk).split(b"\n")
        for line in whole:
            yield line
