"""Prometheus' JSON as readings: samples by the ReplicaSet and pod that they belong to."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import lru_cache
from hashlib import blake2b
from typing import Any, Final, TypeVar

from ops_commander.adapters.prometheus_http import MOST_BYTES_AT_ONCE, TooLarge
from ops_commander.core.promql import PodLabels
from ops_commander.core.samples import Owner, Reading, Sample, owner_of, place_among, which

T = TypeVar("T")
Row = Mapping[str, Any]
Place = tuple[Owner, str]
"""A ReplicaSet and the name of a pod of it."""

KEPT_FOR: Final = timedelta(minutes=1)
MOST_KNOWN: Final = 500_000
"""Series."""

_MOMENT = re.compile(r"([0-9])_([0-9])")
_WEIGHT_OF_A_HISTOGRAM: Final = 20

_LONGEST_HEAD: Final = 512
_HEAD = re.compile(
    rb'\s*\{(?:"\w+":(?:"[^"\\]*"|true|false|null|[0-9]+),)*"data":\{(?:"resultType":"vector",)?"result":\[(?=\{"metric":)'
)
_ROW: Final = b'{"metric":'
_NEXT_ROW: Final = b"," + _ROW
_VALUE: Final = b',"value":['
_TIME = re.compile(rb'-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][-+]?[0-9]+)?,"')
_ROW_ENDS: Final = b'"]}'


@dataclass(frozen=True, slots=True)
class _Series:
    """What a row's labels say."""

    place: Place
    name: str
    edge: float | None
    moment: tuple[int, int] | None

    def sample(self, text: str | bytes) -> Sample | None:
        value = float(text)
        return Sample(self.name, value, self.edge, None, self.moment) if math.isfinite(value) else None

    def histogram(self, said: Mapping[str, Any]) -> Sample | None:
        count = float(said["count"])
        buckets = tuple([(float(lower), float(upper), float(n)) for _, lower, upper, n in said.get("buckets", ())])
        return Sample(self.name, count, self.edge, buckets, self.moment) if math.isfinite(count) else None


class _Shared(dict[Any, Any]):
    """The same object for what is equal: a pod's place in all of its series, their names in all of its buckets."""

    def one(self, value: T) -> T:
        found: T = self.setdefault(value, value)
        return found


@lru_cache(maxsize=1024)
def _edge(text: str) -> float:
    """The same object for all series: most histograms have the same edges."""
    return float(text)


def _series(labels: Mapping[str, str], names: PodLabels, shared: _Shared) -> _Series | None:
    """None for a row without a pod."""
    namespace, pod = labels.get(names.namespace), labels.get(names.pod)
    if not namespace or not pod:
        return None
    apart = (names.namespace, names.pod, "le")
    others = [f"{key}={labels[key]}" for key in sorted(labels) if key not in apart]
    edge, moment = labels.get("le"), _MOMENT.fullmatch(labels.get("moment", ""))
    return _Series(
        shared.one((owner_of(namespace, pod), pod)),
        shared.one(",".join(others)),
        None if edge is None else _edge(edge),
        (int(moment[1]), int(moment[2])) if moment else None,
    )


class KnownSeries:
    """Series by the text of their labels, which is the same at every tick; those that vanish are forgotten.

    Threads may share it: at worst a text is parsed twice.
    """

    def __init__(self, names: PodLabels) -> None:
        self.names = names
        self._young: dict[bytes, _Series | None] = {}
        self._old: dict[bytes, _Series | None] = {}
        self._turned: datetime | None = None
        self._shared = _Shared()

    def __len__(self) -> int:
        return len(self._young.keys() | self._old.keys())

    def age(self, at: datetime) -> None:
        """What no answer has had for two lengths of `KEPT_FOR` goes."""
        if self._turned is None or abs(at - self._turned) >= KEPT_FOR:
            self._old, self._young, self._turned = self._young, {}, at
            self._shared.clear()

    def of(self, text: bytes) -> _Series | None:
        """Of the labels as a JSON object. Raises _NoObject, or like `instant` where no labels are in it."""
        digest = blake2b(text, digest_size=16).digest()  # a tenth of the size: there are forty texts for a rollout
        try:
            return self._young[digest]
        except KeyError:
            pass
        try:
            series = self._old[digest]
        except KeyError:
            series = self.read(_loaded(text))
        if len(self._young) >= MOST_KNOWN:
            self._old, self._young = self._young, {}
        self._young[digest] = series
        return series

    def read(self, labels: Mapping[str, str]) -> _Series | None:
        return _series(labels, self.names, self._shared)


class _NoObject(Exception):
    """The text is no JSON value by itself."""


def _loaded(text: bytes) -> Any:
    try:
        return json.loads(text)
    except ValueError as error:
        raise _NoObject from error


