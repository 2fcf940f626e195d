"""The load of the demo from outside of the cluster, with a record of each answer that failed."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from hack.demo.load.client import LoadClient, Settings, Stats, wall_clock


@dataclass(frozen=True, slots=True)
class Failure:
    """An answer other than 200, or none at all. Times are Unix seconds on the client's clock."""

    sent: float
    received: float
    status: int | None
    version: str | None
    """None where no model answered: the connection broke, or the proxy answered itself."""

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(slots=True)
class Answers(Stats):
    """The counts of the load client, and every failure one by one."""

    failures: list[Failure] = field(default_factory=list)

    def answered(self, version: str, status: int, milliseconds: float, at: float) -> None:
        Stats.answered(self, version, status, milliseconds, at)
        if status != 200:
            self.failures.append(Failure(at - milliseconds / 1000, at, status, version))

    def switch_failed(
        self, kind: str, status: int | None, message: str, milliseconds: float, at: float, request_id: str
    ) -> None:
        Stats.switch_failed(self, kind, status, message, milliseconds, at, request_id)
        self.failures.append(Failure(at - milliseconds / 1000, at, status, None))

    def answers_of(self, version: str) -> int:
        seen = self.versions.get(version)
        return seen.answers if seen else 0


class Load(LoadClient):
    """Sends at the rate of its settings from `start` to `stop`, however slow the answers are."""

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self.answers = Answers(wall_clock())
        self.stats = self.answers
