"""`schema_diff`: files in, exit code out."""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from ops_commander.cli import schema_diff
from tests.unit.integration.schema.support import DATA, api, encode, item

OLD, NEW = DATA / "ranker_v1.json", DATA / "ranker_v2.json"


class Run:
    """The command in a folder of its own."""

    def __init__(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.output = folder / "out.json"
        self._capsys = capsys

    def __call__(self, baseline: Path, candidate: Path, *flags: str) -> tuple[int, str, str]:
        flags = (f"--baseline={baseline}", f"--candidate={candidate}", f"--output={self.output}", *flags)
        code = schema_diff.main(flags)
        said = self._capsys.readouterr()
        return code, said.out, said.err


@pytest.fixture
def run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Run:
    return Run(tmp_path, capsys)


def test_breaking_is_1_and_written_and_printed(run: Run) -> None:
    code, out, err = run(OLD, NEW)

    assert (code, err) == (1, "")
    assert "BREAKING" in out and "perhaps renamed to scores" in out
    written = json.loads(run.output.read_text(encoding="utf-8"))
    assert (written["verdict"], written["schemaDrift"]) == ("breaking", 1.0)
    assert (written["baseline"]["file"], written["baseline"]["format"]) == ("ranker_v1.json", "api-schema")


def test_compatible_is_0(run: Run) -> None:
    code, out, _ = run(OLD, OLD)

    assert code == 0
    assert "COMPATIBLE" in out


@pytest.mark.parametrize(("flags", "code"), [((), 0), (("--fail-on=0.7",), 1), (("--fail-on=0.71",), 0)])
def test_the_threshold_decides(run: Run, tmp_path: Path, flags: tuple[str, ...], code: int) -> None:
    old, new = tmp_path / "old.json", tmp_path / "new.json"
    old.write_bytes(encode(api([], [item()])))
    new.write_bytes(encode(api([], [item(nullable=True)])))

    assert run(old, new, *flags)[0] == code


def test_json_is_printed_as_it_is_written(run: Run) -> None:
    _, out, _ = run(OLD, NEW, "--format=json")

    assert out == run.output.read_text(encoding="utf-8")


def test_markdown_is_printed(run: Run) -> None:
    assert run(OLD, NEW, "--format=markdown")[1].startswith("## API schema diff: breaking")


def test_equal_inputs_give_equal_bytes(run: Run) -> None:
    run(OLD, NEW)
    first = run.output.read_bytes()
    run(OLD, NEW)

    assert run.output.read_bytes() == first


def test_a_direction_can_be_told(run: Run, tmp_path: Path) -> None:
    old, new = tmp_path / "old.json", tmp_path / "new.json"
    old.write_bytes(encode({"type": "string"}))
    new.write_bytes(encode({"type": ["string", "integer"]}))

    assert [run(old, new, *flags)[0] for flags in ((), ("--direction=request",), ("--direction=response",))] == [
        1,
        0,
        1,
    ]


def cases(folder: Path) -> dict[str, Path]:
    found = {
        "absent": folder / "absent.json",
        "folder": folder,
        "empty": folder / "empty.json",
        "broken": folder / "broken.json",
        "big": folder / "big.json",
        "other": folder / "other.json",
    }
    found["empty"].touch()
    found["broken"].write_text('{"inputs": [],\n "inputs": []}', encoding="utf-8")
    found["other"].write_text('{"type": "object"}', encoding="utf-8")
    with found["big"].open("wb") as file:
        file.truncate(100 * 1024 * 1024)
    return found


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("absent", "absent.json: No such file or directory: expected a file that can be read"),
        ("folder", ": Is a directory: expected a file that can be read"),
        ("empty", "empty.json: empty: expected api_schema.json"),
        (
            "broken",
            "broken.json: line 2, column 2: the key 'inputs' is there twice: expected each key once in an object",
        ),
        ("big", "big.json: 104,857,600 bytes: expected at most 67,108,864 (see --max-bytes)"),
    ],
)
@pytest.mark.parametrize("is_baseline", [True, False])
def test_bad_input_is_2_and_says_what_was_expected(
    run: Run, tmp_path: Path, name: str, said: str, is_baseline: bool
) -> None:
    bad = cases(tmp_path)[name]

    code, out, err = run(bad, NEW) if is_baseline else run(OLD, bad)

    assert (code, out) == (2, "")
    assert err.startswith("schema_diff: ") and said in err and err.count("\n") == 1
    assert not run.output.exists()


