"""A candidate's lock against production's: change by change, D to the digit, conflicts by name, exit codes."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ops_commander.cli import lock_diff
from ops_commander.integration.dependencies.diff import diff_locks
from ops_commander.integration.dependencies.model import Format, Lock
from ops_commander.integration.dependencies.platform import Platform, parse_platform
from ops_commander.integration.dependencies.read import parse_lock
from ops_commander.integration.dependencies.report import Change, ConflictKind, LockDiff
from ops_commander.integration.documents import BadInput, Text

LINUX = Platform()
A, B, C = ("a" * 64, "b" * 64, "c" * 64)


def lock(text: str, platform: Platform = LINUX) -> Lock:
    return parse_lock(Text("lock", text, "0" * 64), platform)


def diff(baseline: str, candidate: str) -> LockDiff:
    return diff_locks(lock(baseline), lock(candidate), LINUX)


def change_of(found: LockDiff, name: str) -> Change:
    return next(each.change for each in found.packages if each.name == name)


def kinds(found: LockDiff) -> list[tuple[str, str]]:
    return sorted((each.kind.value, each.severity.value) for each in found.conflicts)


UV = f"""
version = 1
requires-python = ">=3.11"

[[package]]
name = "Shop"
version = "0.3.0"
source = {{ editable = "." }}
dependencies = [
  {{ name = "torch", marker = "sys_platform == 'linux'", extra = ["cuda"] }},
  {{ name = "requests" }},
  {{ name = "pywin32", marker = "sys_platform == 'win32'" }},
]
[package.optional-dependencies]
extra = [{{ name = "urllib3" }}]
[package.dev-dependencies]
dev = [{{ name = "urllib3" }}]

[[package]]
name = "torch"
version = "2.3.0"
source = {{ registry = "https://index.example/simple" }}
resolution-markers = ["sys_platform == 'darwin'"]

[[package]]
name = "torch"
version = "2.3.0+cu121"
source = {{ registry = "https://index.example/simple" }}
resolution-markers = ["sys_platform == 'linux'"]
wheels = [
  {{ url = "https://files/torch-2.3.0%2Bcu121-cp311-cp311-manylinux_2_17_x86_64.whl", hash = "sha256:{A}" }},
  {{ url = "https://files/torch-2.3.0%2Bcu121-cp311-cp311-win_amd64.whl", hash = "sha256:{B}" }},
]
[package.optional-dependencies]
cuda = [{{ name = "nvidia-cublas-cu12" }}]

[[package]]
name = "nvidia-cublas-cu12"
version = "12.1.3.1"
source = {{ registry = "https://index.example/simple" }}

[[package]]
name = "requests"
version = "2.31.0"
source = {{ registry = "https://index.example/simple" }}
dependencies = [{{ name = "urllib3" }}]

[[package]]
name = "urllib3"
version = "2.2.0"
source = {{ registry = "https://index.example/simple" }}

[[package]]
name = "pywin32"
version = "306"
source = {{ registry = "https://index.example/simple" }}
"""
PYLOCK = f"""
lock-version = "1.0"
created-by = "test"
requires-python = ">=3.11"

[[packages]]
name = "torch"
version = "2.3.0+cu121"
[[packages.wheels]]
name = "torch-2.3.0+cu121-cp311-cp311-manylinux_2_17_x86_64.whl"
url = "https://files/x.whl"
hashes = {{ sha256 = "{A}" }}

[[packages]]
name = "nvidia-cublas-cu12"
version = "12.1.3.1"
[[packages.wheels]]
name = "nvidia_cublas_cu12-12.1.3.1-py3-none-any.whl"
url = "https://files/x.whl"
hashes = {{ sha256 = "{C}" }}

[[packages]]
name = "requests"
version = "2.31.0"
[[packages.wheels]]
name = "requests-2.31.0-py3-none-any.whl"
url = "https://files/x.whl"
hashes = {{ sha256 = "{C}" }}

[[packages]]
name = "urllib3"
version = "2.2.0"
[[packages.wheels]]
name = "urllib3-2.2.0-py3-none-any.whl"
url = "https://files/x.whl"
hashes = {{ sha256 = "{C}" }}

