"""Vote, version v1alpha1: one role's GO or NO-GO on one deployment."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from ops_commander.api.ballot import SLUGS, Choice, RiskLevel, VoteEvidence, VoterRole
from ops_commander.api.cel import rule, rules
from ops_commander.api.fields import Resource, parse_time
from ops_commander.api.v1alpha1 import API_VERSION

MAX_EVIDENCE = 32

DeploymentId = Annotated[str, Field(min_length=1, max_length=63, pattern="^[a-z]([-a-z0-9]*[a-z0-9])?$")]
RolloutName = Annotated[str, Field(min_length=1, max_length=40, pattern="^[a-z]([-a-z0-9]*[a-z0-9])?$")]

_STAYS = rule("self == oldSelf", "a vote cannot be changed: it was cast")
_OF_THE_ROLLOUT = rule(
    "self.deploymentId.startsWith(self.rollout + '-')"
    " && self.deploymentId.substring(self.rollout.size()).matches('^-[a-z0-9]{10}-[1-9][0-9]*$')",
    "deploymentId %s is none of the rollout %s: expected <rollout>-<revision>-<number>, as in its status",
    "self.deploymentId",
    "self.rollout",
    at=".deploymentId",
)
_NEEDS_CONCERN = rule(
    "self.vote != 'NO-GO' || self.concern.trim() != ''", "a NO-GO needs its key concern", at=".concern"
)
_SLUG_OF = "{" + ", ".join(f"'{role}': '{slug}'" for role, slug in SLUGS.items()) + "}[self.spec.role]"
NAME_RULE = rule(
    f"self.metadata.name == self.spec.deploymentId + '-' + {_SLUG_OF}",
    "metadata.name %s is not that of this vote: expected %s-%s, so that a role votes once on a deployment",
    "self.metadata.name",
    "self.spec.deploymentId",
    _SLUG_OF,
    at=".metadata.name",
)


class VoteSpec(Resource):
    """A vote as it was cast; nothing of it can be changed."""

    model_config = {"json_schema_extra": rules(_STAYS, _OF_THE_ROLLOUT, _NEEDS_CONCERN)}
    rollout: RolloutName
    """Name of the ModelRollout, in the namespace of the vote."""
    deployment_id: DeploymentId
    """The deployment that it is for, `status.deployment.id` of the rollout. It counts for no other."""
    role: VoterRole
    """The role that the voter speaks for; admission lets only those vote who are bound to it."""
    voter: Annotated[str, Field(min_length=1, max_length=253)]
    """The user who casts it, by the name that the API server knows them by; admission refuses any other."""
    vote: Choice
    """GO or NO-GO."""
    risk: RiskLevel
    """How bad it would be to go on."""
    concern: Annotated[str, Field(max_length=1024)] = ""
    """The key concern, in a sentence. A NO-GO needs one."""
    evidence: Annotated[list[VoteEvidence], Field(max_length=MAX_EVIDENCE)] = []
    """What the vote rests on."""

    @model_validator(mode="after")
    def _has_a_concern(self) -> VoteSpec:
        if self.vote is Choice.NO_GO and not self.concern.strip():
            raise ValueError("a NO-GO needs its key concern")
        return self


class CountStatus(Resource):
    """What the operator made of the vote."""

    counted: bool
    """Whether it counts for its deployment."""
    reason: str
    """Why, in one word."""
    message: str = ""
    """Why, in a sentence."""


class Vote(Resource):
    """One role's GO or NO-GO on one deployment of a rollout, with its risk, key concern and evidence."""

    api_version: Literal["ops-commander.dev/v1alpha1"] = API_VERSION
    kind: Literal["Vote"] = "Vote"
    metadata: dict[str, Any]
    spec: VoteSpec
    status: CountStatus | None = None

    @property
    def name(self) -> str:
        return str(self.metadata["name"])

    @property
    def uid(self) -> str:
        return str(self.metadata.get("uid", ""))

    @property
    def resource_version(self) -> str:
        return str(self.metadata.get("resourceVersion", ""))

    @property
    def cast_at(self) -> datetime:
        """When the API server took it, to the second."""
        return parse_time(self.metadata["creationTimestamp"])


def vote_name(deployment_id: str, role: VoterRole) -> str:
    """The one name that a role's vote on a deployment can have."""
    return f"{deployment_id}-{role.slug}"
