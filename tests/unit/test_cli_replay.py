"""record, replay and backtest: what they print, how they end, what they say of arguments and files."""

from __future__ import annotations

import gzip
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml

from ops_commander.adapters import recordings as files
from ops_commander.cli import main, recordings
from ops_commander.core.recordings.recording import RecordingProblem
from tests.unit.recorded import Recorded, trying
from tests.unit.world import rollout

ERRORS = {"name": "error-rate", "ratio": {"bad": "errors_total", "total": "requests_total"}, "max": 0.01}
NOW = datetime(2026, 1, 5, 12, tzinfo=UTC)


@pytest.fixture(scope="module")
def good() -> Recorded:
    return trying(rollout()).ended()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, good: Recorded) -> Path:
    path = tmp_path_factory.mktemp("recordings")
    good.save(path / "good.jsonl.gz")
    good.save(path / "good.jsonl")
    trying(rollout(), errors=0.05).ended().save(path / "bad.jsonl")
    return path


def policy(path: Path, *objectives: dict[str, Any], **document: Any) -> Path:
    body = {
        "apiVersion": "ops-commander.dev/v1alpha1",
        "kind": "RolloutPolicy",
        "metadata": {"name": "other"},
        "spec": {"objectives": list(objectives)},
        **document,
    }
    path.write_text(yaml.safe_dump(body), encoding="utf-8")
    return path


def run(*arguments: object) -> int:
    return main.main([str(argument) for argument in arguments])


# --- replay ---------------------------------------------------------------------------------------------


