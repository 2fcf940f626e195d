"""The forms of the reports: stability, latency, resources, compliance, objectives, readiness to roll back, run ids.

Each names the run that it comes from and when it was made, and says by itself whether it speaks against going on.
"""

from __future__ import annotations

from typing import Annotated, Final, Literal, Self

from pydantic import Field, RootModel, model_validator

from ops_commander.api.fields import PositiveDuration, Time
from ops_commander.integration.manifest import Name, PathText, Sha256, Strict, Uri

API_VERSION: Final = "ops-commander.dev/handoff/v1"
RTO_SECONDS: Final = 120.0

Number = Annotated[float, Field(allow_inf_nan=False)]
Share = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=0)]
Seconds = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Text = Annotated[str, Field(max_length=1024)]


class Confidence(Strict):
    """A 95 % confidence interval."""

    low: Number
    """Lower end."""
    high: Number
    """Upper end."""

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if self.low > self.high:
            raise ValueError(f"ends at {self.low:g} and {self.high:g}: expected low ≤ high")
        return self


class Artifact(Strict):
    """A file that the report rests on."""

    path: PathText | None = None
    """Relative to the report, and in its folder."""
    uri: Uri | None = None
    """Where it is, if it is not beside the report. It is noted, and not fetched."""
    sha256: Sha256
    """Of all bytes."""
    run_id: Name | None = None
    """The run that made it; unset: that of the report."""
    created_at: Time | None = None
    """When it was made; unset: as the report."""

    @model_validator(mode="after")
    def _one_place(self) -> Self:
        if (self.path is None) == (self.uri is None):
            raise ValueError("has path and uri, or neither: expected one of path and uri")
        return self


class Report(Strict):
    """What every report says of itself."""

    api_version: Literal["ops-commander.dev/handoff/v1"]
    """Version of this form."""
    run_id: Name
    """The run that made it."""
    created_at: Time
    """When it was made, with a time zone."""
    deployment_id: Name | None = None
    """The deployment that it speaks of; unset: none in particular."""
    max_age: PositiveDuration | None = None
    """How old it may be when somebody votes on it; unset: what the voter allows."""
    summary: Text = ""
    """What it says, in a sentence."""
    artifacts: Annotated[list[Artifact], Field(max_length=20)] = []
    """Files that it rests on."""

    @model_validator(mode="after")
    def _zoned(self) -> Self:
        if self.created_at.tzinfo is None:
            raise ValueError(
                f"createdAt is {self.created_at.isoformat()}: expected a time zone, such as a Z at the end"
            )
        return self

    def against(self) -> list[str]:
        """What in it speaks against going on."""
        return []


class EnvironmentStability(Report):
    """How the environment did over a while."""

    kind: Literal["EnvironmentStabilityReport"]
    """Its form."""
    environment: Name
    """What was watched: a cluster, a namespace."""
    window: PositiveDuration
    """For how long."""
    is_stable: Annotated[bool, Field(alias="stable")]
    """Whether it was stable."""
    incidents: Count = 0
    """Incidents in that time."""
    pod_restarts: Count = 0
    """Container restarts in that time."""
    nodes_not_ready: Count = 0
    """Nodes that were not Ready for some of it."""
    availability: Share | None = None
    """Share of the time in which it answered."""

    def against(self) -> list[str]:
        said = f"{self.incidents} incident(s), {self.pod_restarts} restart(s), {self.nodes_not_ready} node(s) not Ready"
        return [] if self.is_stable else [f"{self.environment} was not stable: {said}"]


class Percentile(Strict):
    """One percentile of the latency, in milliseconds."""

    name: Annotated[str, Field(pattern="^p[0-9]{1,2}([.][0-9]+)?$", max_length=8)]
    """Such as p95."""
    candidate: Seconds
    """Of the candidate."""
    baseline: Seconds | None = None
    """Of the stable version."""
    target: Seconds | None = None
    """It is to be below."""
    ci95: Confidence | None = None
    """Of the candidate's."""


class Latency(Report):
    """Latency of the candidate, beside the stable version."""

    kind: Literal["LatencyReport"]
    """Its form."""
    requests: Count
    """Requests that were measured."""
    percentiles: Annotated[list[Percentile], Field(min_length=1, max_length=20)]
    """Percentiles in milliseconds."""

    def against(self) -> list[str]:
        return [
            f"{item.name} is {item.candidate:g} ms: expected less than {item.target:g}"
            for item in self.percentiles
            if item.target is not None and item.candidate >= item.target
        ]


