"""The same request to stable and candidate, at the same time."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

import aiohttp
from yarl import URL

from ops_commander.comparer.metrics import ARMS, CANDIDATE, STABLE
from ops_commander.comparer.mirrored import Mirrored
from ops_commander.integration.outputs.answers import MOST_BYTES, STREAMS, Answer, NoAnswer


@dataclass(frozen=True, slots=True)
class Timed:
    answer: Answer | NoAnswer
    seconds: float

    @property
    def code(self) -> str:
        """The status, or why there is none."""
        return str(self.answer.status) if isinstance(self.answer, Answer) else self.answer.reason


class Asker:
    """Connections to both versions. Answers are bounded in time and size."""

    def __init__(self, stable_url: str, candidate_url: str, *, seconds: float, concurrency: int) -> None:
        self._urls = dict(zip(ARMS, (stable_url.rstrip("/"), candidate_url.rstrip("/")), strict=True))
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=2 * concurrency, limit_per_host=2 * concurrency),
            timeout=aiohttp.ClientTimeout(total=seconds),
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,  # a small answer could become a huge one
            skip_auto_headers=["User-Agent", "Accept", "Content-Type"],
        )

    async def both(self, mirrored: Mirrored) -> tuple[Timed, Timed]:
        """Stable's answer and the candidate's."""
        stable, candidate = await asyncio.gather(self._timed(mirrored, STABLE), self._timed(mirrored, CANDIDATE))
        return stable, candidate

    async def close(self) -> None:
        await self._session.close()

    async def _timed(self, mirrored: Mirrored, arm: str) -> Timed:
        clock = asyncio.get_running_loop().time
        began = clock()
        answer = await self._answer(mirrored, arm)
        return Timed(answer, clock() - began)

    async def _answer(self, mirrored: Mirrored, arm: str) -> Answer | NoAnswer:
        try:
            try:
                return await self._ask(mirrored, arm)
            except aiohttp.ClientConnectorError:
                raise
            except (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError, ConnectionResetError):
                return await self._ask(mirrored, arm)  # a kept connection was closed from the other side: once more
        except TimeoutError:
            return NoAnswer("timeout")
        except (aiohttp.ClientError, OSError, ValueError) as error:
            return NoAnswer("unreachable", type(error).__name__)

    async def _ask(self, mirrored: Mirrored, arm: str) -> Answer | NoAnswer:
        url = URL(self._urls[arm] + mirrored.target, encoded=True)
        body = mirrored.body or None
        headers = mirrored.headers_for(arm)
        async with self._session.request(
            mirrored.method, url, headers=headers, data=body, allow_redirects=False
        ) as response:
            if response.content_type in STREAMS:
                response.close()
                return NoAnswer("streaming")
            read = bytearray()
            async for chunk in response.content.iter_any():
                read += chunk
                if len(read) > MOST_BYTES:
                    response.close()
                    return NoAnswer("too_large")
            told = {name.lower(): value for name, value in response.headers.items()}
            return Answer(response.status, told, bytes(read))
