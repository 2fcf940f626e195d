"""The rules of a rollout, in order: the first that answers decides. This tuple is the documentation.

A rule takes the situation and gives a Change (what status says next, and why) or None. It does no I/O and
reads no clock. Reverting comes before everything else. What the cluster should look like for a status is in
`desired.py`.
"""

from __future__ import annotations

from ops_commander.core import reverts, starts, steps
from ops_commander.core.changes import Rule

RULES: tuple[Rule, ...] = (
    reverts.reverting,
    reverts.aborted,
    reverts.superseded,
    reverts.objective_breached,
    reverts.candidate_restarted,
    reverts.capacity_lost,
    reverts.progress_deadline_exceeded,
    reverts.blind,
    reverts.replanned,
    reverts.drifted,
    steps.launching,
    steps.clearing,
    steps.preparing,
    steps.shifting,
    steps.held,
    steps.promoted,
    steps.paused,
    steps.running,
    steps.switching,
    steps.returning,
    starts.settled,
    starts.latched,
    starts.unverified,
    starts.retried,
    starts.starting,
)
