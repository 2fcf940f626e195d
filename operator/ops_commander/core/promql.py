"""What a query for counters may look like, and the same query for one rollout alone.

Counters are read raw, and every row keeps the namespace and pod of its series. So one answer serves all rollouts, and
no tenant can give rows of others the labels of an own pod.

A preset, which is trusted, may be any PromQL. Where only some of its selectors are about pods it says so by
placeholders among their matchers: `$scope` takes the rollout's namespace and pods, `$comparer` its namespace and the
pods of its comparer, `$labels` takes the labels that the preset is asked for. Without a placeholder every selector
takes pods and labels.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import promql_parser as tree
from promql_parser import Expr, Matcher, MatchOp, VectorSelector

from ops_commander.core.promql_syntax import (
    PLACEHOLDER_LABEL,
    PLACEHOLDERS,
    QueryProblem,
    label_text,
    matchers_of,
    nodes,
    number_text,
    parse,
    placeholder_of,
    quoted,
    short,
    text_of,
    tokens,
)

__all__ = ["DEFAULT_LABELS", "PodLabels", "QueryProblem", "check", "matcher", "scoped", "unscoped", "with_matchers"]


@dataclass(frozen=True, slots=True)
class PodLabels:
    """The labels that name a series' pod; clusters differ in it."""

    namespace: str = "namespace"
    pod: str = "pod"


DEFAULT_LABELS: Final = PodLabels()
_OF_WINDOWS: Final = frozenset(
    [
        *("rate", "irate", "increase", "delta", "idelta", "deriv", "resets", "changes", "xrate", "xincrease", "xdelta"),
        *("sum_over_time", "avg_over_time", "max_over_time", "min_over_time", "count_over_time", "last_over_time"),
    ]
)
_OF_PODS: Final = ("$scope", "$comparer")
_REGEX_MARKS: Final = frozenset("\\.+*?()|[]{}^$")
_PIECE_OF_A_NAME = re.compile(r"[A-Za-z0-9_:]{3}")


def matcher(label: str, value: str) -> str:
    """`label="value"`, escaped."""
    return f"{label_text(label)}={quoted(value)}"


def unscoped(query: str) -> str:
    """The query for all rollouts, in the form that was parsed: placeholders are gone, comments too."""
    return text_of(parse(query), lambda selector: _without(selector, *PLACEHOLDERS))


def scoped(
    query: str,
    *,
    namespace: str | Sequence[str],
    pod_prefix: str | Sequence[str] = (),
    labels: PodLabels = DEFAULT_LABELS,
) -> str:
    """The query for pods of one namespace, or of several, whose names are the prefix, or one of several, a dash and one
    more part. Without a prefix for all pods there."""
    place, prefixes = _in_one_of(labels.namespace, _sorted(namespace)), _sorted(pod_prefix)
    root = parse(query)
    has_places = bool(_placeholders(root) & set(_OF_PODS))

    def scope(each: VectorSelector) -> list[str]:
        there = [name for name in _OF_PODS if name in matchers_of(each)] if has_places else ["$scope"]
        if not there:
            return []
        if not prefixes:
            return [place]
        part = "-compare-[a-z0-9]+" if there == ["$comparer"] else "-[a-z0-9]+"
        return [place, f"{label_text(labels.pod)}=~{quoted(_one_of(prefixes) + part)}"]

    return text_of(root, lambda each: [*_without(each, *PLACEHOLDERS), *scope(each)])


def with_matchers(query: str, labels: Mapping[str, str]) -> str:
    """The query with a matcher more for each label; `$scope` stays in it. Raises QueryProblem."""
    if not labels:
        return query
    root, more = parse(query), [matcher(label, value) for label, value in labels.items()]
    used = _placeholders(root)
    if "$scope" in used and "$labels" not in used:
        raise QueryProblem(f"{short(query)!r} has $scope and no $labels: where do {', '.join(labels)} belong?")
    chosen = _chosen(root, "$labels")
    return text_of(root, lambda each: [*_without(each, "$labels"), *(more if chosen(each) else ())])


