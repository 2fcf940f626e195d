"""Recordings: all that a deployment's decisions were made of, as lines of JSON.

The first line is the Recording: what was asked for and what happened. Each line after it is a tick: counters as they
stood. The last line says how many ticks there are, so that a file that was cut off is known as such.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, Field, TypeAdapter, ValidationError
from pydantic.alias_generators import to_camel

from ops_commander.api.fields import Duration, PositiveDuration, Resource, Time, format_duration, format_time
from ops_commander.api.policy import RolloutPolicySpec
from ops_commander.api.v1alpha1 import (
    DeploymentStatus,
    ModelRollout,
    ModelRolloutSpec,
    ObjectiveStatus,
    RollbackStatus,
)
from ops_commander.api.verification import VerificationStatus
from ops_commander.core import names
from ops_commander.core.objectives import target_text
from ops_commander.core.samples import PodSamples, Sample, tick_at_or_before
from ops_commander.core.snapshot import RunRecord

VERSION: Final = "v1alpha1"
MOST_CHARACTERS: Final = 64 * 2**20
"""Of one line."""

Number = Annotated[float, Field(allow_inf_nan=False, strict=True)]
Place = Annotated[int, Field(ge=0, strict=True)]
Bound = Number | Literal["+Inf", "-Inf"]
AnyNumber = Number | Literal["NaN", "+Inf", "-Inf"]


class RecordingProblem(Exception):
    """A recording that cannot be used; the text says where, why, and what was expected."""


class RecordedRun(Resource):
    """An MLflow run as objectives read it."""

    run_id: str
    """Its id."""
    metrics: dict[str, AnyNumber] = {}
    """Latest value of each metric."""
    artifacts: list[str] = []
    """Paths that objectives ask for and that exist."""
    artifact_uri: str = ""
    """Where its artifacts are."""

    @classmethod
    def of(cls, record: RunRecord) -> RecordedRun:
        return cls(
            run_id=record.run_id,
            metrics={name: _written(value) for name, value in sorted(record.metrics.items())},
            artifacts=sorted(record.artifacts),
            artifact_uri=record.artifact_uri,
        )

    @property
    def record(self) -> RunRecord:
        metrics = {name: float(value) for name, value in self.metrics.items()}
        return RunRecord(self.run_id, metrics, frozenset(self.artifacts), self.artifact_uri)


class Recording(Resource):
    """The first line: one deployment, how it was to be judged, and what happened."""

    kind: Literal["Recording"] = "Recording"
    version: Literal["v1alpha1"] = VERSION
    name: str
    """Name of the ModelRollout."""
    namespace: str
    """Its namespace."""
    recorded_at: Time
    """When this was written; a deployment under way is recorded up to then."""
    source: str = ""
    """Name of the Prometheus server that was asked."""
    interval: PositiveDuration
    """Time between ticks; they stand at whole multiples of it since 1970."""
    stale_after: Duration
    """Age from which an answer says nothing about now."""
    spec: ModelRolloutSpec
    """Spec of the ModelRollout; of its pod template the names and images of the containers alone."""
    policy: RolloutPolicySpec
    """The policy with presets replaced by their queries."""
    deployment: DeploymentStatus
    """`status.deployment`, with the journal of its transitions."""
    rollback: RollbackStatus | None = None
    """`status.rollback`, if it is about this deployment."""
    objectives: list[ObjectiveStatus] = []
    """`status.objectives`: a replay must come to the same rows."""
    runs: list[RecordedRun] = []
    """MLflow runs that objectives read."""
    verification: VerificationStatus | None = None
    """What was found of the candidate's files, which its risk is made of."""
    queries: list[str]
    """PromQL whose counters the ticks hold; series name them by their place here, from 0."""


class SeriesLine(Resource):
    """A series, told once in the line in which it first has a value. Its number is its place in the whole file."""

    query: Place
    """Place of the query in `queries`."""
    arm: Literal["candidate", "stable"]
    """Whose pod it is."""
    pod: str
    """Name of the pod."""
    name: str = ""
    """Its labels without namespace and pod."""
    edge: Bound | None = None
    """Upper edge (`le`) of a classic histogram's bucket."""
    moment: tuple[int, int] | None = None
    """Powers (i, j) of the sum Σ x^i·y^j."""


Plain = tuple[Place, Number]
Histogram = tuple[Place, Number, list[tuple[Bound, Bound, Number]]]


class TickLine(Resource):
    """A tick: every series that was there, as it stood."""

    at: Time
    """The moment that was asked for."""
    series: list[SeriesLine] = []
    """Series that have no number yet."""
    values: list[Plain | Histogram] = []
    """Number of the series and its value; a native histogram's count and its buckets [lower, upper, count] besides."""


