"""The format of recordings: nothing is lost on the way, and what is not a recording is told where and why."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as some

from ops_commander.api.v1alpha1 import ModelRollout
from ops_commander.core import presets
from ops_commander.core.recordings.recording import (
    Circumstances,
    RecordedRun,
    Recording,
    RecordingProblem,
    Tick,
    bare,
    decoded,
    json_schema,
    recording_of,
)
from ops_commander.core.samples import PodSamples, Sample
from ops_commander.core.snapshot import RunRecord
from tests.unit.recorded import STALE_AFTER, Recorded, at, lines, trying
from tests.unit.world import POLICY, START, TICK, rollout


@pytest.fixture(scope="module")
def good() -> Recorded:
    return trying(rollout()).ended()


@pytest.fixture
def recording(good: Recorded) -> Recording:
    return good.recording()


# --- Nothing is lost ------------------------------------------------------------------------------------

finite = some.floats(allow_nan=False, allow_infinity=False)
bounds = some.floats(allow_nan=False)
buckets = some.none() | some.lists(some.tuples(bounds, bounds, finite), max_size=3).map(tuple)
moments = some.none() | some.tuples(some.integers(0, 4), some.integers(0, 4))
samples = some.builds(
    Sample, series=some.text(max_size=9), value=finite, edge=some.none() | bounds, buckets=buckets, moment=moments
)
pods = some.dictionaries(some.text(min_size=1, max_size=5), some.lists(samples, min_size=1, max_size=3).map(tuple))
QUERIES = ["errors_total", "requests_total", "seconds_bucket"]
arms = some.dictionaries(some.sampled_from(QUERIES), pods.filter(bool), max_size=3)


@given(counted=some.lists(some.tuples(arms, arms), max_size=4))
def test_ticks_survive_their_text(
    good: Recorded, counted: list[tuple[dict[str, PodSamples], dict[str, PodSamples]]]
) -> None:
    ticks = [Tick(START + number * TICK, mine, theirs) for number, (mine, theirs) in enumerate(counted)]

    again, found = decoded(lines(good.recording(), ticks), "test")

    assert again == good.recording()
    assert in_order(found) == in_order(ticks)


def in_order(ticks: Any) -> list[Any]:
    """With the order of pods and samples: sums of fractions depend on it. A dict's equality does not."""
    return [(tick.at, _ordered(tick.candidate), _ordered(tick.stable)) for tick in ticks]


def _ordered(arm: Mapping[str, PodSamples]) -> list[Any]:
    return [(query, [(pod, [repr(row) for row in rows]) for pod, rows in arm[query].items()]) for query in sorted(arm)]


def test_a_series_is_told_once(good: Recorded) -> None:
    ticks = [json.loads(line) for line in good.lines()[1:-1]]

    told = [json.dumps(item) for tick in ticks for item in tick.get("series", [])]
    assert len(told) == len(set(told)) == 18


def test_a_run_survives_its_text(good: Recorded) -> None:
    metrics = {"loss": math.nan, "worst": -math.inf, "best": math.inf, "accuracy": 0.1 + 0.2}
    record = RunRecord("8f", metrics, frozenset({"a/b.json"}), "s3://models/8f")
    recording = good.recording().model_copy(update={"runs": [RecordedRun.of(record)]})

    again, _ = decoded(lines(recording, ()), "test")

    [found] = [run.record for run in again.runs]
    assert repr(sorted(found.metrics.items())) == repr(sorted(metrics.items()))
    assert replace(found, metrics={}) == replace(record, metrics={})


def test_a_recording_has_no_secrets_of_the_pods() -> None:
    server = {
        "name": "server",
        "image": "ranker:2",
        "env": [{"name": "TOKEN", "value": "hidden"}],
        "args": ["--key=hidden"],
    }
    template = {
        "metadata": {"annotations": {"note": "hidden"}},
        "spec": {"containers": [server], "volumes": ["hidden"]},
    }

    assert bare(template) == {"spec": {"containers": [{"name": "server", "image": "ranker:2"}]}}


# --- What is no recording -------------------------------------------------------------------------------


def tick(number: int = 0, **fields: Any) -> str:
    at = (START + number * TICK).isoformat()
    return json.dumps({"at": at, "values": [], **fields}) + "\n"


END = '{"kind":"End","ticks":1}\n'
SERIES = {"query": 0, "arm": "stable", "pod": "a", "name": ""}

LATER = "expected 2026-01-05T09:00:05.000Z, one interval after the tick before"

