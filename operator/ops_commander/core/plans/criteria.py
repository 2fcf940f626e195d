"""Success criteria: a small language of comparisons on named metrics.

    error_rate < 0.01
    p95_latency_ms < 500 and abs(p95_drift_ms) <= 5
    0 <= regression_pt <= 0.5 or not (failed > 0)

Python's own parser reads it, and only the nodes below are walked; nothing is ever compiled or run. CEL was tried: its
wheel refuses to mix whole and other numbers (`delta - 1 > 0.5`), and its loops over lists are unbounded.
"""

from __future__ import annotations

import ast
import math
import operator
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final

LONGEST: Final = 500
MOST_NODES: Final = 200
FUNCTIONS: Final[Mapping[str, Callable[..., float]]] = {"abs": abs, "min": min, "max": max}

_TOKEN = re.compile(
    r"\s+|[A-Za-z_][A-Za-z0-9_]*|(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][-+]?\d+)?(?![\w.])|<=|>=|==|!=|[-<>+*/(),]", re.ASCII
)
_ARITHMETIC: Final[Mapping[type[ast.operator], Callable[[float, float], float]]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
}
_COMPARISONS: Final[Mapping[type[ast.cmpop], Callable[[float, float], bool]]] = {
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
}
_FORM: Final = "comparisons of metrics and numbers, as `error_rate < 0.01 and p95_latency_ms < 500`"


class BadCriterion(ValueError):
    """Not an expression of this language; the text says why, and what was expected."""

    def __init__(self, problem: str, expected: str = _FORM) -> None:
        super().__init__(f"{problem}: expected {expected}")
        self.problem, self.expected = problem, expected


@dataclass(frozen=True, slots=True)
class Judged:
    """A criterion held against metrics."""

    holds: bool | None
    """None where a metric that decides it is not known."""
    values: str
    """Each metric in it with its value: `error_rate = 0.002`."""


@dataclass(frozen=True, slots=True)
class Criterion:
    """A parsed expression."""

    text: str
    tree: ast.expr
    names: tuple[str, ...]
    """Metrics in it, in the order in which they stand."""

    def judged(self, metrics: Mapping[str, float]) -> Judged:
        """Held against metrics. A value that is not finite counts as not known, and so does a division by 0."""
        known = {name: metrics[name] for name in self.names if math.isfinite(metrics.get(name, math.nan))}
        said = (f"{name} = {known[name]:.6g}" if name in known else f"{name} is not known" for name in self.names)
        return Judged(_truth(self.tree, known), ", ".join(said))


@lru_cache(maxsize=4096)
def parse(text: str) -> Criterion:
    """Raises BadCriterion."""
    if len(text) > LONGEST:
        raise BadCriterion(f"has {len(text)} characters", f"at most {LONGEST}")
    _check_tokens(text)
    try:
        tree = ast.parse(text.strip(), mode="eval").body
    except (SyntaxError, ValueError, MemoryError, RecursionError) as error:
        raise BadCriterion(f"{text[:80]!r} cannot be read") from error
    if sum(1 for _ in ast.walk(tree)) > MOST_NODES:
        raise BadCriterion("is too large", f"at most {MOST_NODES} operators, metrics and numbers")
    _check_truth(tree)
    found: dict[str, None] = {}
    _collect(tree, found)
    if not found:
        raise BadCriterion(f"{text[:80]!r} names no metric")
    return Criterion(text, tree, tuple(found))


def metric_name(name: str) -> str:
    """How a metric is called in criteria: what cannot stand in a name becomes _, so `ndcg@10/val` is ndcg_10_val."""
    clean = re.sub(r"[^A-Za-z0-9_]", "_", name)
    return f"_{clean}" if clean[:1].isdigit() else clean


def named(metrics: Iterable[tuple[str, float]]) -> dict[str, float]:
    """Metrics by their names in criteria; two that would have the same name are not known."""
    found: dict[str, float] = {}
    twice: set[str] = set()
    for name, value in metrics:
        clean = metric_name(name)
        twice |= {clean} & found.keys()
        found[clean] = value
    return {name: value for name, value in found.items() if name not in twice}