class EndLine(Resource):
    """The last line."""

    kind: Literal["End"]
    ticks: Place
    """How many there are."""


@dataclass(frozen=True, slots=True)
class Tick:
    """The counters of both arms at one tick, by query."""

    at: datetime
    candidate: Mapping[str, PodSamples] = field(default_factory=dict)
    stable: Mapping[str, PodSamples] = field(default_factory=dict)

    def arms(self, queries: Iterable[str]) -> tuple[list[PodSamples], list[PodSamples]]:
        """Samples of candidate and stable, query by query."""
        wanted = list(queries)
        return [self.candidate.get(query, {}) for query in wanted], [self.stable.get(query, {}) for query in wanted]


def bare(template: Mapping[str, Any]) -> dict[str, Any]:
    """A pod template that holds no secrets: names and images of the containers."""
    containers = [{"name": item.get("name", ""), "image": item.get("image", "")} for item in _containers(template)]
    return {"spec": {"containers": containers}}


def _containers(template: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    found: list[Mapping[str, Any]] = (template.get("spec") or {}).get("containers") or []
    return found


# --- What a rollout's status tells --------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Circumstances:
    """What a status does not tell: how the operator asked."""

    interval: timedelta
    stale_after: timedelta
    source: str = ""
    runs: Sequence[RunRecord] = ()


def recording_of(
    rollout: ModelRollout, policy: RolloutPolicySpec, how: Circumstances, now: datetime, deployment_id: str = ""
) -> tuple[Recording, list[str]]:
    """The first line for a rollout's latest deployment, and what makes its replay doubtful.

    `policy` has its presets resolved. Raises RecordingProblem where status lacks something that a replay needs.
    """
    deployment = _recordable(rollout, deployment_id)
    rollback, metadata = rollout.status.rollback, rollout.metadata
    recording = Recording(
        name=metadata["name"],
        namespace=metadata["namespace"],
        recorded_at=now,
        source=how.source,
        interval=how.interval,
        stale_after=how.stale_after,
        spec=rollout.spec.model_copy(update={"template": bare(rollout.spec.template)}),
        policy=policy,
        deployment=deployment,
        rollback=rollback if rollback and rollback.deployment_id == deployment.id else None,
        objectives=rollout.status.objectives,
        runs=[RecordedRun.of(run) for run in how.runs],
        verification=rollout.status.verification,
        queries=sorted({query for objective in policy.objectives for query in objective.queries}),
    )
    return recording, _doubts(rollout, recording)


def _recordable(rollout: ModelRollout, wanted: str) -> DeploymentStatus:
    deployment, name = rollout.status.deployment, rollout.metadata["name"]
    if deployment is None:
        raise RecordingProblem(f"{name}: status.deployment is missing: expected a deployment under way or past")
    if wanted and wanted != deployment.id:
        only = "status has the journal of the latest one alone"
        raise RecordingProblem(f"--deployment is {wanted!r}: expected {deployment.id!r}; {only}")
    problem = _missing(deployment) or _edited(rollout, deployment)
    if problem:
        raise RecordingProblem(f"{deployment.id}: {problem}")
    return deployment


def _missing(deployment: DeploymentStatus) -> str | None:
    if deployment.stable_revision is None:
        return "status.deployment.stableRevision is missing: expected one to be held against; a first version has none"
    if not deployment.transitions:
        return "status.deployment.transitions is empty: expected the journal of its states"
    if any(item.rule == "replanned" for item in deployment.transitions):
        return "spec.steps was edited under way: expected steps that stayed, as spec has only the latest ones"
    return None


def _edited(rollout: ModelRollout, deployment: DeploymentStatus) -> str | None:
    now = names.revision_of(rollout.spec)
    if now != deployment.revision:
        return f"spec asks for revision {now} by now: expected {deployment.revision}, whose steps and model are gone"
    labels = [step.label for step in rollout.spec.steps]
    for number, record in enumerate(deployment.steps):
        if record.name not in labels[number : number + 1]:
            return f"spec.steps is {', '.join(labels)} by now: expected step {number + 1} to be {record.name}"
    return None


def _doubts(rollout: ModelRollout, recording: Recording) -> list[str]:
    """The policy may have been edited since; what its rows said is still there."""
    known = {objective.name: objective for objective in recording.policy.objectives}
    found = []
    for row in rollout.status.objectives:
        objective = known.get(row.name)
        if objective is None or target_text(objective) != row.target:
            now = target_text(objective) if objective else "not there"
            found.append(f"the policy has changed: objective {row.name} was {row.target}, and is {now}")
    return found


# --- Writing ------------------------------------------------------------------------------------------


class Encoder:
    """Turns a recording into lines. Each ends with a line break."""

    def __init__(self, recording: Recording) -> None:
        self._recording = recording
        self._numbers: dict[tuple[int, str, str, str, float | None, tuple[int, int] | None], int] = {}
        self._ticks = 0

    def header(self) -> str:
        return self._recording.model_dump_json(by_alias=True, exclude_none=True) + "\n"

    def tick(self, tick: Tick) -> str:
        line: dict[str, Any] = {"at": format_time(tick.at)}
        new: list[dict[str, Any]] = []
        values: list[list[Any]] = []
        for number, query in enumerate(self._recording.queries):
            for arm, samples in (("candidate", tick.candidate), ("stable", tick.stable)):
                for pod, rows in samples.get(query, {}).items():
                    values += [self._value(number, arm, pod, sample, new) for sample in rows]
        if new:
            line["series"] = new
        self._ticks += 1
        return _json({**line, "values": values})

    def end(self) -> str:
        return _json({"kind": "End", "ticks": self._ticks})

    def _value(self, query: int, arm: str, pod: str, sample: Sample, new: list[dict[str, Any]]) -> list[Any]:
        key = (query, arm, pod, sample.series, sample.edge, sample.moment)
        number = self._numbers.get(key)
        if number is None:
            number = self._numbers[key] = len(self._numbers)
            line: dict[str, Any] = {"query": query, "arm": arm, "pod": pod, "name": sample.series}
            if sample.edge is not None:
                line["edge"] = _written(sample.edge)
            if sample.moment is not None:
                line["moment"] = list(sample.moment)
            new.append(line)
        if sample.buckets is None:
            return [number, sample.value]
        buckets = [[_written(lower), _written(upper), count] for lower, upper, count in sample.buckets]
        return [number, sample.value, buckets]


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False) + "\n"


