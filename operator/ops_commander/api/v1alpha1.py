"""ModelRollout, version v1alpha1: the one source of its CRD, schema and reference."""

from __future__ import annotations

from datetime import timedelta
from enum import StrEnum
from typing import Annotated, Any, ClassVar, Final, Literal

from pydantic import Field, WithJsonSchema, model_validator

from ops_commander.api.ballot import QuorumStatus, VoteStatus
from ops_commander.api.cel import exactly_one, not_longer, rule, rules
from ops_commander.api.comparison import Comparison
from ops_commander.api.conditions import Condition
from ops_commander.api.evidence import EvidenceStatus, OutboxEntry
from ops_commander.api.fields import Duration, PositiveDuration, Resource, Time
from ops_commander.api.risk import Band, Part
from ops_commander.api.risk import Verdict as RiskVerdict
from ops_commander.api.verification import EvidenceFile, VerificationStatus, Waiver

GROUP = "ops-commander.dev"
VERSION = "v1alpha1"
API_VERSION: Final = "ops-commander.dev/v1alpha1"

Name = Annotated[str, Field(min_length=1, max_length=63, pattern=r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$")]
ObjectName = Annotated[str, Field(min_length=1, max_length=253, pattern=r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$")]
Percent = Annotated[int, Field(ge=1, le=100)]
Port = Annotated[int, Field(ge=1, le=65535)]


# --- ModelRollout: spec ---------------------------------------------------------------------------

_LABELS = {
    "type": "object",
    "maxProperties": 64,
    "additionalProperties": {"type": "string", "maxLength": 63},
}
_POD_TEMPLATE = {
    "type": "object",
    "required": ["spec"],
    "properties": {
        "metadata": {
            "type": "object",
            "description": "Labels and annotations of the pods.",
            "properties": {
                "labels": {**_LABELS, "description": "Labels of the pods, besides those that the operator sets."},
                "annotations": {
                    "type": "object",
                    "description": "Annotations of the pods.",
                    "additionalProperties": {"type": "string"},
                },
            },
        },
        "spec": {
            "type": "object",
            "description": "PodSpec as in a Deployment.",
            "x-kubernetes-preserve-unknown-fields": True,
            "required": ["containers"],
            "properties": {
                "containers": {
                    "type": "array",
                    "description": "Containers as in a Deployment.",
                    "minItems": 1,
                    "maxItems": 32,
                    "items": {
                        "type": "object",
                        "x-kubernetes-preserve-unknown-fields": True,
                        "required": ["name", "image"],
                        "properties": {
                            "name": {"type": "string", "maxLength": 63, "description": "Unique within the pod."},
                            "image": {
                                "type": "string",
                                "minLength": 1,
                                "maxLength": 1024,
                                "description": "Image that serves the model.",
                            },
                        },
                    },
                }
            },
        },
    },
}

PodTemplate = Annotated[dict[str, Any], WithJsonSchema(_POD_TEMPLATE)]
"""A Kubernetes pod template. What its schema leaves open is checked by a dry run before a rollout starts."""


class ModelReference(Resource):
    """The model that the pods of this revision serve."""

    model_config = {"json_schema_extra": rules(exactly_one("a model", "version", "alias"))}
    name: Annotated[str, Field(min_length=1, max_length=253)]
    """Name of the registered model."""
    version: Annotated[str, Field(min_length=1, max_length=63)] | None = None
    """Version of the registered model; shown in status and put on the pods as a label."""
    alias: Annotated[str, Field(min_length=1, max_length=63)] | None = None
    """Alias of the registered model, resolved to a version once, when it is verified: needs `spec.preflight`."""
    run_id: Annotated[str, Field(min_length=1, max_length=64)] | None = None
    """MLflow run that produced the model. Where given, the run must exist and be finished."""
    promoted_alias: Annotated[str, Field(min_length=1, max_length=63)] | None = None
    """Alias of the registered model, as champion: moved to a version once it is stable, and back to the stable version
    where it points to one that was reverted. It is no part of the revision: setting it starts nothing."""

    @property
    def label(self) -> str:
        """The version as shown; an alias until it has been resolved."""
        return self.version or f"@{self.alias}"


class LabelSelector(Resource):
    """Labels that the pod template carries, in addition to those that the operator sets."""

    match_labels: Annotated[dict[str, str], WithJsonSchema({**_LABELS, "maxProperties": 16})]
    """Each must also stand in `template.metadata.labels`."""


class ServicePorts(Resource):
    """Port of the `-stable` and `-candidate` Services, and of the pods behind them."""

    port: Port = 80
    """Port of both Services; the route's backends use it."""
    target_port: Port = 8080
    """Port on which the model server listens."""


class ParentReference(Resource):
    """A Gateway that this rollout's route attaches to; the Gateway decides which namespaces it admits."""

    name: ObjectName
    """Name of the Gateway."""
    namespace: Name | None = None
    """Namespace of the Gateway; the rollout's own where not given."""
    section_name: Annotated[str, Field(min_length=1, max_length=253)] | None = None
    """Listener of the Gateway; all of them where not given."""


class HTTPRouteReference(Resource):
    """A route that somebody else keeps, in the namespace of the rollout."""

    model_config = {
        "json_schema_extra": rules(
            rule(
                "!has(self.__namespace__)",  # CEL reserves the word, the API server escapes it so
                "the HTTPRoute must be in the namespace of the ModelRollout: remove namespace %s",
                "self.__namespace__",
                at=".namespace",
            )
        )
    }
    name: ObjectName
    """Name of the HTTPRoute. The operator sets weights and mirror in each rule that names `<rollout>-stable`."""
    namespace: Annotated[str, Field(max_length=63)] | None = None
    """Always refused: references stay inside the namespace."""


_PATH_MATCH = {
    "type": "array",
    "maxItems": 16,
    "items": {"type": "object", "x-kubernetes-preserve-unknown-fields": True},
}


class GatewayAPI(Resource):
    """Traffic through a Gateway API HTTPRoute: generated from `parentRefs`, or an existing one by reference."""

    model_config = {
        "json_schema_extra": rules(
            exactly_one("a route", "parentRefs", "httpRouteRef"),
            rule(
                "!has(self.httpRouteRef) || (!has(self.hostnames) && !has(self.matches))",
                "hostnames and matches belong to a generated route: set them on the HTTPRoute %s instead",
                "self.httpRouteRef.name",
            ),
        )
    }
    parent_refs: Annotated[list[ParentReference], Field(min_length=1, max_length=16)] | None = None
    """Gateways for the generated route `<rollout>`."""
    hostnames: Annotated[list[Annotated[str, Field(max_length=253)]], Field(max_length=16)] | None = None
    """Host names of the generated route; every host of the listener where not given."""
    matches: Annotated[list[dict[str, Any]], WithJsonSchema(_PATH_MATCH)] | None = None
    """Matches of the generated route as in HTTPRoute; every path where not given."""
    http_route_ref: HTTPRouteReference | None = None
    """An existing HTTPRoute to steer."""


class Traffic(Resource):
    """How requests are split between stable and candidate."""

    gateway_api: Annotated[GatewayAPI, Field(alias="gatewayAPI")]
    """Gateway API is the router of this version."""


class ShadowStep(Resource):
    """Copies of live requests go to the candidate; its answers reach nobody."""

    model_config = {"json_schema_extra": not_longer("minDuration", "maxDuration")}
    percent: Percent = 100
    """Share of the requests that is mirrored."""
    compare: Comparison | None = None
    """Ask stable and candidate the same requests and compare their answers."""
    min_duration: Duration = timedelta(minutes=10)
    """Time in the step before it can be left, however good the evidence."""
    max_duration: Duration = timedelta(hours=1)
    """Time in the step after which missing proof reverts it."""


class CanaryStep(Resource):
    """The candidate answers a share of the live requests."""

    model_config = {"json_schema_extra": not_longer("minDuration", "maxDuration")}
    weight: Annotated[int, Field(ge=1, le=99)]
    """Percentage of the live requests for the candidate."""
    min_duration: Duration = timedelta(minutes=10)
    """Time in the step before it can be left, however good the evidence."""
    max_duration: Duration = timedelta(minutes=30)
    """Time in the step after which missing proof reverts it."""


class FullStep(Resource):
    """The candidate answers all requests while the stable version is kept warm."""

    model_config = {"json_schema_extra": not_longer("bake", "maxDuration")}
    bake: Duration = timedelta(minutes=15)
    """Time at 100 % before the candidate becomes the stable version; breaches still revert."""
    max_duration: Duration = timedelta(hours=1)
    """Time in the step after which missing proof reverts it."""


class StepKind(StrEnum):
    SHADOW = "shadow"
    CANARY = "canary"
    FULL = "full"


class Step(Resource):
    """One of shadow, canary and full."""

    model_config = {"json_schema_extra": rules(exactly_one("a step", "shadow", "canary", "full"))}
    shadow: ShadowStep | None = None
    canary: CanaryStep | None = None
    full: FullStep | None = None

    @model_validator(mode="after")
    def _exactly_one(self) -> Step:
        if sum(kind is not None for kind in (self.shadow, self.canary, self.full)) != 1:
            raise ValueError("a step has exactly one of shadow, canary and full")
        return self

    @property
    def kind(self) -> StepKind:
        if self.shadow:
            return StepKind.SHADOW
        return StepKind.CANARY if self.canary else StepKind.FULL

    @property
    def label(self) -> str:
        if self.canary:
            return f"canary {self.canary.weight}%"
        return "shadow" if self.shadow else "full"

    @property
    def weight(self) -> int:
        """Percentage of live requests for the candidate."""
        if self.canary:
            return self.canary.weight
        return 100 if self.full else 0

    @property
    def mirror_percent(self) -> int:
        return self.shadow.percent if self.shadow else 0

    @property
    def comparison(self) -> Comparison | None:
        return self.shadow.compare if self.shadow else None

    @property
    def min_duration(self) -> timedelta:
        if self.full:
            return self.full.bake
        return (self.shadow or self.canary or CanaryStep(weight=1)).min_duration

    @property
    def max_duration(self) -> timedelta:
        return (self.shadow or self.canary or self.full or FullStep()).max_duration


class TestKind(StrEnum):
    INTEGRATION = "Integration"
    SMOKE = "Smoke"
    REGRESSION = "Regression"

    __test__ = False


class TestJob(Resource):
    """A test of the candidate's pods that runs as a Job, after they are Ready and before any traffic."""

    __test__: ClassVar[bool] = False

    name: Annotated[str, Field(min_length=1, max_length=40, pattern=r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$")]
    """Unique within the tests."""
    kind: TestKind = TestKind.INTEGRATION
    """What it is for."""
    template: PodTemplate
    """Pod that tests: exit code 0 passes. It is told OPS_COMMANDER_CANDIDATE_URL, OPS_COMMANDER_STABLE_URL,
    OPS_COMMANDER_DEPLOYMENT_ID, MLFLOW_TRACKING_URI and MLFLOW_RUN_ID."""
    timeout: PositiveDuration = timedelta(minutes=10)
    """Time after which it has failed."""


class Preflight(Resource):
    """What is verified of a candidate before any traffic."""

    manifest: Annotated[str, Field(min_length=1, max_length=500)] = "candidate_manifest.yaml"
    """The candidate's manifest: its path below the artifacts of the model's MLflow run."""
    manifest_sha256: Annotated[str, Field(pattern="^[0-9a-f]{64}$", max_length=64)] | None = None
    """Pins the manifest, and by it all that the manifest names."""
    tests: Annotated[
        list[TestJob],
        Field(
            max_length=16,
            json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"]},
        ),
    ] = []
    """Tests to run; all must pass. Where there are none the manifest names tests that were run before."""
    waiver: Waiver | None = None
    """Lets a declared major version break the API."""


class PolicyReference(Resource):
    """A RolloutPolicy in the namespace of the rollout."""

    name: ObjectName
    """Name of the RolloutPolicy."""


class DeletionPolicy(StrEnum):
    KEEP_STABLE = "KeepStable"
    DELETE_ALL = "DeleteAll"


_STEP_ORDER = rule(
    "self.map(s, has(s.full) ? 2 : has(s.canary) ? 1 : 0).isSorted() && self.filter(s, has(s.full)).size() == 1",
    "steps must go shadow, canary, full with one full step at the end, but are %s",
    "self.map(s, has(s.shadow) ? 'shadow' : has(s.canary) ? 'canary' : 'full')",
)
_WEIGHT_ORDER = rule(
    "self.filter(s, has(s.canary)).map(s, s.canary.weight).isSorted()",
    "canary weights may not fall from step to step, but are %s",
    "self.filter(s, has(s.canary)).map(s, s.canary.weight)",
)
_SELECTOR_MATCHES_TEMPLATE = rule(
    "!has(self.selector) || (has(self.template.metadata) && has(self.template.metadata.labels)"
    " && self.selector.matchLabels.all(k, k in self.template.metadata.labels"
    " && self.template.metadata.labels[k] == self.selector.matchLabels[k]))",
    "template.metadata.labels must hold all of selector.matchLabels, %s",
    "self.selector.matchLabels",
    at=".selector",
)
_ALIAS_NEEDS_PREFLIGHT = rule(
    "!has(self.model.alias) || has(self.preflight)",
    "model.alias %s is resolved by the verification of its files: expected preflight as well",
    "self.model.alias",
    at=".model.alias",
)
_SELECTOR_STAYS = rule(
    "has(self.selector) == has(oldSelf.selector) && (!has(self.selector) || self.selector == oldSelf.selector)",
    "selector cannot be changed from %s: create another ModelRollout",
    "has(oldSelf.selector) ? oldSelf.selector.matchLabels : {}",
    at=".selector",
)


class ModelRolloutSpec(Resource):
    """The wanted version of one model service, and how it may get there."""

    model_config = {"json_schema_extra": rules(_SELECTOR_MATCHES_TEMPLATE, _SELECTOR_STAYS, _ALIAS_NEEDS_PREFLIGHT)}
    replicas: Annotated[int, Field(ge=0, le=10000)] = 1
    """Pods of the stable version; an autoscaler may own this field through the scale subresource."""
    selector: LabelSelector | None = None
    """Extra labels for the pods' selector. Cannot be changed."""
    template: PodTemplate
    """Pods of the wanted version. A change starts a new deployment."""
    model: ModelReference
    """The model served by these pods. A change starts a new deployment."""
    service: ServicePorts = ServicePorts()
    """Ports of the Services."""
    traffic: Traffic
    """Router that splits the requests."""
    preflight: Preflight | None = None
    """Verification of the model's files, and tests of its pods, before any traffic."""
    steps: Annotated[
        list[Step], Field(min_length=1, max_length=20, json_schema_extra=rules(_STEP_ORDER, _WEIGHT_ORDER))
    ]
    """The way of a candidate to all traffic: shadow, canary weights, full."""
    policy_ref: PolicyReference | None = None
    """Objectives that judge the candidate; the operator's defaults where not given."""
    paused: bool = False
    """Holds the rollout where it is. Breaches still revert."""
    progress_deadline: PositiveDuration = timedelta(minutes=10)
    """Time for the pods of a step to become Ready, after which the candidate is reverted."""
    drain: Duration = timedelta(seconds=5)
    """Time between the last request for a pod and its end; also its preStop pause where it has none."""
    revision_history_limit: Annotated[int, Field(ge=0, le=50)] = 3
    """Old ReplicaSets kept at zero pods."""
    deletion_policy: DeletionPolicy = DeletionPolicy.KEEP_STABLE
    """What a deletion leaves: the stable version serving (KeepStable), or nothing (DeleteAll)."""


# --- ModelRollout: status --------------------------------------------------------------------------


class Phase(StrEnum):
    """For display; derived from the rest of status."""

    PENDING = "Pending"
    LAUNCHING = "Launching"
    PROGRESSING = "Progressing"
    PAUSED = "Paused"
    HELD = "Held"
    PROMOTING = "Promoting"
    COMPLETED = "Completed"
    ROLLING_BACK = "RollingBack"
    ROLLED_BACK = "RolledBack"
    DEGRADED = "Degraded"


class StepState(StrEnum):
    """Where a deployment is within its step, in order."""

    LAUNCHING = "Launching"
    CLEARING = "Clearing"
    PREPARING = "Preparing"
    SHIFTING = "Shifting"
    RUNNING = "Running"
    PAUSED = "Paused"
    HELD = "Held"
    SWITCHING = "Switching"
    RETURNING = "Returning"
    REVERTING = "Reverting"


class Outcome(StrEnum):
    COMPLETED = "Completed"
    ROLLED_BACK = "RolledBack"
    SUPERSEDED = "Superseded"


class Verdict(StrEnum):
    PASS = "Pass"
    FAIL = "Fail"
    INCONCLUSIVE = "Inconclusive"


class Role(StrEnum):
    """What an objective may do: Required and Guard revert, Required is also waited for, Advisory is only shown."""

    REQUIRED = "Required"
    GUARD = "Guard"
    ADVISORY = "Advisory"


class Trend(StrEnum):
    """Where the candidate's value moves to."""

    RISING = "Rising"
    FALLING = "Falling"
    STEADY = "Steady"


class StepStatus(Resource):
    """The current step and how far it has come."""

    index: int
    """Place in `spec.steps`, from 0."""
    name: str
    """The step as shown: shadow, canary 5%, full."""
    state: StepState
    state_since: Time
    """When this state began."""
    entered_at: Time
    """When the step was entered."""
    reached_at: Time | None = None
    """When its traffic was first confirmed; its deadline counts from here."""
    running_since: Time | None = None
    """When its traffic was last confirmed; its minimum duration counts from here."""
    evidence_since: Time | None = None
    """When the split that is live was confirmed; evidence counts from here."""
    capacity_at: Time | None = None
    """Since when its pods and endpoints are ready."""
    testing_since: Time | None = None
    """Since when the tests of `spec.preflight` run against its pods."""
    leaving_since: Time | None = None
    """Since when all of its objectives are met and it is verified anew before the next step."""
    proved_at: Time | None = None
    """Since when nothing but its evidence in MLflow is missing for the promotion."""


class StepRecord(Resource):
    """A step that was entered, for the story of a deployment."""

    name: str
    """The step as shown: shadow, canary 5%, full."""
    entered_at: Time
    """When it was entered."""
    reached_at: Time | None = None
    """When its traffic was first confirmed."""
    evidence_since: Time | None = None
    """When its traffic was last confirmed; evidence counts from here."""
    left_at: Time | None = None
    """When it was left, in either direction."""


class Interval(Resource):
    """A 95 % confidence interval that may be looked at as often as one likes; an end that is absent is unbounded."""

    low: float | None = None
    """Lower end."""
    high: float | None = None
    """Upper end."""


class ObjectiveStatus(Resource):
    """One objective on all evidence since the step began."""

    name: str
    """Name of the objective."""
    slo: str | None = None
    """Its `slo`."""
    verdict: Verdict
    """What the evidence says about the target."""
    reason: str
    """Why, in one word."""
    role: Role = Role.REQUIRED
    """Whether the step waits for it, and whether it reverts."""
    judged: str = "candidate"
    """What is held against the target: candidate, difference (candidate − stable) or ratio (candidate / stable)."""
    observed: float | None = None
    """The judged value as it was observed."""
    candidate: float | None = None
    """The candidate's own value."""
    stable: float | None = None
    """The stable version's value on the same ticks."""
    target: str
    """The target as text: < 0.5."""
    unit: str = ""
    """Unit of the values."""
    interval: Interval | None = None
    """Of the judged value."""
    samples: float | None = None
    """Requests of the candidate that were counted."""
    dispersion: float = 1.0
    """φ: how much more events clump than by chance; evidence is divided by it."""
    trend: Trend | None = None
    """The latest ticks held against all of them."""
    message: str
    """The verdict in a sentence."""
    query: str
    """PromQL that was asked, or the metrics of the MLflow run."""
    source: str | None = None
    """Where the evidence is: the Prometheus server, or run id and artifact."""
    first_tick: Time | None = None
    """From which tick on requests count."""
    last_tick: Time | None = None
    """The latest tick that counts."""
    ticks: int = 0
    """Ticks that were counted."""


class RollbackStatus(Resource):
    """A revert, with the times that the recovery objective is measured by."""

    deployment_id: str
    """The deployment that was reverted."""
    reason: str
    """Why, in one word."""
    objective: str | None = None
    """The objective that was breached, if one was."""
    message: str
    """Why, in a sentence."""
    breach_visible_at: Time
    """When the evidence of the breach was first readable, or the order to revert was given."""
    decided_at: Time
    """When the revert was decided."""
    traffic_reverted_at: Time | None = None
    """When all traffic was confirmed back on stable."""
    replica_set_reverted_at: Time | None = None
    """When the candidate's pods were gone and stable at size."""
    traffic_seconds: float | None = None
    """Breach visible → traffic back on stable."""
    replica_set_seconds: float | None = None
    """Breach visible → candidate's pods gone and stable at size."""


class BaselineStatus(Resource):
    """What the stable version showed of one objective before the deployment; fixed for its duration."""

    name: str
    """Name of the objective."""
    ticks: int
    """Ticks with requests."""
    rate: float
    """Requests per second."""
    value: float | None = None
    """The stable version's value."""
    dispersion: float = 1.0
    """φ of its events."""
    edge: float | None = None
    """Bucket edge nearest to the quantile: drift is measured there."""
    share_beyond_edge: float | None = None
    """Share of the requests that take longer than `edge`."""
    share_beyond_drift: float | None = None
    """Share of those that take longer than `edge` and the allowed drift together."""


class FeasibilityStatus(Resource):
    """Whether an objective can be decided in a step before its deadline, from the traffic of the last hour."""

    step: str
    """The step as shown."""
    objective: str
    """Name of the objective."""
    possible: bool
    """False where not even a perfect candidate could be proved in time."""
    fastest_seconds: float | None = None
    """Time that a perfect candidate needs; absent where it never could."""
    expected_seconds: float | None = None
    """Time that a candidate like the stable version needs; absent where it never would."""
    deadline_seconds: float
    """The step's maxDuration."""
    advice: str | None = None
    """What could decide it."""


class Transition(Resource):
    """A change of a deployment's state: what a replay is held against."""

    at: Time
    """When it was decided."""
    rule: str
    """The rule that decided it."""
    step: int
    """Place of its step in `spec.steps`, from 0."""
    state: StepState | None = None
    """The state that it led to; absent where the deployment ended."""
    tick: Time | None = None
    """The latest tick that all of its objectives had by then."""
    observing_since: Time | None = None
    """Since when the process that decided it had been looking at metrics."""


class TestState(StrEnum):
    PENDING = "Pending"
    RUNNING = "Running"
    PASSED = "Passed"
    FAILED = "Failed"

    __test__ = False


class TestStatus(Resource):
    """One test of `spec.preflight` in this deployment."""

    __test__: ClassVar[bool] = False

    name: str
    """Name of the test."""
    kind: TestKind
    """What it is for."""
    job: str
    """Its Job."""
    state: TestState = TestState.PENDING
    """Pending, Running, Passed or Failed."""
    message: str = ""
    """How it ended, in the words of the Job."""
    started_at: Time | None = None
    """When its Job started."""
    ended_at: Time | None = None
    """When its Job ended."""
    log: EvidenceFile | None = None
    """What its pod said, kept in MLflow."""


class RiskSource(StrEnum):
    VERIFICATION = "Verification"
    SHADOW = "Shadow"
    MANIFEST = "Manifest"
    MISSING = "Missing"


class RiskPartStatus(Resource):
    """One part of the composite risk."""

    name: Part
    value: float
    """In [0, 1]; 1 where it is missing."""
    best: float | None = None
    """The least that its interval allows, where it was measured in shadow."""
    weight: float
    """Its share of the sum."""
    source: RiskSource
    """Where its value comes from."""
    explanation: str
    """What it was made from."""


class RiskStatus(Resource):
    """The composite risk of the wanted version, and what follows from it."""

    value: float
    """Weighted sum of the parts, to four places."""
    band: Band
    verdict: RiskVerdict
    message: str
    """The sum in a line."""
    parts: list[RiskPartStatus]
    """What it is made of."""
    vetoes: list[str] = []
    """What rejects it whatever the sum is."""
    weights_version: str
    """Which weights."""
    digest: str
    """sha256 of all inputs, weights and limits: equal digests mean equal risks."""


class DeploymentStatus(Resource):
    """The attempt to bring one revision to all traffic."""

    id: str
    """Names this attempt in events, metrics and MLflow."""
    revision: str
    """Revision of the candidate."""
    model: str | None = None
    """Name of the registered model."""
    model_version: str
    """Version of the model, from `spec.model`."""
    generation: int
    """Generation of `spec` that it brings out."""
    started_at: Time
    """When it started."""
    ended_at: Time | None = None
    """When it ended."""
    outcome: Outcome | None = None
    """How it ended."""
    reason: str | None = None
    """Why it ended so, in one word."""
    run_id: str | None = None
    """MLflow run of its model, from `spec.model`."""
    stable_revision: str | None = None
    """Revision that it is held against."""
    stable_version: str | None = None
    """Version of that one's model."""
    stable_run_id: str | None = None
    """MLflow run of that one's model, where known."""
    restarts_at_start: int = 0
    """Container restarts of the candidate before its first traffic."""
    baseline: list[BaselineStatus] = []
    """The stable version before it, by objective."""
    tests: list[TestStatus] = []
    """Tests of `spec.preflight`."""
    earlier_objectives: list[ObjectiveStatus] = []
    """Objectives that only earlier steps judged, as they stood then."""
    steps: list[StepRecord] = []
    """Steps entered so far, in order."""
    voted_at: Time | None = None
    """When it had the votes for production."""
    kept_at: Time | None = None
    """When the evidence that its promotion waited for was in MLflow."""
    deploy_run_id: str | None = None
    """The deployment's own MLflow run, which has its evidence."""
    evidence: EvidenceStatus | None = None
    """What MLflow has of it."""
    transitions: list[Transition] = []
    """Changes of its state so far, in order; the latest 200."""


class TrafficStatus(Resource):
    """The split that is wanted, and since when the router was seen to have it."""

    candidate_weight: int
    """Wanted percentage of live requests for the candidate."""
    mirror_percent: int
    """Wanted percentage of requests that are mirrored to it."""
    compare_percent: int = 0
    """Wanted percentage of requests that are mirrored to the comparer."""
    wanted_since: Time
    """Since when this split is wanted."""
    confirmed_at: Time | None = None
    """Since when the router was seen to have it."""


class RetiringStatus(Resource):
    """A revision on its way out; scaled to zero a drain period after its last traffic."""

    revision: str
    """The revision."""
    unreferenced_at: Time | None = None
    """When its last traffic was confirmed gone."""


class HistoryEntry(Resource):
    """A deployment that has ended."""

    deployment_id: str
    """The deployment."""
    revision: str
    """Revision of its candidate."""
    model_version: str
    """Version of its model."""
    outcome: Outcome
    """How it ended."""
    reason: str | None = None
    """Why it ended so, in one word."""
    started_at: Time
    """When it started."""
    ended_at: Time
    """When it ended."""
    deploy_run_id: str | None = None
    """The deployment's own MLflow run, once its evidence is complete."""


class ModelRolloutStatus(Resource):
    """What the operator has seen and decided."""

    observed_generation: int | None = None
    """Generation of `spec` that this status speaks of."""
    phase: Phase = Phase.PENDING
    step_name: str | None = None
    """The current step as shown: shadow, canary 5%, full."""
    weight: int = 0
    """Percentage of live requests on the candidate, as last confirmed at the router."""
    verdict: Verdict | None = None
    """All required objectives together."""
    reason: str | None = None
    """Why the phase is what it is, in one word."""
    next: str | None = None
    """What happens next, and when."""
    message: str | None = None
    """The state in a sentence."""
    deployments: int = 0
    """Deployments started so far; part of the next deployment id."""
    stable_revision: str | None = None
    """Revision that answers what the candidate does not."""
    stable_version: str | None = None
    """Version of its model."""
    stable_run_id: str | None = None
    """MLflow run of its model, where known: the baseline of objectives that read runs."""
    candidate_revision: str | None = None
    """Revision on trial, while there is one."""
    deployment: DeploymentStatus | None = None
    step: StepStatus | None = None
    traffic: TrafficStatus | None = None
    retiring: list[RetiringStatus] = []
    """Revisions that still have pods but are no longer wanted."""
    objectives: list[ObjectiveStatus] = []
    """One row an objective, on the latest evidence."""
    feasibility: list[FeasibilityStatus] = []
    """How long each step needs to be proved, for the wanted version."""
    verification: VerificationStatus | None = None
    """What was found of the wanted version's files."""
    risk: RiskStatus | None = None
    """Composite risk of the wanted version, with its four parts."""
    quorum: QuorumStatus | None = None
    """Whether the votes let the latest deployment go on to production; absent where none are asked for."""
    votes: list[VoteStatus] = []
    """What each role says of the latest deployment."""
    rollback: RollbackStatus | None = None
    """The latest revert."""
    handled_promote: str | None = None
    """The last promote order that was carried out."""
    history: list[HistoryEntry] = []
    """Deployments that have ended, latest first."""
    outbox: list[OutboxEntry] = []
    """Deployments that have ended and whose evidence is not complete in MLflow yet, oldest first."""
    replicas: int = 0
    """Pods of the stable version; read by autoscalers."""
    ready_replicas: int = 0
    """Those that are Ready."""
    selector: str | None = None
    """Selects the pods of the stable version; read by autoscalers."""
    conditions: Annotated[
        list[Condition],
        Field(json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["type"]}),
    ] = []
    """Conditions as in metav1.Condition. Reconciling and Stalled are there only while true."""


class ModelRollout(Resource):
    """A model service that changes version only as far as evidence carries it."""

    api_version: Literal["ops-commander.dev/v1alpha1"] = API_VERSION
    kind: Literal["ModelRollout"] = "ModelRollout"
    metadata: dict[str, Any]
    spec: ModelRolloutSpec
    status: ModelRolloutStatus = ModelRolloutStatus()
