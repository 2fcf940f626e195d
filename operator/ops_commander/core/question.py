"""What a deployment under way wants to know of Prometheus, and from which tick on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import cached_property

from ops_commander.api.policy import Objective
from ops_commander.api.v1alpha1 import BaselineStatus
from ops_commander.core import names
from ops_commander.core.counters import LEAD_IN
from ops_commander.core.plans.naming import OWN_STEPS
from ops_commander.core.samples import Owner, tick_at_or_after
from ops_commander.core.snapshot import Snapshot
from ops_commander.core.trial import Trial


@dataclass(frozen=True)
class Question:
    """What a deployment under way wants judged since its present split was confirmed."""

    deployment_id: str
    since: datetime
    candidate: Owner
    stable: Owner
    objectives: tuple[Objective, ...]
    warm_up: timedelta = timedelta(0)
    baselines: Mapping[str, BaselineStatus] = field(default_factory=dict)
    dwells_until: datetime | None = None
    """Before this a pass does not let the step be left."""

    def origin(self, interval: timedelta) -> datetime:
        """The tick that holds the change of the split, and the one after it, do not count."""
        return tick_at_or_after(self.since + self.warm_up, interval) + interval

    def begins(self, interval: timedelta) -> datetime:
        """The first tick of the lead-in: a trial is handed all ticks from here on."""
        return self.origin(interval) - interval * -(-LEAD_IN // interval)

    def trial(self, objective: Objective, interval: timedelta) -> Trial:
        """A trial that nothing has been handed to yet."""
        return Trial(objective, self.origin(interval), self.baselines.get(objective.name))

    def is_about_the_split_of(self, other: Question) -> bool:
        """Whether evidence for one of them is evidence for the other, as far as their objectives are the same."""
        mine = (self.deployment_id, self.since, self.candidate, self.stable, self.warm_up)
        return mine == (other.deployment_id, other.since, other.candidate, other.stable, other.warm_up)

    @cached_property
    def queries(self) -> frozenset[str]:
        return frozenset(query for objective in self.objectives for query in objective.queries)


def owner_of_revision(snapshot: Snapshot, revision: str) -> Owner:
    return snapshot.namespace, names.replica_set_name(snapshot.name, revision)


def question_of(snapshot: Snapshot) -> Question | None:
    """What a rollout asks of Prometheus: something from the moment on that a split with a candidate is live."""
    status, policy = snapshot.status, snapshot.policy
    since = status.step.evidence_since if status.step else None
    mine, theirs, deployment = status.candidate_revision, status.stable_revision, status.deployment
    if not (policy and since and mine and theirs and deployment):
        return None
    return Question(
        deployment_id=deployment.id,
        since=since,
        candidate=owner_of_revision(snapshot, mine),
        stable=owner_of_revision(snapshot, theirs),
        objectives=tuple(item for item in policy.objectives if item.queries),
        warm_up=policy.warm_up,
        baselines={item.name: item for item in deployment.baseline},
        dwells_until=_dwells_until(snapshot),
    )


def _dwells_until(snapshot: Snapshot) -> datetime | None:
    """None where a verdict matters at once: to a plan that holds the step, or to a risk, which no answer shows."""
    step, specs, policy = snapshot.status.step, snapshot.spec.steps, snapshot.policy
    if step is None or step.running_since is None or policy is None:
        return None
    if OWN_STEPS in snapshot.annotations or any(objective.risk for objective in policy.objectives):
        return None
    return step.running_since + specs[min(step.index, len(specs) - 1)].min_duration
