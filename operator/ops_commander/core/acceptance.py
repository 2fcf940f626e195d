"""Checks that need no I/O: what spec and the objects it names say of each other."""

from __future__ import annotations

from ops_commander.api.fields import format_duration
from ops_commander.api.policy import Objective, OnInfeasible, RolloutPolicySpec, Verification
from ops_commander.api.risk import Verdict as RiskVerdict
from ops_commander.api.v1alpha1 import FeasibilityStatus, Outcome, Verdict
from ops_commander.core import names, presets, promql, routes, run_objectives
from ops_commander.core.feasibility import outlook
from ops_commander.core.names import ROLLOUT_LABEL
from ops_commander.core.snapshot import Check, ServiceView, Snapshot


def spec_checks(snapshot: Snapshot, policy_problem: str | None) -> tuple[Check, ...]:
    """Checks named after what they look at; all must pass before a candidate starts."""
    checks = (_policy(snapshot, policy_problem), _ports(snapshot), _own_names(snapshot), *_route(snapshot))
    return (*checks, *_comparison(snapshot), *_files(snapshot), *_runs(snapshot), *_feasibility(snapshot))


def _policy(snapshot: Snapshot, problem: str | None) -> Check:
    """Every step needs an objective that can prove it: without one it would only end at its deadline."""
    if problem or snapshot.policy is None:
        return Check("policy", False, "PolicyNotUsable", problem or "the RolloutPolicy cannot be read")
    live = [objective for objective in snapshot.policy.objectives if objective.is_required and objective.queries]
    judged = {kind for objective in live for kind in objective.steps}
    for number, step in enumerate(snapshot.spec.steps):
        if step.kind not in judged:
            message = (
                f"spec.steps[{number}] is {step.label}: expected a required objective in the policy that judges it"
                " on live traffic"
            )
            return Check("policy", False, "StepNotJudged", message)
    return Check("policy", True, "PolicyFound", "objectives are known")


def _comparison(snapshot: Snapshot) -> list[Check]:
    """Answers that nobody compares prove nothing; a comparer needs an image to run from."""
    compared = [number for number, step in enumerate(snapshot.spec.steps) if step.comparison]
    if compared and not snapshot.installation.image:
        message = f"spec.steps[{compared[0]}].shadow.compare needs the operator's image: start it with --image"
        return [Check("comparison", False, "ImageNotKnown", message)]
    wanted = [item for item in snapshot.policy.objectives if presets.asks_comparer(item)] if snapshot.policy else []
    for number, step in enumerate(snapshot.spec.steps):
        needed = [item.name for item in wanted if step.kind in item.steps and item.is_required]
        if needed and not step.comparison:
            expected = "shadow.compare" if step.shadow else "objectives that are judged in shadow steps alone"
            message = f"spec.steps[{number}] compares no answers, which {needed[0]} is judged by: expected {expected}"
            return [Check("comparison", False, "NotCompared", message)]
    return []


def _files(snapshot: Snapshot) -> list[Check]:
    """No version goes anywhere whose files were not verified: before its first pod, and with nothing rejected."""
    policy, preflight, revision = snapshot.policy, snapshot.spec.preflight, names.revision_of(snapshot.spec)
    if policy is None or revision == snapshot.status.stable_revision:
        return []
    if preflight is None:
        if policy.verification is Verification.OPTIONAL:
            return []
        expected = "expected the manifest of the candidate, or a policyRef whose policy has verification: Optional"
        return [Check("model", False, "NotVerified", f"spec.preflight is not set: {expected}")]
    if not snapshot.installation.mlflow_url:
        message = "spec.preflight reads the model's files from MLflow: start the operator with --mlflow-url"
        return [Check("model", False, "MLflowNotConfigured", message)]
    found = snapshot.verification_of(revision)
    if found is None or found.asked != names.asked_of(preflight):
        error = snapshot.verified.error if snapshot.verified else None
        reason, message = ("NotVerifiedNow", error) if error else ("Verifying", "its files are being verified")
        return [Check("model", None, reason, message)]
    if found.verdict is RiskVerdict.REJECT:
        return [Check("model", False, found.reason, found.message)]
    asked = any(item.risk for item in policy.objectives)
    if asked and found.verdict is RiskVerdict.SHADOW_ONLY and not snapshot.spec.steps[0].shadow:
        message = f"{found.message}: expected a shadow step first, but spec.steps[0] is {snapshot.spec.steps[0].label}"
        return [Check("model", snapshot.status.stable_revision is None, "ShadowOnly", message)]
    return [Check("model", True, "Verified", found.message)]


