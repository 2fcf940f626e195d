"""Counters of scripted pods as functions of time: how many requests, how many failed, how many up to each edge."""

from __future__ import annotations

import json
from bisect import bisect_right
from dataclasses import dataclass, field
from operator import itemgetter

ERRORS = 0.001
BAD_ERRORS = 0.2
EDGES = ("0.005", "0.01", "0.025", "0.05", "0.1", "0.25", "0.5", "1.0", "2.5", "5.0", "10.0", "+Inf")
WITHIN = (0.0, 0.02, 0.2, 0.6, 0.93, 0.99, 0.998, 1.0, 1.0, 1.0, 1.0, 1.0)
"""Share of the requests up to each edge."""
SLOW = (0.0, 0.0, 0.0, 0.0, 0.1, 0.2, 0.5, 0.8, 0.95, 1.0, 1.0, 1.0)

Owner = tuple[str, str]
"""Namespace and name of a ReplicaSet."""


@dataclass(frozen=True, slots=True)
class Fault:
    """What is wrong from an instant to another one: `errors`, `slow`, `nan` or `empty` of a ReplicaSet's pods."""

    mode: str
    at: float
    until: float = float("inf")

    def holds(self, mode: str, at: float) -> bool:
        return self.mode == mode and self.at < at < self.until


@dataclass(slots=True)
class Pod:
    """Its pace has a history: a past instant has one answer for ever."""

    owner: Owner
    name: str
    paces: list[tuple[float, float, float]]
    """From when, requests until then, requests per second from then on."""
    rows: dict[str, list[str]] = field(default_factory=dict)
    """By kind (`requests`, `errors`, `buckets`): the labels of each row as JSON."""
    together: dict[str, bytes] = field(default_factory=dict)
    """By kind: all rows of an instant, with places for moments and values."""

    def turn(self, at: float, pace: float) -> None:
        """Another pace from now on."""
        if pace != self.paces[-1][2]:
            self.paces.append((at, self.served(at), pace))

    def served(self, at: float) -> float:
        """Requests since it began."""
        since, before, pace = self.paces[-1]
        if at < since:
            place = bisect_right(self.paces, at, key=itemgetter(0))
            if not place:
                return 0.0
            since, before, pace = self.paces[place - 1]
        return before + pace * (at - since)

    def values(self, kind: str, at: float, fault: Fault | None) -> list[int]:
        """By row of that kind, empty where the pod has none at that instant."""
        if at < self.paces[0][0] or (fault and fault.holds("empty", at)):
            return []
        served, mode, spoilt = self.served(at), "", 0.0
        if fault and at > fault.at:
            mode, spoilt = fault.mode, self.served(min(at, fault.until)) - self.served(fault.at)
        if kind == "buckets":
            if mode != "slow":
                return [int(served * share) for share in WITHIN]
            good = served - spoilt
            return [int(good * usual + spoilt * slow) for usual, slow in zip(WITHIN, SLOW, strict=True)]
        wrong = spoilt if mode == "errors" else 0.0
        bad = int((served - wrong) * ERRORS + wrong * BAD_ERRORS)
        return [bad] if kind == "errors" else [int(served) - bad, bad]

    def instant(self, kind: str, at: float, moment: bytes, fault: Fault | None) -> bytes:
        """The rows of an instant vector, empty where there are none."""
        values = self.values(kind, at, fault)
        if not values:
            return b""
        if fault and fault.holds("nan", at):
            return self.together[kind].replace(b"%d", b"NaN") % ((moment,) * len(values))
        places: list[object] = [moment] * (2 * len(values))
        places[1::2] = values
        return self.together[kind] % tuple(places)

    def matrix(self, kind: str, ticks: list[float], fault: Fault | None) -> list[str]:
        """The rows of a range vector."""
        columns = [(tick, self.values(kind, tick, fault)) for tick in ticks]
        known = [
            (f"{tick:.3f}", ["NaN"] * len(of) if fault and fault.holds("nan", tick) else of)
            for tick, of in columns
            if of
        ]
        if not known:
            return []
        return [
            row + '"values":[' + ",".join([f'[{tick},"{of[number]}"]' for tick, of in known]) + "]}"
            for number, row in enumerate(self.rows[kind])
        ]

    def label(self, number: int) -> None:
        """The rows' texts, made once."""
        common = {
            "container": "model",
            "endpoint": "http",
            "instance": f"10.{128 + number // 65536}.{number // 256 % 256}.{number % 256}:8080",
            "job": "models",
            "method": "POST",
            "namespace": self.owner[0],
            "pod": self.name,
        }
        requests = [{"__name__": "http_requests_total", "status": code, **common} for code in ("200", "500")]
        buckets = [{"__name__": "http_request_duration_seconds_bucket", "le": edge, **common} for edge in EDGES]
        by_kind = {"requests": requests, "errors": requests[1:], "buckets": buckets}
        self.rows = {kind: [f'{{"metric":{_text(row)},' for row in rows] for kind, rows in by_kind.items()}
        self.together = {
            kind: ",".join([f'{row}"value":[%b,"%d"]}}' for row in rows]).encode() for kind, rows in self.rows.items()
        }


def _text(labels: dict[str, str]) -> str:
    """As Prometheus writes them: sorted, and without spaces."""
    return json.dumps(labels, sort_keys=True, separators=(",", ":"))
