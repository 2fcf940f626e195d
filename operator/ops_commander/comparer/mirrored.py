"""A mirrored request: which are wanted, and how it is asked again."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

ARM_HEADER: Final = "x-ops-commander-comparison"
ID_HEADER: Final = "x-request-id"
MOST_BYTES: Final = 1024 * 1024
"""Of a request's body."""
LONGEST_ID: Final = 128

_HOP_BY_HOP: Final = frozenset(
    [
        *("connection", "keep-alive", "proxy-authenticate", "proxy-authorization", "proxy-connection", "te", "trailer"),
        *("transfer-encoding", "upgrade", "expect", "content-length", "accept-encoding", ARM_HEADER),
    ]
)
"""Not sent on; length and encoding are set anew."""

_STREAM = re.compile(rb'"stream"\s*:\s*true')
_STREAM_PATH = re.compile(r"(_stream|/stream|:streamGenerateContent)$")


@dataclass(frozen=True, slots=True)
class Mirrored:
    id: str
    """Of the live request too; empty where it has none."""
    method: str
    target: str
    """Path and query, as they came."""
    headers: tuple[tuple[str, str], ...]
    """End to end, in their order."""
    body: bytes
    at: float
    """When it came, on the loop's clock."""

    @property
    def content_type(self) -> str:
        return next((value for name, value in self.headers if name.lower() == "content-type"), "")

    def headers_for(self, arm: str) -> list[tuple[str, str]]:
        return [*self.headers, ("Accept-Encoding", "identity"), (ARM_HEADER, arm)]


def unwanted(method: str, target: str, headers: Mapping[str, str], methods: Iterable[str]) -> str | None:
    """Why a request is dropped before its body is read, if it is."""
    if ARM_HEADER in headers:
        return "loop"  # one of our own came back
    if not target.startswith("/"):
        return "broken"  # behind the address of a version it could name another host
    if method not in methods:
        return "method"
    asks_for_stream = "text/event-stream" in headers.get("Accept", "").lower()
    if asks_for_stream or "Upgrade" in headers or _STREAM_PATH.search(target.partition("?")[0]):
        return "streaming"
    length = headers.get("Content-Length", "")
    return "too_large" if length.isdigit() and int(length[:20]) > MOST_BYTES else None


def asks_for_stream(body: bytes) -> bool:
    """As OpenAI's API and its like do."""
    return bool(_STREAM.search(body))


def end_to_end(headers: Iterable[tuple[str, str]]) -> tuple[tuple[str, str], ...]:
    """Without those that belong to one connection."""
    given = list(headers)
    named = {each.strip().lower() for name, value in given if name.lower() == "connection" for each in value.split(",")}
    return tuple((name, value) for name, value in given if name.lower() not in _HOP_BY_HOP | named)
