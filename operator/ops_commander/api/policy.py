"""RolloutPolicy, version v1alpha1: the objectives that judge candidates, as data."""

from __future__ import annotations

from datetime import timedelta
from enum import StrEnum
from typing import Annotated, Any, Literal

from pydantic import Field, WithJsonSchema, model_validator

from ops_commander.api.cel import exactly_one, rule, rules
from ops_commander.api.evidence import EvidenceRule
from ops_commander.api.fields import Duration, PositiveDuration, Query, Resource
from ops_commander.api.presets import PRESETS, PresetName
from ops_commander.api.quorum import Quorum
from ops_commander.api.v1alpha1 import API_VERSION, Name, Role, StepKind

MetricName = Annotated[str, Field(min_length=1, max_length=250)]
RunId = Annotated[str, Field(min_length=1, max_length=64)]

_MATCHERS = {
    "type": "object",
    "maxProperties": 16,
    "additionalProperties": {"type": "string", "maxLength": 256},
}


class Preset(Resource):
    """A measure that is known by name: the queries for a kind of model server or proxy."""

    name: PresetName
    """Name of the preset."""
    labels: Annotated[dict[str, str], WithJsonSchema(_MATCHERS)] = {}
    """Labels that the series must have besides, such as the name of the model."""


class Ratio(Resource):
    """Share of bad among all requests, in [0, 1]."""

    bad: Query
    """Counter of bad requests. No series counts as none while `total` has one."""
    total: Query
    """Counter of all requests."""


class Quantile(Resource):
    """A quantile of a histogram, classic or native, in the unit of its bucket edges."""

    q: Annotated[float, Field(gt=0, lt=1)] = 0.95
    """The quantile: 0.95 for P95."""
    buckets: Query
    """The histogram: the `_bucket` series of a classic one, the name itself of a native one."""
    scale: Annotated[float, Field(gt=0)] = 1.0
    """Bucket edges are multiplied by this: 0.001 where the histogram counts milliseconds and the target seconds."""


class Rate(Resource):
    """Requests per second."""

    requests: Query
    """Counter of the requests that were answered."""
    window: PositiveDuration = timedelta(seconds=15)
    """Time over which one rate is taken; at least the scrape interval."""


class Score(Resource):
    """Mean of a score in [0, 1], such as the share of right answers."""

    sum: Query
    """Counter of the scores, added up."""
    count: Query
    """Counter of what was scored."""


class Pairs(Resource):
    """Candidate and stable on the same requests: what one gets right and the other does not."""

    wins: Query
    """Counter of the pairs in which the candidate is better."""
    losses: Query
    """Counter of the pairs in which it is worse."""
    ties: Query
    """Counter of the pairs in which both are as good."""


class Correlation(Resource):
    """Correlation of two scores in [0, 1] of the same requests, from sums of their powers."""

    moments: Query
    """Counters Σ x^i·y^j for i + j ≤ 4, told apart by a label `moment` such as "2_1"; "0_0" counts the pairs."""


class RunInterval(Resource):
    """Metrics of a run that hold the ends of a 95 % interval."""

    low: MetricName
    """Metric with the lower end."""
    high: MetricName
    """Metric with the upper end."""


class RunMeasure(Resource):
    """A number from the MLflow run of the candidate's model, `spec.model.runId`."""

    model_config = {
        "json_schema_extra": rules(
            exactly_one("a measure of a run", "samples", "interval", "moments", "exact"),
            rule(
                "has(self.metric) != has(self.moments)",
                "a measure of a run names its metric, or the moments of a correlation: expected one of the two",
            ),
            rule("!has(self.against) || has(self.samples)", "against compares two shares: it needs samples"),
        )
    }
    metric: MetricName | None = None
    """Metric with the value; ends with * for all metrics of that prefix, of which the worst is judged."""
    samples: MetricName | None = None
    """Metric with the number of samples: the value is a share of them."""
    against: MetricName | None = None
    """Metric of the same run that `metric` is compared with, such as the score without an input."""
    interval: RunInterval | None = None
    """The run has the interval itself. In both names * stands for what it stands for in `metric`."""
    moments: MetricName | None = None
    """Prefix of the metrics with Σ x^i·y^j, named like <prefix>2_1; 0_0 counts the pairs."""
    exact: Literal[True] | None = None
    """The value is a fact and no estimate: it is compared as it is."""
    artifact: Annotated[str, Field(min_length=1, max_length=500)]
    """Path of the run's artifact that proves the value. Without it nothing is believed."""
    baseline_run_id: RunId | None = None
    """Run to compare with; that of the stable version where not given."""


class CompositeRisk(Resource):
    """The composite risk that the operator works out: schema, dependencies, latency, outputs. It has no fields."""