def _written(value: float) -> Any:
    """JSON has no infinity."""
    if math.isnan(value):
        return "NaN"
    return value if math.isfinite(value) else "+Inf" if value > 0 else "-Inf"


# --- Reading ------------------------------------------------------------------------------------------


def decoded(lines: Iterable[str], name: str) -> tuple[Recording, Iterator[Tick]]:
    """The first line, and the ticks one by one. Both raise RecordingProblem, which names the line."""
    numbered = iter(enumerate(lines, 1))
    first = next(numbered, None)
    if first is None:
        raise RecordingProblem(f"{name} is empty: expected a recording, whose first line is its header")
    _check_version(first[1], name)
    recording = _parsed(_HEADER, first[1], f"{name}:1", "a recording's header")
    _check_header(recording, f"{name}:1")
    return recording, _Decoder(recording, name).ticks(numbered)


_HEADER: Final = TypeAdapter(Recording)
_TICK: Final = TypeAdapter(TickLine)
_END: Final = TypeAdapter(EndLine)


def _check_version(line: str, name: str) -> None:
    """Before all else: a newer version may have any fields."""
    try:
        said = json.loads(line)
    except (ValueError, RecursionError):
        return
    if isinstance(said, dict) and said.get("kind") == "Recording" and said.get("version") != VERSION:
        raise RecordingProblem(f"{name}:1: version is {said.get('version')!r}: expected {VERSION!r}")


def _check_header(recording: Recording, place: str) -> None:
    wanted = {query for objective in recording.policy.objectives for query in objective.queries}
    _check_times(recording, place)
    missing = sorted(wanted - set(recording.queries))
    if missing:
        raise RecordingProblem(f"{place}: queries lacks {missing[0]!r}, which the policy asks: expected all of them")


def _check_times(model: BaseModel, place: str, path: str = "") -> None:
    """A time without a zone could be any time."""
    for name, value in model:
        for number, item in enumerate(value if isinstance(value, list) else [value]):
            where = f"{path}{to_camel(name)}" + (f".{number}" if isinstance(value, list) else "")
            if isinstance(item, BaseModel):
                _check_times(item, place, f"{where}.")
            elif isinstance(item, datetime) and item.tzinfo is None:
                raise RecordingProblem(f"{place}: {where} is {item.isoformat()}: expected a time with its zone, or Z")


def _parsed(adapter: TypeAdapter[Any], line: str, place: str, what: str) -> Any:
    try:
        return adapter.validate_json(line)
    except ValidationError as error:
        raise RecordingProblem(f"{place}: {_told(error, line, what)}") from None