def _sorted(texts: str | Sequence[str]) -> list[str]:
    return [texts] if isinstance(texts, str) else sorted(set(texts))


def _in_one_of(label: str, values: Sequence[str]) -> str:
    if len(values) == 1:
        return matcher(label, values[0])
    return f"{label_text(label)}=~{quoted('|'.join(map(_escaped, values)))}"


def _one_of(prefixes: Sequence[str]) -> str:
    return _escaped(prefixes[0]) if len(prefixes) == 1 else f"(?:{'|'.join(map(_escaped, prefixes))})"


def _escaped(text: str) -> str:
    return "".join(f"\\{each}" if each in _REGEX_MARKS else each for each in text)


def _placeholders(root: Expr) -> set[str]:
    selectors = (node for node in nodes(root) if isinstance(node, VectorSelector))
    return {placeholder_of(each) for selector in selectors for each in selector.matchers.matchers} - {""}


def _chosen(root: Expr, placeholder: str) -> Callable[[VectorSelector], bool]:
    if placeholder not in _placeholders(root):
        return lambda _: True
    return lambda selector: placeholder in matchers_of(selector)


def _without(selector: VectorSelector, *placeholders: str) -> list[str]:
    return [text for text in matchers_of(selector) if text not in placeholders]


def check(query: str, labels: PodLabels = DEFAULT_LABELS) -> None:
    """Whether a tenant may ask this. Raises QueryProblem."""
    found = tokens(query)
    for number, token in enumerate(found[:-1]):
        if token.kind == "placeholder":
            raise QueryProblem(f"{token.text} at character {token.start + 1}: only presets may have placeholders")
        if token.text in _OF_WINDOWS and found[number + 1].text == "(":
            raise QueryProblem(
                f"counters are read raw: remove {token.text}() at character {token.start + 1}, and its [range]"
            )
    _Rules(labels).vector(parse(query))


@dataclass(frozen=True, slots=True)
class _Rules:
    labels: PodLabels

    @property
    def _both(self) -> str:
        return f"{self.labels.namespace}, {self.labels.pod}"

    def vector(self, node: Expr) -> None:
        match node:
            case tree.VectorSelector():
                _selector(node)
            case tree.ParenExpr():
                self.vector(node.expr)
            case tree.AggregateExpr():
                self._aggregation(node)
            case tree.BinaryExpr():
                self._binary(node)
            case _:
                raise QueryProblem(_refusal(node))

    def _aggregation(self, node: tree.AggregateExpr) -> None:
        fix = f"sum by ({self._both}) (…)"
        if str(node.op) != "sum":
            raise QueryProblem(f"{node.op} in {_here(node)}: expected a counter, or {fix}")
        if node.modifier is None:
            raise QueryProblem(f"sum in {_here(node)} merges all pods: expected {fix}")
        named = {self.labels.namespace, self.labels.pod} & set(node.modifier.labels)
        by = node.modifier.type == tree.AggModifierType.By
        if len(named) < 2 if by else named:
            grouping = f"{'by' if by else 'without'} ({', '.join(node.modifier.labels)})"
            raise QueryProblem(f"sum {grouping} in {_here(node)} merges pods: expected {fix}")
        self.vector(node.expr)

    def _binary(self, node: tree.BinaryExpr) -> None:
        sign = str(node.op)
        if sign == "*":
            self.vector(_scaled(node))
            return
        if sign not in ("+", "-", "and", "or", "unless"):
            raise QueryProblem(f"{sign} in {_here(node)}: expected +, -, and, or, unless, or * with a number")
        if node.modifier is not None:
            self._matching(node, node.modifier)
        for side in (node.lhs, node.rhs):
            if isinstance(_bare(side), tree.NumberLiteral):
                raise QueryProblem(f"{short(text_of(side))} in {_here(node)}: expected counters on both sides")
            self.vector(side)

    def _matching(self, node: tree.BinaryExpr, modifier: tree.BinModifier) -> None:
        if modifier.card in (tree.VectorMatchCardinality.ManyToOne, tree.VectorMatchCardinality.OneToMany):
            raise QueryProblem(f"group_left or group_right in {_here(node)}: expected one row to match one row")
        if modifier.fill_values.lhs is not None or modifier.fill_values.rhs is not None:
            raise QueryProblem(f"fill in {_here(node)}: expected rows as they are; write (a + b) or a or b")
        if modifier.matching is None:
            return
        if modifier.matching.type != tree.LabelModifierType.Include:
            raise QueryProblem(f"ignoring in {_here(node)}: expected on ({self._both}, …)")
        if not {self.labels.namespace, self.labels.pod} <= set(modifier.matching.labels):
            raise QueryProblem(f"on (…) in {_here(node)} matches other pods: expected on ({self._both}, …)")