class Vector:
    """An instant vector that is put together row by row."""

    def __init__(self, known: KnownSeries) -> None:
        self.rows = 0
        """Those without a pod or a value among them."""
        self._known = known
        self._pods: dict[Place, list[Sample]] = {}
        self._time = b""

    def add(self, row: Row) -> None:
        """Raises like `instant`."""
        self.rows += 1
        series = self._known.read(row["metric"])
        if series is None:
            return
        sample = series.sample(row["value"][1]) if "value" in row else series.histogram(row["histogram"][1])
        if sample is not None:
            self._pods.setdefault(series.place, []).append(sample)

    def add_text(self, row: bytes) -> None:
        """A row's JSON after its `_ROW`. Raises like `add`, and _NoObject where it is not the whole of a row.

        Nearly all are `{labels},"value":[time,"number"]}`. Neither part of what is looked for can be inside a string:
        there a quote has a backslash before it. What is anything else in the slightest is parsed as JSON.
        """
        labels, _, value = row.partition(_VALUE)
        start = len(self._time)
        if not start or not value.startswith(self._time):
            time = _TIME.match(value)
            start = time.end() if time else 0
            self._time = value[:start]
        if start and value.endswith(_ROW_ENDS):
            try:
                number = float(value[start:-3])
                series = self._known.of(labels)
            except (ValueError, _NoObject):
                pass
            else:
                self.rows += 1
                if series is not None and math.isfinite(number):
                    self._put(series, number)
                return
        self.add(_loaded(_ROW + row))

    def _put(self, series: _Series, value: float) -> None:
        samples = self._pods.get(series.place)
        if samples is None:
            samples = self._pods[series.place] = []
        samples.append(Sample(series.name, value, series.edge, None, series.moment))

    def reading(self, at: datetime) -> Reading:
        found: dict[Owner, dict[str, tuple[Sample, ...]]] = {}
        for (owner, pod), samples in self._pods.items():
            found.setdefault(owner, {})[pod] = _in_order(samples)
        return Reading(at, found)


def read(pieces: Iterator[bytes], known: KnownSeries, most_rows: int) -> Vector:
    """An answer while it comes in: no more of its text is kept than a piece, and other threads get their turns.

    It stops soon after `most_rows`. Raises like `instant` for what is no answer with an instant vector. The last row is
    parsed as JSON together with all that is around the rows, and so is everything from the first row on that is not
    written as Prometheus does. The names of an object are expected to differ.
    """
    vector, head, text = Vector(known), b"", b""
    for piece in pieces:
        text += piece
        if not head:
            if len(text) < _LONGEST_HEAD:
                continue
            found = _HEAD.match(text)
            if found is None:
                break
            head, text = found[0] + _ROW, text[found.end() + len(_ROW) :]
        text, is_usual = _read_rows(text, vector)
        if not is_usual or vector.rows > most_rows:
            break
    if vector.rows <= most_rows:
        for row in json.loads(_whole(head + text, pieces))["data"]["result"]:
            vector.add(row)
    return vector


def _whole(text: bytes, pieces: Iterator[bytes]) -> bytes:
    parts, size = [text], 0
    for piece in pieces:
        size += len(piece)
        if size > MOST_BYTES_AT_ONCE:
            raise TooLarge(
                f"the answer has more than {MOST_BYTES_AT_ONCE // 2**20} MiB: aggregate by namespace and pod"
            )
        parts.append(piece)
    return b"".join(parts)


def _read_rows(text: bytes, vector: Vector) -> tuple[bytes, bool]:
    """Take in what is followed by another row. What is left, and whether it may be read on like this."""
    rows = text.split(_NEXT_ROW)
    for number, row in enumerate(rows[:-1]):
        try:
            vector.add_text(row)
        except _NoObject:
            return _NEXT_ROW.join(rows[number:]), False
    return rows[-1], True


def instant(rows: Iterable[Row], at: datetime, names: PodLabels) -> Reading:
    """An instant vector. Raises ValueError, KeyError, TypeError, AttributeError or IndexError for anything else."""
    vector = Vector(KnownSeries(names))
    for row in rows:
        vector.add(row)
    return vector.reading(at)


def _in_order(samples: list[Sample]) -> tuple[Sample, ...]:
    """Always the same: Prometheus sorts the rows of a range and not those of a moment."""
    return tuple(sorted(samples, key=which))


def matrix(rows: Sequence[Row], start: datetime, step: timedelta, count: int, names: PodLabels) -> list[Reading]:
    """A range vector: one reading for each of `count` ticks. Raises like `instant`."""
    pods: dict[Place, list[list[Sample]]] = {}
    shared = _Shared()
    first, pace = start.timestamp(), step.total_seconds()
    known = [(series, row) for row in rows if (series := _series(row["metric"], names, shared))]
    known.sort(key=lambda item: place_among(item[0].name, item[0].edge))  # once, and not for each tick
    for series, row in known:
        ticks = pods.get(series.place) or pods.setdefault(series.place, [[] for _ in range(count)])
        for moment, sample in _samples(series, row):
            ticks[round((moment - first) / pace)].append(sample)
    found: list[dict[Owner, dict[str, tuple[Sample, ...]]]] = [{} for _ in range(count)]
    for (owner, pod), ticks in pods.items():
        for tick, samples in zip(found, ticks, strict=True):
            if samples:
                tick.setdefault(owner, {})[pod] = tuple(samples)
    return [Reading(start + number * step, of) for number, of in enumerate(found)]


def size(rows: Sequence[Row]) -> int:
    """Samples of a matrix; a histogram counts for what its buckets weigh."""
    return sum(len(row.get("values", ())) + _WEIGHT_OF_A_HISTOGRAM * len(row.get("histograms", ())) for row in rows)


def _samples(series: _Series, row: Row) -> Iterator[tuple[float, Sample]]:
    said, sample = None, None
    for moment, text in row.get("values", ()):
        if text != said:  # a counter often stands still, and a sample is immutable
            said, sample = text, series.sample(text)
        if sample is not None:
            yield moment, sample
    for moment, histogram in row.get("histograms", ()):
        sample = series.histogram(histogram)
        if sample is not None:
            yield moment, sample