[[packages]]
name = "pywin32"
version = "306"
sdist = {{ name = "pywin32-306.tar.gz", url = "https://files/pywin32-306.tar.gz", hashes = {{ sha256 = "{C}" }} }}
marker = "sys_platform == 'win32'"
"""
FREEZE = "torch==2.3.0+cu121\nnvidia_cublas.cu12==12.1.3.1\nRequests==2.31.0\nurllib3==2.2.0\n-e .\n"
INSPECT = json.dumps(
    {
        "version": "1",
        "installed": [
            {"metadata": {"name": name, "version": version}, "requested": name in ("torch", "requests")}
            for name, version in [
                ("torch", "2.3.0+cu121"),
                ("nvidia-cublas-cu12", "12.1.3.1"),
                ("requests", "2.31.0"),
                ("urllib3", "2.2.0"),
            ]
        ],
        "environment": {"python_full_version": "3.11.9", "platform_machine": "x86_64", "platform_system": "Linux"},
    }
)
CONDA = """
name: mlflow-env
channels: [conda-forge]
dependencies:
- python=3.11.9
- conda-forge::requests=2.31.0=pyhd8ed1ab_0
- pip:
  - torch==2.3.0+cu121
  - nvidia-cublas-cu12==12.1.3.1
  - urllib3==2.2.0
