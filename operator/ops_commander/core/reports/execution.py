"""`execution_report.md`: nine parts in a fixed order, with fixed columns."""

from __future__ import annotations

from typing import Final

from ops_commander.api.action_plan import ActionPlan, ActionStatus, Priority
from ops_commander.api.fields import format_time
from ops_commander.api.v1alpha1 import Outcome, Verdict
from ops_commander.core.plans import naming, progress
from ops_commander.core.reports import closing, compatibility, gates, innovation, slos, team
from ops_commander.core.reports.markup import code, first_words, plain, section
from ops_commander.core.reports.subject import Subject

SUMMARY: Final = "DEPLOYMENT SUMMARY"
PROGRESS: Final = "EXECUTION PROGRESS (Actions from Planning Team)"
MOST_WORDS: Final = 200
"""Of the summary."""


def execution_report(subject: Subject) -> str:
    """Markdown. Each figure names its run; what has none is not reported as a figure."""
    lines = [
        "# Execution report",
        "",
        *section(SUMMARY, [summary(subject)]),
        *section("SLO STATUS TABLE", slos.lines(subject), plots(subject)),
        *section("SAFETY GATE STATUS", gates.lines(subject)),
        *section("INTEGRATION COMPATIBILITY MATRIX", compatibility.lines(subject)),
        *section("TEAM CONSENSUS", team.lines(subject)),
        *section(PROGRESS, _progress(subject.plan) if subject.plan else _without_plan(subject)),
        *section("FINAL VERDICT", closing.lines(subject)),
        *section("RELAY NOTE (Innovation Channel)", innovation.relay_note(subject)),
        closing.closing_line(subject),
        "",
    ]
    return "\n".join(lines)


def plots(subject: Subject) -> list[str]:
    """Images beside the tables; they lie in the folder of the report."""
    if subject.deployment is None:
        return []
    return ["![Weights over time](weights.svg)", "![Objectives with intervals](objectives.svg)"]


def summary(subject: Subject) -> str:
    """At most MOST_WORDS words, without figures: those stand in the tables."""
    rollout, deployment = subject.rollout, subject.deployment
    model = f"{plain(rollout.spec.model.name, 120)} version {plain(subject.model_version, 63)}"
    place = f"{plain(subject.namespace, 63)}/{plain(subject.name, 63)}"
    if deployment is None:
        reason = plain(subject.status.reason or "nothing is known yet", 120)
        return first_words(f"No deployment of {model} in {place} has started: {reason}.", MOST_WORDS)
    against = f", held against version {plain(deployment.stable_version, 63)}" if deployment.stable_version else ""
    sentences = [
        f"Deployment {code(deployment.id, 63)} brings {model} to {place}{against}.",
        f"It started at {format_time(deployment.started_at)}; {_end(subject)}.",
        f"Steps entered: {', '.join(plain(step.name, 40) for step in deployment.steps) or 'none'}.",
        _judged(subject),
        f"Report of {format_time(subject.now)}; closing verdict: {closing.verdict(subject)}.",
    ]
    return first_words(" ".join(sentences), MOST_WORDS)


def _end(subject: Subject) -> str:
    deployment, status = subject.deployment, subject.status
    assert deployment is not None
    if deployment.outcome is None:
        return f"it is under way in phase {status.phase}, step {plain(status.step_name or 'none', 60)}"
    words = {
        Outcome.COMPLETED: ("it completed", "its version is the stable one"),
        Outcome.ROLLED_BACK: ("it was rolled back", "the stable version serves"),
        Outcome.SUPERSEDED: ("it gave way to another revision", "the stable version serves"),
    }
    what, since = words[deployment.outcome]
    at = f" at {format_time(deployment.ended_at)}" if deployment.ended_at else ""
    return f"{what}{at} ({plain(deployment.reason or 'no reason', 80)}); {since}"


def _judged(subject: Subject) -> str:
    if not subject.rows:
        return "No objective was judged."
    said = []
    for verdict, word in ((Verdict.PASS, "pass"), (Verdict.FAIL, "breached"), (Verdict.INCONCLUSIVE, "not decided")):
        names = [plain(row.name, 63) for row in subject.rows if row.verdict is verdict]
        if names:
            more = f" and {len(names) - 8} more" if len(names) > 8 else ""
            said.append(f"{word}: {', '.join(names[:8])}{more}")
    return f"Objectives {'; '.join(said)}."


def _without_plan(subject: Subject) -> list[str]:
    """A plan that brought the version has its own report."""
    name = (subject.rollout.metadata.get("annotations") or {}).get(naming.BY_PLAN)
    if name is None:
        said = "No action of a Planning Team is part of this report."
        return ["- Source: none", "- Meeting: none", "", said]
    said = f"Its actions are in the `{naming.PROGRESS_FILE}` of that plan's MLflow run."
    return [f"- Source: ActionPlan {code(name)}", "- Meeting: named in the plan", "", said]


def _progress(plan: ActionPlan) -> list[str]:
    spec = plan.spec
    checksum = f" (sha256 `{spec.source_sha256}`)" if spec.source_sha256 else ""
    lines = [
        f"- Source: {code(spec.source) if spec.source else 'not given'}{checksum}",
        f"- Meeting: {code(spec.meeting_id)}",
    ]
    known = {row.id: row for row in plan.status.actions}
    for priority in Priority:
        lines += ["", f"### {priority}", ""]
        actions = [action for action in spec.actions if action.priority is priority]
        for action in actions:
            lines += progress.entry(action, known.get(action.id) or ActionStatus(id=action.id, priority=priority))
        if not actions:
            lines.append("None.")
    return lines
