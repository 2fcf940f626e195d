"""Generated files are in step with the models, and the schemas are such that the API server takes them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from ops_commander.api import reference
from ops_commander.api.fields import (
    MAX_DURATION,
    MAX_DURATION_LENGTH,
    Resource,
    format_duration,
    parse_duration,
)
from ops_commander.api.policy import Objective, RolloutPolicySpec
from ops_commander.api.schema import KINDS, MODEL_ROLLOUT, Kind, Schema, manifest, resource_schema
from ops_commander.api.v1alpha1 import ModelRolloutSpec
from ops_commander.cli import crd

ROOT = Path(__file__).parents[2]
every_kind = pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.short)


def nodes(node: Schema, path: str = "") -> Iterator[tuple[str, Schema]]:
    """Every schema below and at a node, with its path."""
    yield path, node
    for name, value in node.get("properties", {}).items():
        yield from nodes(value, f"{path}.{name}")
    if "items" in node:
        yield from nodes(node["items"], f"{path}[]")
    if "additionalProperties" in node:
        yield from nodes(node["additionalProperties"], f"{path}{{}}")


# --- generated files -----------------------------------------------------------------------------


def test_generated_files_are_in_step(capsys: pytest.CaptureFixture[str]) -> None:
    assert crd.generate(ROOT, check=True) == 0, capsys.readouterr().err


def test_check_names_what_drifted_and_changes_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    crd.generate(tmp_path, check=False)
    assert crd.generate(tmp_path, check=True) == 0
    changed, gone, stale = "docs/api-reference.md", "crds/ops-commander.dev_modelrollouts.yaml", "docs/schemas/old.json"
    (tmp_path / changed).write_text("edited by hand")
    (tmp_path / gone).unlink()
    (tmp_path / stale).write_text("{}")
    capsys.readouterr()

    assert crd.generate(tmp_path, check=True) == 1

    said = capsys.readouterr().err
    assert all(f"{path}: not as generated" in said for path in (changed, gone, stale))
    assert (tmp_path / changed).read_text() == "edited by hand"
    assert crd.generate(tmp_path, check=False) == 0
    assert not (tmp_path / stale).exists()
    assert crd.generate(tmp_path, check=True) == 0


def test_generation_is_deterministic() -> None:
    first = crd.contents()

    assert crd.contents() == first
    assert all(text.endswith("\n") for text in first.values())


# --- structure -----------------------------------------------------------------------------------


@every_kind
def test_the_schema_is_structural(kind: Kind) -> None:
    refused = {"$ref", "$defs", "anyOf", "allOf", "oneOf", "const", "examples", "title", "prefixItems", "uniqueItems"}
    for path, node in nodes(resource_schema(kind)):
        assert refused.isdisjoint(node), path
        assert node.get("type") in {"object", "array", "string", "integer", "number", "boolean"}, path
        assert not ("properties" in node and "additionalProperties" in node), path
        assert isinstance(node.get("additionalProperties", {}), dict), path
        assert node.get("default", 0) is not None, path
        for bound in ("exclusiveMinimum", "exclusiveMaximum"):
            assert node.get(bound, True) is True, path
        assert set(node.get("required", ())) <= set(node.get("properties", ())), path


@every_kind
def test_every_field_has_a_meaning(kind: Kind) -> None:
    silent = [
        path
        for path, node in nodes(resource_schema(kind))
        if not node.get("description") and not path.startswith(".metadata") and not path.endswith(("[]", "{}"))
    ]
    assert silent == []


def test_status_is_never_defaulted() -> None:
    status = resource_schema(MODEL_ROLLOUT)["properties"]["status"]

    assert [path for path, node in nodes(status) if "default" in node] == []


def test_defaults_are_as_written_by_hand() -> None:
    spec = resource_schema(MODEL_ROLLOUT)["properties"]["spec"]["properties"]

    assert spec["progressDeadline"]["default"] == "10m"
    assert spec["service"]["default"] == {"port": 80, "targetPort": 8080}
    assert spec["deletionPolicy"]["default"] == "KeepStable"
    assert "default" not in spec["policyRef"]


def test_the_rollout_can_be_scaled_and_tells_its_story() -> None:
    (version,) = manifest(MODEL_ROLLOUT)["spec"]["versions"]

    assert version["subresources"] == {
        "status": {},
        "scale": {
            "specReplicasPath": ".spec.replicas",
            "statusReplicasPath": ".status.replicas",
            "labelSelectorPath": ".status.selector",
        },
    }
    columns = [column["name"] for column in version["additionalPrinterColumns"] if not column.get("priority")]
    assert columns == ["Phase", "Step", "Weight", "Verdict", "Reason", "Next", "Age"]


@every_kind
def test_columns_show_fields_that_exist(kind: Kind) -> None:
    known = {path for path, _ in nodes(resource_schema(kind))}

    shown = {column.path for column in kind.columns} - {".metadata.creationTimestamp"}
    assert shown <= known


def test_a_union_has_no_structural_schema() -> None:
    class Either(Resource):
        metadata: dict[str, Any]
        spec: int | str

    with pytest.raises(ValueError, match="not structural"):
        resource_schema(Kind(model=Either, plural="eithers", short="e", columns=()))


# --- editors' schemas and the reference ----------------------------------------------------------


def test_editors_see_unknown_fields_and_malformed_durations() -> None:
    schema = json.loads(reference.json_schemas()["modelrollout_v1alpha1.json"])
    spec = schema["properties"]["spec"]

    assert spec["additionalProperties"] is False
    assert "additionalProperties" not in spec["properties"]["template"]["properties"]["spec"]
    assert "additionalProperties" not in schema["properties"]["metadata"]
    assert spec["properties"]["drain"]["pattern"].startswith("^")
    assert "pattern" not in spec["properties"]["steps"]["items"]["properties"]["canary"]
    assert "x-kubernetes" not in json.dumps(schema)


def test_editors_see_open_intervals() -> None:
    schema = json.loads(reference.json_schemas()["rolloutpolicy_v1alpha1.json"])
    objective = schema["properties"]["spec"]["properties"]["objectives"]["items"]["properties"]
    q = objective["quantile"]["properties"]["q"]

    assert (q["exclusiveMinimum"], q["exclusiveMaximum"]) == (0, 1)
    assert "minimum" not in q


def test_the_reference_has_every_field_of_spec_and_status() -> None:
    text = reference.markdown()

    for kind in KINDS:
        for path, _ in nodes(resource_schema(kind)):
            if path.startswith((".spec.", ".status.")) and not path.endswith(("[]", "{}")):
                assert f"| `{path.rsplit('.', 1)[1]}` |" in text, path
    assert "minDuration … is longer than maxDuration …" in text


# --- durations -----------------------------------------------------------------------------------

millis = st.integers(0, int(MAX_DURATION.total_seconds() * 1000))


@given(millis)
def test_a_duration_survives_its_text(count: int) -> None:
    value = timedelta(milliseconds=count)

    assert parse_duration(format_duration(value)) == value


@given(st.text(alphabet="0123456789.hms-+ ", max_size=MAX_DURATION_LENGTH + 2))
def test_any_text_is_a_duration_in_range_or_refused(text: str) -> None:
    try:
        value = parse_duration(text)
    except ValueError:
        return
    assert timedelta(0) <= value <= MAX_DURATION


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("0s", 0),
        ("250ms", 0.25),
        ("1.5h", 5400),
        ("1h30m", 5400),
        ("90m", 5400),
        ("1m1ms", 60.001),
        ("8760h", 31536000),
    ],
)
def test_durations(text: str, seconds: float) -> None:
    assert parse_duration(text) == timedelta(seconds=seconds)


@pytest.mark.parametrize("text", ["", "5", "-5s", "PT5S", "5 s", "5d", "1,5s", "s", "5s\n", "8760h1ms", "9" * 30 + "h"])
def test_not_durations(text: str) -> None:
    with pytest.raises(ValueError, match="expected"):
        parse_duration(text)


@pytest.mark.parametrize("window", ["0s", "-1s", timedelta(0)])
def test_a_window_holds_time(window: Any) -> None:
    with pytest.raises(ValidationError, match="expected"):
        Objective.model_validate({"name": "x", "rate": {"requests": "up", "window": window}, "min": 1})


@pytest.mark.parametrize("model", [ModelRolloutSpec, RolloutPolicySpec])
def test_crd_defaults_are_the_models_own(model: type[ModelRolloutSpec | RolloutPolicySpec]) -> None:
    """What the API server fills in is what pydantic fills in, field by field."""
    kind = next(kind for kind in KINDS if kind.model.model_fields["spec"].annotation is model)
    properties = resource_schema(kind)["properties"]["spec"]["properties"]
    for name, field in model.model_fields.items():
        alias = field.alias or name
        if "default" in properties[alias]:
            partial = model.model_construct(**{name: field.get_default(call_default_factory=False)})
            dumped = partial.model_dump(mode="json", by_alias=True, include={name})
            assert dumped == {alias: properties[alias]["default"]}
