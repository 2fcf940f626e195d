"""How much of the machine's processors was left: where none was, a benchmark measures itself."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Processors:
    """Ticks of all processors together since the machine started."""

    idle: int
    total: int

    @classmethod
    def now(cls) -> Processors:
        """From /proc/stat: user, nice, system, idle, iowait, irq, softirq, steal."""
        ticks = [int(field) for field in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]]
        return cls(ticks[3] + ticks[4], sum(ticks))

    def idle_share_since(self, before: Processors) -> float:
        return round((self.idle - before.idle) / max(self.total - before.total, 1), 3)