class Compare(StrEnum):
    """What is held against the target."""

    ABSOLUTE = "Absolute"
    DIFFERENCE = "Difference"
    RATIO = "Ratio"


class OnBreach(StrEnum):
    ROLLBACK = "Rollback"
    HOLD = "Hold"


MEASURES = ("preset", "ratio", "quantile", "rate", "score", "pairs", "correlation", "run", "risk")

_BREACH_SIDE = rule(
    "!has(self.breach) || (has(self.max) ? self.breach >= self.max : !has(self.min) || self.breach <= self.min)",
    "breach must lie on the bad side of the target: above max or below min",
    at=".breach",
)
_RATIO_OF_SHARES = rule(
    "self.compare != 'Ratio' || has(self.ratio) || has(self.preset)",
    "compare Ratio is for ratio: expected Absolute or Difference here",
    at=".compare",
)
_NO_DIFFERENCE = rule(
    "self.compare != 'Difference' || !(has(self.rate) || has(self.correlation) || has(self.risk))",
    "compare Difference has no meaning for rate, correlation and risk: expected Absolute",
    at=".compare",
)
_SHARE_TARGET = rule(
    "self.compare != 'Absolute' || !(has(self.ratio) || has(self.score))"
    " || (has(self.max) ? self.max > 0.0 && self.max < 1.0 : !has(self.min) || self.min > 0.0 && self.min < 1.0)",
    "a share lies between 0 and 1: expected a target within, such as 0.01 for 1 %",
)


_RATE_TARGET = rule(
    "!has(self.rate) || (has(self.max) ? self.max > 0.0 : !has(self.min) || self.min > 0.0)",
    "a rate is held against a target above 0",
)
_RATIO_TARGET = rule(
    "self.compare != 'Ratio' || (has(self.max) ? self.max >= 0.01 && self.max <= 100.0"
    " : !has(self.min) || self.min >= 0.01 && self.min <= 100.0)",
    "a ratio is held against a target from 0.01 to 100: 1 stands for no change",
)
_RISK_TARGET = rule(
    "!has(self.risk) || (has(self.max) && self.max > 0.0 && self.max <= 1.0 && !has(self.breach))",
    "risk is held against max, within 0 to 1, and without breach",
)
_RUN_DIFFERENCE = rule(
    "!has(self.run) || self.compare == 'Absolute' || (self.compare == 'Difference' && has(self.run.samples)"
    " && !has(self.run.against))",
    "of a run's measures only one with samples and without against can be compared with the stable version",
    at=".compare",
)


class Objective(Resource):
    """One objective: what is measured, its target, and what a breach does."""

    model_config = {
        "json_schema_extra": rules(
            exactly_one("an objective", *MEASURES),
            exactly_one("an objective", "max", "min"),
            _BREACH_SIDE,
            _RATIO_OF_SHARES,
            _NO_DIFFERENCE,
            _SHARE_TARGET,
            _RATE_TARGET,
            _RATIO_TARGET,
            _RUN_DIFFERENCE,
            _RISK_TARGET,
        )
    }
    name: Name
    """Unique within the policy."""
    slo: Annotated[str, Field(max_length=32)] | None = None
    """Id of the service-level objective in the users' own documents, such as S2."""
    preset: Preset | None = None
    ratio: Ratio | None = None
    quantile: Quantile | None = None
    rate: Rate | None = None
    score: Score | None = None
    pairs: Pairs | None = None
    correlation: Correlation | None = None
    run: RunMeasure | None = None
    risk: CompositeRisk | None = None
    compare: Compare = Compare.ABSOLUTE
    """Hold the candidate's own value against the target, or its difference or ratio to stable's."""
    max: float | None = None
    """Met when the judged value is proved to be below."""
    min: float | None = None
    """Met when the judged value is proved to be at or above."""
    breach: float | None = None
    """Breached when the judged value is proved to be past this; the target itself where not given."""
    unit: Annotated[str, Field(max_length=16)] = ""
    """Shown behind values: s, req/s, %."""
    min_samples: Annotated[int, Field(ge=1)] | None = None
    """Requests of the candidate before it can pass; where not given the intervals alone decide."""
    steps: Annotated[list[StepKind], Field(min_length=1, max_length=3)] = list(StepKind)
    """Kinds of step in which it is judged."""
    on_breach: OnBreach = OnBreach.ROLLBACK
    """What a breach does."""
    role: Role = Role.REQUIRED
    """Required: a step waits for it, and a breach reverts. Guard: a breach reverts. Advisory: shown only."""

    @model_validator(mode="after")
    def _consistent(self) -> Objective:
        if sum(getattr(self, name) is not None for name in MEASURES) != 1:
            raise ValueError(f"an objective has exactly one of {', '.join(MEASURES)}")
        if (self.max is None) == (self.min is None):
            raise ValueError("an objective has exactly one of max and min")
        return self

    @property
    def queries(self) -> tuple[str, ...]:
        """PromQL in the order of the measure's fields; the one that counts requests stands last. A run has none."""
        measures = (self.ratio, self.quantile, self.rate, self.score, self.pairs, self.correlation)
        measure = next((item for item in measures if item is not None), None)
        if measure is None:
            return ()
        texts = (getattr(measure, name) for name in type(measure).model_fields if name not in ("q", "window", "scale"))
        return tuple(text.strip() for text in texts)

    @property
    def target(self) -> float:
        return self.max if self.max is not None else self.min or 0.0

    @property
    def limit(self) -> float:
        """The value past which it is breached."""
        return self.target if self.breach is None else self.breach

    @property
    def reverts(self) -> bool:
        """Whether a breach takes the candidate back."""
        return self.role is not Role.ADVISORY and self.on_breach is OnBreach.ROLLBACK

    @property
    def is_required(self) -> bool:
        return self.role is Role.REQUIRED