def test_formats_without_anything_in_common_are_2(run: Run, tmp_path: Path) -> None:
    code, _, err = run(OLD, cases(tmp_path)["other"])

    assert code == 2
    assert "json-schema against a baseline of api-schema" in err


def test_the_size_limit_can_be_set(run: Run) -> None:
    assert run(OLD, NEW, "--max-bytes=100")[0] == 2
    assert run(OLD, NEW, "--max-bytes=100000")[0] == 1


def test_a_name_that_is_no_unicode_is_no_problem(run: Run, tmp_path: Path) -> None:
    odd = tmp_path / os.fsdecode(b"sch\xe9ma.json")
    odd.write_bytes(OLD.read_bytes())

    code, out, _ = run(odd, OLD)

    assert code == 0
    assert "sch�ma.json" in out


def test_an_output_that_cannot_be_written_is_2(run: Run, tmp_path: Path) -> None:
    run.output = tmp_path / "absent" / "out.json"

    code, _, err = run(OLD, NEW)

    assert code == 2
    assert "No such file or directory: expected a place that can be written to" in err


def test_an_input_is_never_overwritten(run: Run, tmp_path: Path) -> None:
    run.output = tmp_path / "old.json"
    run.output.write_bytes(OLD.read_bytes())

    code, _, err = run(run.output, NEW)

    assert code == 2
    assert "--output is one of the two inputs" in err
    assert run.output.read_bytes() == OLD.read_bytes()


@pytest.mark.parametrize(
    "flags",
    [
        (),
        ("--baseline=a",),
        ("--baseline=a", "--candidate=b", "--fail-on=0"),
        ("--baseline=a", "--candidate=b", "--fail-on=nan"),
        ("--baseline=a", "--candidate=b", "--fail-on=2"),
        ("--baseline=a", "--candidate=b", "--max-bytes=-1"),
        ("--baseline=a", "--candidate=b", "--max-bytes=²"),
        ("--baseline=a", "--candidate=b", "--format=xml"),
    ],
)
def test_bad_arguments_are_2(flags: tuple[str, ...]) -> None:
    with pytest.raises(SystemExit) as stopped:
        schema_diff.main(flags)

    assert stopped.value.code == 2


@pytest.mark.parametrize(
    ("is_terminal", "environment", "has_colour"),
    [
        (True, {}, True),
        (False, {}, False),
        (True, {"NO_COLOR": "1"}, False),
        (True, {"NO_COLOR": ""}, True),
        (True, {"TERM": "dumb"}, False),
    ],
)
def test_colour_is_for_terminals(
    run: Run, monkeypatch: pytest.MonkeyPatch, is_terminal: bool, environment: dict[str, str], has_colour: bool
) -> None:
    for name in ("NO_COLOR", "TERM"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(sys.stdout, "isatty", lambda: is_terminal)

    assert ("\x1b[" in run(OLD, NEW)[1]) is has_colour


def test_it_is_also_a_command_of_ops_commander(tmp_path: Path) -> None:
    commands = argparse.ArgumentParser().add_subparsers()
    parser = commands.add_parser("schema-diff")
    schema_diff.add_arguments(parser)

    arguments: Any = parser.parse_args([f"--baseline={OLD}", f"--candidate={OLD}", f"--output={tmp_path / 'o.json'}"])

    assert arguments.handle(arguments) == 0


def start(tmp_path: Path, **more: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "ops_commander.cli.schema_diff", f"--baseline={OLD}", f"--candidate={NEW}"]
    environment = {**os.environ, "PYTHONPATH": str(DATA.parents[2] / "operator"), **more}
    return subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment)


def test_as_a_process_it_needs_no_utf8_and_no_kubernetes(tmp_path: Path) -> None:
    process = start(tmp_path, PYTHONIOENCODING="ascii", PYTHONPROFILEIMPORTTIME="1")
    out, err = process.communicate(timeout=60)

    assert process.returncode == 1, err
    assert b"BREAKING" in out and b"\\u2013" in out
    assert (tmp_path / "api_schema_diff.json").exists()
    assert not re.search(rb"\| +(kopf|kubernetes|aiohttp|mlflow|scipy)[.\n]", err)


def test_a_reader_that_leaves_is_no_error(tmp_path: Path) -> None:
    process = start(tmp_path)
    assert process.stdout is not None and process.stderr is not None
    process.stdout.close()
    err = process.stderr.read()
    process.stderr.close()

    assert (process.wait(timeout=60), err) == (1, b"")
