"""The order of a plan's actions, and what makes a plan one that cannot be executed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from ops_commander.api.action_plan import Action, ActionPlanSpec, Priority
from ops_commander.core.plans import criteria

_RANK = {priority: rank for rank, priority in enumerate(Priority)}


@dataclass(frozen=True, slots=True)
class Problem:
    """Why a plan cannot be executed."""

    place: tuple[str | int, ...]
    """Below spec: ("actions", 2, "dependsOn", 0)."""
    problem: str
    expected: str

    def __str__(self) -> str:
        path = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in self.place)
        return f"spec{path}: {self.problem}: expected {self.expected}"


def order(actions: Sequence[Action]) -> list[Action]:
    """HIGH, MEDIUM, LOW; in the order of the list within one, but for what depends on a later one.

    Of a plan without problems.
    """
    done: set[str] = set()
    ordered: list[Action] = []
    for priority in Priority:
        waiting = [action for action in actions if action.priority is priority]
        while waiting:
            action = next((item for item in waiting if done.issuperset(item.depends_on)), waiting[0])
            waiting.remove(action)
            ordered.append(action)
            done.add(action.id)
    return ordered


def problems(spec: ActionPlanSpec) -> Iterator[Problem]:
    """All that the schema does not tell: ids, dependencies, cycles, criteria."""
    seen: dict[str, int] = {}
    for index, action in enumerate(spec.actions):
        first = seen.setdefault(action.id.lower(), index)
        if first != index:
            problem = f"{action.id!r} is the id of action {first} already"
            yield Problem(("actions", index, "id"), problem, "ids that differ in more than upper and lower case")
    by_id = {action.id: action for action in spec.actions}
    for index, action in enumerate(spec.actions):
        for place, name in enumerate(action.depends_on):
            if found := _bad_dependency(action, name, by_id.get(name)):
                yield Problem(("actions", index, "dependsOn", place), *found)
        for place, text in enumerate(action.success_criteria):
            try:
                criteria.parse(text)
            except criteria.BadCriterion as error:
                yield Problem(("actions", index, "successCriteria", place), error.problem, error.expected)
    yield from _cycles(spec.actions)


def _bad_dependency(action: Action, name: str, other: Action | None) -> tuple[str, str] | None:
    if other is None:
        return f"{name!r} is no action of the plan", "the id of another action"
    if _RANK[other.priority] > _RANK[action.priority]:
        return (
            f"{action.id} of priority {action.priority} depends on {name} of priority {other.priority}",
            "an action of the same or a higher priority: a lower one never starts before the higher have ended",
        )
    return None


def _cycles(actions: Sequence[Action]) -> Iterator[Problem]:
    """Actions that nothing can come before, one after the other; what is left when none is, goes in circles."""
    left = {action.id: set(action.depends_on) for action in actions}
    known = set(left)
    while ready := [name for name, needed in left.items() if not needed & left.keys()]:
        for name in ready:
            del left[name]
    for index, action in enumerate(actions):
        if action.id in left and _reaches(action.id, action.id, {name: left[name] & known for name in left}):
            problem = f"{action.id} depends on itself, by {_circle(action.id, left)}"
            yield Problem(("actions", index, "dependsOn"), problem, "dependencies without a cycle")
            return


def _reaches(start: str, goal: str, edges: dict[str, set[str]]) -> bool:
    todo, seen = list(edges.get(start, ())), set()
    while todo:
        name = todo.pop()
        if name == goal:
            return True
        if name not in seen:
            seen.add(name)
            todo += edges.get(name, ())
    return False


def _circle(start: str, edges: dict[str, set[str]]) -> str:
    """A way from an action of a cycle back to it: the shortest."""
    came_from: dict[str, str] = {}
    line = [start]
    while line:
        name = line.pop(0)
        for other in sorted(edges.get(name, ())):
            if other == start:
                path = [name]
                while path[-1] != start:
                    path.append(came_from[path[-1]])
                return " → ".join([*reversed(path), start])
            if other in edges and other not in came_from:
                came_from[other] = name
                line.append(other)
    return start
