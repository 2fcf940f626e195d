"""ActionPlan, version v1alpha1: what a Planning Team has decided, and how far its execution is."""

from __future__ import annotations

from datetime import timedelta
from enum import StrEnum
from typing import Annotated, Any, Literal

from pydantic import Field, WithJsonSchema, model_validator

from ops_commander.api.cel import exactly_one, rule, rules
from ops_commander.api.conditions import Condition
from ops_commander.api.fields import PositiveDuration, Resource, Time
from ops_commander.api.v1alpha1 import API_VERSION, ModelReference, Name, ObjectName, Percent, PodTemplate

MOST_ACTIONS = 100
MOST_CRITERIA = 16
LONGEST_ID = 24
LONGEST_NAME = 38
"""Of a plan: a Job's name is `<plan>-<action id>`, and has at most 63 characters."""

ActionId = Annotated[
    str, Field(min_length=1, max_length=LONGEST_ID, pattern=r"^[A-Za-z0-9]([-A-Za-z0-9]*[A-Za-z0-9])?$")
]
Criterion = Annotated[str, Field(min_length=1, max_length=500)]
_BY_ID = {"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["id"]}
_OPEN_OBJECT = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}


class Priority(StrEnum):
    """Actions of a higher priority end before one of a lower priority starts."""

    HIGH = "HIGH"
    MEDIUM = "MEDIUM"
    LOW = "LOW"


class ActionKind(StrEnum):
    DEPLOY = "deploy"
    EXPERIMENT = "experiment"
    TEST = "test"
    COLLECT = "collect"
    REPORT = "report"


class FailurePolicy(StrEnum):
    STOP_ON_HIGH = "StopOnHigh"
    STOP = "Stop"
    CONTINUE = "Continue"


class Environment(StrEnum):
    SHADOW = "shadow"
    STAGING = "staging"
    PRODUCTION = "production"


class Suite(StrEnum):
    INTEGRATION = "integration"
    SMOKE = "smoke"
    REGRESSION = "regression"


class ReportKind(StrEnum):
    EXECUTION = "execution"
    PROGRESS = "progress"
    INNOVATION = "innovation"


_PERCENT_OF_PRODUCTION = rule(
    "(self.environment == 'production') == has(self.percent)",
    "percent is the share of production: expected it with environment production, and with no other",
    at=".percent",
)


class Deploy(Resource):
    """A version of a model, brought to an environment by a ModelRollout."""

    model_config = {"json_schema_extra": rules(_PERCENT_OF_PRODUCTION)}
    target: Name
    """The ModelRollout; for environment staging it is `<target>-staging`."""
    environment: Environment
    """How far it goes. shadow: copies of requests only. staging: all the way in the staging rollout. production: to
    `percent` of the live requests."""
    percent: Percent | None = None
    """Share of production, 100 for all of it."""
    model: ModelReference
    """The model's version."""
    candidate_manifest: Annotated[str, Field(min_length=1, max_length=500)] | None = None
    """Path of the candidate's manifest below the artifacts of the model's run; verified before any traffic."""
    template: Annotated[dict[str, Any], WithJsonSchema(_OPEN_OBJECT)] | None = None
    """What is different in the pod template, merged into that of the ModelRollout; containers are matched by name."""
    rollout: Annotated[dict[str, Any], WithJsonSchema(_OPEN_OBJECT)] | None = None
    """Spec of the ModelRollout where there is none yet; its model is replaced."""

    @property
    def rollout_name(self) -> str:
        return f"{self.target}-staging" if self.environment is Environment.STAGING else self.target


class EnvVar(Resource):
    """An environment variable."""

    name: Annotated[str, Field(min_length=1, max_length=253)]
    """Its name."""
    value: Annotated[str, Field(max_length=4096)] = ""
    """Its value."""


_COMMAND = Field(max_length=64)
_ONE_POD = exactly_one("a pod", "image", "template", "templateRef")
_COMMAND_OF_IMAGE = rule(
    "has(self.image) || (!has(self.command) && !has(self.env))",
    "command and env belong to image: expected them in the template instead",
)