def test_a_replay_prints_each_decision_with_its_reason(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("replay", folder / "bad.jsonl") == 0

    out = capsys.readouterr().out
    lines = out.splitlines()
    assert lines[0].startswith("shop/ranker-") and lines[0].endswith(": model version 2 against 1")
    assert lines[1].split() == ["TIME", "(UTC)", "STEP", "WEIGHT", "VERDICT", "RULE", "DECISION"]
    [breach] = [line for line in lines if "objective_breached" in line]
    assert breach.split()[:5] == ["09:01:30.500", "shadow", "0%", "Fail", "objective_breached"]
    assert "RollbackStarted: ObjectiveBreached: error-rate: 0.05 (CI95" in breach
    row = lines[lines.index(breach) + 1]
    assert row.startswith("    error-rate   Fail  Breached  0.05 (CI95")
    assert lines[-1] == "reproduced: RolledBack (ObjectiveBreached), the same transitions on the same ticks"
    assert "\033[" not in out


def test_a_replay_as_json_is_one_document(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("replay", "--json", folder / "good.jsonl.gz") == 0

    document = json.loads(capsys.readouterr().out)
    assert document["reproduced"] is True
    assert (document["outcome"], document["differences"], document["notes"]) == ("Completed", [], [])
    assert [row["name"] for row in document["objectives"]] == ["error-rate", "p95-latency"]
    left = [item for item in document["decisions"] if item["rule"] == "running" and item["transition"]]
    assert [item["tick"] for item in left] == [f"2026-01-05T09:0{time}.000Z" for time in ("1:45", "2:15", "2:45")]
    assert all(row["verdict"] == "Pass" for item in left for row in item["objectives"])


def test_all_decisions_can_be_seen(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run("replay", "--json", folder / "good.jsonl")
    few = json.loads(capsys.readouterr().out)["decisions"]
    run("replay", "--json", "--all", folder / "good.jsonl")
    every = json.loads(capsys.readouterr().out)["decisions"]

    assert len(every) > len(few)


def test_what_is_not_reproduced_ends_with_1(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    header, *rest = (folder / "bad.jsonl").read_text(encoding="utf-8").splitlines(keepends=True)
    other = tmp_path / "other.jsonl"
    other.write_text(header.replace('"samples":5000.0', '"samples":5001.0') + "".join(rest), encoding="utf-8")

    assert run("replay", other) == 1
    out = capsys.readouterr().out
    assert "not reproduced:\n  objective error-rate: samples is 5000.0, recorded: 5001.0\n" in out

    assert run("replay", "--json", other) == 1
    assert json.loads(capsys.readouterr().out)["reproduced"] is False


def cut(content: bytes) -> bytes:
    return content[: len(content) // 2]


def test_a_file_that_cannot_be_used_ends_with_2(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plain, packed = (folder / "good.jsonl").read_bytes(), (folder / "good.jsonl.gz").read_bytes()
    broken = {
        "gone.jsonl": (None, "gone.jsonl cannot be read: No such file"),
        "empty.jsonl": (b"", "empty.jsonl is empty"),
        "cut.jsonl": (cut(plain), "the line is cut off"),
        "short.jsonl": (
            b"\n".join(plain.split(b"\n")[:9]) + b"\n",
            "the file ends after 8 ticks without its last line",
        ),
        "cut.jsonl.gz": (cut(packed), "the file is cut off"),
        "plain.jsonl.gz": (plain, "plain.jsonl.gz:1: expected gzip, as the name says"),
        "latin.jsonl": (plain.replace(b"ranker", b"r\xe4nker", 1), "latin.jsonl:1: byte 51 is 0xe4: expected UTF-8"),
        "packed.jsonl": (packed, "packed.jsonl:1: byte 2 is 0x8b: expected UTF-8"),
    }
    for name, (content, said) in broken.items():
        path = tmp_path / name
        if content is not None:
            path.write_bytes(content)

        assert run("replay", path) == 2, name
        error = capsys.readouterr().err
        assert error.startswith("ops-commander replay: ") and said in error, (name, error)


def test_a_damaged_packed_file_is_told(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    content = bytearray((folder / "good.jsonl.gz").read_bytes())
    content[200:210] = bytes(10)
    damaged = tmp_path / "damaged.jsonl.gz"
    damaged.write_bytes(content)

    assert run("replay", damaged) == 2
    assert "damaged.jsonl.gz:" in capsys.readouterr().err


# --- Files ----------------------------------------------------------------------------------------------


def test_the_same_recording_gives_the_same_bytes(good: Recorded, folder: Path, tmp_path: Path) -> None:
    again = good.save(tmp_path / "again.jsonl.gz")

    assert again.read_bytes() == (folder / "good.jsonl.gz").read_bytes()
    assert gzip.decompress(again.read_bytes()) == (folder / "good.jsonl").read_bytes()


def test_a_recording_that_breaks_off_leaves_no_file(good: Recorded, tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), files.written(tmp_path / "half.jsonl", good.recording()) as keep:
        keep(good.ticks()[0])
        raise KeyboardInterrupt

    assert list(tmp_path.iterdir()) == []


def test_a_recording_can_go_to_standard_output(good: Recorded, capsys: pytest.CaptureFixture[str]) -> None:
    good.save(files.STANDARD_OUTPUT)

    assert capsys.readouterr().out.splitlines(keepends=True) == good.lines()


def test_a_line_without_end_is_not_read_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "MOST_CHARACTERS", 2**20)
    path = tmp_path / "long.jsonl"
    path.write_bytes(b"x" * (2**20 + 2))

    with pytest.raises(RecordingProblem, match="expected a line of at most 1 MiB"), files.read(path):
        pass


# --- backtest -------------------------------------------------------------------------------------------


def test_a_backtest_says_when_each_step_would_have_been_decided(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    milder = policy(tmp_path / "policy.yaml", {**ERRORS, "max": 0.1})

    assert run("backtest", "--policy", milder, "--recording", folder / "good.jsonl") == 0

    lines = capsys.readouterr().out.splitlines()
    table = lines[lines.index("") + 1 :]
    assert table[0].split() == ["STEP", "SINCE", "FINDING", "AT", "AFTER", "WHY"]
    assert [line.split("  ")[0] for line in table[1:4]] == ["shadow", "canary 5%", "full"]
    assert all("Passed" in line and "30.0s" in line for line in table[1:4])
    assert table[-1] == "verdict: Passed"


def test_a_backtest_as_json_has_times_and_numbers(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    wide = policy(tmp_path / "policy.yaml", {**ERRORS, "max": 0.2})

    assert run("backtest", "--json", "--policy", wide, "--recording", folder / "bad.jsonl") == 0

    document = json.loads(capsys.readouterr().out)
    [step] = document["steps"]
    assert (document["finding"], step["step"], step["finding"]) == ("Undecided", "shadow", "Undecided")
    assert (step["since"], step["at"]) == ("2026-01-05T09:01:17.200Z", "2026-01-05T09:01:30.500Z")
    assert step["seconds"] == 13.3
    assert step["objectives"][0]["samples"] == 5000.0


def test_a_part_of_a_recording_is_tested(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    same = policy(tmp_path / "policy.yaml", ERRORS)
    times = ("--from=2026-01-05T09:01:55Z", "--to=2026-01-05T09:02:18.5Z")

    assert run("backtest", "--json", "--policy", same, "--recording", folder / "good.jsonl", *times) == 0

    document = json.loads(capsys.readouterr().out)
    assert [(step["step"], step["since"]) for step in document["steps"]] == [("canary 5%", "2026-01-05T09:01:55.000Z")]


def test_a_backtest_that_cannot_be_made_ends_with_2(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    good = folder / "good.jsonl"
    same = policy(tmp_path / "same.yaml", ERRORS)
    lacking = {**ERRORS, "ratio": {"bad": "failures_total", "total": "requests_total"}}
    windowed = {**ERRORS, "ratio": {"bad": "sum(errors_total)", "total": "requests_total"}}
    (tmp_path / "text.yaml").write_text("a: [", encoding="utf-8")
    refused: list[tuple[tuple[object, ...], str]] = [
        ((tmp_path / "gone.yaml", good), "gone.yaml cannot be read"),
        ((tmp_path / "text.yaml", good), "text.yaml is not YAML: expected a RolloutPolicy"),
        ((policy(tmp_path / "kind.yaml", kind="Pod"), good), "0 documents of kind RolloutPolicy: expected one"),
        ((policy(tmp_path / "none.yaml"), good), "none.yaml: spec.objectives is []"),
        ((policy(tmp_path / "sum.yaml", windowed), good), "sum in 'sum (errors_total)' merges all pods"),
        ((policy(tmp_path / "lacking.yaml", lacking), good), "no counters of 'failures_total'"),
        ((same, tmp_path / "gone.jsonl"), "gone.jsonl cannot be read"),
        ((same, good, "--from", "yesterday"), "--from: 'yesterday' is not a time: expected one such as 2026-01-05T09"),
        ((same, good, "--to", "2026-01-05T09:00:00"), "--to: '2026-01-05T09:00:00' is not a time"),
        ((same, good, "--from", "-1h", "--to", "-2h"), "expected a time before"),
        ((same, good, "--from", "-2h"), "no step was live at"),
    ]
    for (file, recording, *more), said in refused:
        assert run("backtest", "--policy", file, "--recording", recording, *more) == 2
        error = capsys.readouterr().err
        assert error.startswith("ops-commander backtest: ") and said in error, error


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "the following arguments are required: --policy"),
        (("--policy=p",), "one of the arguments --recording --rollout is required"),
        (("--policy=p", "--recording=r", "--rollout=x"), "not allowed with argument"),
        (("--policy=p", "--recording=r", "--step=full"), "--step is given: expected none with --recording"),
        (("--policy=p", "--rollout=x"), "--prometheus-url is not set: expected the URL of a Prometheus server"),
        (
            ("--policy=p", "--rollout=x", "--prometheus-url=u", "--prometheus-config=f"),
            "expected it or --prometheus-url",
        ),
        (("--policy=p", "--rollout=x", "--prometheus-url=u", "--step=full"), "--candidate is missing: expected"),
        (
            ("--policy=p", "--rollout=x", "--prometheus-url=u", "--step=full", "--candidate=a", "--stable=b"),
            "--from is missing: expected when the split of --step was live",
        ),
        (("--policy=p", "--recording=r", "--interval=5"), "argument --interval: '5' is not a duration: expected"),
        (("--policy=p", "--recording=r", "--interval=0s"), "argument --interval: '0s': expected more than 0"),
    ],
)
def test_arguments_that_do_not_belong_together_end_with_2(
    arguments: tuple[str, ...], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        run("backtest", *arguments)

    assert ended.value.code == 2
    assert said in capsys.readouterr().err


# --- record ---------------------------------------------------------------------------------------------


def test_record_needs_a_prometheus(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPS_COMMANDER_PROMETHEUS_URL", raising=False)
    with pytest.raises(SystemExit) as ended:
        run("record", "ranker")

    assert ended.value.code == 2
    assert "--prometheus-url is not set" in capsys.readouterr().err


def test_record_without_a_cluster_ends_with_1(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    kubeconfig = tmp_path / "gone"

    assert (
        run("record", "ranker", "-n", "shop", "--prometheus-url=http://127.0.0.1:1", f"--kubeconfig={kubeconfig}") == 1
    )

    assert "ops-commander record: no usable kubeconfig" in capsys.readouterr().err


# --- Times and output -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("now", NOW),
        ("-2h", NOW - timedelta(hours=2)),
        ("-1h30m", NOW - timedelta(minutes=90)),
        ("2026-01-05T09:00:00Z", datetime(2026, 1, 5, 9, tzinfo=UTC)),
        ("2026-01-05T10:00:00+01:00", datetime(2026, 1, 5, 9, tzinfo=UTC)),
    ],
)
def test_moments(text: str, expected: datetime) -> None:
    assert recordings.moment(text, NOW) == expected


@pytest.mark.parametrize("text", ["", "2h", "-", "-2", "2026-01-05", "soon"])
def test_not_moments(text: str) -> None:
    with pytest.raises(ValueError, match=r"expected (one|a form) such as"):
        recordings.moment(text, NOW)


def test_colours_are_for_terminals(monkeypatch: pytest.MonkeyPatch) -> None:
    assert recordings.coloured("Pass  ", "Pass") == "Pass  "

    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    monkeypatch.delenv("NO_COLOR", raising=False)
    assert recordings.coloured("Pass  ", "Pass") == "\033[32mPass  \033[0m"
    assert recordings.coloured("shadow", "shadow") == "shadow"

    monkeypatch.setenv("NO_COLOR", "1")
    assert recordings.coloured("Pass  ", "Pass") == "Pass  "
