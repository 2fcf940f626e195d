"""What the API server makes of the project's resources, with strict field validation as kubectl asks for."""

from __future__ import annotations

import copy
import json
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, cast

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from kubernetes.aio import client

from ops_commander.api.fields import MAX_DURATION, format_duration
from ops_commander.api.policy import DEFAULT_POLICY, RolloutPolicy, RolloutPolicySpec
from ops_commander.api.schema import KINDS
from ops_commander.api.v1alpha1 import (
    API_VERSION,
    DeploymentStatus,
    ModelRollout,
    ModelRolloutSpec,
    ModelRolloutStatus,
    Phase,
    StepState,
    StepStatus,
)
from tests.integration.controlplane import ApiServer

GROUP, VERSION = API_VERSION.split("/")
SAMPLES = Path(__file__).parents[2] / "manifests" / "samples"
ABSENT = object()

TEST = {"spec": {"containers": [{"name": "test", "image": "registry.example/tests:1"}]}}
ROLLOUT: dict[str, Any] = {
    "apiVersion": API_VERSION,
    "kind": "ModelRollout",
    "metadata": {"name": "ranker"},
    "spec": {
        "model": {"name": "ranker", "version": "12"},
        "template": {
            "metadata": {"labels": {"app": "ranker"}},
            "spec": {"containers": [{"name": "server", "image": "registry.example/ranker:12"}]},
        },
        "traffic": {"gatewayAPI": {"parentRefs": [{"name": "models"}]}},
        "steps": [{"shadow": {}}, {"canary": {"weight": 5}}, {"canary": {"weight": 25}}, {"full": {}}],
    },
}
POLICY: dict[str, Any] = {
    "apiVersion": API_VERSION,
    "kind": "RolloutPolicy",
    "metadata": {"name": "default"},
    "spec": {
        "verification": "Optional",
        "objectives": [
            {"name": "errors", "ratio": {"bad": "bad_total", "total": "all_total"}, "max": 0.01},
            {"name": "latency", "quantile": {"buckets": "seconds_bucket"}, "max": 0.5},
        ],
    },
}