class _Pod(Resource):
    """What runs: an image with a command, a pod template, or a PodTemplate of the namespace by name."""

    image: Annotated[str, Field(min_length=1, max_length=1024)] | None = None
    """Image of a pod that meets the restricted standard."""
    command: Annotated[list[Annotated[str, Field(max_length=4096)]], _COMMAND] | None = None
    """Command of the image; that of the image itself where not given."""
    env: Annotated[list[EnvVar], _COMMAND] | None = None
    """Environment of the image, besides what the operator adds."""
    template: PodTemplate | None = None
    """Pod template for all that image cannot say."""

    @property
    def is_named(self) -> bool:
        return self.image is not None or self.template is not None


class Experiment(_Pod):
    """A Job that logs its metrics to an MLflow run."""

    model_config = {"json_schema_extra": rules(_ONE_POD, _COMMAND_OF_IMAGE)}
    template_ref: ObjectName | None = None
    """A core/v1 PodTemplate of the namespace."""
    mlflow_experiment: Annotated[str, Field(min_length=1, max_length=250)] | None = None
    """MLflow experiment of its run; that of the plan where not given."""

    @model_validator(mode="after")
    def _one_pod(self) -> Experiment:
        if sum(value is not None for value in (self.image, self.template, self.template_ref)) != 1:
            raise ValueError("has none or several of image, template and template_ref: expected exactly one")
        return self


class Test(_Pod):
    """A Job that tests a version of a model."""

    __test__ = False

    model_config = {
        "json_schema_extra": rules(
            rule(
                "[has(self.image), has(self.template), has(self.templateRef)].filter(set, set).size() <= 1",
                "a test has at most one of image, template and templateRef",
            ),
            _COMMAND_OF_IMAGE,
        )
    }
    suite: Suite
    """What it is for."""
    target: Name
    """The ModelRollout whose model is tested."""
    version: Annotated[str, Field(min_length=1, max_length=63)] | None = None
    """Version of the model; told to the test."""
    template_ref: ObjectName | None = None
    """A core/v1 PodTemplate of the namespace; `<target>-<suite>` where neither it nor image nor template is given."""
    mlflow_experiment: Annotated[str, Field(min_length=1, max_length=250)] | None = None
    """MLflow experiment of its run; that of the plan where not given."""

    @model_validator(mode="after")
    def _one_pod(self) -> Test:
        if sum(value is not None for value in (self.image, self.template, self.template_ref)) > 1:
            raise ValueError("has several of image, template and template_ref: expected at most one")
        return self


class Collect(Resource):
    """Metrics of a rollout's stable version over a window, stored with an MLflow run."""

    target: Name
    """The ModelRollout."""
    window: PositiveDuration
    """Length of the window. It ends now; where the past does not hold enough of it, the action waits for more."""
    metrics: Annotated[list[Annotated[str, Field(min_length=1, max_length=250)]], Field(min_length=1, max_length=32)]
    """Objectives of the rollout's policy, as `error_rate` or `p95_latency_ms`."""


class Report(Resource):
    """Reports, stored as artifacts of an MLflow run."""

    kinds: Annotated[list[ReportKind], Field(min_length=1, max_length=3)]
    """Which of them."""


_PARAMETERS = tuple(str(kind) for kind in ActionKind)
_KIND_AND_PARAMETERS = rule(
    " && ".join(f"has(self.{name}) == (self.kind == '{name}')" for name in _PARAMETERS),
    "an action of kind %s has the parameters of this kind and of no other",
    "self.kind",
)


