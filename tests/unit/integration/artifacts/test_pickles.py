"""Pickles are read and never run: whatever they hide is named, and a payload leaves no trace."""

from __future__ import annotations

import base64
import bz2
import collections
import contextlib
import functools
import gzip
import importlib
import io
import lzma
import operator
import os
import pickle
import pickletools
import runpy
import subprocess
import warnings
import webbrowser
import zlib
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ops_commander.integration.artifacts.describe import describe, describe_stream
from ops_commander.integration.artifacts.findings import ArtifactReport, Format, Limits, Policy, Trust
from ops_commander.integration.artifacts.imports import trust_of
from tests.unit.integration.artifacts.builders import Payload, npy, pickled, text, zipped

ALLOWED = Policy(allow_pickle=True)
PROTO = b"\x80\x04"


def look(data: bytes, policy: Policy = ALLOWED, **limits: int) -> ArtifactReport:
    return describe_stream(io.BytesIO(data), len(data), "model", policy, Limits(**limits))


def kinds(report: ArtifactReport) -> set[str]:
    return {finding.kind for finding in report.refused}


def payloads(mark: Path) -> dict[str, Payload]:
    code = f"open({str(mark)!r}, 'w')"
    return {
        "os.system": Payload(os.system, f"touch {mark}"),
        "eval": Payload(eval, code),
        "exec": Payload(exec, code),
        "compile": Payload(compile, code, "x", "exec"),
        "open": Payload(open, str(mark), "w"),
        "subprocess": Payload(subprocess.call, ["touch", str(mark)]),
        "Popen": Payload(subprocess.Popen, ["touch", str(mark)]),
        "importlib": Payload(importlib.import_module, "antigravity"),
        "runpy": Payload(runpy.run_path, str(mark)),
        "webbrowser": Payload(webbrowser.open, "file:///"),
        "attrgetter": Payload(operator.attrgetter, "system"),
        "methodcaller": Payload(operator.methodcaller, "system"),
        "getattr": Payload(getattr, Payload(importlib.import_module, "os"), "system"),
        "pickle.loads": Payload(pickle.loads, pickled(1)),
        "nested": Payload(bytes, pickled(Payload(os.system, f"touch {mark}"))),
        "reduce": Payload(functools.reduce, operator.add, [1, 2]),
        "mkdir": Payload(os.mkdir, str(mark)),
    }


NAMES = sorted(payloads(Path("mark")))


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize("name", NAMES)
def test_a_payload_is_refused_and_does_not_run(tmp_path: Path, name: str, protocol: int) -> None:
    mark, file = tmp_path / "mark", tmp_path / "model.safetensors"
    file.write_bytes(pickled(payloads(mark)[name], protocol))

    report = describe(file, ALLOWED)

    assert report.format is Format.PICKLE
    assert "DangerousImport" in kinds(report)
    assert not mark.exists()


def wrapped(payload: bytes) -> dict[str, bytes]:
    return {
        "gzip": gzip.compress(payload),
        "zlib": zlib.compress(payload),
        "bz2": bz2.compress(payload),
        "xz": lzma.compress(payload),
        "pytorch": zipped({"archive/data.pkl": payload, "archive/version": b"3"}),
        "pytorch, renamed": zipped({"archive/data.pkl": pickled(1), "archive/data/0": payload}),
        "torchscript": zipped({"m/data.pkl": pickled(1), "m/constants.pkl": payload, "m/code/__torch__.py": b""}),
        "npz": zipped({"x.npy": npy("'|O'", "(1,)", payload)}),
        "npy": npy("'|O'", "(1,)", payload),
        "npy, record": npy("[('a', '<f4'), ('b', '|O')]", "(1,)", payload),
        "after another": pickled({"epoch": 1}) + payload,
        "legacy torch": pickled(0x1950A86A20F9469CFC6C, 2) + pickled(1001, 2) + pickled({}, 2) + payload,
        "cut short": payload[:-1],
        "broken behind": payload[:-1] + b"\xff",
        "zip behind": payload + zipped({"x": b""}),
    }


