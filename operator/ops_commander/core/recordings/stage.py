"""The cluster and the evidence of a recorded deployment, as its decisions are to find them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

from ops_commander.api.evidence import EvidenceRule
from ops_commander.api.fields import format_time
from ops_commander.api.policy import RolloutPolicySpec
from ops_commander.api.quorum import ABSENT
from ops_commander.api.v1alpha1 import (
    DeploymentStatus,
    GatewayAPI,
    ModelRolloutStatus,
    Outcome,
    ParentReference,
    StepState,
    Traffic,
    TrafficStatus,
)
from ops_commander.api.verification import VerificationStatus
from ops_commander.core import desired, manifests, names, routes
from ops_commander.core.counters import LEAD_IN
from ops_commander.core.question import Question, question_of
from ops_commander.core.recordings.recording import Recording, RecordingProblem, Tick
from ops_commander.core.routes import ALL_STABLE, Split
from ops_commander.core.situation import Situation
from ops_commander.core.snapshot import (
    Baseline,
    Evidence,
    Installation,
    Manifest,
    ReplicaSetView,
    ServiceView,
    Snapshot,
)
from ops_commander.core.trial import Trial

HEARD_AFTER = timedelta(milliseconds=250)
"""A tick is asked for this long after it, as by runtime/poller.py."""

_NEVER = timedelta(days=365)
_BEFORE = timedelta(hours=1)


@dataclass(frozen=True, slots=True)
class Facts:
    """What else there is to see at a moment, besides the pods, Services and route that status wants."""

    ready: bool = True
    """Whether the pods that are being waited for are Ready."""
    observed: bool = True
    """Whether the router has taken in the route that is wanted."""
    drifted: bool = False
    """Whether the route gives all traffic to stable, whatever is wanted."""
    lost: bool = False
    """Whether the candidate has no ready pod."""
    gone: bool = False
    """Whether the pods of a candidate that is being reverted are gone."""
    restarted: bool = False
    """Whether a container of the candidate has restarted."""
    late: bool = False
    """Whether progressDeadline has passed; else it never does."""
    paused: bool = False
    annotations: Mapping[str, str] = field(default_factory=dict)


@dataclass
class Stage:
    """Makes snapshots of a recorded rollout."""

    recording: Recording
    policy: RolloutPolicySpec
    observing_since: datetime | None = None

    def __post_init__(self) -> None:
        traffic = Traffic(gateway_api=GatewayAPI(parent_refs=[ParentReference(name="recorded")]))
        changes = {"traffic": traffic, "paused": False, "preflight": None}  # what it waited for is in the journal
        self._spec = self.recording.spec.model_copy(update=changes)
        self._runs = {run.run_id: run.record for run in self.recording.runs}
        self.revision = names.revision_of(self._spec)
        """The candidate's here: the recorded one is a hash of more than is recorded."""
        self.deployment_id = names.deployment_id(self.recording.name, self.revision, self._number)

    @property
    def _number(self) -> int:
        text = self.recording.deployment.id.rpartition("-")[2]
        return int(text) if text.isdigit() else 1

    def told(self, text: str) -> str:
        """The text with the recorded revision."""
        return text.replace(self.revision, self.recording.deployment.revision)

    @property
    def rejected_id(self) -> str:
        """The attempt before, where a person ordered another one."""
        return names.deployment_id(self.recording.name, self.revision, self._number - 1)

    def status_before(self, *, rejected: bool) -> ModelRolloutStatus:
        """The status before the deployment, with an attempt before that was reverted or without."""
        deployment = self.recording.deployment
        if deployment.stable_revision is None:
            raise RecordingProblem(
                "deployment.stableRevision is missing: expected the revision that the candidate was held against; a"
                " first version has none and is not judged"
            )
        began = deployment.started_at - _BEFORE
        return ModelRolloutStatus(
            stable_revision=deployment.stable_revision,
            stable_version=deployment.stable_version,
            stable_run_id=deployment.stable_run_id,
            deployments=self._number - 1,
            deployment=self._rejected(began) if rejected else None,
            traffic=TrafficStatus(candidate_weight=0, mirror_percent=0, wanted_since=began, confirmed_at=began),
            verification=self._verification(),
        )

    def _verification(self) -> VerificationStatus | None:
        found = self.recording.verification
        return found.model_copy(update={"revision": self.revision, "files": []}) if found else None

    def _rejected(self, began: datetime) -> DeploymentStatus:
        return DeploymentStatus(
            id=self.rejected_id,
            revision=self.revision,
            model_version=self.recording.deployment.model_version,
            generation=self.recording.deployment.generation,
            started_at=began,
            ended_at=began,
            outcome=Outcome.ROLLED_BACK,
        )

    def snapshot(self, status: ModelRolloutStatus, facts: Facts, now: datetime) -> Snapshot:
        """The cluster that has what a status wants, as far as the facts allow. Without evidence."""
        recording = self.recording
        started = status.step is not None
        bare = Snapshot(
            name=recording.name,
            namespace=recording.namespace,
            uid="recorded",
            generation=recording.deployment.generation,
            resource_version="0",
            deleted_at=None,
            finalizers=(names.FINALIZER,),
            annotations=facts.annotations,
            spec=self._spec.model_copy(update=self._edits(facts)),
            status=status,
            policy=self._policy_at(now),
            runs=self._runs,
            baseline=None if started else Baseline(tuple(recording.deployment.baseline)),
            interval=recording.interval,
            observing_since=self.observing_since,
            stale_after=recording.stale_after,
            installation=Installation(mlflow_url="recorded" if self._awaits_evidence(now) else ""),
        )
        pods = replace(bare, replica_sets=self._replica_sets(Situation(bare, now), facts))
        stable, candidate = desired.service_revisions(status)
        return replace(
            pods,
            stable_service=self._service(pods, names.stable_service_name(pods.name), stable, facts),
            candidate_service=self._service(pods, names.candidate_service_name(pods.name), candidate, facts),
            route=_route(pods, facts),
        )

    def _policy_at(self, now: datetime) -> RolloutPolicySpec:
        """Who voted is not recorded, only when it was enough: until then the votes are missing here too."""
        voted_at = self.recording.deployment.voted_at
        was_asked = self.recording.policy.quorum is not None
        waits = was_asked and (voted_at is None or now < voted_at)
        return self.policy.model_copy(update={"quorum": ABSENT if waits else None})

    def _awaits_evidence(self, now: datetime) -> bool:
        """When the evidence of a promotion was in MLflow is recorded; until then it is missing here too."""
        deployment = self.recording.deployment
        was_asked = self.recording.policy.evidence is EvidenceRule.REQUIRED and deployment.evidence is not None
        return was_asked and (deployment.kept_at is None or now < deployment.kept_at)

    def _edits(self, facts: Facts) -> dict[str, Any]:
        return {
            "paused": facts.paused,
            "progress_deadline": self._spec.progress_deadline if facts.late else _NEVER,
        }

    def _replica_sets(self, situation: Situation, facts: Facts) -> dict[str, ReplicaSetView]:
        status = situation.snapshot.status
        revisions = {revision for revision in (status.stable_revision, status.candidate_revision) if revision}
        return {revision: self._view(situation, facts, revision) for revision in sorted(revisions)}

    def _view(self, situation: Situation, facts: Facts, revision: str) -> ReplicaSetView:
        status, deployment = situation.snapshot.status, self.recording.deployment
        replicas = desired.replicas_of(situation, status, None, revision)
        is_candidate = revision == status.candidate_revision
        if is_candidate and situation.state is StepState.REVERTING:
            replicas = 0 if facts.gone else situation.snapshot.spec.replicas
        ready = replicas
        if is_candidate and situation.state is StepState.PREPARING and not facts.ready:
            ready = min(replicas, max(replicas - 1, 1 if situation.live_weight else 0))
        if is_candidate and facts.lost:
            ready = 0
        return ReplicaSetView(
            name=names.replica_set_name(situation.snapshot.name, revision),
            revision=revision,
            desired=replicas,
            current=replicas,
            ready=ready,
            created_at=deployment.started_at,
            target_port=situation.snapshot.spec.service.target_port,
            restarts=deployment.restarts_at_start + facts.restarted if is_candidate else 0,
        )

    def _service(self, snapshot: Snapshot, name: str, revision: str | None, facts: Facts) -> ServiceView | None:
        if revision is None:
            return None
        view, step = snapshot.replica_sets.get(revision), snapshot.status.step
        ready = view.ready if view else 0
        turning = step is not None and step.state is StepState.SWITCHING
        if turning and not facts.ready and name == names.stable_service_name(snapshot.name):
            ready = 0
        return ServiceView(manifests.service(snapshot, name, revision), {revision: ready})


