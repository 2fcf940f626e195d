"""HTTPRoutes: what a split looks like in one, and what one that was read back says."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any

from ops_commander.api.v1alpha1 import Step, TrafficStatus
from ops_commander.core import names
from ops_commander.core.manifests import covers, is_up_to_date, metadata
from ops_commander.core.snapshot import Manifest, Snapshot


@dataclass(frozen=True, slots=True)
class Split:
    """Percentages of the requests: answered by the candidate, copied to it, and copied to the comparer."""

    candidate_weight: int = 0
    mirror_percent: int = 0
    compare_percent: int = 0

    @classmethod
    def of(cls, source: TrafficStatus) -> Split:
        """The split that a status wants."""
        return cls(source.candidate_weight, source.mirror_percent, source.compare_percent)

    @classmethod
    def of_step(cls, step: Step) -> Split:
        """The split of a step of spec."""
        return cls(step.weight, step.mirror_percent, step.comparison.sample if step.comparison else 0)

    def __str__(self) -> str:
        mirrored = f", {self.mirror_percent}% mirrored" if self.mirror_percent else ""
        compared = f", {self.compare_percent}% compared" if self.compare_percent else ""
        return f"candidate {self.candidate_weight}%{mirrored}{compared}"


ALL_STABLE = Split()


@dataclass(frozen=True, slots=True)
class Problem:
    """Something that keeps the route from doing its work."""

    reason: str
    message: str


def route_name(snapshot: Snapshot) -> str:
    reference = snapshot.spec.traffic.gateway_api.http_route_ref
    return reference.name if reference else snapshot.name


def is_generated(snapshot: Snapshot) -> bool:
    return snapshot.spec.traffic.gateway_api.http_route_ref is None


def wanted_route(snapshot: Snapshot, split: Split, *, with_candidate: bool = True) -> Manifest:
    """The generated route for a split. Backends carry no filters of their own: Envoy then keeps both in one
    cluster and changes weights without failing a request."""
    gateway = snapshot.spec.traffic.gateway_api
    rule: dict[str, Any] = {
        "backendRefs": _backends(snapshot, split, with_candidate),
        "filters": _mirror(snapshot, split) if with_candidate else [],
    }
    if gateway.matches:
        rule["matches"] = gateway.matches
    spec: dict[str, Any] = {
        "parentRefs": [
            reference.model_dump(by_alias=True, exclude_none=True) for reference in gateway.parent_refs or []
        ],
        "rules": [rule],
        "hostnames": list(gateway.hostnames or []),
    }
    return {
        "apiVersion": "gateway.networking.k8s.io/v1",
        "kind": "HTTPRoute",
        "metadata": metadata(snapshot, snapshot.name),
        "spec": spec,
    }


def steered_rules(snapshot: Snapshot, split: Split, *, with_candidate: bool = True) -> list[dict[str, Any]]:
    """The rules of a referenced route with the split put into those that name the stable Service."""
    assert snapshot.route is not None
    rules: list[dict[str, Any]] = copy.deepcopy(list(snapshot.route["spec"].get("rules") or []))
    ours = {names.stable_service_name(snapshot.name), names.candidate_service_name(snapshot.name)}
    for rule in rules:
        backends = rule.get("backendRefs") or []
        if not _names_stable(snapshot, rule):
            continue
        others = [backend for backend in backends if not any(_is_service(snapshot, backend, name) for name in ours)]
        rule["backendRefs"] = [*_backends(snapshot, split, with_candidate), *others]
        kept = [item for item in rule.get("filters") or [] if not _is_our_mirror(snapshot, item)]
        rule["filters"] = [*kept, *(_mirror(snapshot, split) if with_candidate else [])]
        if not rule["filters"]:
            del rule["filters"]
    return rules


def _backends(snapshot: Snapshot, split: Split, with_candidate: bool) -> list[dict[str, Any]]:
    port = snapshot.spec.service.port
    stable = names.stable_service_name(snapshot.name)
    backends = [{"name": stable, "port": port, "weight": 100 - split.candidate_weight}]
    if with_candidate:
        candidate = names.candidate_service_name(snapshot.name)
        backends.append({"name": candidate, "port": port, "weight": split.candidate_weight})
    return backends


def _mirror(snapshot: Snapshot, split: Split) -> list[dict[str, Any]]:
    copied = {
        names.candidate_service_name(snapshot.name): split.mirror_percent,
        names.comparer_service_name(snapshot.name): split.compare_percent,
    }
    filters = []
    for name, percent in copied.items():
        mirror: dict[str, Any] = {"backendRef": {"name": name, "port": snapshot.spec.service.port}}
        if percent < 100:
            mirror["percent"] = percent
        if percent:
            filters.append({"type": "RequestMirror", "requestMirror": mirror})
    return filters


def _is_service(snapshot: Snapshot, backend: dict[str, Any], name: str) -> bool:
    """Whether a backend is the Service of that name in our namespace, not something else that shares it."""
    is_here = backend.get("namespace", snapshot.namespace) == snapshot.namespace
    is_kind = backend.get("kind", "Service") == "Service" and not backend.get("group")
    return backend.get("name") == name and is_here and is_kind


def _is_our_mirror(snapshot: Snapshot, item: dict[str, Any]) -> bool:
    target = (item.get("requestMirror") or {}).get("backendRef") or {}
    ours = (names.candidate_service_name(snapshot.name), names.comparer_service_name(snapshot.name))
    return item.get("type") == "RequestMirror" and any(_is_service(snapshot, target, name) for name in ours)


def has_split(snapshot: Snapshot, split: Split, *, with_candidate: bool = True) -> bool:
    """Whether the route as read says exactly this split."""
    if snapshot.route is None:
        return False
    if not any(_names_stable(snapshot, rule) for rule in snapshot.route["spec"].get("rules") or []):
        return False
    rules = steered_rules(snapshot, split, with_candidate=with_candidate)
    return covers(snapshot.route["spec"].get("rules") or [], rules) and not _extra_filters(snapshot, rules)


def is_as_wanted(snapshot: Snapshot, split: Split) -> bool:
    """Whether nothing of the route has to be written: of a generated one everything is ours, else the split."""
    if snapshot.route is None or not is_generated(snapshot):
        return has_split(snapshot, split)
    return is_up_to_date(snapshot, snapshot.route, wanted_route(snapshot, split))


def _names_stable(snapshot: Snapshot, rule: dict[str, Any]) -> bool:
    stable = names.stable_service_name(snapshot.name)
    return any(_is_service(snapshot, backend, stable) for backend in rule.get("backendRefs") or [])


def _extra_filters(snapshot: Snapshot, rules: list[dict[str, Any]]) -> bool:
    assert snapshot.route is not None
    observed = snapshot.route["spec"].get("rules") or []
    return any(
        len(have.get("filters") or []) != len(want.get("filters") or [])
        for have, want in zip(observed, rules, strict=True)
    )


def is_observed(route: Manifest | None) -> bool:
    """Whether every Gateway that claims the route has taken in its present generation."""
    if route is None:
        return False
    parents = (route.get("status") or {}).get("parents") or []
    generation = route["metadata"].get("generation", 0)
    return bool(parents) and all(
        any(
            condition["type"] == "Accepted" and condition.get("observedGeneration", 0) >= generation
            for condition in parent.get("conditions") or []
        )
        for parent in parents
    )


def problems(snapshot: Snapshot) -> list[Problem]:
    """What is wrong with the route, each with field, value and expectation."""
    route = snapshot.route
    if route is None:
        if is_generated(snapshot):
            return []
        field = "spec.traffic.gatewayAPI.httpRouteRef.name"
        message = f"{field} is {route_name(snapshot)!r}: expected an HTTPRoute of that name in this namespace"
        return [Problem("RouteNotFound", message)]
    found = [] if is_generated(snapshot) else _reference_problems(snapshot, route)
    return found + _reported_problems(route)


def _reference_problems(snapshot: Snapshot, route: Manifest) -> list[Problem]:
    stable = names.stable_service_name(snapshot.name)
    expected = snapshot.spec.service.port
    found = []
    named = False
    for number, rule in enumerate(route["spec"].get("rules") or []):
        for position, backend in enumerate(rule.get("backendRefs") or []):
            if not _is_service(snapshot, backend, stable):
                continue
            named = True
            if backend.get("port") != expected:
                field = f"HTTPRoute {route_name(snapshot)} spec.rules[{number}].backendRefs[{position}].port"
                message = f"{field} is {backend.get('port')}: expected {expected}, which is spec.service.port"
                found.append(Problem("RoutePortMismatch", message))
    if not named:
        message = f"HTTPRoute {route_name(snapshot)} has no rule with a backendRef to Service {stable}"
        found.append(Problem("RouteHasNoStableBackend", message))
    return found


def _reported_problems(route: Manifest) -> list[Problem]:
    found = []
    for parent in (route.get("status") or {}).get("parents") or []:
        gateway = parent.get("parentRef", {}).get("name", "?")
        for condition in parent.get("conditions") or []:
            if condition["type"] in ("Accepted", "ResolvedRefs") and condition["status"] == "False":
                reason = condition.get("reason", condition["type"])
                found.append(Problem(reason, f"Gateway {gateway}: {condition.get('message') or reason}"))
    return found


def is_refused(route: Manifest | None) -> bool:
    """Whether a Gateway says that it will not serve the route, or cannot find its backends."""
    return route is not None and bool(_reported_problems(route))