def _ports(snapshot: Snapshot) -> Check:
    """A port that no container declares is a typing error; containers that declare none are trusted."""
    wanted = snapshot.spec.service.target_port
    declared: list[int] = [
        port["containerPort"]
        for container in snapshot.spec.template["spec"]["containers"]
        for port in container.get("ports") or []
        if isinstance(port, dict) and isinstance(port.get("containerPort"), int)
    ]
    if declared and wanted not in declared:
        expected = " or ".join(str(port) for port in sorted(set(declared)))
        message = f"spec.service.targetPort is {wanted}: expected {expected}, a containerPort of spec.template"
        return Check("service", False, "ServicePortMismatch", message)
    return Check("service", True, "ServicePortMatches", f"port {wanted}")


def _own_names(snapshot: Snapshot) -> Check:
    """Objects of that name that somebody else has made are not taken over by a first version."""
    found = [(f"Service {view.manifest['metadata']['name']}", view.manifest) for view in _services(snapshot)]
    if snapshot.route is not None and routes.is_generated(snapshot):
        found.append((f"HTTPRoute {routes.route_name(snapshot)}", snapshot.route))
    for name, manifest in found:
        labels = manifest["metadata"].get("labels") or {}
        if labels.get(ROLLOUT_LABEL) != snapshot.name and snapshot.status.stable_revision is None:
            message = f"{name} exists and is not this rollout's: rename one of the two, or delete that object"
            return Check("names", False, "NameTaken", message)
    return Check("names", True, "NamesFree", "Services and route are this rollout's")


def _services(snapshot: Snapshot) -> list[ServiceView]:
    return [view for view in (snapshot.stable_service, snapshot.candidate_service) if view is not None]


def _route(snapshot: Snapshot) -> list[Check]:
    """Only what is wrong in the objects themselves; what a Gateway reports may pass by itself."""
    ours = {"RouteNotFound", "RoutePortMismatch", "RouteHasNoStableBackend"}
    found = [problem for problem in routes.problems(snapshot) if problem.reason in ours]
    if found:
        return [Check("route", False, problem.reason, problem.message) for problem in found]
    return [Check("route", True, "RouteUsable", f"HTTPRoute {routes.route_name(snapshot)}")]


def query_problem(policy: RolloutPolicySpec, labels: promql.PodLabels = promql.DEFAULT_LABELS) -> str | None:
    """What is wrong with a query that the policy's author wrote; presets are ours."""
    for number, objective in enumerate(policy.objectives):
        for query in objective.queries:
            try:
                promql.check(query, labels)
            except promql.QueryProblem as problem:
                return f"spec.objectives[{number}] ({objective.name}) has the query {query!r}: {problem}"
    return None


def starts_against_stable(snapshot: Snapshot) -> bool:
    """Whether spec asks for a revision that would have to be proved against a stable one."""
    status, last = snapshot.status, snapshot.status.deployment
    if status.stable_revision is None or status.step is not None or snapshot.deleted_at is not None:
        return False
    wanted = names.revision_of(snapshot.spec)
    if last and last.outcome is Outcome.ROLLED_BACK and last.revision == wanted:
        return snapshot.annotations.get(names.RETRY, "").strip() == last.id
    return wanted != status.stable_revision


def _runs(snapshot: Snapshot) -> list[Check]:
    """Objectives that MLflow answers are known before any traffic: without proof or with a breach nothing starts."""
    if snapshot.policy is None or not starts_against_stable(snapshot):
        return []
    found = [_run(snapshot, item) for item in snapshot.policy.objectives if item.run and item.reverts]
    return [check for check in found if check.passed is not True] or found[:1]


