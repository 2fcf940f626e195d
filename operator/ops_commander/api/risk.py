"""Words of the composite risk: its parts, its bands, and what may happen to a candidate."""

from __future__ import annotations

from enum import StrEnum


class Part(StrEnum):
    """What the risk is made of."""

    SCHEMA = "SchemaDrift"
    DEPENDENCY = "DependencyMismatch"
    LATENCY = "LatencyChange"
    OUTPUT = "OutputDeviation"


class Band(StrEnum):
    """Low below `medium`, High from `high` on."""

    LOW = "Low"
    MEDIUM = "Medium"
    HIGH = "High"


class Verdict(StrEnum):
    """What may happen to a candidate, from the best to the worst."""

    SAFE = "Safe"
    SHADOW_ONLY = "ShadowOnly"
    REJECT = "Reject"
