"""Checks that need no I/O: what spec and the objects it names say of each other."""

from __future__ import annotations

from ops_commander.core import routes
from ops_commander.core.names import ROLLOUT_LABEL
from ops_commander.core.snapshot import Check, ServiceView, Snapshot


def spec_checks(snapshot: Snapshot, policy_problem: str | None) -> tuple[Check, ...]:
    """Checks named after what they look at; all must pass before a candidate starts."""
    return (_policy(snapshot, policy_problem), _ports(snapshot), _own_names(snapshot), *_route(snapshot))


def _policy(snapshot: Snapshot, problem: str | None) -> Check:
    """Every step needs an objective that can prove it: without one it would only end at its deadline."""
    if problem or snapshot.policy is None:
        return Check("policy", False, "PolicyNotUsable", problem or "the RolloutPolicy cannot be read")
    judged = {kind for objective in snapshot.policy.objectives if objective.required for kind in objective.steps}
    for number, step in enumerate(snapshot.spec.steps):
        if step.kind not in judged:
            message = (
                f"spec.steps[{number}] is {step.label}: expected a required objective in the policy that judges it"
            )
            return Check("policy", False, "StepNotJudged", message)
    return Check("policy", True, "PolicyFound", "objectives are known")


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


def template_refused(message: str) -> Check:
    """The API server's own words about a pod template that it would not take."""
    return Check("template", False, "InvalidTemplate", f"spec.template: {message}")


def template_accepted() -> Check:
    return Check("template", True, "TemplateValid", "the API server accepts the pod template")


def template_unknown(message: str) -> Check:
    return Check("template", None, "TemplateNotChecked", f"the dry run could not be made: {message}")