class Action(Resource):
    """One thing to do."""

    model_config = {"json_schema_extra": rules(_KIND_AND_PARAMETERS)}
    id: ActionId
    """Unique within the plan; part of the names of its objects."""
    title: Annotated[str, Field(min_length=1, max_length=200)]
    """What it is about."""
    kind: ActionKind
    """Which of the parameters below it has."""
    priority: Priority
    """HIGH before MEDIUM before LOW; within one, in the order of this list."""
    owner: Annotated[str, Field(min_length=1, max_length=100)]
    """Who answers for it."""
    estimate: PositiveDuration
    """How long it is expected to take."""
    timeout: PositiveDuration | None = None
    """How long it may take. Where not given: four times the estimate and at least 10m, for collect also the window; a
    deployment that has begun has the deadlines of its steps instead."""
    success_criteria: Annotated[list[Criterion], Field(max_length=MOST_CRITERIA)] = []
    """Comparisons of metrics, as `error_rate < 0.01`; all must hold."""
    depends_on: Annotated[list[ActionId], Field(max_length=16)] = []
    """Actions that must have succeeded before; otherwise this one is skipped."""
    deploy: Deploy | None = None
    experiment: Experiment | None = None
    test: Test | None = None
    collect: Collect | None = None
    report: Report | None = None

    @model_validator(mode="after")
    def _own_parameters(self) -> Action:
        given = [name for name in _PARAMETERS if getattr(self, name) is not None]
        if given != [self.kind]:
            raise ValueError(f"has parameters {', '.join(given) or 'of no kind'}: expected those of kind {self.kind}")
        return self

    @property
    def pod(self) -> Experiment | Test | None:
        return self.experiment or self.test

    @property
    def template_ref(self) -> str | None:
        """The PodTemplate that its Job is made from, if it is."""
        if self.test and not self.test.is_named:
            return self.test.template_ref or f"{self.test.target}-{self.test.suite}"
        return self.experiment.template_ref if self.experiment else None


_DEPENDENCIES_EXIST = rule(
    "self.all(a, !has(a.dependsOn) || a.dependsOn.all(d, self.exists(b, b.id == d)))",
    "dependsOn names an action that is not in the plan",
)
_IDS_DIFFER = rule(
    "self.all(a, self.filter(b, b.id.lowerAscii() == a.id.lowerAscii()).size() == 1)",
    "ids of actions must differ in more than upper and lower case: objects are named by them",
)
_ACTIONS_STAY = rule("self == oldSelf", "the actions of a plan cannot be changed: create another ActionPlan")
_CANCEL_STAYS = rule(
    "!oldSelf.cancel || self.cancel", "a plan that was cancelled stays so: create another ActionPlan", at=".cancel"
)


class ActionPlanSpec(Resource):
    """The actions of one meeting."""

    model_config = {"json_schema_extra": rules(_CANCEL_STAYS)}
    meeting_id: Annotated[str, Field(min_length=1, max_length=128)]
    """The meeting that decided them."""
    source: Annotated[str, Field(max_length=500)] = ""
    """The file that they were read from."""
    source_sha256: Annotated[str, Field(pattern="^[0-9a-f]{64}$", max_length=64)] | None = None
    """Of that file's bytes."""
    from_: Annotated[str, Field(alias="from", max_length=100)] = ""
    """Who decided them."""
    created_at: Time | None = None
    """When they were decided."""
    failure_policy: FailurePolicy = FailurePolicy.STOP_ON_HIGH
    """What a failed action stops: StopOnHigh, one of priority HIGH stops what follows; Stop, any does; Continue, none,
    but for what depends on it."""
    cancel: bool = False
    """Ends the plan: its Jobs are deleted, its deployments under way are reverted, nothing else starts."""
    actions: Annotated[
        list[Action],
        Field(
            min_length=1,
            max_length=MOST_ACTIONS,
            json_schema_extra={**_BY_ID, **rules(_DEPENDENCIES_EXIST, _IDS_DIFFER, _ACTIONS_STAY)},
        ),
    ]
    """What is to be done. Cannot be changed."""


# --- status ---------------------------------------------------------------------------------------


class PlanPhase(StrEnum):
    """For display; derived from the states of the actions. Invalid: nothing of it can be executed."""

    PENDING = "Pending"
    RUNNING = "Running"
    SUCCEEDED = "Succeeded"
    FAILED = "Failed"
    CANCELLED = "Cancelled"
    INVALID = "Invalid"


class ActionState(StrEnum):
    """Where an action is: Skipped was never started, Cancelled was ended by `spec.cancel`."""

    PENDING = "Pending"
    RUNNING = "Running"
    SUCCEEDED = "Succeeded"
    FAILED = "Failed"
    SKIPPED = "Skipped"
    CANCELLED = "Cancelled"

    @property
    def is_end(self) -> bool:
        return self not in (ActionState.PENDING, ActionState.RUNNING)