def _run(snapshot: Snapshot, objective: Objective) -> Check:
    assert objective.run is not None
    mine, theirs = snapshot.wanted_run_id, objective.run.baseline_run_id or snapshot.status.stable_run_id
    what = f"objective {objective.name} reads an MLflow run"
    if mine is None:
        message = f"{what}: expected spec.model.runId, or a policyRef whose objectives do without"
        return Check("model", False, "RunNotNamed", message)
    needed = [mine]
    if run_objectives.names_baseline(objective):
        if theirs is None:
            message = f"{what} and that of the stable version, which had no runId: expected run.baselineRunId"
            return Check("model", False, "BaselineRunNotNamed", message)
        needed.append(theirs)
    for run_id in needed:
        if run_id not in snapshot.runs:
            return Check("model", None, "RunNotRead", f"{what}: {run_id} has not been read from MLflow yet")
    row = run_objectives.judge(
        objective, run_objectives.Runs(mine, snapshot.runs[mine], theirs, snapshot.runs.get(theirs or ""))
    )
    if row.verdict is Verdict.PASS or (
        row.reason != "NoData" and not objective.is_required and row.verdict is not Verdict.FAIL
    ):
        return Check("model", True, "Verified", f"{objective.name}: {row.message}")
    unproved = "RunEvidenceMissing" if row.reason == "NoData" else "NotProved"
    reason = "ObjectiveBreached" if row.verdict is Verdict.FAIL else unproved
    return Check("model", False, reason, f"{objective.name}: {row.message}")


def _feasibility(snapshot: Snapshot) -> list[Check]:
    """A step that could not be proved in time would only end in a revert."""
    baseline, policy = snapshot.baseline, snapshot.policy
    if baseline is None or policy is None:
        return []
    if baseline.error:
        return [Check("feasibility", None, "BaselineUnknown", f"the stable version's traffic: {baseline.error}")]
    rows = outlook(policy, snapshot.spec.steps, {item.name: item for item in baseline.objectives})
    refuses = policy.on_infeasible is OnInfeasible.REFUSE
    if not rows and _is_of_comparer_alone(policy):
        return []
    if not rows:
        window = format_duration(policy.baseline_window)
        message = f"no objective has seen a request of the stable version within {window}: nothing could be proved"
        remedy = "; send requests, mend the queries, or set onInfeasible: Warn" if refuses else ""
        return [Check("feasibility", not refuses, "NoTraffic", message + remedy)]
    impossible = [row for row in rows if not row.possible]
    if impossible and refuses:
        message = "; ".join(feasibility_text(row) for row in impossible[:3])
        return [Check("feasibility", False, "Infeasible", message)]
    return [Check("feasibility", True, "Feasible", f"{len(rows)} objective(s) can be decided in time")]


def _is_of_comparer_alone(policy: RolloutPolicySpec) -> bool:
    """Whether what the stable version has shown says nothing of any required objective."""
    live = [objective for objective in policy.objectives if objective.is_required and objective.queries]
    return bool(live) and all(map(presets.asks_comparer, live))


def feasibility_text(row: FeasibilityStatus) -> str:
    needs = "can never be proved" if row.fastest_seconds is None else f"needs at least {row.fastest_seconds:.0f}s"
    late = f"{row.objective} in step {row.step} {needs}, maxDuration is {row.deadline_seconds:.0f}s"
    return f"{late}: {row.advice}" if row.advice else late


def template_refused(place: str, message: str) -> Check:
    """The API server's own words about a pod template that it would not take."""
    return Check("template", False, "InvalidTemplate", f"{place}: {message}")


def template_accepted() -> Check:
    return Check("template", True, "TemplateValid", "the API server accepts the pod template")


def template_unknown(message: str) -> Check:
    return Check("template", None, "TemplateNotChecked", f"the dry run could not be made: {message}")
