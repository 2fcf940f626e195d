"""The latest answers of Prometheus for all rollouts together, and each rollout's part of them."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from datetime import datetime

from ops_commander.adapters.prometheus import Answer
from ops_commander.api.v1alpha1 import Objective
from ops_commander.core import objectives
from ops_commander.core.snapshot import Buckets, Evidence, Value
from ops_commander.runtime.workqueue import Key


@dataclass
class _Latest:
    answer: Answer | None = None
    error: str | None = None


@dataclass
class EvidenceBook:
    """Who wants which query, what the latest answers were, and when each objective last had data."""

    since: datetime
    _wanted: dict[Key, frozenset[str]] = field(default_factory=dict)
    _latest: dict[str, _Latest] = field(default_factory=dict)
    _fresh: dict[tuple[Key, str], datetime] = field(default_factory=dict)

    def want(self, key: Key, objectives_: Collection[Objective]) -> None:
        """A rollout is judged by these objectives from now on; by none when it is not under way."""
        queries = frozenset(query for objective in objectives_ for query in objective.queries)
        if not queries:
            self.forget(key)
            return
        self._wanted[key] = queries

    def forget(self, key: Key) -> None:
        self._wanted.pop(key, None)
        self._fresh = {entry: at for entry, at in self._fresh.items() if entry[0] != key}

    def queries(self) -> dict[str, list[Key]]:
        """Each wanted query once, with the rollouts that want it."""
        wanted: dict[str, list[Key]] = {}
        for key, queries in self._wanted.items():
            for query in queries:
                wanted.setdefault(query, []).append(key)
        self._latest = {query: latest for query, latest in self._latest.items() if query in wanted}
        return wanted

    def answered(self, query: str, answer: Answer) -> bool:
        """Keep an answer; whether the one before was an error."""
        known = self._latest.get(query)
        self._latest[query] = _Latest(answer)
        return known is not None and known.error is not None

    def failed(self, query: str, error: str) -> bool:
        """The answer before stays, and grows old; whether this is the first error since it."""
        known = self._latest.get(query)
        self._latest[query] = _Latest(known.answer if known else None, error)
        return known is None or known.error is None

    def evidence(self, key: Key, objective: Objective, candidate: Collection[str], stable: Collection[str]) -> Evidence:
        """One objective's evidence: rows of the present pods of both arms, as of the older answer."""
        latest = [self._latest.get(query, _Latest()) for query in objective.queries]
        error = next((item.error for item in latest if item.error), None)
        answers = [item.answer for item in latest]
        if any(answer is None for answer in answers):
            return Evidence(at=None, error=error, fresh_at=self._fresh.get((key, objective.name)))
        known = [answer for answer in answers if answer is not None]
        at = min(answer.at for answer in known)
        mine = tuple(_sum(answer, key[0], candidate) for answer in known)
        theirs = tuple(_sum(answer, key[0], stable) for answer in known)
        arms = (mine, theirs) if objective.relative_to_stable else (mine,)
        if all(objectives.measure(objective, arm) is not None for arm in arms):
            self._fresh[(key, objective.name)] = at
        return Evidence(at, mine, theirs, error, self._fresh.get((key, objective.name)))


def _sum(answer: Answer, namespace: str, pods: Collection[str]) -> Value:
    rows = [answer.buckets[(namespace, pod)] for pod in pods if (namespace, pod) in answer.buckets]
    if rows:
        return _sum_buckets(rows)
    values = [answer.values[(namespace, pod)] for pod in pods if (namespace, pod) in answer.values]
    return sum(values) if values else None


def _sum_buckets(rows: list[Mapping[float, float]]) -> Buckets:
    """Pods of one revision have the same edges; an edge that one of them lacks is left out."""
    edges = sorted(set.intersection(*(set(row) for row in rows)))
    return Buckets(tuple(edges), tuple(sum(row[edge] for row in rows) for edge in edges))
