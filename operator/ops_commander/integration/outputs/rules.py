"""Which rules hold at a place of an answer: patterns of paths, followed step by step while an answer is walked."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

from ops_commander.api.comparison import Comparison

MOST_REMEMBERED: Final = 4096

State = frozenset[tuple[int, int]]
"""How far each pattern has come; empty where none can match here or below."""
NOWHERE: Final[State] = frozenset()


@dataclass
class Patterns:
    """Several patterns at once. * is one step, ** any number of them."""

    texts: Iterable[str]
    start: State = field(init=False)
    _parts: tuple[tuple[str, ...], ...] = field(init=False)
    _known: dict[tuple[State, str], State] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._parts = tuple(
            tuple(step.replace("~1", "/").replace("~0", "~") for step in text.split("/")[1:]) for text in self.texts
        )
        self.start = self._settled({(number, 0) for number in range(len(self._parts))})

    def below(self, state: State, step: str | int) -> State:
        """The state one step further down."""
        if not state:
            return NOWHERE
        key = (state, str(step))
        found = self._known.get(key)
        if found is None:
            found = self._after(*key)
            if len(self._known) < MOST_REMEMBERED:
                self._known[key] = found
        return found

    def matches(self, state: State) -> bool:
        """Whether a pattern ends here."""
        return bool(state) and any(place == len(self._parts[number]) for number, place in state)

    def _after(self, state: State, step: str) -> State:
        reached: set[tuple[int, int]] = set()
        for number, place in state:
            parts = self._parts[number]
            if place == len(parts):
                continue
            if parts[place] == "**":
                reached.add((number, place))
            elif parts[place] in ("*", step):
                reached.add((number, place + 1))
        return self._settled(reached)

    def _settled(self, places: set[tuple[int, int]]) -> State:
        """With what ** reaches by standing for no step at all."""
        waiting = list(places)
        while waiting:
            number, place = waiting.pop()
            parts = self._parts[number]
            further = (number, place + 1)
            if place < len(parts) and parts[place] == "**" and further not in places:
                places.add(further)
                waiting.append(further)
        return frozenset(places)


@dataclass(frozen=True, slots=True)
class Place:
    """What holds at one place."""

    ignore: State
    unordered: State
    labels: State

    def __bool__(self) -> bool:
        return bool(self.ignore or self.unordered or self.labels)


class Rules:
    """A Comparison, made ready for walking answers."""

    def __init__(self, comparison: Comparison) -> None:
        self.absolute = comparison.tolerance.absolute
        self.relative = comparison.tolerance.relative
        self._ignore = Patterns(comparison.ignore)
        self._unordered = Patterns(comparison.unordered)
        self._labels = Patterns(comparison.labels)
        root = Place(self._ignore.start, self._unordered.start, self._labels.start)
        self.root: Place | None = root or None

    def below(self, place: Place | None, step: str | int) -> Place | None:
        """None where no rule can hold, here or further down."""
        if place is None:
            return None
        found = Place(
            self._ignore.below(place.ignore, step),
            self._unordered.below(place.unordered, step),
            self._labels.below(place.labels, step),
        )
        return found or None

    def ignored(self, place: Place | None) -> bool:
        return place is not None and self._ignore.matches(place.ignore)

    def unordered(self, place: Place | None) -> bool:
        return place is not None and self._unordered.matches(place.unordered)

    def labelled(self, place: Place | None) -> bool:
        return place is not None and self._labels.matches(place.labels)