class ObjectReference(Resource):
    """The object that an action works by."""

    kind: str
    """Job or ModelRollout."""
    name: str
    """Its name, in the namespace of the plan."""
    deployment_id: str | None = None
    """The deployment of the ModelRollout."""


class CriterionStatus(Resource):
    """One success criterion, on the latest metrics."""

    expression: str
    """As it stands in spec."""
    holds: bool | None = None
    """Whether it holds; absent while a metric in it is not known."""
    values: str = ""
    """The metrics in it, with their values."""


class ActionEvidence(Resource):
    """Where the figures of an action come from."""

    run_id: str | None = None
    """MLflow run."""
    artifact: str | None = None
    """Path of an artifact of that run."""
    sha256: str | None = None
    """Of the artifact's bytes."""
    deployment_id: str | None = None
    """Deployment whose objectives were read."""


class ActionStatus(Resource):
    """One action."""

    id: str
    """Its id in spec."""
    priority: Priority
    """Its priority."""
    state: ActionState = ActionState.PENDING
    reason: str = "Waiting"
    """Why, in one word."""
    message: str = ""
    """Why, in a sentence."""
    result: str | None = None
    """What came of it, with the figures that its criteria were held against."""
    started_at: Time | None = None
    """When it started."""
    ended_at: Time | None = None
    """When it ended."""
    expected_completion: Time | None = None
    """When it should end by the estimates, as of the latest start or end of an action."""
    object: ObjectReference | None = None
    evidence: ActionEvidence | None = None
    criteria: list[CriterionStatus] = []
    """Its success criteria."""


class PlanCounts(Resource):
    """Actions by state."""

    total: int = 0
    """All."""
    pending: int = 0
    """Not started."""
    running: int = 0
    """Under way."""
    succeeded: int = 0
    """Done, criteria met."""
    failed: int = 0
    """Ended otherwise."""
    skipped: int = 0
    """Never to be started."""
    cancelled: int = 0
    """Ended by `spec.cancel`."""


class PlanReport(Resource):
    """The progress report of the ended plan."""

    run_id: str
    """MLflow run of the plan."""
    path: str
    """Path of the artifact."""
    sha256: str
    """Of its bytes."""


class ActionPlanStatus(Resource):
    """How far the plan is."""

    observed_generation: int | None = None
    """Generation of `spec` that this status speaks of."""
    phase: PlanPhase = PlanPhase.PENDING
    progress: str | None = None
    """Ended actions of all: 3/6."""
    current: str | None = None
    """The action under way, or the one that failed first."""
    message: str | None = None
    """The state in a sentence."""
    started_at: Time | None = None
    """When the first action started."""
    ended_at: Time | None = None
    """When the last one ended."""
    expected_completion: Time | None = None
    """When the last action should end by the estimates."""
    run_id: str | None = None
    """MLflow run of the plan, parent of those of its actions."""
    counts: PlanCounts = PlanCounts()
    actions: Annotated[list[ActionStatus], Field(json_schema_extra=_BY_ID)] = []
    """One row an action, in the order of execution."""
    report: PlanReport | None = None
    conditions: Annotated[
        list[Condition],
        Field(json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["type"]}),
    ] = []
    """Conditions as in metav1.Condition. Reconciling and Stalled are there only while true."""


PLAN_NAME_RULE = rule(
    f"self.metadata.name.size() <= {LONGEST_NAME} && self.metadata.name.matches('^[a-z0-9]([-a-z0-9]*[a-z0-9])?$')",
    f"metadata.name %s has %s characters: expected at most {LONGEST_NAME} of a-z, 0-9 and -, and no - at its ends",
    "self.metadata.name",
    "self.metadata.name.size()",
    at=".metadata.name",
)


class ActionPlan(Resource):
    """Actions of a Planning Team, executed by priority."""

    api_version: Literal["ops-commander.dev/v1alpha1"] = API_VERSION
    kind: Literal["ActionPlan"] = "ActionPlan"
    metadata: dict[str, Any]
    spec: ActionPlanSpec
    status: ActionPlanStatus = ActionPlanStatus()


MINIMUM_TIMEOUT = timedelta(minutes=10)