def changed(base: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """A copy with values set, or removed where ABSENT, by dotted path."""
    result = copy.deepcopy(base)
    for path, value in changes.items():
        *parents, last = [int(part) if part.isdigit() else part for part in path.split(".")]
        node: Any = result
        for part in parents:
            node = node[part] if isinstance(part, int) else node.setdefault(part, {})
        if value is ABSENT:
            del node[last]
        else:
            node[last] = value
    return result


def dumped(model: ModelRolloutSpec | RolloutPolicySpec | ModelRolloutStatus) -> dict[str, Any]:
    return model.model_dump(mode="json", by_alias=True, exclude_none=True)


class Objects:
    """Rollouts and policies of one namespace."""

    def __init__(self, kube: client.ApiClient, namespace: str) -> None:
        self._api = client.CustomObjectsApi(kube)
        self.namespace = namespace

    async def create(self, body: dict[str, Any], *, dry_run: bool = False) -> dict[str, Any]:
        made = await self._api.create_namespaced_custom_object(
            *(GROUP, VERSION, self.namespace, _plural(body), body),
            dry_run="All" if dry_run else None,
            field_validation="Strict",
        )
        return cast(dict[str, Any], made)

    async def replace(self, body: dict[str, Any]) -> dict[str, Any]:
        made = await self._api.replace_namespaced_custom_object(
            *(GROUP, VERSION, self.namespace, _plural(body), body["metadata"]["name"], body), field_validation="Strict"
        )
        return cast(dict[str, Any], made)

    async def apply_status(self, body: dict[str, Any]) -> dict[str, Any]:
        made = await self._api.patch_namespaced_custom_object_status(
            *(GROUP, VERSION, self.namespace, _plural(body), body["metadata"]["name"], body),
            field_manager="ops-commander",
            field_validation="Strict",
            force=True,
            _content_type="application/apply-patch+yaml",
        )
        return cast(dict[str, Any], made)

    async def refusal(self, body: dict[str, Any]) -> str:
        """Why the API server does not take the object."""
        with pytest.raises(client.ApiException) as refused:
            await self.create(body, dry_run=True)
        return _message(refused.value)


def _plural(body: dict[str, Any]) -> str:
    return next(kind.plural for kind in KINDS if kind.name == body["kind"])


def _message(error: client.ApiException) -> str:
    message: str = json.loads(error.body or "{}")["message"]
    return message


@pytest.fixture
def objects(kube: client.ApiClient, namespace: str) -> Objects:
    return Objects(kube, namespace)


# --- accepted ------------------------------------------------------------------------------------


async def test_a_good_rollout_is_taken_with_the_defaults_of_its_model(objects: Objects) -> None:
    made = await objects.create(ROLLOUT)

    assert made["spec"] == dumped(ModelRollout.model_validate(ROLLOUT).spec)
    assert "status" not in made, "the server invented a status"


async def test_a_good_policy_is_taken_with_the_defaults_of_its_model(objects: Objects) -> None:
    made = await objects.create(POLICY)

    assert made["spec"] == dumped(RolloutPolicy.model_validate(POLICY).spec)


async def test_the_default_policy_is_one_that_a_user_could_write(objects: Objects) -> None:
    made = await objects.create({**POLICY, "spec": dumped(DEFAULT_POLICY)})

    assert RolloutPolicy.model_validate(made).spec == DEFAULT_POLICY


ACCEPTED: dict[str, dict[str, Any]] = {
    "one step": {"spec.steps": [{"full": {}}]},
    "the longest name": {"metadata.name": "r" * 40},
    "an existing route": {"spec.traffic.gatewayAPI": {"httpRouteRef": {"name": "shop"}}},
    "selector in the template": {"spec.selector": {"matchLabels": {"app": "ranker"}}},
    "equal weights": {"spec.steps": [{"canary": {"weight": 5}}, {"canary": {"weight": 5}}, {"full": {}}]},
    "no dwell": {"spec.steps": [{"canary": {"weight": 5, "minDuration": "0s"}}, {"full": {"bake": "0s"}}]},
    "unusual fields of the pod": {"spec.template.spec.securityContext": {"runAsNonRoot": True}},
    "a container's fields": {"spec.template.spec.containers.0.args": ["--model", "12"]},
    "an alias, verified": {
        "spec.model": {"name": "ranker", "alias": "challenger"},
        "spec.preflight": {"waiver": {"version": "2", "reason": "callers have moved"}},
    },
    "tests": {
        "spec.preflight": {
            "manifestSha256": "ab" * 32,
            "tests": [{"name": "smoke", "kind": "Smoke", "template": TEST, "timeout": "2m"}],
        }
    },
    "answers compared": {
        "spec.steps.0.shadow.compare": {"sample": 5, "tolerance": {"relative": 0.01}, "ignore": ["/id"]}
    },
}


@pytest.mark.parametrize("changes", ACCEPTED.values(), ids=ACCEPTED)
async def test_taken(objects: Objects, changes: dict[str, Any]) -> None:
    body = changed(ROLLOUT, changes)

    made = await objects.create(body)

    assert made["spec"] == dumped(ModelRollout.model_validate(body).spec)


durations = st.integers(0, int(MAX_DURATION.total_seconds() * 1000)).map(
    lambda millis: format_duration(timedelta(milliseconds=millis))
)


@st.composite
def dwells(draw: st.DrawFn, low: str) -> dict[str, str]:
    short, long = sorted(draw(st.tuples(st.integers(0, 10**6), st.integers(0, 10**6))))
    return {low: format_duration(timedelta(seconds=short)), "maxDuration": format_duration(timedelta(seconds=long))}


@st.composite
def steps(draw: st.DrawFn) -> list[dict[str, Any]]:
    shadows = draw(st.lists(st.fixed_dictionaries({"percent": st.integers(1, 100)}), max_size=2))
    weights = sorted(draw(st.lists(st.integers(1, 99), max_size=5)))
    return [
        *({"shadow": {**shadow, **draw(dwells("minDuration"))}} for shadow in shadows),
        *({"canary": {"weight": weight, **draw(dwells("minDuration"))}} for weight in weights),
        {"full": draw(dwells("bake"))},
    ]


rollout_specs = st.fixed_dictionaries(
    {name: st.just(ROLLOUT["spec"][name]) for name in ("model", "template", "traffic")} | {"steps": steps()},
    optional={
        "replicas": st.integers(0, 10000),
        "drain": durations,
        "progressDeadline": durations.filter(lambda text: text != "0s"),
        "paused": st.booleans(),
        "service": st.fixed_dictionaries({}, optional={"port": st.integers(1, 65535)}),
        "deletionPolicy": st.sampled_from(["KeepStable", "DeleteAll"]),
        "policyRef": st.just({"name": "default"}),
    },
)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(spec=rollout_specs)
async def test_what_is_read_back_means_what_was_written(objects: Objects, spec: dict[str, Any]) -> None:
    made = await objects.create({**ROLLOUT, "spec": spec}, dry_run=True)

    written = ModelRolloutSpec.model_validate(spec)
    assert ModelRollout.model_validate(made).spec == written
    assert made["spec"] == dumped(written)


async def test_status_is_taken_as_the_models_write_it(objects: Objects) -> None:
    made = await objects.create(ROLLOUT)
    now = datetime(2026, 3, 1, 12, 0, 0, 250_000, tzinfo=UTC)
    status = ModelRolloutStatus(
        observed_generation=made["metadata"]["generation"],
        phase=Phase.PROGRESSING,
        step=StepStatus(index=1, name="canary 5%", state=StepState.RUNNING, state_since=now, entered_at=now),
        deployment=DeploymentStatus(id="d-1", revision="abc", model_version="12", generation=1, started_at=now),
    )
    body = {key: ROLLOUT[key] for key in ("apiVersion", "kind", "metadata")} | {"status": dumped(status)}

    applied = await objects.apply_status(body)

    assert applied["status"] == dumped(status)
    assert ModelRollout.model_validate(applied).status == status


# --- refused -------------------------------------------------------------------------------------

_FULL: dict[str, Any] = {"full": {}}


def _canaries(*weights: int) -> list[dict[str, Any]]:
    return [*({"canary": {"weight": weight}} for weight in weights), _FULL]


REFUSED_ROLLOUTS: dict[str, tuple[dict[str, Any], tuple[str, ...]]] = {
    "weight 120": ({"spec.steps": _canaries(120)}, ("spec.steps[0].canary.weight", "120", "less than or equal to 99")),
    "version and alias": (
        {"spec.model.alias": "champion"},
        ("spec.model", "a model has exactly one of version and alias", '["version", "alias"]'),
    ),
    "an alias that nobody resolves": (
        {"spec.model": {"name": "ranker", "alias": "champion"}},
        ("spec.model.alias", "champion", "expected preflight as well"),
    ),
    "two tests of a name": (
        {"spec.preflight": {"tests": [{"name": "a", "template": TEST}, {"name": "a", "template": TEST}]}},
        ("spec.preflight.tests[1]", "Duplicate", '"a"'),
    ),
    "a pin that is none": ({"spec.preflight": {"manifestSha256": "x"}}, ("spec.preflight.manifestSha256", "x")),
    "sample 0": ({"spec.steps.0.shadow.compare": {"sample": 0}}, ("spec.steps[0].shadow.compare.sample", "0")),
    "weight 0": ({"spec.steps": _canaries(0)}, ("spec.steps[0].canary.weight", "0", "greater than or equal to 1")),
    "falling weights": ({"spec.steps": _canaries(25, 5)}, ("spec.steps", "weights may not fall", "[25, 5]")),
    "steps out of order": (
        {"spec.steps": [{"canary": {"weight": 5}}, {"shadow": {}}, _FULL]},
        ("spec.steps", "must go shadow, canary, full", '["canary", "shadow", "full"]'),
    ),
    "full before the end": (
        {"spec.steps": [_FULL, {"canary": {"weight": 5}}]},
        ("spec.steps", "one full step at the end", '["full", "canary"]'),
    ),
    "two full steps": ({"spec.steps": [_FULL, _FULL]}, ("spec.steps", "one full step at the end", '["full", "full"]')),
    "empty steps": ({"spec.steps": []}, ("spec.steps", "at least 1 items")),
    "no steps": ({"spec.steps": ABSENT}, ("spec.steps", "Required")),
    "no full step": (
        {"spec.steps": [{"canary": {"weight": 5}}]},
        ("spec.steps", "one full step at the end", '["canary"]'),
    ),
    "step of two kinds": (
        {"spec.steps": [{"shadow": {}, "canary": {"weight": 5}}, _FULL]},
        ("spec.steps[0]", "exactly one of shadow, canary and full", '["shadow", "canary"]'),
    ),
    "step of no kind": ({"spec.steps": [{}, _FULL]}, ("spec.steps[0]", "exactly one of shadow, canary and full", "[]")),
    "unknown field": ({"spec.stepz": []}, ("spec.stepz", "unknown field")),
    "unknown field in a step": ({"spec.steps.1.canary.wait": "5m"}, ("spec.steps[1].canary.wait", "unknown field")),
    "negative duration": ({"spec.drain": "-5s"}, ("spec.drain", "-5s is not a duration", "0 or more")),
    "not a duration": ({"spec.steps.1.canary.minDuration": "soon"}, ("minDuration", "soon is not a duration", "1h30m")),
    "ISO duration": ({"spec.drain": "PT5S"}, ("spec.drain", "PT5S is not a duration", "30s")),
    "endless duration": ({"spec.drain": "8761h"}, ("spec.drain", "8761h is out of range", "at most 8760h")),
    "overflowing duration": ({"spec.drain": "99999999999h"}, ("spec.drain", "99999999999h is not a duration")),
    "no time to get ready": ({"spec.progressDeadline": "0s"}, ("spec.progressDeadline", "0s", "more than 0")),
    "min over max": (
        {"spec.steps.1.canary": {"weight": 5, "minDuration": "2h", "maxDuration": "1h"}},
        ("spec.steps[1].canary", "minDuration 2h is longer than maxDuration 1h"),
    ),
    "min over the default max": (
        {"spec.steps.0.shadow.minDuration": "2h"},
        ("spec.steps[0].shadow", "minDuration 2h is longer than maxDuration 1h"),
    ),
    "bake over max": (
        {"spec.steps.3.full": {"bake": "90m", "maxDuration": "80m"}},
        ("spec.steps[3].full", "bake 90m is longer than maxDuration 80m"),
    ),
    "route of another namespace": (
        {"spec.traffic.gatewayAPI": {"httpRouteRef": {"name": "shop", "namespace": "other"}}},
        ("httpRouteRef.namespace", "must be in the namespace of the ModelRollout", "other"),
    ),
    "two routes": (
        {"spec.traffic.gatewayAPI.httpRouteRef": {"name": "shop"}},
        ("gatewayAPI", "exactly one of parentRefs and httpRouteRef", '["parentRefs", "httpRouteRef"]'),
    ),
    "no route": (
        {"spec.traffic.gatewayAPI": {}},
        ("gatewayAPI", "exactly one of parentRefs and httpRouteRef", "[]"),
    ),
    "hostnames of another's route": (
        {"spec.traffic.gatewayAPI": {"httpRouteRef": {"name": "shop"}, "hostnames": ["a.example"]}},
        ("gatewayAPI", "hostnames and matches belong to a generated route", "shop"),
    ),
    "selector beside the template": (
        {"spec.selector": {"matchLabels": {"app": "other"}}},
        ("spec.selector", "template.metadata.labels must hold", '{"app":"other"}'),
    ),
    "selector without labels": (
        {"spec.selector": {"matchLabels": {"app": "ranker"}}, "spec.template.metadata": ABSENT},
        ("spec.selector", "template.metadata.labels must hold", '{"app":"ranker"}'),
    ),
    "no containers": ({"spec.template.spec.containers": []}, ("spec.template.spec.containers", "at least 1 items")),
    "container without image": (
        {"spec.template.spec.containers.0.image": ABSENT},
        ("spec.template.spec.containers[0].image", "Required"),
    ),
    "empty image": (
        {"spec.template.spec.containers.0.image": ""},
        ("spec.template.spec.containers[0].image", '""', "at least 1 chars"),
    ),
    "long name": ({"metadata.name": "r" * 41}, ("metadata.name", "r" * 41, "has 41 characters", "at most 40")),
    "name with a dot": ({"metadata.name": "ranker.v1"}, ("metadata.name", "ranker.v1", "a-z, 0-9 and -")),
    "name with a digit first": ({"metadata.name": "1ranker"}, ("metadata.name", "1ranker", "a letter first")),
    "too many replicas": ({"spec.replicas": 10001}, ("spec.replicas", "10001", "less than or equal to 10000")),
    "negative replicas": ({"spec.replicas": -1}, ("spec.replicas", "-1", "greater than or equal to 0")),
    "unknown deletion policy": ({"spec.deletionPolicy": "Keep"}, ("spec.deletionPolicy", "Keep", "KeepStable")),
}


@pytest.mark.parametrize(("changes", "said"), REFUSED_ROLLOUTS.values(), ids=REFUSED_ROLLOUTS)
async def test_refused_rollout(objects: Objects, changes: dict[str, Any], said: tuple[str, ...]) -> None:
    message = await objects.refusal(changed(ROLLOUT, changes))

    assert [words for words in said if words not in message] == [], message
    assert "evaluating rule" not in message, "a rule failed instead of answering"


_FIRST = "spec.objectives.0"
REFUSED_POLICIES: dict[str, tuple[dict[str, Any], tuple[str, ...]]] = {
    "two measures": (
        {f"{_FIRST}.rate": {"requests": "up"}},
        (
            "spec.objectives[0]",
            "exactly one of preset, ratio, quantile, rate, score, pairs, correlation, run and risk",
            '["ratio", "rate"]',
        ),
    ),
    "no measure": (
        {f"{_FIRST}.ratio": ABSENT},
        (
            "spec.objectives[0]",
            "exactly one of preset, ratio, quantile, rate, score, pairs, correlation, run and risk",
            "[]",
        ),
    ),
    "risk below nothing": (
        {f"{_FIRST}.ratio": ABSENT, f"{_FIRST}.risk": {}, f"{_FIRST}.max": 1.5},
        ("spec.objectives[0]", "risk is held against max, within 0 to 1"),
    ),
    "weights": (
        {"spec.risk": {"weights": {"schema": 0.9}}},
        ("spec.risk.weights", "weights must add up to 1"),
    ),
    "bands": ({"spec.risk": {"medium": 0.7}}, ("spec.risk", "medium must not lie above high", "0.7")),
    "max and min": ({f"{_FIRST}.min": 0}, ("spec.objectives[0]", "exactly one of max and min", '["max", "min"]')),
    "no target": ({f"{_FIRST}.max": ABSENT}, ("spec.objectives[0]", "exactly one of max and min", "[]")),
    "one name twice": ({"spec.objectives.1.name": "errors"}, ("spec.objectives[1]", "Duplicate", '"errors"')),
    "name in capitals": ({f"{_FIRST}.name": "Errors"}, ("spec.objectives[0].name", "Errors", "should match")),
    "empty query": ({f"{_FIRST}.ratio.bad": ""}, ("spec.objectives[0].ratio.bad", "the query is empty", "PromQL")),
    "blank query": ({f"{_FIRST}.ratio.bad": " \n"}, ("spec.objectives[0].ratio.bad", "the query is empty", "PromQL")),
    "q 1": ({"spec.objectives.1.quantile.q": 1}, ("spec.objectives[1].quantile.q", "1", "less than 1")),
    "q 0": ({"spec.objectives.1.quantile.q": 0}, ("spec.objectives[1].quantile.q", "0", "greater than 0")),
    "q as percent": ({"spec.objectives.1.quantile.q": 95}, ("spec.objectives[1].quantile.q", "95", "less than 1")),
    "rate of a counter": (
        {f"{_FIRST}.ratio.bad": "sum by (namespace, pod) (rate(bad_total[5m]))"},
        ("spec.objectives[0].ratio.bad", "counters are read as they stand", "remove rate()"),
    ),
    "negative window": (
        {f"{_FIRST}.ratio": ABSENT, f"{_FIRST}.rate": {"requests": "all_total", "window": "-60s"}},
        ("spec.objectives[0].rate.window", "-60s is not a duration", "0 or more"),
    ),
    "no window": (
        {f"{_FIRST}.ratio": ABSENT, f"{_FIRST}.rate": {"requests": "all_total", "window": "0s"}},
        ("spec.objectives[0].rate.window", "0s is out of range", "more than 0"),
    ),
    "unknown preset": (
        {f"{_FIRST}.ratio": ABSENT, f"{_FIRST}.preset": {"name": "apache/errors"}},
        ("spec.objectives[0].preset.name", "apache/errors", "http/errors"),
    ),
    "share in percent": ({f"{_FIRST}.max": 5}, ("spec.objectives[0]", "between 0 and 1", "0.01 for 1 %")),
    "breach before the target": (
        {f"{_FIRST}.breach": 0.001},
        ("spec.objectives[0].breach", "bad side of the target"),
    ),
    "ratio of latencies": (
        {"spec.objectives.1.compare": "Ratio"},
        ("spec.objectives[1].compare", "Ratio is for ratio"),
    ),
    "difference of rates": (
        {f"{_FIRST}.ratio": ABSENT, f"{_FIRST}.rate": {"requests": "all_total"}, f"{_FIRST}.compare": "Difference"},
        ("spec.objectives[0].compare", "no meaning for rate"),
    ),
    "rate of nothing": (
        {f"{_FIRST}.ratio": ABSENT, f"{_FIRST}.rate": {"requests": "all_total"}, f"{_FIRST}.max": 0},
        ("spec.objectives[0]", "a rate is held against a target above 0"),
    ),
    "ratio in percent": (
        {f"{_FIRST}.compare": "Ratio", f"{_FIRST}.max": 120},
        ("spec.objectives[0]", "from 0.01 to 100", "1 stands for no change"),
    ),
    "difference of facts": (
        {
            f"{_FIRST}.ratio": ABSENT,
            f"{_FIRST}.run": {"metric": "risk", "exact": True, "artifact": "risk.json"},
            f"{_FIRST}.compare": "Difference",
        },
        ("spec.objectives[0].compare", "only one with samples"),
    ),
    "run without proof": (
        {f"{_FIRST}.ratio": ABSENT, f"{_FIRST}.run": {"metric": "accuracy", "samples": "n"}},
        ("spec.objectives[0].run.artifact", "Required value"),
    ),
    "run without samples": (
        {f"{_FIRST}.ratio": ABSENT, f"{_FIRST}.run": {"metric": "accuracy", "artifact": "a.json"}},
        ("spec.objectives[0].run", "exactly one of samples, interval, moments and exact"),
    ),
    "hold at once": ({"spec.holdAfter": "0s"}, ("spec.holdAfter", "0s is out of range", "more than 0")),
    "no samples": ({f"{_FIRST}.minSamples": 0}, ("spec.objectives[0].minSamples", "0", "greater than or equal to 1")),
    "unknown step": ({f"{_FIRST}.steps": ["blue"]}, ("spec.objectives[0].steps[0]", "blue", "shadow")),
    "unknown role": ({f"{_FIRST}.role": "Optional"}, ("spec.objectives[0].role", "Optional", "Advisory")),
    "unknown field": ({f"{_FIRST}.maximum": 1}, ("spec.objectives[0].maximum", "unknown field")),
}


@pytest.mark.parametrize(("changes", "said"), REFUSED_POLICIES.values(), ids=REFUSED_POLICIES)
async def test_refused_policy(objects: Objects, changes: dict[str, Any], said: tuple[str, ...]) -> None:
    message = await objects.refusal(changed(POLICY, changes))

    assert [words for words in said if words not in message] == [], message
    assert "evaluating rule" not in message, "a rule failed instead of answering"


async def test_the_selector_stays(objects: Objects) -> None:
    chosen = changed(ROLLOUT, {"spec.selector": {"matchLabels": {"app": "ranker"}}})
    made = await objects.create(chosen)
    changes: list[dict[str, Any]] = [
        {"spec.selector": ABSENT},
        {"spec.selector.matchLabels": {"tier": "x"}, "spec.template.metadata.labels": {"tier": "x"}},
    ]
    for change in changes:
        with pytest.raises(client.ApiException) as refused:
            await objects.replace(changed(made, change))
        message = _message(refused.value)
        assert 'spec.selector: Invalid value: "object": selector cannot be changed from {"app":"ranker"}' in message

    await objects.replace(changed(made, {"spec.replicas": 3}))


# --- kubectl -------------------------------------------------------------------------------------


def test_explain_tells_the_meaning_of_a_field(api_server: ApiServer) -> None:
    # OpenAPI is published a moment after a CRD is established.
    deadline = time.monotonic() + 20
    while (told := api_server.kubectl("explain", "mro.spec.steps", check=False)).returncode:
        assert time.monotonic() < deadline, told.stderr
        time.sleep(0.2)

    assert "The way of a candidate to all traffic" in told.stdout
    assert all(kind in told.stdout for kind in ("shadow", "canary", "full"))
    status = api_server.kubectl("explain", "mro.status.rollback.trafficSeconds").stdout
    assert "Breach visible → traffic back on stable." in status


async def test_get_shows_the_story(api_server: ApiServer, objects: Objects) -> None:
    await objects.create(ROLLOUT)
    await objects.create(POLICY)

    def headers(*arguments: str) -> list[str]:
        return api_server.kubectl("get", *arguments, "-n", objects.namespace).stdout.splitlines()[0].split()

    story = ["NAME", "PHASE", "STEP", "WEIGHT", "VERDICT", "REASON", "NEXT", "AGE"]
    assert headers("mro") == story
    assert headers("mro", "-o", "wide") == [*story, "MODEL", "STABLE", "DEPLOYMENT", "MESSAGE"]
    assert headers("rpol") == ["NAME", "AGE"]
    every = api_server.kubectl("get", "mlops", "-n", objects.namespace, "-o", "name").stdout.split()
    assert every == [f"modelrollout.{GROUP}/ranker", f"rolloutpolicy.{GROUP}/default"]


async def test_scale_sets_the_replicas(api_server: ApiServer, objects: Objects) -> None:
    await objects.create(ROLLOUT)
    where = ("mro/ranker", "-n", objects.namespace)

    api_server.kubectl("scale", *where, "--replicas=7")

    assert api_server.kubectl("get", *where, "-o", "jsonpath={.spec.replicas}").stdout == "7"
    refused = api_server.kubectl("scale", *where, "--replicas=10001", check=False)
    assert "less than or equal to 10000" in refused.stderr


@pytest.mark.parametrize("sample", sorted(SAMPLES.glob("*.yaml")), ids=lambda path: path.name)
def test_the_samples_are_taken(api_server: ApiServer, sample: Path) -> None:
    space = api_server.kubectl("create", "namespace", "shop", "--dry-run=client", "-o", "yaml").stdout
    api_server.kubectl("apply", "--server-side", "-f", "-", stdin=space)

    applied = api_server.kubectl("apply", "--dry-run=server", "--validate=strict", "-f", str(sample))

    assert "(server dry run)" in applied.stdout
    assert applied.stderr == ""
