"""What the operator says of itself at /metrics."""

from __future__ import annotations

from prometheus_client import Counter, Gauge, Histogram

from ops_commander import __version__
from ops_commander.api.v1alpha1 import ModelRolloutStatus
from ops_commander.core.changes import Occurrence
from ops_commander.core.story import cannot_steer
from ops_commander.runtime.workqueue import Key

_ROLLOUT = ("namespace", "rollout")
_SECONDS = (0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 30, 60, 90, 120, 180, 300)

rollout_info = Gauge(
    "ops_commander_rollout_info", "Phase of each rollout, always 1", (*_ROLLOUT, "phase", "deployment_id")
)
rollout_weight = Gauge("ops_commander_rollout_weight", "Confirmed percentage of the candidate", _ROLLOUT)
rollbacks = Counter("ops_commander_rollbacks", "Reverts that have ended", (*_ROLLOUT, "reason"))
rollback_traffic_seconds = Histogram(
    "ops_commander_rollback_traffic_seconds", "Breach visible to traffic reverted", buckets=_SECONDS
)
rollback_replicaset_seconds = Histogram(
    "ops_commander_rollback_replicaset_seconds", "Breach visible to ReplicaSet reverted", buckets=_SECONDS
)
rollback_in_progress = Gauge(
    "ops_commander_rollback_in_progress_since_seconds", "Unix time at which the breach was visible", _ROLLOUT
)
cannot_steer_gauge = Gauge("ops_commander_cannot_steer", "1 while the router does not follow", _ROLLOUT)
quorum_votes = Gauge(
    "ops_commander_quorum_votes", "Roles that say GO, NO-GO or nothing yet of a deployment", (*_ROLLOUT, "vote")
)
quorum_waiting = Gauge(
    "ops_commander_quorum_waiting_since_seconds", "Unix time since which only votes are missing", _ROLLOUT
)
reconcile_seconds = Histogram("ops_commander_reconcile_duration_seconds", "Time of one reconcile")
reconcile_errors = Counter("ops_commander_reconcile_errors", "Reconciles that failed", ("kind",))
queue_depth = Gauge("ops_commander_queue_depth", "Rollouts waiting for a worker")
is_leader = Gauge("ops_commander_is_leader", "1 in the process that acts")
info = Gauge("ops_commander_info", "What this process is, always 1", ("version", "selector", "namespaces"))
query_seconds = Histogram("ops_commander_metric_query_duration_seconds", "Time of one Prometheus query")
query_errors = Counter("ops_commander_metric_query_errors", "Prometheus queries without an answer")
rollouts_judged = Gauge(
    "ops_commander_rollouts_judged", "Rollouts all of whose ticks have been counted, up to the one before the latest"
)
poll_age = Gauge("ops_commander_poll_age_seconds", "Age of the oldest answer to a wanted query")
last_watch_event = Gauge("ops_commander_last_watch_event_timestamp_seconds", "Unix time of the latest watch event")
events_dropped = Counter("ops_commander_events_dropped", "Kubernetes Events that could not be posted")

_VOTES = ("GO", "NO-GO", "missing")
_shown: dict[Key, tuple[str, str]] = {}


def show_info(selector: str, namespaces: tuple[str, ...]) -> None:
    """Which of the rollouts are this process's; both are empty where all are."""
    info.labels(__version__, selector, ",".join(namespaces)).set(1)


def show(key: Key, status: ModelRolloutStatus) -> None:
    """Bring the gauges of one rollout up to its status."""
    labels = (status.phase.value, status.deployment.id if status.deployment else "")
    if _shown.get(key) != labels:
        _hide_info(key)
        rollout_info.labels(*key, *labels).set(1)
        _shown[key] = labels
    rollout_weight.labels(*key).set(status.weight)
    cannot_steer_gauge.labels(*key).set(cannot_steer(status))
    _show_votes(key, status)
    rollback = status.rollback
    if rollback and rollback.replica_set_reverted_at is None:
        rollback_in_progress.labels(*key).set(rollback.breach_visible_at.timestamp())
    else:
        _remove(rollback_in_progress, key)


def _show_votes(key: Key, status: ModelRolloutStatus) -> None:
    """Of a deployment under way that needs votes."""
    quorum = status.quorum if status.step is not None else None
    said = [row.vote.value if row.vote else "missing" for row in status.votes]
    for vote in _VOTES:
        if quorum:
            quorum_votes.labels(*key, vote).set(said.count(vote))
        else:
            _remove(quorum_votes, (*key, vote))
    if quorum and quorum.asked_at and quorum.reached_at is None:
        quorum_waiting.labels(*key).set(quorum.asked_at.timestamp())
    else:
        _remove(quorum_waiting, key)


def count(key: Key, status: ModelRolloutStatus, occurrences: tuple[Occurrence, ...]) -> None:
    """Count what has happened once."""
    rollback = status.rollback
    for occurrence in occurrences:
        if rollback and occurrence.reason == "TrafficReverted" and rollback.traffic_seconds is not None:
            rollback_traffic_seconds.observe(rollback.traffic_seconds)
        if rollback and occurrence.reason == "RolledBack" and rollback.replica_set_seconds is not None:
            rollback_replicaset_seconds.observe(rollback.replica_set_seconds)
            rollbacks.labels(*key, rollback.reason).inc()


def hide(key: Key) -> None:
    """Forget a rollout that is gone."""
    _hide_info(key)
    for labels in [labels for labels in rollbacks._metrics if labels[:2] == key]:
        rollbacks.remove(*labels)
    for gauge in (rollout_weight, cannot_steer_gauge, rollback_in_progress, quorum_waiting):
        _remove(gauge, key)
    for vote in _VOTES:
        _remove(quorum_votes, (*key, vote))


def _hide_info(key: Key) -> None:
    shown = _shown.pop(key, None)
    if shown:
        rollout_info.remove(*key, *shown)


def _remove(gauge: Gauge, key: tuple[str, ...]) -> None:
    if key in gauge._metrics:  # remove() of an unknown label set raises
        gauge.remove(*key)