@pytest.mark.parametrize("name", sorted(wrapped(b"x")))
def test_a_payload_is_found_wherever_it_is_put(tmp_path: Path, name: str) -> None:
    mark, file = tmp_path / "mark", tmp_path / "model.onnx"
    file.write_bytes(wrapped(pickled(Payload(os.system, f"touch {mark}")))[name])

    assert "DangerousImport" in kinds(describe(file, ALLOWED))
    assert "PickleNotAllowed" in kinds(describe(file))
    assert not mark.exists()


HIDDEN = {
    "GLOBAL": (b"cos\nsystem\n(Vx\ntR.", "DangerousImport"),
    "INST": (b"(Vx\nios\nsystem\n.", "DangerousImport"),
    "OBJ": (b"(cos\nsystem\nVx\no.", "DangerousImport"),
    "posix": (b"cposix\nsystem\n(Vx\ntR.", "DangerousImport"),
    "Python 2 eval": (b"c__builtin__\neval\n(Vx\ntR.", "DangerousImport"),
    "Python 2 commands": (b"ccommands\ngetoutput\n(Vx\ntR.", "DangerousImport"),
    "no STOP": (b"cos\nsystem\n(Vx\ntR", "DangerousImport"),
    "dotted": (PROTO + text("torch.serialization") + text("os.system") + b"\x93.", "DangerousImport"),
    "dotted in a harmless one": (PROTO + text("collections") + text("abc.sys.modules") + b"\x93.", "DangerousImport"),
    "by the memo": (PROTO + text("system") + b"\x940" + text("os") + b"h\x00\x93.", "DangerousImport"),
    "overwritten memo": (
        PROTO + text("a") + b"q\x050" + text("os") + b"q\x050h\x05" + text("system") + b"\x93.",
        "DangerousImport",
    ),
    "old strings": (PROTO + b"U\x02osU\x06system\x93.", "DangerousImport"),
    "computed": (PROTO + b"ccollections\nOrderedDict\n)R" + text("system") + b"\x93.", "ComputedImport"),
    "too long a name": (PROTO + b"X\x00\x02\x00\x00" + b"o" * 512 + text("system") + b"\x93.", "ComputedImport"),
    "bytes as a name": (PROTO + b"C\x02os" + text("system") + b"\x93.", "ComputedImport"),
    "computed call": (PROTO + b"ccollections\nOrderedDict\n)R)R.", "ComputedCall"),
    "extension registry": (PROTO + b"\x82\x01.", "ExtensionRegistry"),
    "state on a class": (PROTO + b"ccollections\nOrderedDict\n}b.", "StateOnImport"),
    "odd name": (b"cos sys\nsystem\n.", "DangerousImport"),
    "loads bytes": (b"ctorch.storage\n_load_from_bytes\n(Vx\ntR.", "DangerousImport"),
    "numpy gadget": (b"cnumpy.testing._private.utils\nrunstring\n(Vx\ntR.", "DangerousImport"),
    "hub": (b"ctorch.hub\nload\n(Vx\ntR.", "DangerousImport"),
    "stack underflow": (PROTO + b"ccollections\nOrderedDict\nR.", "MalformedPickle"),
    "no mark": (PROTO + b"ccollections\nOrderedDict\nt.", "MalformedPickle"),
    "memo not written": (PROTO + b"h\x07.", "MalformedPickle"),
    "unknown opcode": (PROTO + b"\xff.", "MalformedPickle"),
    "a length that lies": (PROTO + b"\x8e\xff\xff\xff\xff\xff\xff\xff\x00.", "MalformedPickle"),
    "a huge text": (PROTO + b"\x8d\xff\xff\xff\x7f\x00\x00\x00\x00.", "MalformedPickle"),
    "a huge number": (PROTO + b"\x8b\xff\xff\xff\x7f.", "MalformedPickle"),
    "digits": (PROTO + b"I" + b"9" * 10_000 + b"\n.", "MalformedPickle"),
    "a line without end": (PROTO + b"V" + b"a" * 200_000, "MalformedPickle"),
    "wrapper hidden": (
        PROTO + b"ccopyreg\n_reconstructor\ncjoblib.numpy_pickle\nNumpyArrayWrapper\n\x85R.",
        "ComputedCall",
    ),
    "wrapper without dtype": (
        PROTO + b"cjoblib.numpy_pickle\nNumpyArrayWrapper\n)\x81}bcos\nsystem\n.",
        "UnreadableArray",
    ),
}


