"""pending_actions.json: what is taken, and that everything else is named with file, place and what was expected."""

from __future__ import annotations

import copy
import json
import re
import time
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from ops_commander.api.action_plan import ActionPlan
from ops_commander.cli.main import main
from ops_commander.integration import generated, pending_actions
from ops_commander.integration.documents import BadInput

SAMPLES = Path(__file__).parents[3] / "manifests" / "samples"
SAMPLE = SAMPLES / "pending_actions.json"
VARIATIONS = sorted((SAMPLES / "pending_actions").glob("*.json"))
DOCUMENT: dict[str, Any] = json.loads(SAMPLE.read_text())


def written(folder: Path, value: Any) -> Path:
    path = folder / "pending_actions.json"
    data = value if isinstance(value, bytes) else value.encode() if isinstance(value, str) else None
    path.write_bytes(data if data is not None else json.dumps(value, indent=2).encode())
    return path


def refusal(folder: Path, value: Any) -> str:
    path = written(folder, value)
    with pytest.raises(BadInput) as refused:
        pending_actions.read(path)
    message = str(refused.value)
    assert message.startswith(f"{path}: ") and ": expected " in message
    return message.removeprefix(f"{path}: ")


def changed(place: str, value: Any) -> dict[str, Any]:
    """The sample with a value set, or removed where it is `...`."""
    document = copy.deepcopy(DOCUMENT)
    *parents, last = [int(part) if part.isdigit() else part for part in place.split(".")]
    node: Any = document
    for part in parents:
        node = node[part]
    if value is ...:
        del node[last]
    else:
        node[last] = value
    return document


def follows(node: dict[str, Any], value: Any, definitions: dict[str, Any]) -> None:
    """The parts of JSON Schema that the published one uses for structure."""
    node = definitions[node["$ref"].rsplit("/", 1)[1]] if "$ref" in node else node
    if options := [each for each in node.get("anyOf", []) if each.get("type") != "null"]:
        follows(options[0], value, definitions)
    elif isinstance(value, dict) and "properties" in node:
        assert set(node.get("required", [])) <= set(value)
        for name, each in value.items():
            assert name in node["properties"] or node.get("additionalProperties") is not False, name
            follows(node["properties"].get(name, {}), each, definitions)
    elif isinstance(value, list):
        assert node["type"] == "array" and len(value) <= node.get("maxItems", len(value))
        for each in value:
            follows(node.get("items", {}), each, definitions)
    elif isinstance(value, str) and node:
        assert node["type"] == "string" and value in node.get("enum", [value])
        assert re.search(node.get("pattern", ""), value)


# --- taken ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", [SAMPLE, *VARIATIONS], ids=lambda path: path.name)
def test_the_samples_become_plans_and_follow_the_published_schema(path: Path) -> None:
    schema = json.loads(generated.json_schemas()["pending_actions.json"])
    follows(schema, json.loads(path.read_text()), schema["$defs"])

    body = pending_actions.manifest(pending_actions.read(path), namespace="ml")

    plan = ActionPlan.model_validate(body)
    assert len(plan.spec.actions) == len(json.loads(path.read_text())["actions"])


def test_every_field_arrives() -> None:
    spec = pending_actions.spec(pending_actions.read(SAMPLE))

    assert spec.meeting_id == "meeting_20251014_120000" and spec.from_ == "planning_team"
    assert [action.id for action in spec.actions] == ["A1", "A2", "A3", "A4", "A5", "A6"]
    shadow, test, collect, experiment, share, report = spec.actions
    assert shadow.deploy and shadow.deploy.environment == "shadow" and shadow.deploy.model.version == "8"
    assert shadow.deploy.candidate_manifest == "candidates/ranker-8/candidate_manifest.yaml"
    assert test.test and test.test.suite == "regression" and test.template_ref == "ranker-regression"
    assert collect.collect and collect.collect.window.days == 1
    assert experiment.experiment and experiment.experiment.mlflow_experiment == "modality-balance"
    assert experiment.depends_on == ["A2"] and len(experiment.success_criteria) == 3
    assert share.deploy and share.deploy.percent == 5
    assert report.report and len(report.report.kinds) == 3


def test_the_same_file_is_the_same_plan(tmp_path: Path) -> None:
    one, two = (pending_actions.manifest(pending_actions.read(written(tmp_path, DOCUMENT))) for _ in range(2))

    assert one == two and one["metadata"]["name"] == "meeting-20251014-120000"