class Usage(Strict):
    """How much of one resource is used."""

    name: Name
    """cpu, memory, gpu, …"""
    used: Seconds
    """Highest use in the window."""
    limit: Annotated[float, Field(gt=0, allow_inf_nan=False)]
    """What there is."""
    unit: Annotated[str, Field(max_length=16)] = ""
    """Of both."""
    most: Share = 0.9
    """Share of the limit that may be used."""


class Resources(Report):
    """What the pods use of what they have."""

    kind: Literal["ResourceReport"]
    """Its form."""
    usage: Annotated[list[Usage], Field(min_length=1, max_length=50)]
    """Each resource."""

    def against(self) -> list[str]:
        return [
            f"{item.name}: {item.used:g} of {item.limit:g} {item.unit} used, at most {item.most:.0%} may be".replace(
                "  ", " "
            )
            for item in self.usage
            if item.used > item.limit * item.most
        ]


class Rule(Strict):
    """One rule that was checked."""

    name: Name
    """Which rule."""
    passed: bool
    """Whether it is kept."""
    message: Text = ""
    """What was found."""


class Compliance(Report):
    """Compliance@1 against the baseline, and rules that were checked."""

    kind: Literal["ComplianceReport"]
    """Its form."""
    candidate: Share
    """Compliance@1 of the candidate."""
    baseline: Share
    """Compliance@1 of the stable version."""
    samples: Annotated[int, Field(ge=1)]
    """Samples that were judged."""
    ci95: Confidence | None = None
    """Of candidate − baseline."""
    rules: Annotated[list[Rule], Field(max_length=200)] = []
    """Rules that were checked."""

    def against(self) -> list[str]:
        dropped = self.candidate - self.baseline < -0.02
        drop = [f"Compliance@1 fell from {self.baseline:g} to {self.candidate:g}"] if dropped else []
        return drop + [
            f"rule {rule.name} is broken: {rule.message}".removesuffix(": ") for rule in self.rules if not rule.passed
        ]


class Target(Strict):
    """One service-level objective."""

    id: Name
    """Such as S2."""
    objective: Name
    """What it is."""
    target: Name
    """As text: < 500 ms."""
    observed: Number
    """The value."""
    unit: Annotated[str, Field(max_length=16)] = ""
    """Of the value."""
    ci95: Confidence | None = None
    """Of the value."""
    met: bool
    """Whether it is met."""
    run_id: Name | None = None
    """The run that measured it; unset: that of the report."""
    artifact: PathText | None = None
    """The run's artifact with the figure."""


class Objectives(Report):
    """Service-level objectives, one by one."""

    kind: Literal["SLOReport"]
    """Its form."""
    slos: Annotated[list[Target], Field(min_length=1, max_length=100)]
    """Each objective."""

    def against(self) -> list[str]:
        return [
            f"{item.id} {item.objective} is {item.observed:g}{item.unit}: expected {item.target}"
            for item in self.slos
            if not item.met
        ]


class RollbackReadiness(Report):
    """Whether the way back works."""

    kind: Literal["RollbackReadinessReport"]
    """Its form."""
    stable_revision: Name
    """What traffic would go back to."""
    replicas: Count
    """Pods that it is to have."""
    ready_replicas: Count
    """Pods that are Ready."""
    drill_seconds: Seconds | None = None
    """How long the latest drill or revert took: breach visible to ReplicaSet back."""
    drilled_at: Time | None = None
    """When that was."""

    def against(self) -> list[str]:
        found = []
        if self.ready_replicas < self.replicas:
            found.append(f"stable has {self.ready_replicas} of {self.replicas} pod(s) Ready")
        if self.drill_seconds is not None and self.drill_seconds > RTO_SECONDS:
            found.append(f"the latest rollback took {self.drill_seconds:g} s: expected at most {RTO_SECONDS:g}")
        return found


class RunIds(Report):
    """Runs that the other reports refer to."""

    kind: Literal["RunIds"]
    """Its form."""
    grafana_run_id: Name
    """Snapshot of the dashboards."""
    deploy_run_id: Name
    """MLflow run of the deployment."""
    mlflow_run_id: Name
    """MLflow run of the model."""


AnyReport = Annotated[
    EnvironmentStability | Latency | Resources | Compliance | Objectives | RollbackReadiness | RunIds,
    Field(discriminator="kind"),
]
KINDS: Final = tuple(
    model.model_fields["kind"].annotation.__args__[0]  # type: ignore[union-attr]
    for model in (EnvironmentStability, Latency, Resources, Compliance, Objectives, RollbackReadiness, RunIds)
)


class Handoff(RootModel[AnyReport]):
    """A report of another team, in one of these forms."""