def _here(node: Expr) -> str:
    return repr(short(text_of(node)))


def _bare(node: Expr) -> Expr:
    while isinstance(node, tree.ParenExpr):
        node = node.expr
    return node


def _scaled(node: tree.BinaryExpr) -> Expr:
    """What is multiplied."""
    sides = (node.lhs, node.rhs)
    factors = [side for side in map(_bare, sides) if isinstance(side, tree.NumberLiteral)]
    if len(factors) != 1:
        raise QueryProblem(f"* in {_here(node)}: expected a counter and one number, such as 0.001")
    if not 0 < factors[0].val < float("inf"):
        raise QueryProblem(f"* {number_text(factors[0].val)} in {_here(node)}: expected a number above 0")
    return node.rhs if isinstance(_bare(node.lhs), tree.NumberLiteral) else node.lhs


def _selector(node: VectorSelector) -> None:
    if node.offset is not None or node.at is not None:
        moved = "@" if node.at is not None else "offset"
        raise QueryProblem(f"{moved} in {_here(node)}: expected the counter as it is now")
    if node.matchers.or_matchers:
        raise QueryProblem(f"or among the matchers of {_here(node)}: expected matchers with commas between them")
    if any(each.name.startswith(PLACEHOLDER_LABEL) for each in node.matchers.matchers):
        raise QueryProblem(f"a label of {_here(node)} begins with {PLACEHOLDER_LABEL}: expected one of a counter")
    if not node.name and not any(map(_names_a_metric, node.matchers.matchers)):
        example = 'http_requests_total or {__name__=~"http_.+"}'
        raise QueryProblem(f"{_here(node)} names no metric: expected one, such as {example}")


def _names_a_metric(each: Matcher) -> bool:
    if each.name != "__name__" or each.op not in (MatchOp.Equal, MatchOp.Re):
        return False
    return (each.op == MatchOp.Equal and bool(each.value)) or _is_about_names(each.value)


def _is_about_names(regex: str) -> bool:
    """Holds a piece of a name, and does not match the empty one, as the parser itself finds out."""
    if not _PIECE_OF_A_NAME.search(regex):
        return False
    try:
        parse(f"{{__name__=~{quoted(regex)}}}")
    except QueryProblem:
        return False
    return True


def _refusal(node: Expr) -> str:
    here = repr(short(text_of(node)))
    match node:
        case tree.Call():
            return (
                f"{node.func.name}() in {here}: expected no function; counters are read raw, with the labels they have"
            )
        case tree.SubqueryExpr():
            return f"{here} is a subquery: expected the counter itself, without [range:step]"
        case tree.MatrixSelector():
            return f"{here} is a range: counters are read raw; remove [{tree.display_duration(node.range)}]"
        case tree.UnaryExpr():
            return f"{here} is negative: expected a counter; write a - b"
        case tree.NumberLiteral() | tree.StringLiteral():
            return f"{here} is a constant: expected a counter, such as http_requests_total"
    return f"{here} is not supported: expected a counter, such as http_requests_total"