@pytest.mark.parametrize(
    ("meeting", "name"),
    [("meeting_1", "meeting-1"), ("M" * 100, "m" * 38), ("__", "plan"), ("Ünïcode 7!", "n-code-7")],
)
def test_a_plan_is_named_by_its_meeting(meeting: str, name: str) -> None:
    assert pending_actions.plan_name(meeting) == name


# --- refused -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "line 1, column 1: expecting value: expected JSON"),
        (b'{"meeting_id": "m",}', "line 1, column 20"),
        (b'{"meeting_id": NaN}', "line 1, column 16: NaN is not JSON"),
        (b'{"meeting_id": 1e999}', "line 1, column 16: the number 1e999 is out of range"),
        (b'{"a": 1,\n "a": 2}', "line 2, column 2: the key 'a' is there twice"),
        (b'{"meeting_id": "\xff"}', "byte 16: is not UTF-8"),
        (b'{"meeting_id": "\\ud800"}', "half of a surrogate pair"),
        (b"[" * 2000, "nested more than"),
        (b"[]", "line 1, column 1 (.): is no object: expected meeting_id, created_at, from and actions"),
        (b'{"x": "' + b"x" * 2_000_000 + b'"}', "has more than 524288 bytes: expected at most 524288"),
    ],
)
def test_what_is_no_such_json(tmp_path: Path, data: bytes, said: str) -> None:
    assert said in refusal(tmp_path, data)


@pytest.mark.parametrize(
    ("place", "value", "said"),
    [
        ("meeting_id", ..., "(.meeting_id): is missing: expected a value"),
        ("meeting_id", 7, "line 2, column 17 (.meeting_id): is 7: expected input should be a valid string"),
        ("created_at", "2025-10-14T12:00:00", "(.created_at): has no time zone"),
        ("created_at", "yesterday", "(.created_at): is 'yesterday'"),
        ("extra", 1, "(.extra): is not a field"),
        ("actions", [], "(.actions): is a list of 0"),
        ("actions", {}, "(.actions): is an object of 0"),
        ("actions.1.priority", "URGENT", "(.actions[1].priority): is 'URGENT': expected input should be 'HIGH'"),
        ("actions.1.id", "A1", "(.actions[1].id): 'A1' is the id of action 0 already: expected ids that differ"),
        ("actions.1.id", "a1", "(.actions[1].id): 'a1' is the id of action 0 already"),
        ("actions.1.id", "../x", "(.actions[1].id): is '../x'"),
        ("actions.1.estimate", "soon", "(.actions[1].estimate): 'soon' is not a duration: expected a form such as 30s"),
        ("actions.1.estimate", "0s", "(.actions[1].estimate): is '0s': expected more than 0"),
        ("actions.1.title", "x" * 100_000, "(.actions[1].title): is 'xxxx"),
        ("actions.1.kind", "deploy", "(.actions[1]): has test: expected deploy, as its kind says"),
        ("actions.1.test", ..., "(.actions[1]): has no parameters: expected test"),
        ("actions.1.test.suite", "load", "(.actions[1].test.suite): is 'load'"),
        ("actions.0.deploy.percent", 5, "(.actions[0].deploy): has a percent with environment shadow"),
        ("actions.4.deploy.percent", ..., "(.actions[4].deploy): has no percent with environment production"),
        ("actions.4.deploy.percent", 0, "(.actions[4].deploy.percent): is 0"),
        ("actions.4.deploy.percent", "5", "(.actions[4].deploy.percent): is '5': expected input should be a valid int"),
        ("actions.4.deploy.percent", True, "(.actions[4].deploy.percent): is True"),
        ("actions.4.deploy.model.version", 8, "(.actions[4].deploy.model.version): is 8"),
        ("actions.3.experiment.image", ..., "(.actions[3].experiment): has command or env without image"),
        ("actions.3.depends_on", ["A9"], "(.actions[3].depends_on[0]): 'A9' is no action of the plan"),
        (
            "actions.0.depends_on",
            ["A6"],
            "(.actions[0].depends_on[0]): A1 of priority HIGH depends on A6 of",
        ),
        ("actions.0.depends_on", ["A1"], "(.actions[0].depends_on): A1 depends on itself, by A1 → A1"),
        ("actions.2.depends_on", ["A5"], "(.actions[2].depends_on): A3 depends on itself, by A3 → A5 → A3"),
        ("actions.0.success_criteria", "x < 1", "(.actions[0].success_criteria): is 'x < 1'"),
        ("actions.0.success_criteria", ["x <"], "(.actions[0].success_criteria[0]): 'x <' cannot be read"),
        ("actions.0.success_criteria", ["a"] * 17, "(.actions[0].success_criteria): is a list of 17"),
    ],
)
def test_what_is_no_plan_is_named_with_its_place(tmp_path: Path, place: str, value: Any, said: str) -> None:
    message = refusal(tmp_path, changed(place, value))

    assert message.startswith("line ") and said in message, message


