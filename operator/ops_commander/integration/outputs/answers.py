"""An answer as it came over HTTP, and as a tree: JSON, text, or tensors of the Open Inference Protocol."""

from __future__ import annotations

import codecs
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from email.message import Message
from functools import lru_cache
from typing import Any, Final

from ops_commander.integration.outputs.findings import Skip
from ops_commander.integration.outputs.tensors import BINARY_HEADER, Malformed, with_tensors

MOST_BYTES: Final = 2 * 1024 * 1024
"""Of one answer. What is larger is not compared: JSON of that size takes 30 to 60 MiB as a tree."""

STREAMS: Final = frozenset(
    ["text/event-stream", "application/x-ndjson", "application/grpc", "multipart/x-mixed-replace"]
)


_NO_CHARSETS: Final = frozenset(
    ["idna", "punycode", "unicode_escape", "raw_unicode_escape", "undefined", "mbcs", "oem"]
)
"""Python decodes them, slowly or with effects."""


@lru_cache(maxsize=256)
def _content_type(told: str) -> tuple[str, str]:
    if not told.strip():
        return "", ""
    message = Message()
    message["content-type"] = told
    return message.get_content_type(), str(message.get_param("charset", "")).strip().lower()


@dataclass(frozen=True, slots=True)
class Answer:
    """Names of headers in lower case."""

    status: int
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""

    @property
    def content_type(self) -> tuple[str, str]:
        """Media type and charset, each in lower case; empty where not told."""
        return _content_type(self.headers.get("content-type", ""))

    @property
    def is_binary(self) -> bool:
        """Whether tensors follow its JSON."""
        return BINARY_HEADER in self.headers


@dataclass(frozen=True, slots=True)
class NoAnswer:
    """Nothing came, or nothing that could be read."""

    reason: str
    """unreachable, timeout, streaming or too_large."""
    detail: str = ""


class Unreadable(Exception):
    """A body that is not what its headers say."""

    def __init__(self, said: str, *, is_encoding: bool = False) -> None:
        super().__init__(said)
        self.is_encoding = is_encoding


def check_comparable(answer: Answer) -> None:
    """Raises Skip for an answer of a kind that is not compared."""
    media_type, _ = answer.content_type
    if media_type in STREAMS:
        raise Skip("streaming", f"{media_type}")
    if answer.headers.get("content-encoding", "identity").strip().lower() not in ("", "identity"):
        raise Skip("encoded", "the answer is compressed although it was asked for as it is")
    if len(answer.body) > MOST_BYTES:
        raise Skip("too_large", f"{len(answer.body)} bytes: expected at most {MOST_BYTES}")


def is_readable(answer: Answer) -> bool:
    """Whether it is JSON, text or tensors."""
    media_type, _ = answer.content_type
    return answer.is_binary or not answer.body or _is_json(answer) or media_type.startswith("text/")


def _is_json(answer: Answer) -> bool:
    media_type, _ = answer.content_type
    if media_type in ("application/json", "text/json") or media_type.endswith("+json"):
        return True
    return not media_type and answer.body.lstrip()[:1] in (b"{", b"[")


def decoded(answer: Answer) -> Any:
    """Its tree; None for an empty body. Raises Unreadable; Skip if it is nested too deeply."""
    if answer.is_binary:
        return _binary(answer)
    if not answer.body:
        return None
    text = _text(answer)
    return _parsed(text, b"") if _is_json(answer) else text


def _binary(answer: Answer) -> Any:
    told = answer.headers[BINARY_HEADER].strip()
    if not (told.isascii() and told.isdigit() and int(told) <= len(answer.body)):
        raise Unreadable(f"header {BINARY_HEADER} is no length of JSON within the body")
    head, tail = answer.body[: int(told)], answer.body[int(told) :]
    try:
        text = head.decode("utf-8")
    except UnicodeDecodeError as error:
        raise Unreadable(f"not UTF-8 at byte {error.start}", is_encoding=True) from error
    return _parsed(text, tail)


def _text(answer: Answer) -> str:
    _, charset = answer.content_type
    try:
        codec = codecs.lookup(charset or "utf-8")
    except (LookupError, ValueError) as error:
        raise Unreadable("its charset is unknown", is_encoding=True) from error
    if not codec._is_text_encoding or codec.name in _NO_CHARSETS:
        raise Unreadable("its charset is none", is_encoding=True)
    try:
        return answer.body.decode(codec.name)
    except UnicodeError as error:
        raise Unreadable(f"not {codec.name.upper()}", is_encoding=True) from error


def _parsed(text: str, tail: bytes) -> Any:
    try:
        return with_tensors(json.loads(text.removeprefix("\ufeff")), tail)
    except json.JSONDecodeError as error:
        raise Unreadable(f"not JSON at line {error.lineno}, column {error.colno}") from error
    except RecursionError as error:
        raise Skip("too_deep", "JSON is nested more deeply than can be read") from error
    except Malformed as error:
        raise Unreadable(str(error)) from error
    except ValueError as error:  # whole numbers of more digits than Python reads
        raise Unreadable("not JSON: a number is too long") from error


def begins_with_mark(answer: Answer) -> bool:
    """Whether there is a byte order mark, at which many parsers of JSON stop."""
    return answer.body.startswith(codecs.BOM_UTF8)