BROKEN: list[tuple[list[str], str]] = [
    ([tick()], ':3: the file ends after 1 ticks without its last line: expected {"kind":"End",…}'),
    ([], ":2: the file ends after 0 ticks without its last line"),
    ([tick(), '{"at":"2026-01-05T09:00:05Z","val'], ":3: the line is cut off: expected a tick"),
    ([tick(), "no JSON\n", END], ":3: the line is not JSON: expected a tick"),
    ([tick(), "\n", END], ":3: the line is not JSON: expected a tick"),
    (["[]\n", END], ":2: the line is []: "),
    (["{}\n", END], ":2: at is missing: expected a tick"),
    ([tick(at="soon"), END], ":2: at is 'soon': "),
    ([tick(at="2026-01-05T09:00:00"), END], ":2: at is 2026-01-05T09:00:00: expected a time with its zone, or Z"),
    ([tick(at="2026-01-05T09:00:01Z"), END], ":2: at is 2026-01-05T09:00:01.000Z: expected a whole multiple of 5s"),
    ([tick(), tick(), END], f":3: at is 2026-01-05T09:00:00.000Z: {LATER}"),
    ([tick(), tick(2), END], ":3: at is 2026-01-05T09:00:10.000Z: expected 2026-01-05T09:00:05.000Z"),
    ([tick(1), tick(), END], ":3: at is 2026-01-05T09:00:00.000Z: expected 2026-01-05T09:00:10.000Z"),
    ([tick(values=[[0, 1.0]]), END], ":2: values names series 0: expected one that was told before"),
    ([tick(series=[{**SERIES, "query": 9}]), END], ":2: series.query is 9: expected at most 2"),
    ([tick(series=[{**SERIES, "arm": "other"}]), END], ":2: series.0.arm is 'other': "),
    ([tick(series=[{**SERIES, "edge": "NaN"}]), END], ":2: series.0.edge"),
    ([tick(series=[SERIES], values=[[0, math.nan]]), END], ":2: values.0."),
    ([tick(series=[SERIES], values=[[0, math.inf]]), END], ":2: values.0."),
    ([tick(series=[SERIES], values=[[0, "1"]]), END], ":2: values.0."),
    ([tick(series=[SERIES], values=[[0]]), END], ":2: values.0."),
    ([tick(), '{"kind":"End","ticks":7}\n'], ":3: ticks is 7: expected 1, as many as there are"),
    ([tick(), '{"kind":"End"}\n'], ":3: ticks is missing: expected the end of a recording"),
    ([tick(), END, tick(1)], ":4: expected nothing after the end"),
]


@pytest.mark.parametrize(("rest", "said"), BROKEN, ids=[said for _, said in BROKEN])
def test_what_is_wrong_with_ticks_is_told_with_its_line(recording: Recording, rest: list[str], said: str) -> None:
    header = next(lines(recording, ()))

    with pytest.raises(RecordingProblem) as problem:
        list(decoded([header, *rest], "file")[1])

    assert str(problem.value).startswith(f"file{said}")


def header(change: Callable[[dict[str, Any]], object]) -> Callable[[Recording], str]:
    def changed(recording: Recording) -> str:
        body = json.loads(next(lines(recording, ())))
        change(body)
        return json.dumps(body) + "\n"

    return changed


@pytest.mark.parametrize(
    ("first", "said"),
    [
        (header(lambda body: body.update(version="v2")), "file:1: version is 'v2': expected 'v1alpha1'"),
        (header(lambda body: body.update(kind="Tape")), "file:1: kind is 'Tape': input should be 'Recording'"),
        (header(lambda body: body.pop("interval")), "file:1: interval is missing: expected a recording's header"),
        (header(lambda body: body.update(interval="0s")), "file:1: interval is '0s': expected more than 0"),
        (header(lambda body: body["deployment"].pop("id")), "file:1: deployment.id is missing: expected a recording's"),
        (header(lambda body: body["queries"].pop()), "file:1: queries lacks 'seconds_bucket', which the policy asks"),
        (
            header(lambda body: body["deployment"]["transitions"][1].update(at="2026-01-05T09:00:00")),
            "file:1: deployment.transitions.1.at is 2026-01-05T09:00:00: expected a time with its zone, or Z",
        ),
        (lambda _: '{"kind":"Recording","vers', "file:1: the line is cut off: expected a recording's header"),
        (lambda _: "[" * 5000 + "\n", "file:1: the line is not JSON: expected a recording's header"),
        (lambda _: END, "file:1: kind is 'End': input should be 'Recording'"),
    ],
)
def test_what_is_wrong_with_the_header_is_told(
    recording: Recording, first: Callable[[Recording], str], said: str
) -> None:
    with pytest.raises(RecordingProblem) as problem:
        decoded([first(recording)], "file")

    assert str(problem.value).startswith(said)


def test_an_empty_file_is_told() -> None:
    with pytest.raises(RecordingProblem, match="file is empty: expected a recording"):
        decoded([], "file")