class OnDeadline(StrEnum):
    ROLLBACK = "Rollback"
    PAUSE = "Pause"


class OnInfeasible(StrEnum):
    REFUSE = "Refuse"
    WARN = "Warn"


class FamilyWise(StrEnum):
    NONE = "None"
    BONFERRONI = "Bonferroni"


class Verification(StrEnum):
    REQUIRED = "Required"
    OPTIONAL = "Optional"


_Weight = Annotated[float, Field(ge=0, le=1)]
_WEIGHTS_SUM = rule(
    "self.schema + self.dependency + self.latency + self.output > 0.9999"
    " && self.schema + self.dependency + self.latency + self.output < 1.0001",
    "weights must add up to 1",
)


class RiskWeights(Resource):
    """Share of each part of the composite risk; together 1."""

    model_config = {"json_schema_extra": rules(_WEIGHTS_SUM)}
    schema_drift: Annotated[_Weight, Field(alias="schema")] = 0.4
    """Change of the API."""
    dependency: _Weight = 0.3
    """Dependencies that differ from production's."""
    latency: _Weight = 0.2
    """Change of the P95."""
    output: _Weight = 0.1
    """Deviation of the answers to the same requests."""


class RiskPolicy(Resource):
    """How the composite risk is put together."""

    model_config = {
        "json_schema_extra": rules(
            rule(
                "self.medium <= self.high",
                "medium must not lie above high, but they are %s and %s",
                "self.medium",
                "self.high",
            )
        )
    }
    weights: RiskWeights = RiskWeights()
    """Shares of the parts."""
    medium: Annotated[float, Field(gt=0, le=1)] = 0.3
    """From here on a candidate stays in shadow."""
    high: Annotated[float, Field(gt=0, le=1)] = 0.6
    """From here on it is rejected."""
    latency: Name = "p95-drift"
    """Objective whose interval is the change of the P95; one that compares a quantile's Difference, in seconds."""
    output: Name = "output-deviation"
    """Objective whose interval is the mean deviation of the answers."""


class RolloutPolicySpec(Resource):
    """Objectives and what happens without evidence."""

    objectives: Annotated[
        list[Objective],
        Field(
            min_length=1,
            max_length=32,
            json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"]},
        ),
    ]
    """Judged together: a step is left only while all required ones pass on the same tick."""
    hold_after: PositiveDuration = timedelta(seconds=60)
    """Time without fresh evidence after which a candidate with live traffic is set to weight 0."""
    on_deadline: OnDeadline = OnDeadline.ROLLBACK
    """What the end of a step's maxDuration does without proof."""
    on_infeasible: OnInfeasible = OnInfeasible.REFUSE
    """What is done with a rollout that could not be proved in time even if its candidate were perfect."""
    family_wise: FamilyWise = FamilyWise.NONE
    """Bonferroni shares the 5 % of false alarms out among the objectives that can revert."""
    warm_up: Duration = timedelta(0)
    """Time after a step's traffic was confirmed whose requests do not count, for caches and compilers."""
    split_tolerance: Annotated[float, Field(ge=0, le=1)] = 0.1
    """Relative deviation of the observed split from the weights that is believed to be chance or routing detail."""
    baseline_window: PositiveDuration = timedelta(hours=1)
    """Time before a deployment from which the stable version's traffic and dispersion are taken."""
    quorum: Quorum | None = None
    """Votes that a candidate needs before it meets users; none are asked for where not given."""
    verification: Verification = Verification.REQUIRED
    """Whether a version without `spec.preflight` may go anywhere."""
    risk: RiskPolicy = RiskPolicy()
    """How the composite risk is put together."""
    evidence: EvidenceRule = EvidenceRule.BEST_EFFORT
    """Required: a promotion waits until its evidence is in MLflow, where the operator has one. A revert never waits."""