@pytest.mark.parametrize("name", sorted(HIDDEN))
def test_what_hides_is_named_with_its_place(name: str) -> None:
    data, kind = HIDDEN[name]

    found = [finding for finding in look(data).refused if finding.kind == kind]

    assert found
    assert found[0].offset is not None


def joblib_array(padding: bytes, shape: bytes = b"K\x02\x85", state_size: bytes = b"J\xff\xff\xff\xff") -> bytes:
    """As joblib writes an array of two float64, whose bytes hold a GLOBAL."""
    dtype = (
        b"cnumpy\ndtype\n("
        + text("f8")
        + b"\x89\x88tR(K\x03"
        + text("<")
        + b"NNN"
        + state_size
        + b"J\xff\xff\xff\xffK\x00tb"
    )
    state = b"}(" + text("shape") + shape + text("dtype") + dtype + text("numpy_array_alignment_bytes") + b"K\x10u"
    return PROTO + b"cjoblib.numpy_pickle\nNumpyArrayWrapper\n)\x81" + state + b"b" + padding + b"cos\nsystem\n())) ."


def test_arrays_of_joblib_are_skipped_and_what_follows_is_read() -> None:
    plain = joblib_array(b"\x02\xff\xff")[:-1] + b"."

    report = look(plain)

    assert [each.kind for each in report.findings] == []
    assert {each.trust for each in report.imports} == {Trust.ALLOWED}


@pytest.mark.parametrize(
    "data",
    [
        joblib_array(b""),
        joblib_array(b"\x02\xff\xff", shape=b"K\x01\x85"),
        joblib_array(b"\x02\xff\xff", shape=b"M\xff\xff\x85"),
        joblib_array(b"\x02\xff\xff", shape=b"J\xff\xff\xff\xff\x85"),
        joblib_array(b"\x02\xff\xff", state_size=b"K\x01"),
    ],
)
def test_an_array_that_two_readers_would_skip_differently_is_refused(data: bytes) -> None:
    assert look(data).refused


@pytest.mark.parametrize("protocol", range(6))
def test_numbers_and_containers_are_taken(protocol: int) -> None:
    value = {
        "weights": np.arange(6, dtype="float32").reshape(2, 3),
        "scalar": np.float64(2),
        "other": [1, 2.5, "x", b"y", None, True, (1, 2), {3}, frozenset([4]), complex(1, 2), bytearray(b"z"), 10**30],
        "ordered": collections.OrderedDict(a=1),
        "when": datetime(2026, 1, 1, tzinfo=UTC),
        "exact": Decimal("0.1"),
    }

    report = look(pickled(value, protocol))

    assert [finding.kind for finding in report.findings] == []
    assert "PickleNotAllowed" in kinds(look(pickled(value, protocol), Policy()))


def test_unknown_imports_warn_until_somebody_vouches_for_them() -> None:
    data = b"csklearn.linear_model\nRidge\n)\x81."

    assert [finding.kind for finding in look(data).warnings] == ["SuspiciousImport"]
    assert look(data, Policy(allow_pickle=True, allow_imports=("sklearn.*",))).findings == []
    assert kinds(look(b"cos\nsystem\n.", Policy(allow_pickle=True, allow_imports=("*",)))) == {"DangerousImport"}