def _check_tokens(text: str) -> None:
    """Only these characters reach the parser: no quotes, brackets, dots, colons or comments."""
    place = 0
    while place < len(text):
        match = _TOKEN.match(text, place)
        if match is None:
            raise BadCriterion(f"{text[place : place + 10]!r} at character {place + 1} is not part of the language")
        place = match.end()


def _check_truth(node: ast.expr) -> None:
    if isinstance(node, ast.BoolOp):
        for value in node.values:
            _check_truth(value)
    elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
        _check_truth(node.operand)
    elif isinstance(node, ast.Compare):
        if not all(type(op) in _COMPARISONS for op in node.ops):
            raise BadCriterion("compares by another operator", "<, <=, >, >=, == or !=")
        for value in (node.left, *node.comparators):
            _check_number(value)
    else:
        raise BadCriterion(f"{ast.unparse(node)[:80]!r} is neither true nor false")


def _check_number(node: ast.expr) -> None:
    if isinstance(node, ast.Constant):
        if isinstance(node.value, bool) or not isinstance(node.value, int | float) or not _is_finite(node.value):
            raise BadCriterion(f"{str(node.value)[:40]} is no number in range", "a finite number")
    elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub | ast.UAdd):
        _check_number(node.operand)
    elif isinstance(node, ast.BinOp) and type(node.op) in _ARITHMETIC:
        _check_number(node.left)
        _check_number(node.right)
    elif isinstance(node, ast.Call):
        _check_call(node)
    elif not isinstance(node, ast.Name):
        raise BadCriterion(f"{ast.unparse(node)[:80]!r} is no number", "metrics, numbers, + - * /, abs, min and max")


def _check_call(node: ast.Call) -> None:
    name = node.func.id if isinstance(node.func, ast.Name) else ""
    if name not in FUNCTIONS or node.keywords:
        raise BadCriterion(f"{ast.unparse(node)[:80]!r} calls what is not there", "abs, min or max")
    if len(node.args) < 2 if name != "abs" else len(node.args) != 1:
        raise BadCriterion(f"{ast.unparse(node)[:80]!r}", "abs of one number, min and max of several")
    for argument in node.args:
        _check_number(argument)


def _is_finite(value: float) -> bool:
    try:
        return math.isfinite(value)
    except OverflowError:
        return False


def _collect(node: ast.expr, found: dict[str, None]) -> None:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.expr) and not (isinstance(node, ast.Call) and child is node.func):
            _collect(child, found)
    if isinstance(node, ast.Name):
        found[node.id] = None


def _truth(node: ast.expr, metrics: Mapping[str, float]) -> bool | None:
    """Kleene's logic: what is not known decides nothing, and what is known may decide without it."""
    if isinstance(node, ast.BoolOp):
        values = [_truth(value, metrics) for value in node.values]
        deciding = isinstance(node.op, ast.Or)
        if deciding in values:
            return deciding
        return None if None in values else not deciding
    if isinstance(node, ast.UnaryOp):
        value = _truth(node.operand, metrics)
        return None if value is None else not value
    assert isinstance(node, ast.Compare)
    numbers = [_number(value, metrics) for value in (node.left, *node.comparators)]
    links: list[bool | None] = []
    for comparison, left, right in zip(node.ops, numbers, numbers[1:], strict=False):
        known = left is not None and right is not None
        links.append(_COMPARISONS[type(comparison)](left, right) if known else None)  # type: ignore[arg-type]
    if False in links:
        return False
    return None if None in links else True


def _number(node: ast.expr, metrics: Mapping[str, float]) -> float | None:
    """None where a metric is not known or the result is not finite."""
    try:
        value = _calculated(node, metrics)
    except (KeyError, ZeroDivisionError, OverflowError):
        return None
    return value if math.isfinite(value) else None


def _calculated(node: Any, metrics: Mapping[str, float]) -> float:
    if isinstance(node, ast.Constant):
        return float(node.value)  # type: ignore[arg-type]
    if isinstance(node, ast.Name):
        return metrics[node.id]
    if isinstance(node, ast.UnaryOp):
        value = _calculated(node.operand, metrics)
        return -value if isinstance(node.op, ast.USub) else value
    if isinstance(node, ast.BinOp):
        return _ARITHMETIC[type(node.op)](_calculated(node.left, metrics), _calculated(node.right, metrics))
    return FUNCTIONS[node.func.id](*(_calculated(argument, metrics) for argument in node.args))