def test_fields_of_a_later_minor_version_are_passed_over(recording: Recording) -> None:
    first = header(lambda body: body.update(weather="fine"))(recording)

    assert decoded([first, tick(wind=3), END], "file")[0] == recording


# --- What status must have ------------------------------------------------------------------------------


def recorded(rollout_: ModelRollout, deployment_id: str = "") -> tuple[Recording, list[str]]:
    how = Circumstances(TICK, STALE_AFTER)
    return recording_of(rollout_, presets.resolved(POLICY), how, datetime(2026, 1, 5, 10, tzinfo=UTC), deployment_id)


def with_deployment(world: Recorded, **fields: Any) -> ModelRollout:
    found = world.rollout()
    deployment = world.deployment.model_copy(update=fields)
    return found.model_copy(update={"status": found.status.model_copy(update={"deployment": deployment})})


def with_spec(world: Recorded, **fields: Any) -> ModelRollout:
    found = world.rollout()
    spec = found.spec.model_dump(mode="json", by_alias=True, exclude_none=True)
    return found.model_copy(update={"spec": type(found.spec).model_validate({**spec, **fields})})


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda world: with_deployment(world, stable_revision=None), "status.deployment.stableRevision is missing"),
        (lambda world: with_deployment(world, transitions=[]), "status.deployment.transitions is empty"),
        (lambda world: with_spec(world, model={"name": "ranker", "version": "9"}), "spec asks for revision"),
        (
            lambda world: with_spec(world, steps=[{"shadow": {}}, {"full": {}}]),
            "spec.steps is shadow, full by now: expected step 2 to be canary 5%",
        ),
    ],
)
def test_a_rollout_whose_status_does_not_tell_all_is_refused(
    good: Recorded, change: Callable[[Recorded], ModelRollout], said: str
) -> None:
    with pytest.raises(RecordingProblem) as problem:
        recorded(change(good))

    assert said in str(problem.value) and "expected" in str(problem.value)


def test_a_first_version_is_not_recorded() -> None:
    world = Recorded(rollout())
    with pytest.raises(RecordingProblem, match=r"^ranker: status.deployment is missing: expected"):
        recorded(world.rollout())

    world.until(lambda: world.outcome is not None)
    with pytest.raises(RecordingProblem, match="a first version has none"):
        recorded(world.rollout())


def test_only_the_latest_deployment_is_recorded(good: Recorded) -> None:
    recording, _ = recorded(good.rollout(), good.deployment.id)
    assert recording.deployment == good.deployment

    with pytest.raises(RecordingProblem, match=r"^--deployment is 'ranker-x-1': expected 'ranker-"):
        recorded(good.rollout(), "ranker-x-1")


def test_an_edited_policy_makes_doubtful(good: Recorded) -> None:
    policy = POLICY.model_copy(update={"objectives": [POLICY.objectives[0].model_copy(update={"max": 0.5})]})

    _, doubts = recording_of(good.rollout(), policy, Circumstances(TICK, STALE_AFTER), good.now)

    assert doubts == [
        "the policy has changed: objective error-rate was < 0.01, and is < 0.5",
        "the policy has changed: objective p95-latency was < 0.5s, and is not there",
    ]
    assert recorded(good.rollout())[1] == []


def test_a_deployment_under_way_is_recorded_up_to_now() -> None:
    world = at(rollout(), "canary 5%")

    recording = world.recording()

    assert recording.deployment.outcome is None
    assert recording.recorded_at == world.now
    assert recording.stale_after == timedelta(seconds=12)


# --- The schema -----------------------------------------------------------------------------------------


def test_the_schema_tells_every_field_that_is_written(good: Recorded) -> None:
    schema = json.loads(json_schema())
    definitions = schema["$defs"]
    assert [branch["$ref"].rpartition("/")[2] for branch in schema["anyOf"]] == ["Recording", "TickLine", "EndLine"]

    header_, *ticks, end = (json.loads(line) for line in good.lines())
    series = next(line["series"][0] for line in ticks if "series" in line)

    assert set(header_) <= set(definitions["Recording"]["properties"])
    assert set().union(*ticks) <= set(definitions["TickLine"]["properties"])
    assert set(end) == set(definitions["EndLine"]["properties"])
    assert set(series) <= set(definitions["SeriesLine"]["properties"])
    for name in ("Recording", "SeriesLine", "TickLine", "EndLine", "RecordedRun"):
        fields = definitions[name]["properties"].items()
        assert all(field in ("kind", "version") or value.get("description") for field, value in fields)


def test_the_schema_is_plain_json_schema() -> None:
    text = json_schema()

    assert "x-kubernetes" not in text
    assert re.search(r'"minimum": 0', text)