@pytest.mark.parametrize(
    ("module", "name", "trust"),
    [
        ("collections", "OrderedDict", Trust.ALLOWED),
        ("__builtin__", "set", Trust.ALLOWED),
        ("copy_reg", "_reconstructor", Trust.ALLOWED),
        ("torch._utils", "_rebuild_tensor_v2", Trust.ALLOWED),
        ("torch", "FloatStorage", Trust.ALLOWED),
        ("torch", "load", Trust.DANGEROUS),
        ("torch._utils", "something", Trust.SUSPICIOUS),
        ("numpy", "load", Trust.DANGEROUS),
        ("numpy.core.multiarray", "scalar", Trust.ALLOWED),
        ("builtins", "getattr", Trust.DANGEROUS),
        ("builtins", "anything", Trust.DANGEROUS),
        ("xgboost.sklearn", "XGBClassifier", Trust.SUSPICIOUS),
        ("mlflow.run", "Thing", Trust.SUSPICIOUS),
        ("any", "f.__globals__", Trust.DANGEROUS),
        ("any", "os", Trust.DANGEROUS),
    ],
)
def test_imports_are_classified(module: str, name: str, trust: Trust) -> None:
    assert trust_of(module, name) is trust


def test_work_is_bounded() -> None:
    assert "TooLarge" in kinds(look(PROTO + b"N0" * 50_000 + b"N.", values=1_000))
    assert "TooLarge" in kinds(look(pickled(1) * 2_000, values=1_000))
    assert "Bomb" in kinds(look(gzip.compress(b"\x80\x04" + b"B\xff\xff\xff\x7f" + b"a" * 100_000_000), values=1_000))


def test_pickles_in_each_other_are_followed_only_so_far() -> None:
    data = pickled(Payload(os.getcwd))
    for _ in range(3):
        data = pickled(data)
    assert "DangerousImport" in kinds(look(data))
    for _ in range(5):
        data = pickled(data)
    assert "NestedPickle" in kinds(look(data))


def test_a_payload_in_base64_is_stopped_at_what_would_decode_it() -> None:
    inner = base64.b64encode(pickled(Payload(os.getcwd)))

    assert "DangerousImport" in kinds(look(pickled(Payload(eval, inner.decode()))))


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=300))
def test_any_bytes_are_described(data: bytes) -> None:
    for policy in (Policy(), ALLOWED):
        look(data, policy)
        look(PROTO + data, policy)


OPCODES = st.sampled_from([opcode.code.encode("latin-1") for opcode in pickletools.opcodes])
PIECES = st.one_of(OPCODES, st.binary(max_size=6), st.sampled_from([b"os\n", text("os"), text("system"), b"cos\nx\n"]))


@settings(max_examples=300, deadline=None)
@given(st.lists(PIECES, max_size=60))
def test_any_opcodes_are_described(pieces: list[bytes]) -> None:
    look(PROTO + b"".join(pieces))


class _Refusing(pickle.Unpickler):
    """Python's own unpickler, which here imports nothing: says which names it would have imported."""

    def __init__(self, data: bytes) -> None:
        super().__init__(io.BytesIO(data))
        self.asked: set[tuple[str, str]] = set()

    def find_class(self, module: str, name: str) -> Any:
        self.asked.add((module, name))
        return dict


@settings(max_examples=300, deadline=None)
@given(st.lists(PIECES, max_size=40))
def test_no_name_that_the_unpickler_asks_for_goes_unseen(pieces: list[bytes]) -> None:
    data = PROTO + b"".join(pieces) + b"."
    real = _Refusing(data)
    # Whatever it raises, what it asked for before counts.
    with contextlib.suppress(Exception), warnings.catch_warnings(action="ignore"):
        real.load()

    seen = look(data)

    asked = {f"{module}.{name}" for module, name in real.asked}
    missed = asked - {f"{each.module}.{each.name}" for each in seen.imports}
    assert not missed or kinds(seen) & {"ComputedImport", "ExtensionRegistry", "MalformedPickle"}