def _told(error: ValidationError, line: str, what: str) -> str:
    """Field, value and what was expected, of the first thing that is wrong."""
    first = error.errors(include_url=False)[0]
    if first["type"] == "json_invalid":
        cut = not line.endswith("\n")
        return f"the line is {'cut off' if cut else 'not JSON'}: expected {what} ({first.get('ctx', {}).get('error')})"
    field_ = ".".join(str(part) for part in first["loc"]) or "the line"
    if first["type"] == "missing":
        return f"{field_} is missing: expected {what}"
    said = first["msg"].removeprefix("Value error, ")
    return f"{field_} is {first['input']!r:.80}: {said[:1].lower()}{said[1:]}"


class _Decoder:
    def __init__(self, recording: Recording, name: str) -> None:
        self._recording = recording
        self._name = name
        self._series: list[tuple[SeriesLine, float | None]] = []
        self._ticks = 0
        self._last: datetime | None = None

    def ticks(self, numbered: Iterator[tuple[int, str]]) -> Iterator[Tick]:
        number = 1
        for number, line in numbered:
            place = f"{self._name}:{number}"
            if '"kind"' in line[:100]:
                self._check_end(_parsed(_END, line, place, "the end of a recording"), place)
                if next(numbered, None) is not None:
                    raise RecordingProblem(f"{self._name}:{number + 1}: expected nothing after the end")
                return
            yield self._tick(_parsed(_TICK, line, place, "a tick"), place)
        raise RecordingProblem(
            f"{self._name}:{number + 1}: the file ends after {self._ticks} ticks without its last line:"
            ' expected {"kind":"End",…}; it was cut off, so record or copy it again'
        )

    def _check_end(self, end: EndLine, place: str) -> None:
        if end.ticks != self._ticks:
            raise RecordingProblem(f"{place}: ticks is {end.ticks}: expected {self._ticks}, as many as there are")

    def _tick(self, line: TickLine, place: str) -> Tick:
        self._check_order(line, place)
        self._last = line.at
        self._ticks += 1
        for series in line.series:
            if series.query >= len(self._recording.queries):
                most = len(self._recording.queries) - 1
                raise RecordingProblem(f"{place}: series.query is {series.query}: expected at most {most}")
            self._series.append((series, None if series.edge is None else float(series.edge)))
        arms = {"candidate": _Rows(), "stable": _Rows()}
        for value in line.values:
            if value[0] >= len(self._series):
                raise RecordingProblem(f"{place}: values names series {value[0]}: expected one that was told before")
            series, edge = self._series[value[0]]
            sample = Sample(series.name, value[1], edge, _buckets(value), series.moment)
            arms[series.arm].add(self._recording.queries[series.query], series.pod, sample)
        return Tick(line.at, arms["candidate"].by_query(), arms["stable"].by_query())

    def _check_order(self, line: TickLine, place: str) -> None:
        _check_times(line, place)
        interval = self._recording.interval
        if self._last is not None and line.at != self._last + interval:
            expected = f"{format_time(self._last + interval)}, one interval after the tick before"
        elif tick_at_or_before(line.at, interval) != line.at:
            expected = f"a whole multiple of {format_duration(interval)} since 1970"
        else:
            return
        raise RecordingProblem(f"{place}: at is {format_time(line.at)}: expected {expected}")


def _buckets(value: Sequence[Any]) -> tuple[tuple[float, float, float], ...] | None:
    if len(value) < 3:
        return None
    return tuple((float(lower), float(upper), count) for lower, upper, count in value[2])


@dataclass
class _Rows:
    found: dict[str, dict[str, list[Sample]]] = field(default_factory=dict)

    def add(self, query: str, pod: str, sample: Sample) -> None:
        self.found.setdefault(query, {}).setdefault(pod, []).append(sample)

    def by_query(self) -> dict[str, PodSamples]:
        return {query: {pod: tuple(rows) for pod, rows in pods.items()} for query, pods in self.found.items()}


# --- The schema ---------------------------------------------------------------------------------------


def json_schema() -> str:
    """JSON Schema 2020-12 of a line."""
    schema = TypeAdapter(Recording | TickLine | EndLine).json_schema(by_alias=True)
    document = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Line of a recording",
        "description": "A recording is a file of such lines: one Recording, its ticks, and the End.",
        **_plain(schema),
    }
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"


def _plain(node: Any) -> Any:
    """Without what only the API server understands, and without titles that repeat the name."""
    if isinstance(node, list):
        return [_plain(item) for item in node]
    if not isinstance(node, dict):
        return node
    kept = {key: value for key, value in node.items() if not key.startswith("x-kubernetes-")}
    if isinstance(kept.get("title"), str):
        del kept["title"]
    if isinstance(kept.get("description"), str):
        kept["description"] = " ".join(kept["description"].split())
    return {key: _plain(value) for key, value in kept.items()}