"""
PYTHON_ENV = """
python: 3.11
build_dependencies:
- torch==2.3.0+cu121
- nvidia-cublas-cu12==12.1.3.1
dependencies:
- requests==2.31.0
- urllib3==2.2.0
"""


@pytest.mark.parametrize(
    ("text", "format_", "complete"),
    [
        (UV, Format.UV_LOCK, True),
        (PYLOCK, Format.PYLOCK, True),
        (FREEZE, Format.REQUIREMENTS, False),
        (INSPECT, Format.PIP_INSPECT, True),
        (CONDA, Format.CONDA, False),
        (PYTHON_ENV, Format.PYTHON_ENV, False),
    ],
)
def test_formats_are_told_by_content_and_say_the_same(text: str, format_: Format, complete: bool) -> None:
    read = lock(text)

    assert (read.format, read.complete) == (format_, complete)
    assert {name: package.version for name, package in read.packages.items()} == {
        "torch": "2.3.0+cu121",
        "nvidia-cublas-cu12": "12.1.3.1",
        "requests": "2.31.0",
        "urllib3": "2.2.0",
    }
    found = diff_locks(lock(UV), read, LINUX)
    assert (found.mismatch, found.aligned) == (0.0, True)


def test_uv_lock_says_what_is_direct_and_what_was_left_out() -> None:
    read = lock(UV)

    assert {name: package.direct for name, package in read.packages.items()} == {
        "torch": True,
        "requests": True,
        "nvidia-cublas-cu12": False,
        "urllib3": False,
    }
    assert read.notes == ("extra extra is not compared", "group dev is not compared")


def test_markers_are_evaluated_for_the_stated_platform() -> None:
    read = lock(UV, parse_platform("windows-x86_64-cp311"))

    assert sorted(read.packages) == ["pywin32", "requests", "urllib3"]


@pytest.mark.parametrize(
    ("baseline", "candidate", "change"),
    [
        ("x==1.2.3", "x==1.2.3", Change.SAME),
        ("x==1.2", "x==1.2.0", Change.SAME),
        ("X_y==1", "x.Y==1", Change.SAME),
        ("x==1.2.3", "x==1.2.4", Change.PATCH),
        ("x==1.2.3", "x==1.2.3.post1", Change.BUILD),
        ("x==1.2.3rc1", "x==1.2.3", Change.BUILD),
        ("x==1.2.3", "x==1.3.0", Change.MINOR),
        ("x==1.3.0", "x==1.2.9", Change.MINOR),
        ("x==1.2.3", "x==2.0.0", Change.MAJOR),
        ("x==0.2.3", "x==0.3.0", Change.MAJOR),
        ("x==0.2.3", "x==0.2.4", Change.PATCH),
        ("x==1.0", "x==1!1.0", Change.MAJOR),
        ("x==1.2.3", "x>=1.2", Change.UNPINNED),
        ("x==1.2.3", "x==1.2.*", Change.UNPINNED),
        ("x", "x==1", Change.UNPINNED),
        ("x==1.2.3", "other==1", Change.MISSING),
        ("other==1", "x==1.2.3", Change.EXTRA),
        (f"x==1 --hash=sha256:{A}", f"x==1 --hash=sha256:{B}", Change.HASH_DIFFERS),
        (f"x==1 --hash=sha256:{A}", f"x==1 --hash=sha256:{A.upper()}", Change.SAME),
        (f"x==1 --hash=sha256:{A} \\\n  --hash=sha256:{B}", f"x==1 --hash=sha256:{B}", Change.SAME),
        (f"x==1 --hash=md5:{A[:32]}", f"x==1 --hash=sha256:{A}", Change.SAME),
        ("x==1", f"x @ git+https://host/x@{A[:40]}", Change.UNPINNED),
        (f"x @ git+https://h/x@{A[:40]}", f"x @ git+https://h/x@{B[:40]}", Change.HASH_DIFFERS),
        (f"x @ git+https://h/x@{A[:40]}", f"x @ git+https://h/x@{A[:40]}", Change.SAME),
        ("x @ git+https://h/x@main", "x @ git+https://h/x@main", Change.UNPINNED),
        ("torch==2.3.0+cu121", "torch==2.3.0+cu118", Change.ABI),
        ("torch==2.3.0+cu121", "torch==2.3.0+cpu", Change.ABI),
        ("torch==2.3.0", "torch==2.3.0+cu121", Change.ABI),
        ("torch==2.3.0+cu121", "torch==2.3.0+cu124", Change.BUILD),
        (UV, UV.replace("cp311-cp311-manylinux_2_17_x86_64", "cp310-cp310-manylinux_2_17_x86_64"), Change.ABI),
        (UV, UV.replace(A, C), Change.HASH_DIFFERS),
        (UV, UV.replace(B, C), Change.HASH_DIFFERS),
        (PYLOCK, PYLOCK.replace(A, C), Change.HASH_DIFFERS),
        ("dependencies: [x=1.2.3=py311_0]", "dependencies: [x=1.2.3=py311_1]", Change.BUILD),
        ("dependencies: [x=1.2.3=py311_0]", "dependencies: [x=1.2.3=py310_0]", Change.ABI),
        ("dependencies: [x=1.2.3=cuda11.8_0]", "dependencies: [x=1.2.3=cuda12.1_0]", Change.ABI),
        ("dependencies: [x=1.2.3]", "dependencies: [x=1.2]", Change.UNPINNED),
        ("dependencies: [x=1.1.1w=0]", "dependencies: [x=1.1.1x=0]", Change.MAJOR),
    ],
)
def test_changes(baseline: str, candidate: str, change: Change) -> None:
    name = next((each for each in ("torch", "x-y", "x") if each in lock(baseline).packages), "x")

    assert change_of(diff(baseline, candidate), name) is change


@pytest.mark.parametrize(
    ("baseline", "candidate", "change"),
    [
        ("python: 3.11.4", "python: 3.11.4", Change.SAME),
        ("python: 3.11.4", "python: 3.11.9", Change.PATCH),
        ("python: 3.11.4", "python: 3.10", Change.ABI),
        ("python: 3.11.4", "x==1", Change.SAME),
        ("python: 3.10.4", "x==1", Change.ABI),
        ("python: 3.11.4", 'version = 1\nrequires-python = ">=3.12"\n[[package]]\nname = "x"\n', Change.ABI),
        ("python: 3.11.4", "dependencies: [python=3.11, x==1]", Change.SAME),
        ("python: 3.11.4", "dependencies: [python=3.12, x==1]", Change.ABI),
        (INSPECT, INSPECT.replace("x86_64", "aarch64"), Change.ABI),
    ],
)
def test_the_interpreter_counts_as_a_package(baseline: str, candidate: str, change: Change) -> None:
    baseline = baseline if "{" in baseline else f"{baseline}\ndependencies: [x==1]"
    candidate = f"{candidate}\ndependencies: [x==1]" if candidate.startswith("python") else candidate

    assert change_of(diff(baseline, candidate), "python") is change


@pytest.mark.parametrize(
    ("baseline", "candidate", "expected"),
    [
        ("numpy==1.26.3\nrequests==2.31.0", "numpy==1.26.4\nrequests==2.32.0", 0.28),
        ("torch==2.3.0+cu121", "torch==2.3.0+cu118", 1.0),
        ("a==1\nb==1", "a==1\nb==1", 0.0),
        ("a==1", "b==1", 0.525),
        ("a==1\nnumpy==1", "a==1\nnumpy", 0.5),
        ("a==1 # via b\nb==1 # via -r x.in", "a==2 # via b\nb==1 # via -r x.in", 0.1),
        ("a==1 # via b\nb==1 # via -r x.in", "a==1 # via b\nb==2 # via -r x.in", 0.5),
        ("a==1\n    # via\n    #   b\nb==1.0", "a==1.1\n    # via\n    #   b\nb==1.1", 0.232),
    ],
)
def test_mismatch_to_the_digit(baseline: str, candidate: str, expected: float) -> None:
    assert diff(baseline, candidate).mismatch == expected


@pytest.mark.parametrize(
    ("baseline", "candidate", "found"),
    [
        ("torch==2.3.0+cu121", "torch==2.3.0+cu118", [("CudaChanged", "veto"), ("Platform", "warning")]),
        (
            "nvidia-cublas-cu12==12.1",
            "nvidia-cublas-cu12==12.1\nnvidia-cudnn-cu11==8.9",
            [("CudaChanged", "veto"), ("CudaMixed", "veto")],
        ),
        (
            "torch==2.3.0+cu118",
            "torch==2.3.0+cu118\nnvidia-cuda-runtime-cu12==12.1.105",
            [("CudaChanged", "veto"), ("CudaMixed", "veto"), ("CudaRuntime", "warning")],
        ),
        (
            "torch==2.3.0+cu121\nnvidia-cuda-runtime-cu12==12.1.105",
            "torch==2.3.0+cu121\nnvidia-cuda-runtime-cu12==12.4.99",
            [("CudaRuntime", "warning")],
        ),
        ("x==1\nnvidia-cuda-runtime==13.0.48", "x==1\nnvidia-cuda-runtime==13.0.48", []),
        ("x==1", "x==1\njax-cuda12-plugin==0.4.30", [("CudaChanged", "warning")]),
        ("tokenizers==0.15.2", "tokenizers==0.19.1", [("Tokenizer", "warning")]),
        ("transformers==4.40.0", "transformers==4.40.1", []),
        ("x==1", "x==1\ntiktoken==0.7", [("Tokenizer", "warning")]),
        ("scikit-learn==1.4.2", "scikit-learn==1.5.0", [("FrameworkPickle", "warning")]),
        ("cloudpickle==2.2.1", "cloudpickle==3.0.0", [("Serializer", "warning")]),
        ("numpy==1.26.4", "numpy==2.0.0", [("NumpyAbi", "warning")]),
        (f"x==1 --hash=sha256:{A}", f"x==1 --hash=sha256:{B}", [("HashDiffers", "veto")]),
        (f"x==1 --hash=sha256:{A}", f"x==1 --hash=sha256:{A} --hash=sha256:{B}", [("HashAdded", "warning")]),
    ],
)
def test_conflicts_are_named(baseline: str, candidate: str, found: list[tuple[str, str]]) -> None:
    assert kinds(diff(baseline, candidate)) == found


def test_a_framework_that_lost_its_cuda_is_vetoed_where_both_locks_are_complete() -> None:
    data = json.loads(INSPECT)
    for entry in data["installed"]:
        entry["metadata"]["version"] = entry["metadata"]["version"].replace("+cu121", "")
    data["installed"] = [each for each in data["installed"] if not each["metadata"]["name"].startswith("nvidia")]

    assert ("CudaChanged", "veto") in kinds(diff(INSPECT, json.dumps(data)))


def test_what_an_installed_package_requires_is_checked() -> None:
    data = json.loads(INSPECT)
    data["installed"][2]["metadata"]["requires_dist"] = [
        "urllib3<2",
        "idna",
        "chardet; extra == 'x'",
        "wincertstore; sys_platform == 'win32'",
    ]

    found = diff(INSPECT, json.dumps(data))

    assert [each.message for each in found.conflicts if each.kind is ConflictKind.UNSATISFIED] == [
        "requests 2.31.0 requires urllib3<2: 2.2.0 is installed",
        "requests 2.31.0 requires idna: not installed",
    ]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "names no package"),
        ("# nothing\n", "names no package"),
        ("x==1\nthis is no requirement\n", "line 2: 'this is no requirement' is no requirement"),
        ("x==1\nx==2\n", "line 2: x is 1 and 2: expected one version of a package"),
        ("-r ../secret.txt", "line 1: includes ../secret.txt"),
        ('version = 1\n[[package]\nname = "x"\n', "line 2, column"),
        ("version = 1\n[[package]]\nname = 3\n", "package[0].name: is int: expected a text"),
        ('[tool.poetry]\nname = "x"\n', "is TOML with tool"),
        ('lock-version = "9.0"\ncreated-by = "x"\npackages = []\n', "lock-version: "),
        ('lock-version = "1.0"\npackages = []\n', "expected a lock as of PEP 751"),
        ("{", "line 1, column 2"),
        ('{"a": 1, "a": 2}', "'a' comes twice"),
        ('{"packages": []}', "is JSON without `installed`"),
        ('{"installed": [{"metadata": {}}]}', "installed[0].metadata.name: is missing: expected the name"),
        ("dependencies:\n- x=1\n- [y]\n", "line 3, column 3 (.dependencies[1]): \"['y']\" is no conda package"),
        (
            "dependencies:\n- pip:\n  - 'a b c'\n",
            "line 3, column 5 (.dependencies[0].pip[0]): 'a b c' is no requirement",
        ),
        ("dependencies: 3\n", "line 1, column 15 (.dependencies): is str: expected a list"),
        ("dependencies: &a [*a]\n", "is too large or too deep"),
        (
            "dependencies: !!python/object/apply:os.system [x]\n",
            "has the tag tag:yaml.org,2002:python/object/apply:os.system",
        ),
        (UV.replace('name = "urllib3"\nversion', 'name = "urllib4"\nversion'), "urllib3  is no package of it"),
    ],
)
def test_bad_input_names_position_and_expectation(text: str, said: str) -> None:
    with pytest.raises(BadInput) as error:
        lock(text)

    assert str(error.value).startswith("lock: ")
    assert said in str(error.value)
    assert ": expected " in str(error.value)


@pytest.mark.parametrize(
    "text",
    [
        f"x=={'9' * 5000}",
        f"x=={'9' * 5000}; python_version > '{'9' * 5000}'",
        f"dependencies: [x=={'9' * 900}]",
        f"python: {'9' * 5000}\ndependencies: [x==1]",
        f"version = 1\nrequires-python = '>={'9' * 5000}'\n[[package]]\nname = 'x'\nversion = '{'9' * 5000}'\n",
        INSPECT.replace("2.31.0", "9" * 5000).replace("3.11.9", "9" * 5000),
        "x==1 " + " " * 300_000 + "y",
        f"dependencies: ['{':' * 100_000}']",
    ],
)
def test_numbers_and_lines_without_end_are_read_or_named(text: str) -> None:
    try:
        diff(UV, text)
    except BadInput as error:
        assert error.expected


def test_included_files_are_read_in_the_folder_of_the_lock_and_nowhere_else(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    (tmp_path / "outside.txt").write_text("secret==1")
    (folder / "link.txt").symlink_to(tmp_path / "outside.txt")
    (folder / "base.txt").write_text("numpy==1.26.4\nx\n")
    (folder / "pins.txt").write_text("x==2\ny==3\n")

    good = Text("lock", "-r base.txt\n-c pins.txt\n", "0")
    assert {name: each.version for name, each in parse_lock(good, LINUX, folder).packages.items()} == {
        "numpy": "1.26.4",
        "x": "2",
    }
    for target in ("../outside.txt", str(tmp_path / "outside.txt"), "link.txt"):
        with pytest.raises(BadInput, match="leaves the folder"):
            parse_lock(Text("lock", f"-r {target}", "0"), LINUX, folder)
    (folder / "loop.txt").write_text("-r loop.txt")
    with pytest.raises(BadInput, match="at most 20 files"):
        parse_lock(Text("lock", "-r loop.txt", "0"), LINUX, folder)


def run(*flags: str) -> int:
    parser = argparse.ArgumentParser()
    lock_diff.add_arguments(parser)
    arguments = parser.parse_args(flags)
    code: int = arguments.handle(arguments)
    return code


@pytest.mark.parametrize(
    ("candidate", "flags", "code"),
    [
        ("numpy==1.26.3\nrequests==2.31.0", (), 0),
        ("numpy==1.26.4\nrequests==2.32.0", (), 0),
        ("numpy==1.26.4\nrequests==2.32.0", ("--fail-on=0.28",), 0),
        ("numpy==1.26.4\nrequests==2.32.0", ("--fail-on=0.27",), 1),
        ("numpy==2.0.0\nrequests==2.31.0", (), 0),
        (f"numpy==1.26.3 --hash=sha256:{B}\nrequests==2.31.0", (), 1),
        ("numpy=1", (), 2),
        (None, (), 2),
    ],
)
@pytest.mark.parametrize("format_", ["text", "json", "markdown"])
def test_exit_codes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], candidate: str | None, flags: Any, code: int, format_: str
) -> None:
    baseline, other = tmp_path / "production.txt", tmp_path / "candidate.txt"
    baseline.write_text(f"numpy==1.26.3 --hash=sha256:{A}\nrequests==2.31.0")
    if candidate is not None:
        other.write_text(candidate)

    assert run(f"--baseline={baseline}", f"--candidate={other}", f"--format={format_}", *flags) == code

    said = capsys.readouterr()
    assert (str(other) in said.err) is (code == 2)
    if code < 2 and format_ == "json":
        assert json.loads(said.out)["aligned"] is (code == 0)


def test_output_goes_to_a_file_and_markdown_is_safe(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    baseline, candidate, output = tmp_path / "a.txt", tmp_path / "b.txt", tmp_path / "diff.md"
    baseline.write_text("x==1")
    candidate.write_text("x @ https://host/x|<b>.zip")

    flags = (f"--baseline={baseline}", f"--candidate={candidate}", "--format=markdown", f"--output={output}")
    assert run(*flags) == 0
    assert capsys.readouterr().out == ""
    assert "\\|&lt;b>" in output.read_text()


@pytest.mark.parametrize("flag", ["--fail-on=2", "--fail-on=nan", "--platform=amiga"])
def test_a_wrong_flag_ends_with_exit_code_2(flag: str) -> None:
    with pytest.raises(SystemExit) as ended:
        run("--baseline=a", "--candidate=b", flag)

    assert ended.value.code == 2


versions = st.from_regex(r"[0-3]\.[0-3]\.[0-3]", fullmatch=True)
names = st.sampled_from(["numpy", "torch", "requests", "a", "b"])
pins = st.dictionaries(names, versions, min_size=1)


def text_of(packages: dict[str, str]) -> str:
    return "\n".join(f"{name}=={version}" for name, version in packages.items())


@settings(max_examples=60, deadline=None)
@given(pins, pins)
def test_mismatch_is_0_for_the_same_and_never_falls_with_one_more_difference(
    baseline: dict[str, str], candidate: dict[str, str]
) -> None:
    assert diff(text_of(baseline), text_of(baseline)).mismatch == 0

    before = diff(text_of(baseline), text_of(candidate)).mismatch
    after = diff(text_of(baseline), text_of({**candidate, "unknown": "1"})).mismatch
    assert 0 <= before <= after <= 1


SEEDS = st.sampled_from([UV, PYLOCK, FREEZE, INSPECT, CONDA, PYTHON_ENV])


@settings(max_examples=200, deadline=None)
@given(SEEDS, st.integers(0, 2000), st.text(max_size=8), st.integers(0, 20))
def test_a_damaged_lock_is_read_or_named_but_never_crashes(seed: str, at: int, put: str, cut: int) -> None:
    at = at % len(seed)
    damaged = seed[:at] + put + seed[at + cut :]

    try:
        diff(UV, damaged)
    except BadInput as error:
        assert error.expected


@settings(max_examples=150, deadline=None)
@given(st.text(max_size=200))
def test_any_text_is_read_or_named(text: str) -> None:
    try:
        lock(text)
    except BadInput as error:
        assert error.expected
