"""Two trees side by side, leaf by leaf."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from typing import Any, Final

import numpy as np

from ops_commander.integration.outputs import numbers, precision, texts
from ops_commander.integration.outputs.findings import (
    MOST_FINDINGS_OF_A_KIND,
    Compared,
    Difference,
    Finding,
    Kind,
    Path,
    Skip,
)
from ops_commander.integration.outputs.numbers import Floats
from ops_commander.integration.outputs.rules import Place, Rules
from ops_commander.integration.outputs.tensors import FLOATS, Tensor, Tensors
from ops_commander.integration.schema.dtypes import canonical_dtype

MOST_STEPS: Final = 250_000
"""Work on one pair; a step is a leaf, or as much, which takes 2 to 3 µs: less than a second in all."""
MOST_DEPTH: Final = 100
MOST_GROUPS: Final = 256
SHORT: Final = 16
"""Arrays of numbers up to this length are walked; longer ones are compared as arrays."""
NUMBERS_A_STEP: Final = 64

_NUMBERS: Final = frozenset([int, float])


class Walk:
    """One comparison. Raises Skip where a limit is passed."""

    def __init__(self, rules: Rules) -> None:
        self._rules = rules
        self._steps = 0
        self._deviation = 0.0
        self._worst: Difference | None = None
        self._found: dict[Kind, list[Finding]] = {}
        self._floats: dict[Path, list[precision.Pair]] = {}

    def go(self, stable: Any, candidate: Any) -> None:
        """From the roots."""
        self._node(stable, candidate, (), self._rules.root)

    def result(self) -> Compared:
        for path, pairs in self._floats.items():
            if loss := precision.lost(pairs):
                self.find(Kind.PRECISION_LOSS, path, loss.said, loss.stable, loss.candidate, deviation=0.0)
        findings = tuple(finding for kind in Kind for finding in self._found.get(kind, ()))
        return Compared(self._deviation, frozenset(self._found), findings, self._worst)

    def find(
        self, kind: Kind, path: Path, said: str, stable: Any = None, candidate: Any = None, *, deviation: float = 1.0
    ) -> None:
        known = self._found.setdefault(kind, [])
        if len(known) < MOST_FINDINGS_OF_A_KIND:
            known.append(Finding(kind, path, said, stable, candidate))
        self._differ(path, deviation, stable, candidate)

    def _differ(self, path: Path, deviation: float, stable: Any, candidate: Any) -> None:
        if deviation > self._deviation:
            self._deviation = deviation
            self._worst = Difference(path, deviation, stable, candidate)

    def _spend(self, steps: int) -> None:
        self._steps += steps
        if self._steps > MOST_STEPS:
            raise Skip("too_much_work", f"more than {MOST_STEPS} steps of comparing")

    # --- one node ---

    def _node(self, stable: Any, candidate: Any, path: Path, place: Place | None) -> None:
        self._steps += 1
        if self._steps > MOST_STEPS or len(path) > MOST_DEPTH:
            self._spend(0)
            raise Skip("too_deep", f"nested more than {MOST_DEPTH} levels")
        if place is not None and self._rules.ignored(place):
            return
        if stable is None:
            return  # the candidate has more to say
        if candidate is None:
            self.find(Kind.FIELD_DROP, path, "null", stable, None)
            return
        kind = type(stable)
        if kind is not type(candidate):
            self._other_type(stable, candidate, path, place)
        elif kind is bool or self._rules.labelled(place):
            if not _equal(stable, candidate):
                self._differ(path, 1.0, stable, candidate)
        else:
            _WAYS[kind](self, stable, candidate, path, place)

    def _other_type(self, stable: Any, candidate: Any, path: Path, place: Place | None) -> None:
        kinds = {type(stable), type(candidate)}
        if kinds == _NUMBERS and not self._changed(stable, candidate):
            self._number(stable, candidate, path, place)
        elif kinds == {str, bytes}:
            self.find(Kind.ENCODING_MISMATCH, path, "bytes that are no UTF-8", stable, candidate)
        else:
            said = f"{type_name(candidate)} where stable has {type_name(stable)}"
            self.find(Kind.DTYPE, path, said, stable, candidate)

    def _changed(self, stable: float, candidate: float) -> bool:
        """A float as 1.0 is one by intent. JavaScript writes 1 for it, so 1 for 0.9999 may be the same type."""
        real = stable if isinstance(stable, float) else candidate
        return float(real).is_integer() or self._apart(stable, candidate) > 0

    def _apart(self, stable: float, candidate: float) -> float:
        return numbers.deviation(stable, candidate, self._rules.absolute, self._rules.relative)

    def _object(self, stable: dict[str, Any], candidate: dict[str, Any], path: Path, place: Place | None) -> None:
        for key, value in stable.items():
            below = self._rules.below(place, key) if place is not None else None
            if key in candidate:
                self._node(value, candidate[key], (*path, key), below)
            elif not self._rules.ignored(below):
                self.find(Kind.FIELD_DROP, (*path, key), "absent", value, None)

    def _number(self, stable: float, candidate: float, path: Path, _: Place | None) -> None:
        if numbers.is_finite(stable) and not numbers.is_finite(candidate):
            self.find(Kind.NON_FINITE, path, "NaN or infinite", stable, candidate)
            return
        if type(stable) is type(candidate) is float and stable - stable == candidate - candidate == 0.0:
            self._remember(path, [(stable, candidate)])
        if stable != candidate:
            apart = self._apart(stable, candidate)
            if apart > self._deviation:
                self._differ(path, apart, stable, candidate)

    def _text(self, stable: str, candidate: str, path: Path, _: Place | None) -> None:
        if stable == candidate:
            return
        self._spend(1 + (len(stable) + len(candidate)) // NUMBERS_A_STEP)
        if said := texts.wrong_encoding(stable, candidate):
            self.find(Kind.ENCODING_MISMATCH, path, said, stable, candidate)
            return
        self._spend(texts.steps(stable, candidate))
        self._differ(path, texts.dissimilarity(stable, candidate), stable, candidate)

    def _bytes(self, stable: bytes, candidate: bytes, path: Path, _: Place | None) -> None:
        if stable != candidate:
            self._differ(path, 1.0, stable, candidate)

    # --- arrays ---

    def _array(self, stable: list[Any], candidate: list[Any], path: Path, place: Place | None) -> None:
        if len(stable) != len(candidate):
            self.find(Kind.SHAPE, path, f"{len(candidate)} elements where stable has {len(stable)}", stable, candidate)
        if self._rules.unordered(place):
            self._spend(len(stable) + len(candidate))
            stable, candidate = self._sorted(stable), self._sorted(candidate)
        most = min(len(stable), len(candidate))
        if place is None and most > SHORT and self._numbers(stable[:most], candidate[:most], path):
            return
        before = self._deviation
        self._deviation = 0.0
        worst = self._worst
        for index in range(most):
            below = self._rules.below(place, index) if place is not None else None
            self._node(stable[index], candidate[index], (*path, index), below)
        if self._deviation > 0 and self._permuted(stable, candidate):
            self.find(Kind.ORDER, path, "the same elements in another order", stable, candidate, deviation=0.0)
        if self._deviation <= before:
            self._deviation, self._worst = before, worst

    def _sorted(self, values: list[Any]) -> list[Any]:
        if numbers.as_floats(values) is not None:
            return sorted(values)
        return sorted(values, key=self._canonical)

    def _canonical(self, value: Any) -> str:
        text = json.dumps(value, sort_keys=True, default=repr)
        self._spend(1 + len(text) // NUMBERS_A_STEP)
        return text

    def _permuted(self, stable: list[Any], candidate: list[Any]) -> bool:
        if len(stable) != len(candidate) or len(stable) < 2 or _equal(stable, candidate):
            return False
        return Counter(map(self._canonical, stable)) == Counter(map(self._canonical, candidate))

    def _numbers(self, stable: list[Any], candidate: list[Any], path: Path) -> bool:
        """Whether both are arrays of numbers, and so have been compared at once."""
        self._spend(1 + len(stable) // NUMBERS_A_STEP)
        kinds, others = set(map(type, stable)), set(map(type, candidate))
        if not (kinds <= _NUMBERS and others <= _NUMBERS):
            return False
        mine, theirs = numbers.as_floats(stable), numbers.as_floats(candidate)
        if mine is None or theirs is None:
            return False
        self._floats_at_once(mine, theirs, path, are_floats=float in kinds and float in others)
        if len(kinds) == len(others) == 1 and kinds != others and self._all_changed(mine, theirs):
            said = f"{_of_numbers(others)} where stable has {_of_numbers(kinds)}"
            self.find(Kind.DTYPE, path, said, stable, candidate)
        return True

    def _all_changed(self, stable: Floats, candidate: Floats) -> bool:
        """So many numbers are not all whole by chance."""
        return bool((stable == candidate).all() or self._all_apart(stable, candidate).max(initial=0.0) > 0)

    def _all_apart(self, stable: Floats, candidate: Floats) -> Floats:
        return numbers.deviations(stable, candidate, self._rules.absolute, self._rules.relative)

    def _floats_at_once(self, stable: Floats, candidate: Floats, path: Path, *, are_floats: bool) -> None:
        if not stable.size:
            return
        wrong = np.isfinite(stable) & ~np.isfinite(candidate)
        if wrong.any():
            at = int(wrong.argmax())
            self.find(Kind.NON_FINITE, (*path, at), "NaN or infinite", float(stable[at]), float(candidate[at]))
        if are_floats:
            self._remember((*path, 0), precision.spread(stable, candidate))
        apart = self._all_apart(stable, candidate)
        at = int(apart.argmax())
        if apart[at] > 0:
            self._differ((*path, at), float(apart[at]), float(stable[at]), float(candidate[at]))
            if np.array_equal(np.sort(stable), np.sort(candidate)):
                self.find(Kind.ORDER, path, "the same numbers in another order", deviation=0.0)

    def _remember(self, path: Path, pairs: list[precision.Pair]) -> None:
        """Numbers of one field belong together, whatever the element of an array that they are in."""
        group = tuple("*" if isinstance(step, int) else step for step in path)
        known = self._floats.get(group)
        if known is None:
            if len(self._floats) < MOST_GROUPS:
                self._floats[group] = pairs
        elif len(known) < precision.MOST_LOOKED_AT:
            known.extend(pairs)

    # --- tensors ---

    def _tensors(self, stable: Tensors, candidate: Tensors, path: Path, place: Place | None) -> None:
        common = [name for name in stable.by_name if name in candidate.by_name]
        if common != [name for name in candidate.by_name if name in stable.by_name]:
            self.find(Kind.ORDER, path, "the outputs come in another order", deviation=0.0)
        for name, tensor in stable.by_name.items():
            below = self._rules.below(place, name)
            if self._rules.ignored(below):
                continue
            if name not in candidate.by_name:
                self.find(Kind.FIELD_DROP, (*path, name), "absent", tensor, None)
            else:
                self._tensor(tensor, candidate.by_name[name], (*path, name), below)

    def _tensor(self, stable: Tensor, candidate: Tensor, path: Path, place: Place | None) -> None:
        if stable.datatype != candidate.datatype:
            said = f"{_datatype(candidate)} where stable has {_datatype(stable)}"
            self.find(Kind.DTYPE, (*path, "datatype"), said)
            if FLOATS.get(candidate.datatype, 99) < FLOATS.get(stable.datatype, 0):
                self.find(Kind.PRECISION_LOSS, (*path, "datatype"), said)
        if stable.shape != candidate.shape:
            said = f"{_shape(candidate)} where stable has {_shape(stable)}"
            self.find(Kind.SHAPE, (*path, "shape"), said)
        self._object(dict(stable.parameters), dict(candidate.parameters), (*path, "parameters"), None)
        data = self._rules.below(place, "data")
        if not self._rules.ignored(data):
            self._data(stable, candidate, (*path, "data"), data)

    def _data(self, stable: Tensor, candidate: Tensor, path: Path, place: Place | None) -> None:
        mine, theirs = stable.values, candidate.values
        if len(mine) != len(theirs):
            if stable.shape == candidate.shape:
                self.find(Kind.SHAPE, path, f"{len(theirs)} values where stable has {len(mine)}")
            return
        if place is None and isinstance(mine, np.ndarray) and isinstance(theirs, np.ndarray):
            self._spend(1 + len(mine) // NUMBERS_A_STEP)
            real = stable.datatype in FLOATS and candidate.datatype in FLOATS
            floats = (mine.astype(np.float64), theirs.astype(np.float64))
            self._floats_at_once(*floats, path, are_floats=real)
            return
        self._array(_listed(mine), _listed(theirs), path, place)


def _listed(values: Any) -> list[Any]:
    found: list[Any] = values.tolist() if isinstance(values, np.ndarray) else values
    return found


def _shape(tensor: Tensor) -> str:
    shown = ", ".join(map(str, tensor.shape[:8]))
    return f"[{shown}{', …' if len(tensor.shape) > 8 else ''}]"


def _datatype(tensor: Tensor) -> str:
    """As it is, if it is one: other texts are not ours to show."""
    return canonical_dtype(tensor.datatype[:32]) or "an unknown datatype"


def _of_numbers(kinds: set[type]) -> str:
    return "whole numbers" if kinds == {int} else "floats"


def _equal(stable: Any, candidate: Any) -> bool:
    """NaN is NaN."""
    return bool(stable == candidate or (stable != stable and candidate != candidate))


_NAMES: Final = {dict: "an object", list: "an array", str: "a text", int: "a whole number", float: "a float"}


def type_name(value: Any) -> str:
    """Of JSON's types, in words."""
    if value is None:
        return "null"
    return "true or false" if isinstance(value, bool) else _NAMES.get(type(value), type(value).__name__.lower())


_WAYS: Final[dict[type, Callable[[Walk, Any, Any, Path, Place | None], None]]] = {
    dict: Walk._object,
    list: Walk._array,
    int: Walk._number,
    float: Walk._number,
    str: Walk._text,
    bytes: Walk._bytes,
    Tensors: Walk._tensors,
}