class RolloutPolicy(Resource):
    """Objectives for rollouts of the same namespace."""

    api_version: Literal["ops-commander.dev/v1alpha1"] = API_VERSION
    kind: Literal["RolloutPolicy"] = "RolloutPolicy"
    metadata: dict[str, Any]
    spec: RolloutPolicySpec


def live_objectives(server: str = "http") -> list[Objective]:
    """S2 to S5 on the metrics of one kind of server, as far as it has presets for them."""
    errors, latency, requests = (
        Preset.model_construct(name=f"{server}/{what}") for what in ("errors", "latency", "requests")
    )
    wanted = [
        Objective(name="error-rate", slo="S3", preset=errors, max=0.01),
        Objective(
            name="error-ratio",
            slo="S5",
            preset=errors,
            compare=Compare.RATIO,
            max=1.0,
            role=Role.GUARD,
        ),
        Objective(name="p95-latency", slo="S2", preset=latency, max=0.5, breach=0.505, unit="s"),
        Objective(
            name="p95-drift",
            slo="S2",
            preset=latency,
            compare=Compare.DIFFERENCE,
            max=0.005,
            unit="s",
            steps=[StepKind.SHADOW],
        ),
        Objective(
            name="throughput",
            slo="S4",
            preset=requests,
            min=100.0,
            unit="req/s",
            steps=[StepKind.SHADOW, StepKind.FULL],
            on_breach=OnBreach.HOLD,
        ),
    ]
    return [objective for objective in wanted if objective.preset and objective.preset.name in PRESETS]


def servers() -> list[str]:
    """Kinds of server that a policy can be written for by their presets alone."""
    return [name.removesuffix("/errors") for name in PRESETS if name.endswith("/errors")]


def run_objectives() -> list[Objective]:
    """S1 and S5 to S7, from the MLflow run of the candidate's model."""
    return [
        Objective(
            name="compliance",
            slo="S1",
            run=RunMeasure(
                metric="compliance_at_1", samples="compliance_at_1_samples", artifact="evaluation/compliance.json"
            ),
            compare=Compare.DIFFERENCE,
            min=0.10,
            breach=-0.02,
        ),
        Objective(
            name="improvement",
            slo="S5",
            run=RunMeasure(
                metric="improvement/*",
                interval=RunInterval(low="improvement_low/*", high="improvement_high/*"),
                artifact="evaluation/improvement.json",
            ),
            min=1e-6,  # above 0: an interval that reaches 0 proves no gain
            breach=0.0,
        ),
        Objective(
            name="ablation-drop",
            slo="S6",
            run=RunMeasure(
                metric="accuracy",
                against="accuracy_without_vision",
                samples="accuracy_samples",
                artifact="evaluation/ablation.json",
            ),
            min=0.05,
        ),
        Objective(
            name="score-correlation",
            slo="S7",
            run=RunMeasure(moments="score_moment/", artifact="evaluation/correlation.json"),
            max=0.95,
        ),
    ]


def integration_objectives() -> list[Objective]:
    """S8, and the answers of both versions to the same requests: silent regressions of up to 0.5 points pass."""
    kinds = ("precision-loss", "field-drop", "encoding-mismatch", "non-finite", "dtype", "shape", "content-type")
    wanted = [
        *(
            Objective(
                name=kind,
                slo="I5",
                preset=Preset.model_construct(name=f"comparison/{kind}"),
                max=0.005,
                steps=[StepKind.SHADOW],
                role=Role.GUARD,
            )
            for kind in kinds
        ),
        Objective(
            name="output-deviation",
            slo="I5",
            preset=Preset.model_construct(name="comparison/deviation"),
            max=0.1,
            steps=[StepKind.SHADOW],
        ),
        Objective(
            name="silent-regressions",
            slo="I5",
            preset=Preset.model_construct(name="comparison/regressions"),
            max=0.005,
            steps=[StepKind.SHADOW],
        ),
        Objective(name="integration-risk", slo="S8", risk=CompositeRisk(), max=0.6),
    ]
    return [objective for objective in wanted if objective.preset is None or objective.preset.name in PRESETS]


DEFAULT_POLICY = RolloutPolicySpec(
    objectives=[*run_objectives(), *live_objectives(), *integration_objectives()],
    quorum=Quorum(),
    evidence=EvidenceRule.REQUIRED,
)
"""S1 to S8 and the three votes as shipped; used where a rollout names no policy."""
