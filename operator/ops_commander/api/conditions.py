"""Conditions as in metav1.Condition; Reconciling and Stalled are present only while true (kstatus)."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from enum import StrEnum
from typing import Annotated, Literal

from pydantic import Field

from ops_commander.api.fields import Resource, Time

MAX_MESSAGE = 4096


class ConditionType(StrEnum):
    READY = "Ready"
    RECONCILING = "Reconciling"
    STALLED = "Stalled"
    ACCEPTED = "Accepted"
    VERIFIED = "Verified"
    PROGRESSING = "Progressing"
    SLOS_MET = "SLOsMet"
    TRAFFIC_SYNCED = "TrafficSynced"
    QUORUM_REACHED = "QuorumReached"
    ROLLED_BACK = "RolledBack"


ABNORMAL_TRUE = frozenset({ConditionType.RECONCILING, ConditionType.STALLED})

State = Literal["True", "False", "Unknown"]


class Condition(Resource):
    """One aspect of the rollout's state."""

    type: Annotated[str, Field(max_length=316)]
    """Name of the condition."""
    status: State
    """Whether it holds."""
    reason: Annotated[str, Field(min_length=1, max_length=1024)]
    """Why, in one word."""
    message: Annotated[str, Field(max_length=32768)]
    """Why, in a sentence."""
    last_transition_time: Time
    """When `status` last changed."""
    observed_generation: int | None = None
    """Generation of `spec` that it speaks of."""


def merge_conditions(
    old: Iterable[Condition],
    wanted: Iterable[tuple[ConditionType, State, str, str]],
    *,
    generation: int,
    now: datetime,
) -> list[Condition]:
    """The wanted conditions, each keeping its transition time while its status stays the same."""
    before = {condition.type: condition for condition in old}
    merged = []
    for kind, state, reason, message in wanted:
        if kind in ABNORMAL_TRUE and state != "True":
            continue
        known = before.get(kind)
        since = known.last_transition_time if known and known.status == state else now
        merged.append(
            Condition(
                type=kind,
                status=state,
                reason=reason,
                message=message[:MAX_MESSAGE],
                last_transition_time=since,
                observed_generation=generation,
            )
        )
    return merged
