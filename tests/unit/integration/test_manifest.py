"""The manifest of a candidate: what is wrong is named with file, line, path, value and what was expected."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ops_commander.integration import generated
from ops_commander.integration.artifacts.findings import Format
from ops_commander.integration.documents import MAX_NODES, BadInput
from ops_commander.integration.manifest import CandidateManifest, read_manifest, resolve

SHA = "a" * 64
GOOD = f"""
apiVersion: ops-commander.dev/candidate-manifest/v1
model: {{name: ranker, version: "7", runId: run_8724}}
schema: {{baseline: old.json, candidate: new.json}}
lockfile: {{production: prod.lock, candidate: cand.lock}}
config: {{path: config.json, sha256: {SHA}}}
checkpoints:
- path: weights/model.safetensors
  sha256: {SHA}
  maxAge: 720h
  format: safetensors
- uri: s3://bucket/model.pkl
  sha256: {SHA}
  allowPickle: true
  allowImports: ["sklearn.*"]
tests:
- {{name: unit, passed: true}}
evidence:
- {{path: report.md, runId: run_1}}
measured:
  latency: {{upperMs: 4, baselineP95Ms: 400, runId: run_2}}
"""


def read(folder: Path, text: str) -> CandidateManifest:
    file = folder / "candidate_manifest.yaml"
    file.write_text(text)
    return read_manifest(file)[0]


def test_a_manifest_is_read(tmp_path: Path) -> None:
    manifest = read(tmp_path, GOOD)

    first, second = manifest.checkpoints
    assert (manifest.model.run_id, manifest.schemas.candidate) == ("run_8724", "new.json")
    assert (first.max_age, first.format, first.allow_pickle) == (timedelta(days=30), Format.SAFETENSORS, False)
    assert (second.uri, second.allow_imports) == ("s3://bucket/model.pkl", ["sklearn.*"])
    assert manifest.measured.output is None


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('version: "7"', "version: 7.10", "line 3, column 32 (.model.version): is '7.1': expected input should be"),
        ("runId: run_8724", "runid: run_8724", "(.model.runId): is missing: expected a value (1 more after it)"),
        ("tests:\n", "tests: x\nrest:\n", "(.tests): is 'x': expected input should be a valid list"),
        (
            f"sha256: {SHA}}}",
            "sha256: abc}",
            "line 6, column 37 (.config.sha256): is 'abc': expected string should match",
        ),
        ("maxAge: 720h", "maxAge: 30 days", "line 10, column 11 (.checkpoints[0].maxAge): '30 days' is not a duration"),
        ("maxAge: 720h", "maxAge: 0s", "(.checkpoints[0].maxAge): is '0s': expected"),
        (
            "format: safetensors",
            "format: pickel",
            "(.checkpoints[0].format): is 'pickel': expected input should be 'safet",
        ),
        (
            "- uri: s3://bucket/model.pkl",
            "- uri: s3://b\n  path: x",
            "has path and uri, or neither: expected one of path and uri",
        ),
        (
            "- uri: s3://bucket/model.pkl",
            "- allowPickle: true",
            "key 'allowPickle' comes twice: expected each key once",
        ),
        ("uri: s3", "uri: S3", "(.checkpoints[1].uri): is 'S3://bucket/model.pkl'"),
        ('["sklearn.*"]', '["*"]', "(.checkpoints[1].allowImports[0]): is '*'"),
        ("passed: true", "passed: maybe", "(.tests[0].passed): is 'maybe'"),
        ("upperMs: 4", "upperMs: .nan", "(.measured.latency.upperMs): is 'nan'"),
        ("/v1\n", "/v2\n", "(.apiVersion): is 'ops-commander.dev/candidate-manifest/v2'"),
        ("config:", "config: 3\nconfigs:", "(.config): is '3'"),
        ("model:", "model: {}\nmodel:", "(.model): key 'model' comes twice"),
        ("model:", "- x\nmodel:", "expected one YAML document"),
        ("name: ranker", "name: !!python/none 'x'", "has the tag tag:yaml.org,2002:python/none"),
        ("name: ranker", "name: *x", "found undefined alias"),
        ("name: ranker", "? [a]\n  : b", "has a key that is no plain text"),
        ("name: ranker", 'name: "\\x00"', "(.model.name): is '"),
        ("model:", "<<: {a: b}\nmodel:", "has a key that is no plain text"),
        ("model:", "---\nmodel:", "expected a single document"),
        ("name: ranker", "name: " + "[" * 60 + "]" * 60, "is too large or too deep"),
        ("name: ranker", "name: " + "[" * 5000 + "]" * 5000, "is nested too deeply"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, old: str, new: str, said: str) -> None:
    assert old in GOOD

    with pytest.raises(BadInput) as error:
        read(tmp_path, GOOD.replace(old, new, 1))

    assert said in str(error.value)
    assert str(error.value).startswith(str(tmp_path / "candidate_manifest.yaml"))


def test_a_bomb_ends_at_a_count(tmp_path: Path) -> None:
    lines = ["a: &a [x,x,x,x,x,x,x,x,x,x]"]
    lines += [
        f"{name}: &{name} [{','.join([f'*{before}'] * 10)}]"
        for before, name in zip("abcdefgh", "bcdefghi", strict=True)
    ]

    with pytest.raises(BadInput, match=f"expected {MAX_NODES} values"):
        read(tmp_path, "\n".join(lines))


@pytest.mark.parametrize("text", ["", "# nothing", "just text", "[1, 2]", "3"])
def test_no_mapping_is_named(tmp_path: Path, text: str) -> None:
    with pytest.raises(BadInput, match="is no mapping: expected the fields"):
        read(tmp_path, text)


@pytest.mark.parametrize("data", [b"\xff\xfe", b"a: \x00", b"a: b\n" * 200_000])
def test_what_is_no_text_is_named(tmp_path: Path, data: bytes) -> None:
    file = tmp_path / "m.yaml"
    file.write_bytes(data)

    with pytest.raises(BadInput):
        read_manifest(file)


@pytest.mark.parametrize("reference", ["../x", "/etc/passwd", "a/../../x", "link/x", "loop"])
def test_references_stay_in_the_folder_of_the_manifest(tmp_path: Path, reference: str) -> None:
    folder = tmp_path / "candidate"
    folder.mkdir()
    (folder / "link").symlink_to(tmp_path)
    (folder / "loop").symlink_to(folder / "loop")
    file = folder / "m.yaml"
    file.write_text(GOOD)
    _, document, _ = read_manifest(file)

    assert resolve(file, document, ("config", "path"), "sub/config.json") == (folder / "sub/config.json").resolve()
    with pytest.raises(BadInput) as error:
        resolve(file, document, ("config", "path"), reference)
    assert str(error.value).startswith(f"{file}: line 6, column 16 (.config.path): ")


def test_schemas_are_generated_with_descriptions_and_without_cel() -> None:
    names = ("candidate_manifest_v1.json", "lock_diff_v1.json", "preflight_v1.json")
    found = {name: generated.json_schemas()[name] for name in names}

    assert not any("x-kubernetes" in text for text in found.values())
    manifest = json.loads(found["candidate_manifest_v1.json"])
    assert (manifest["title"], manifest["additionalProperties"]) == ("candidate_manifest", False)
    assert set(manifest["required"]) == {"model", "schema", "lockfile", "config", "checkpoints"}
    for text in found.values():
        document = json.loads(text)
        for node in [document, *document.get("$defs", {}).values()]:
            for name, field in node.get("properties", {}).items():
                assert field.get("description"), f"{node.get('title')}.{name}"


@settings(max_examples=200, deadline=None)
@given(st.integers(0, 900), st.text(max_size=6), st.integers(0, 12))
def test_a_damaged_manifest_is_read_or_named(
    tmp_path_factory: pytest.TempPathFactory, at: int, put: str, cut: int
) -> None:
    at %= len(GOOD)
    file = tmp_path_factory.getbasetemp() / "damaged.yaml"
    file.write_text(GOOD[:at] + put + GOOD[at + cut :], encoding="utf-8", errors="surrogatepass")

    try:
        read_manifest(file)
    except BadInput as error:
        assert error.expected


def test_the_manifest_of_the_docs_is_valid(tmp_path: Path) -> None:
    docs = (Path(__file__).parents[3] / "docs" / "preflight.md").read_text()
    example = docs.split("```yaml\n")[1].split("```")[0]

    assert read(tmp_path, example).measured.output is not None