def _route(snapshot: Snapshot, facts: Facts) -> Manifest:
    traffic = snapshot.status.traffic
    split = Split.of(traffic) if traffic and not facts.drifted else ALL_STABLE
    wanted = routes.wanted_route(snapshot, split)
    accepted = {"type": "Accepted", "status": "True", "observedGeneration": int(facts.observed)}
    return {
        **wanted,
        "metadata": {**wanted["metadata"], "generation": 1, "resourceVersion": "0"},
        "status": {"parents": [{"parentRef": {"name": "recorded"}, "conditions": [accepted]}]},
    }


@dataclass
class _Followed:
    trial: Trial
    next: datetime
    """The tick that it is to be handed next."""


@dataclass
class Listener:
    """Hands recorded ticks to trials as runtime/evidence.py does live ones: all, in order, from the lead-in on."""

    interval: timedelta
    source: str
    ticks: Iterator[Tick]
    question: Question | None = None
    _ahead: Tick | None = None
    _first: datetime | None = None
    _recent: dict[datetime, Tick] = field(default_factory=dict)
    _trials: dict[str, _Followed] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._ahead = next(self.ticks, None)
        self._first = self._ahead.at if self._ahead else None

    @property
    def due(self) -> datetime | None:
        """When the next tick is asked for; None where there is none."""
        return self._ahead.at + HEARD_AFTER if self._ahead else None

    def pass_until(self, moment: datetime) -> None:
        """Take in the ticks that were there by then."""
        while self._ahead is not None and self._ahead.at <= moment:
            self._recent[self._ahead.at] = self._ahead
            self._ahead = next(self.ticks, None)
        keep = min([moment - LEAD_IN - 3 * self.interval, *(item.next for item in self._trials.values())])
        while self._recent and (oldest := next(iter(self._recent))) < keep:
            del self._recent[oldest]

    def want(self, snapshot: Snapshot) -> None:
        """What is judged from now on."""
        question, old = question_of(snapshot), self.question
        if question == old:
            return
        known = self._trials if question and old and question.is_about_the_split_of(old) else {}
        self.question = question
        self._trials = {}
        for objective in question.objectives if question else ():
            kept = known.get(objective.name)
            if kept is None or kept.trial.objective != objective:
                assert question is not None
                kept = self._begun(question, question.trial(objective, self.interval))
            self._trials[objective.name] = kept

    def _begun(self, question: Question, trial: Trial) -> _Followed:
        begins = question.begins(self.interval)
        if self._first is None or self._first > trial.origin:
            found = f"begin at {format_time(self._first)}" if self._first else "are missing"
            raise RecordingProblem(f"ticks {found}: expected them from {format_time(begins)} on")
        return _Followed(trial, max(begins, self._first))

    def hear(self, limit: Callable[[str], datetime | None]) -> None:
        """Hand on what was taken in, for each objective up to a tick."""
        for name, followed in self._trials.items():
            last = limit(name)
            while last is not None and followed.next <= last and (tick := self._recent.get(followed.next)):
                followed.trial.advance(tick.at, *tick.arms(followed.trial.objective.queries))
                followed.next += self.interval

    def evidence(self) -> dict[str, Evidence]:
        return {
            name: Evidence(
                tally=item.trial.tally,
                origin=item.trial.origin,
                seen_at=item.trial.seen_at,
                fresh_at=item.trial.fresh_at,
                source=self.source or None,
            )
            for name, item in self._trials.items()
        }
