"""What evidence may show of requests and answers.

`Redacted` shows types, sizes and the names of fields; `Hashed` a keyed hash besides, so that equal values can be told
within one process; `Full` the values, cut off. Headers are never shown: they hold credentials.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import re
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from ops_commander.api.comparison import Payloads
from ops_commander.integration.outputs.answers import Answer, NoAnswer
from ops_commander.integration.outputs.findings import Compared, Path, pointer
from ops_commander.integration.outputs.tensors import Tensor
from ops_commander.integration.outputs.walk import type_name

MOST_OF_A_VALUE: Final = 200
MOST_OF_A_BODY: Final = 4096
MOST_STEPS_SHOWN: Final = 32

_NAME = re.compile(r"[A-Za-z_][A-Za-z_.:-]{0,47}[0-9]{0,3}[A-Za-z_]{0,8}")
"""What a field or a part of a URL is called by people; other keys may be data, such as the id of a user."""


@dataclass(frozen=True, slots=True)
class Redactor:
    payloads: Payloads
    key: bytes
    """Of this process alone, and secret: short values could be guessed from plain hashes."""

    def value(self, value: Any) -> Any:
        """One value of an answer."""
        try:
            return self._value(value)
        except RecursionError:
            return f"{type_name(value)}, deeply nested"

    def _value(self, value: Any) -> Any:
        if self.payloads is Payloads.FULL:
            return _cut(_plain(value))
        shown = _described(value)
        return f"{shown} #{self._hash(_bytes(value))}" if self.payloads is Payloads.HASHED else shown

    def body(self, content_type: str, body: bytes) -> Any:
        """Of a request or an answer."""
        shown: dict[str, Any] = {"contentType": content_type[:100], "bytes": len(body)}
        if self.payloads is Payloads.FULL:
            shown["text"] = body[:MOST_OF_A_BODY].decode("utf-8", "backslashreplace")
        if self.payloads is Payloads.HASHED:
            shown["hash"] = self._hash(body)
        return shown

    def path(self, path: Path) -> str:
        """A place in an answer."""
        steps = path[:MOST_STEPS_SHOWN]
        if self.payloads is Payloads.FULL:
            return pointer(steps)[:1024]
        return pointer(tuple(step if isinstance(step, int) or step == "*" else _named(step) for step in steps))

    def target(self, target: str) -> str:
        """Path and query of a request; of the query nothing but in `Full`."""
        if self.payloads is Payloads.FULL:
            return target[:1024]
        path, mark, _ = target.partition("?")
        return "/".join(_named(step) if step else "" for step in path.split("/")[:MOST_STEPS_SHOWN]) + mark

    def answer(self, answer: Answer | NoAnswer) -> dict[str, Any]:
        if isinstance(answer, NoAnswer):
            return {"none": answer.reason}
        return {"status": answer.status, **self.body(answer.content_type[0], answer.body)}

    def compared(self, compared: Compared) -> dict[str, Any]:
        """What was found."""
        worst = compared.worst
        return {
            "deviation": round(compared.deviation, 6),
            "kinds": sorted(compared.kinds),
            "findings": [
                {
                    "kind": finding.kind,
                    "path": self.path(finding.path),
                    "said": finding.said,
                    "stable": self.value(finding.stable),
                    "candidate": self.value(finding.candidate),
                }
                for finding in compared.findings
            ],
            "worst": worst
            and {
                "path": self.path(worst.path),
                "deviation": round(worst.deviation, 6),
                "stable": self.value(worst.stable),
                "candidate": self.value(worst.candidate),
            },
        }

    def _hash(self, data: bytes) -> str:
        return hmac.new(self.key, data, hashlib.sha256).hexdigest()[:16]


def _named(step: str) -> str:
    return step if _NAME.fullmatch(step) else "*"


def _described(value: Any) -> str:
    match value:
        case str():
            return f"a text of {len(value)} characters"
        case bytes():
            return f"{len(value)} bytes"
        case list() | dict():
            return f"{type_name(value)} of {len(value)}"
        case Tensor():
            return f"a tensor of {len(value.values)}"
    return type_name(value)


def _plain(value: Any) -> Any:
    match value:
        case bytes():
            return value[:MOST_OF_A_VALUE].decode("utf-8", "backslashreplace")
        case Tensor():
            return [_plain(each) for each in value.values[:10]]
        case list():
            return [_plain(each) for each in value[:10]]
        case np.generic():
            return value.item()
    return value


def _cut(value: Any) -> Any:
    if value is None or isinstance(value, bool):
        return value
    text = value if isinstance(value, str) else json.dumps(value, default=repr)
    if len(text) > MOST_OF_A_VALUE:
        return f"{text[:MOST_OF_A_VALUE]}…"
    return text if isinstance(value, list | dict) or _is_wild(value) else value


def _is_wild(value: Any) -> bool:
    """NaN and infinities are no JSON."""
    return isinstance(value, float) and value - value != 0.0


def _bytes(value: Any) -> bytes:
    if isinstance(value, Tensor):
        value = value.values if isinstance(value.values, list) else value.values.tobytes()
    return value if isinstance(value, bytes) else json.dumps(value, sort_keys=True, default=repr).encode()
