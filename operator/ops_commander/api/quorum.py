"""The part of a RolloutPolicy that asks for votes."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, field_validator

from ops_commander.api.ballot import Holder, VoterRole
from ops_commander.api.cel import rule, rules
from ops_commander.api.fields import Resource
from ops_commander.api.v1alpha1 import StepKind

_PRODUCTION = rule(
    "self.all(kind, kind != 'shadow')",
    "votes are asked for before production: expected canary, full or both",
)


class Voters(Resource):
    """Who speaks for each role: Operator for its own evaluator, External for whoever may cast its Vote."""

    infrastructure_monitor: Holder = Holder.OPERATOR
    """Infrastructure & Performance Monitor: pods, latency, throughput, the split, freshness of metrics."""
    quality_officer: Holder = Holder.OPERATOR
    """Quality & Safety Officer: objectives of runs and outputs, and the verified files."""
    ops_commander: Holder = Holder.OPERATOR
    """Ops Commander: composite risk, and whether a rollback would work."""


class Quorum(Resource):
    """Votes that a candidate needs before it meets users. A revert never waits for one."""

    required: Annotated[int, Field(ge=2, le=3)] = 2
    """GO votes of the three that are needed. All three must be in besides: a missing vote holds."""
    steps: Annotated[list[StepKind], Field(min_length=1, max_length=2, json_schema_extra=rules(_PRODUCTION))] = [
        StepKind.CANARY,
        StepKind.FULL,
    ]
    """Kinds of step that are not entered without the quorum. It is asked for once a deployment."""
    voters: Voters = Voters()
    """Who speaks for each role."""

    @field_validator("steps")
    @classmethod
    def _production(cls, steps: list[StepKind]) -> list[StepKind]:
        if StepKind.SHADOW in steps:
            raise ValueError("votes are asked for before production: expected canary, full or both")
        return steps

    def holder(self, role: VoterRole) -> Holder:
        """Who speaks for a role."""
        return {
            VoterRole.INFRASTRUCTURE_MONITOR: self.voters.infrastructure_monitor,
            VoterRole.QUALITY_OFFICER: self.voters.quality_officer,
            VoterRole.OPS_COMMANDER: self.voters.ops_commander,
        }[role]

    @property
    def own(self) -> list[VoterRole]:
        """Roles that the operator speaks for."""
        return [role for role in VoterRole if self.holder(role) is Holder.OPERATOR]

    @property
    def external(self) -> list[VoterRole]:
        """Roles whose votes come as objects."""
        return [role for role in VoterRole if self.holder(role) is Holder.EXTERNAL]


ABSENT = Quorum(
    voters=Voters(
        infrastructure_monitor=Holder.EXTERNAL, quality_officer=Holder.EXTERNAL, ops_commander=Holder.EXTERNAL
    )
)
"""All three are others, who may never vote."""
