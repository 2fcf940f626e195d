"""A snapshot at a moment, with the questions that rules ask of it."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import cached_property

from ops_commander.api.policy import FamilyWise, Objective
from ops_commander.api.v1alpha1 import (
    BaselineStatus,
    DeploymentStatus,
    ModelRolloutStatus,
    ObjectiveStatus,
    Outcome,
    RiskStatus,
    Role,
    Step,
    StepKind,
    StepState,
    StepStatus,
    Verdict,
)
from ops_commander.api.verification import VerificationStatus
from ops_commander.core import names, objectives, rollout_risk, run_objectives
from ops_commander.core.measures import ALPHA
from ops_commander.core.snapshot import Check, ReplicaSetView, Snapshot

SETTLE = timedelta(seconds=1)
"""Margin between what the API says of a route or endpoint and the proxy doing it: 19–55 ms were measured."""

STEP_STATES = frozenset({StepState.SHIFTING, StepState.RUNNING, StepState.PAUSED})
"""States in which the route is to have the split of the present step."""

LIVE_STATES = STEP_STATES | {StepState.HELD}
"""States in which the split of the present step may be live."""

CATCHES_UP_WITHIN = timedelta(seconds=60)
"""For so long after a start status says what the process before has said, while its evidence is being read again."""
DEADLINES_REST_FOR = timedelta(hours=1)
"""While that goes on, at most: it takes so long for a thousand rollouts that have been in their step for hours."""

PROMOTING = frozenset({StepState.SWITCHING, StepState.RETURNING})


@dataclass(frozen=True)
class Situation:
    """What the rules see."""

    snapshot: Snapshot
    now: datetime

    def with_votes(self, status: ModelRolloutStatus) -> Situation:
        """The same with other votes in status. Verdicts do not depend on them, and are not worked out twice."""
        other = Situation(replace(self.snapshot, status=status), self.now)
        other.__dict__.update({name: self.__dict__[name] for name in ("rows", "revision") if name in self.__dict__})
        return other

    @cached_property
    def revision(self) -> str:
        """The revision that spec asks for."""
        return names.revision_of(self.snapshot.spec)

    @property
    def deployment(self) -> DeploymentStatus | None:
        """The deployment under way, if one is."""
        deployment = self.snapshot.status.deployment
        return deployment if deployment and deployment.outcome is None else None

    @property
    def rejected(self) -> DeploymentStatus | None:
        """The reverted deployment of the very revision that spec still asks for."""
        last = self.snapshot.status.deployment
        if last and last.outcome is Outcome.ROLLED_BACK and last.revision == self.revision:
            return last
        return None

    @property
    def step(self) -> StepStatus | None:
        return self.snapshot.status.step

    @property
    def state(self) -> StepState | None:
        return self.step.state if self.step else None

    @property
    def step_spec(self) -> Step:
        """The step under way; the last one if spec has become shorter meanwhile."""
        steps = self.snapshot.spec.steps
        index = self.step.index if self.step else 0
        return steps[min(index, len(steps) - 1)]

    @property
    def next_step(self) -> Step:
        """The step after the one under way; that one itself where it is the last."""
        steps = self.snapshot.spec.steps
        return steps[min((self.step.index if self.step else 0) + 1, len(steps) - 1)]

    @property
    def is_last_step(self) -> bool:
        return self.step is not None and self.step.index >= len(self.snapshot.spec.steps) - 1

    @property
    def judged_kind(self) -> StepKind | None:
        """The kind of step whose split is live, None while the candidate has no traffic."""
        if self.state in PROMOTING:
            return StepKind.FULL
        if self.state in LIVE_STATES:
            return self.step_spec.kind
        return self._live_kind if self.state is StepState.PREPARING else None

    @property
    def _live_kind(self) -> StepKind | None:
        """The kind of the split that stays live while the next one waits for its pods."""
        traffic = self.snapshot.status.traffic
        if traffic is None:
            return None
        if self.live_weight:
            return StepKind.FULL if self.live_weight == 100 else StepKind.CANARY
        return StepKind.SHADOW if traffic.mirror_percent else None

    @property
    def live_weight(self) -> int:
        """Percentage of live requests that the route gives the candidate, or is about to."""
        traffic = self.snapshot.status.traffic
        return traffic.candidate_weight if traffic else 0

    @property
    def judged(self) -> list[Objective]:
        policy, kind = self.snapshot.policy, self.judged_kind
        if policy is None or kind is None:
            return []
        return [objective for objective in policy.objectives if kind in objective.steps]

    @cached_property
    def rows(self) -> list[ObjectiveStatus]:
        """Verdicts on the latest evidence."""
        judged = self.judged
        policy = self.snapshot.policy
        shared = policy is not None and policy.family_wise is FamilyWise.BONFERRONI
        alpha = objectives.share_of_alpha(judged) if shared else ALPHA
        plain = {item.name: self._row(item, alpha) for item in judged if not item.risk}
        return [plain.get(item.name) or self._risk_row(item, tuple(plain.values())) for item in judged]

    def _risk_row(self, objective: Objective, rows: tuple[ObjectiveStatus, ...]) -> ObjectiveStatus:
        assert self.judged_kind is not None
        return rollout_risk.judge(objective, self._risk_sources(rows), self.judged_kind)

    def _risk_sources(self, rows: tuple[ObjectiveStatus, ...]) -> rollout_risk.Sources:
        policy, before = self.snapshot.policy, self.snapshot.status.risk
        assert policy is not None
        return rollout_risk.Sources(policy.risk, self.verification, rows, before if self.step else None)

    @property
    def verification(self) -> VerificationStatus | None:
        """What was found of the files of the version on trial, or else of the wanted one."""
        return self.snapshot.verification_of(self.deployment.revision if self.deployment else self.revision)

    @property
    def risk(self) -> RiskStatus | None:
        """Composite risk of that version; None where nothing is known of it and nothing asks for it."""
        policy = self.snapshot.policy
        asked = policy is not None and any(item.risk for item in policy.objectives)
        if policy is None or not (asked or self.verification):
            return self.snapshot.status.risk
        return rollout_risk.assess(self._risk_sources(tuple(self.rows)))

    def _row(self, objective: Objective, alpha: float) -> ObjectiveStatus:
        if objective.run:
            return run_objectives.judge(objective, self._runs(objective), alpha)
        traffic, policy, weight = self.snapshot.status.traffic, self.snapshot.policy, self.live_weight
        assert policy is not None
        if self.state is StepState.SHIFTING:  # of the split before, as far as there was one, and maybe of the next
            weight = self.snapshot.status.weight
        bench = objectives.Bench(
            now=self.now,
            stale_after=self.snapshot.stale_after,
            alpha=alpha,
            baseline=self.baselines.get(objective.name),
            weight=weight,
            next_weight=self.live_weight,
            mirror_percent=traffic.mirror_percent if traffic else 0,
            split_tolerance=policy.split_tolerance,
        )
        return objectives.judge(objective, self.snapshot.evidence.get(objective.name), bench)

    def _runs(self, objective: Objective) -> run_objectives.Runs:
        assert objective.run is not None
        runs, status = self.snapshot.runs, self.snapshot.status
        mine = self.deployment.run_id if self.deployment else self.snapshot.wanted_run_id
        theirs = objective.run.baseline_run_id or status.stable_run_id
        return run_objectives.Runs(mine, runs.get(mine or ""), theirs, runs.get(theirs or ""))

    @property
    def baselines(self) -> dict[str, BaselineStatus]:
        """The stable version before this deployment, by objective."""
        return {item.name: item for item in self.deployment.baseline} if self.deployment else {}

    @property
    def breaches(self) -> list[ObjectiveStatus]:
        return [row for row in self.rows if row.role is not Role.ADVISORY and row.verdict is Verdict.FAIL]

    @property
    def undecided(self) -> list[ObjectiveStatus]:
        """Required objectives that do not pass."""
        return [row for row in self.rows if row.role is Role.REQUIRED and row.verdict is not Verdict.PASS]

    @property
    def unseen(self) -> list[ObjectiveStatus]:
        """Required objectives of live traffic of which nothing is known."""
        return [row for _, row in self._watched if row.reason in objectives.NO_EVIDENCE]

    @property
    def is_catching_up(self) -> bool:
        """Whether this process has begun to look lately, and may yet find what the one before knew of the split."""
        if not self._has_begun_within(CATCHES_UP_WITHIN) or any(
            known.error for known in self.snapshot.evidence.values()
        ):
            return False
        return any(row.reason in objectives.NOT_KNOWN for row in self._asked)

    def may_be_found_by_reading(self, deadline: datetime) -> bool:
        """Whether what the process before knew may yet be read: so far a deadline passes no judgement on that."""
        reasons = {row.reason for row in self._asked}
        if self._has_begun_within(CATCHES_UP_WITHIN):
            return not reasons.isdisjoint(objectives.NOT_KNOWN)
        is_in_time = self.now < deadline + DEADLINES_REST_FOR and self._has_begun_within(DEADLINES_REST_FOR)
        return is_in_time and objectives.CATCHING_UP in reasons

    def _has_begun_within(self, time: timedelta) -> bool:
        """Whether this process has begun to look so lately, and after the split of which there is evidence was live."""
        begun, since = self.snapshot.observing_since, self.step.evidence_since if self.step else None
        return begun is not None and since is not None and since <= begun and self.now < begun + time

    @property
    def _asked(self) -> list[ObjectiveStatus]:
        """Rows of what Prometheus is asked for."""
        return [row for objective, row in self._with_rows if objective.queries]

    @property
    def _with_rows(self) -> list[tuple[Objective, ObjectiveStatus]]:
        return list(zip(self.judged, self.rows, strict=True))

    @property
    def _watched(self) -> list[tuple[Objective, ObjectiveStatus]]:
        return [(objective, row) for objective, row in self._with_rows if objective.is_required and objective.queries]

    def evidence_gap(self) -> timedelta:
        """How long a required objective has been without fresh data."""
        gaps = [timedelta(0)]
        for objective, row in self._watched:
            if row.reason in objectives.NO_EVIDENCE:
                gaps.append(self.now - self._last_known(objective))
        if self.snapshot.policy is None and self.judged_kind is not None:
            gaps.append(self.now - self._counting_from())
        return max(gaps)

    def _last_known(self, objective: Objective) -> datetime:
        evidence = self.snapshot.evidence.get(objective.name)
        fresh = evidence.fresh_at if evidence else None
        return max(fresh, self._counting_from()) if fresh else self._counting_from()

    def _counting_from(self) -> datetime:
        """A gap counts from the split's confirmation, or from when this process began to look."""
        moments = [self.step.running_since or self.step.state_since] if self.step else [self.now]
        if self.snapshot.observing_since:
            moments.append(self.snapshot.observing_since)
        return max(moments)

    def needed_replicas(self, step_index: int) -> int:
        """Pods of the candidate for a step: its share of all, never fewer than an earlier step had."""
        share = max(max(step.weight, step.mirror_percent) for step in self.snapshot.spec.steps[: step_index + 1])
        replicas = self.snapshot.spec.replicas
        return min(replicas, max(1, math.ceil(replicas * share / 100))) if replicas else 0

    def replica_set(self, revision: str | None) -> ReplicaSetView | None:
        return self.snapshot.replica_sets.get(revision) if revision else None

    @property
    def candidate(self) -> ReplicaSetView | None:
        return self.replica_set(self.snapshot.status.candidate_revision)

    def is_ready_behind(self, service: str, revision: str, needed: int) -> bool:
        """Whether a Service selects a revision and has enough ready endpoints of it."""
        view = self.snapshot.stable_service if service == "stable" else self.snapshot.candidate_service
        replica_set = self.replica_set(revision)
        return (
            view is not None
            and view.revision == revision
            and view.ready.get(revision, 0) >= needed
            and replica_set is not None
            and replica_set.ready >= needed
        )

    @property
    def is_confirmed(self) -> bool:
        """Whether the router was seen to have the wanted split."""
        traffic = self.snapshot.status.traffic
        return traffic is not None and traffic.confirmed_at is not None

    @property
    def is_stable_selected(self) -> bool:
        """Whether the stable Service selects the stable version; during a promotion it does not."""
        view = self.snapshot.stable_service
        return view is not None and view.revision == self.snapshot.status.stable_revision

    @property
    def is_settled(self) -> bool:
        """Confirmed, and long enough ago for every proxy to follow."""
        traffic = self.snapshot.status.traffic
        return traffic is not None and traffic.confirmed_at is not None and self.now >= traffic.confirmed_at + SETTLE

    @property
    def failed_checks(self) -> list[Check]:
        return [check for check in self.snapshot.checks if check.passed is False]

    @property
    def open_checks(self) -> list[Check]:
        return [check for check in self.snapshot.checks if check.passed is None]

    def ordered(self, verb: str) -> str | None:
        """The value of an annotation verb, stripped; None where it is not set."""
        value = self.snapshot.annotations.get(verb, "").strip()
        return value or None