def test_the_line_and_column_are_those_of_the_value(tmp_path: Path) -> None:
    document = changed("actions.4.priority", "SOON")
    text = json.dumps(document, indent=2, ensure_ascii=False)
    line = next(number for number, each in enumerate(text.splitlines(), 1) if "SOON" in each)
    column = text.splitlines()[line - 1].index('"SOON"') + 1

    assert f"line {line}, column {column} (.actions[4].priority)" in refusal(tmp_path, text)


def test_ten_thousand_actions_are_refused_in_little_time(tmp_path: Path) -> None:
    one = DOCUMENT["actions"][5]
    many = [{**one, "id": f"A{index}"} for index in range(10_000)]
    before = time.process_time()

    assert "more than 524288 bytes" in refusal(tmp_path, {**DOCUMENT, "actions": many})
    small = {"id": "A"}
    message = refusal(tmp_path, json.dumps({**DOCUMENT, "actions": [small] * 10_000}))

    assert "(.actions): is a list of 10000: expected list should have at most 100 items" in message
    assert time.process_time() - before < 5


def test_a_long_chain_of_dependencies_and_its_cycle(tmp_path: Path) -> None:
    one = {**DOCUMENT["actions"][5], "priority": "LOW"}
    chain = [{**one, "id": f"A{index}", "depends_on": [f"A{(index + 1) % 100}"]} for index in range(100)]

    assert "A0 depends on itself, by A0 → A1 → A2" in refusal(tmp_path, {**DOCUMENT, "actions": chain})

    chain[-1]["depends_on"] = []
    assert len(pending_actions.read(written(tmp_path, {**DOCUMENT, "actions": chain})).actions.actions) == 100


@pytest.mark.parametrize("path", ["/dev/null/x", ".", "nowhere.json"])
def test_what_is_no_file(path: str) -> None:
    with pytest.raises(BadInput, match="expected a file"):
        pending_actions.read(Path(path))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=20,
)


@settings(max_examples=60, deadline=None)
@given(
    place=st.sampled_from(["meeting_id", "actions", "actions.0", "actions.0.deploy", "actions.2.collect.window"]),
    value=JSON,
)
def test_any_value_anywhere_is_taken_or_refused(
    tmp_path_factory: pytest.TempPathFactory, place: str, value: Any
) -> None:
    path = written(tmp_path_factory.mktemp("any"), changed(place, value))
    try:
        pending_actions.spec(pending_actions.read(path))
    except BadInput as error:
        assert error.expected and error.problem


# --- the command ---------------------------------------------------------------------------------


def test_validate_prints_the_order_of_execution(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", "validate", str(SAMPLE)]) == 0

    lines = capsys.readouterr().out.splitlines()
    assert lines[0].endswith("6 action(s) of meeting_20251014_120000, plan meeting-20251014-120000")
    assert [line.split()[:2] for line in lines[1:]] == [
        ["HIGH", "A1"],
        ["HIGH", "A2"],
        ["MEDIUM", "A3"],
        ["MEDIUM", "A4"],
        ["MEDIUM", "A5"],
        ["LOW", "A6"],
    ]


@pytest.mark.parametrize("verb", ["validate", "render", "apply"])
def test_a_bad_file_ends_with_2_before_any_cluster_is_asked(
    verb: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = written(tmp_path, changed("actions.0.priority", "NOW"))
    more = [] if verb == "validate" else ["--kubeconfig", str(tmp_path / "none")]

    assert main(["plan", verb, str(path), *more]) == 2

    told = capsys.readouterr()
    assert told.out == "" and f"{path}: line " in told.err and "(.actions[0].priority)" in told.err


def test_render_prints_what_apply_applies(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", "render", str(SAMPLE), "-n", "shop"]) == 0

    rendered = yaml.safe_load(capsys.readouterr().out)
    assert rendered == pending_actions.manifest(pending_actions.read(SAMPLE), namespace="shop")
    assert rendered["metadata"] == {"name": "meeting-20251014-120000", "namespace": "shop"}


def test_a_name_that_is_none_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["plan", "render", str(SAMPLE), "--name", "A_b"])

    assert ended.value.code == 2 and "expected at most 38" in capsys.readouterr().err
