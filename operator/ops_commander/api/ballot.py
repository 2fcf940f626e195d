"""Words of the consensus, and how status keeps the votes of a deployment."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Final

from pydantic import Field

from ops_commander.api.fields import Resource, Time


class VoterRole(StrEnum):
    """Who is asked before a candidate meets users."""

    INFRASTRUCTURE_MONITOR = "InfrastructureMonitor"
    QUALITY_OFFICER = "QualityOfficer"
    OPS_COMMANDER = "OpsCommander"

    @property
    def agent(self) -> str:
        """The role as people read it."""
        return AGENTS[self]

    @property
    def slug(self) -> str:
        """The role as the end of an object's name."""
        return SLUGS[self]


AGENTS: Final = {
    VoterRole.INFRASTRUCTURE_MONITOR: "Infrastructure & Performance Monitor",
    VoterRole.QUALITY_OFFICER: "Quality & Safety Officer",
    VoterRole.OPS_COMMANDER: "Ops Commander",
}
SLUGS: Final = {
    VoterRole.INFRASTRUCTURE_MONITOR: "infrastructure-monitor",
    VoterRole.QUALITY_OFFICER: "quality-officer",
    VoterRole.OPS_COMMANDER: "ops-commander",
}


class Choice(StrEnum):
    GO = "GO"
    NO_GO = "NO-GO"


class RiskLevel(StrEnum):
    """How bad it would be to go on, in the eyes of the voter."""

    LOW = "Low"
    MEDIUM = "Medium"
    HIGH = "High"


class Holder(StrEnum):
    """Who speaks for a role: the operator's own evaluator, or whoever casts its Vote."""

    OPERATOR = "Operator"
    EXTERNAL = "External"


class VoteEvidence(Resource):
    """Something that a vote rests on."""

    kind: Annotated[str, Field(min_length=1, max_length=64)]
    """What it is: a kind of report, `objective`, `pods`, `verification`."""
    path: Annotated[str, Field(max_length=1024)] | None = None
    """Where it is, as a path of a file or of an artifact of the run."""
    uri: Annotated[str, Field(max_length=2048)] | None = None
    """Where it is, as a URI: a Prometheus server, an object store."""
    query: Annotated[str, Field(max_length=4096)] | None = None
    """PromQL that was asked, or the metrics of the run."""
    sha256: Annotated[str, Field(pattern="^[0-9a-f]{64}$", max_length=64)] | None = None
    """Of all bytes."""
    run_id: Annotated[str, Field(max_length=250)] | None = None
    """The run that it comes from."""
    created_at: Time | None = None
    """When it was made."""
    summary: Annotated[str, Field(max_length=1024)] | None = None
    """What it says, in a sentence."""


class VoteStatus(Resource):
    """What one role says of the deployment. A vote that has counted stays, even where its object is deleted."""

    role: VoterRole
    """The role that speaks."""
    agent: str
    """The role as people read it."""
    holder: Holder
    """Who speaks for it."""
    vote: Choice | None = None
    """GO or NO-GO; absent while it has not been cast."""
    risk: RiskLevel | None = None
    """How bad it would be to go on."""
    concern: str = ""
    """The key concern, or what the vote waits for."""
    evidence: list[VoteEvidence] = []
    """What it rests on."""
    voter: str | None = None
    """The user that cast it, as the API server knows them; absent for the operator's own."""
    cast_at: Time | None = None
    """When it was cast: of the operator's own, when the ballot was closed with it."""
    name: str | None = None
    """Name of the Vote."""
    uid: str | None = None
    """Its uid: another object of the same name is another vote."""
    resource_version: str | None = None
    """Its resource version when it was counted."""


class QuorumStatus(Resource):
    """Whether the roles let a deployment go on to production."""

    deployment_id: str
    """The deployment that it speaks of: the votes cover this one alone."""
    required: int
    """GO votes that are needed. All roles must have voted besides."""
    go: int = 0
    """GO votes so far."""
    cast: int = 0
    """Votes so far."""
    asked_at: Time | None = None
    """When the candidate was ready for production but for the votes; deadlines of the step rest from then on."""
    reached_at: Time | None = None
    """When the quorum was reached: it holds for the rest of the deployment."""
    reason: str
    """Why it proceeds or holds, in one word."""
    message: str
    """The votes in a sentence, a NO-GO of high risk first."""
    line: str
    """The quorum line of the report, in Markdown."""
