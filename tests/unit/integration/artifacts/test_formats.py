"""Data formats: what is sound is summed up; what is not whole, not consistent or not itself is refused."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import struct
import zipfile
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ops_commander.integration.artifacts.describe import config_checksum, describe, describe_stream
from ops_commander.integration.artifacts.findings import ArtifactReport, Format, Limits, Policy
from ops_commander.integration.documents import BadInput
from tests.unit.integration.artifacts.builders import (
    field,
    gguf,
    gguf_text,
    npy,
    onnx,
    onnx_tensor,
    pickled,
    safetensors,
    tensor,
    zipped,
)


def look(data: bytes, policy: Policy | None = None, **limits: int) -> ArtifactReport:
    return describe_stream(io.BytesIO(data), len(data), "model", policy or Policy(), Limits(**limits))


def refused(report: ArtifactReport) -> list[str]:
    return [finding.kind for finding in report.refused]


TWO = {"a": tensor("F32", [2], 0, 8), "b": tensor("BF16", [1, 2], 8, 12), "__metadata__": {"format": "pt"}}
SAFE = safetensors(TWO, b"\0" * 12)
ONNX = onnx(onnx_tensor())
GGUF = gguf([("t", [32, 2], 8, 0), ("u", [3], 0, 96)], size=128)
NPY = npy("'<f4'", "(2, 3)", b"\0" * 24)
KERAS_CONFIG = {"module": "keras", "class_name": "Sequential", "config": {"layers": [{"class_name": "Dense"}]}}
KERAS = {"config.json": json.dumps(KERAS_CONFIG).encode(), "metadata.json": b"{}", "model.weights.h5": b"x"}


@pytest.mark.parametrize(
    ("data", "form", "count", "parameters", "size"),
    [
        (SAFE, Format.SAFETENSORS, 2, 4, 12),
        (safetensors({}), Format.SAFETENSORS, 0, 0, 0),
        (safetensors(b'{"a":{"dtype":"U8","shape":[0],"data_offsets":[0,0]}}   '), Format.SAFETENSORS, 1, 0, 0),
        (safetensors({"a": tensor("F4", [3, 2], 0, 3)}, b"abc"), Format.SAFETENSORS, 1, 6, 3),
        (ONNX, Format.ONNX, 1, 6, 24),
        (GGUF, Format.GGUF, 2, 67, 80),
        (NPY, Format.NPY, 1, 6, 24),
        (npy("[('a', '<f4', (2,)), ('b', '|S3')]", "(2,)", b"\0" * 22, version=2), Format.NPY, 1, 2, 22),
        (zipped({"x.npy": NPY, "y.npy": NPY}), Format.NPZ, None, 0, 0),
        (zipped(KERAS), Format.KERAS, None, 0, 0),
        (b"\x89HDF\r\n\x1a\n" + b'{"class_name": "Dense"}', Format.HDF5, None, 0, 0),
        (b'{"learner": {"version": [2, 0]}}', Format.JSON, None, 0, 0),
    ],
)
def test_sound_files_are_told_by_content_and_taken(
    data: bytes, form: Format, count: int | None, parameters: int, size: int
) -> None:
    report = look(data)

    assert report.format is form
    assert report.findings == []
    assert report.sha256 == hashlib.sha256(data).hexdigest()
    if count is not None:
        assert report.tensors is not None
        assert (report.tensors.count, report.tensors.parameters, report.tensors.bytes) == (count, parameters, size)


def test_the_graph_of_a_model_is_described() -> None:
    report = look(ONNX)

    assert report.tensors is not None
    assert [(each.name, each.dtype, each.shape) for each in report.tensors.inputs] == [("x", "FLOAT", ["N", 3])]
    assert [(each.name, each.dtype, each.shape) for each in report.tensors.outputs] == [("y", "FLOAT", [1])]
    assert report.details == {"irVersion": "9", "producer": "test", "opset": "ai.onnx 18"}


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (SAFE[:-1], "OutOfRange"),
        (SAFE + b"x", "TrailingData"),
        (safetensors(TWO, b"\0" * 12, length=5000), "Truncated"),
        (safetensors(b"{", length=200_000_000) + b"\0" * 99, "HeaderTooLarge"),
        (safetensors(b'{"a": 1, "a": 2}'), "MalformedHeader"),
        (safetensors(b"{nonsense}"), "MalformedHeader"),
        (safetensors(b'{"a": "\xff"}'), "MalformedHeader"),
        (safetensors(b'{"a": ' + b"[" * 100_000 + b"}"), "MalformedHeader"),
        (safetensors({"__metadata__": {"a": 1}}), "MalformedHeader"),
        (safetensors({"a": {"dtype": "F32", "shape": [1]}}), "MalformedHeader"),
        (safetensors({"a": tensor("F99", [1], 0, 4)}, b"\0" * 4), "UnknownType"),
        (safetensors({"a": tensor("F32", [2], 0, 4)}, b"\0" * 4), "SizeMismatch"),
        (safetensors({"a": tensor("F4", [3], 0, 1)}, b"\0"), "SizeMismatch"),
        (safetensors({"a": tensor("F32", [-1], 0, 4)}, b"\0" * 4), "MalformedHeader"),
        (safetensors({"a": tensor("F32", [True], 0, 4)}, b"\0" * 4), "MalformedHeader"),
        (safetensors({"a": tensor("F32", [1.0], 0, 4)}, b"\0" * 4), "MalformedHeader"),
        (safetensors({"a": tensor("F32", [1], 4, 0)}, b"\0" * 4), "MalformedHeader"),
        (safetensors({"a": tensor("F32", [1], 0, 4), "b": tensor("F32", [1], 2, 6)}, b"\0" * 6), "Overlap"),
        (safetensors({"a": tensor("F32", [1], 0, 4), "b": tensor("F32", [1], 0, 4)}, b"\0" * 4), "Overlap"),
        (safetensors({"a": tensor("F32", [1], 0, 4), "b": tensor("F32", [1], 6, 10)}, b"\0" * 10), "Hole"),
        (safetensors({"a": tensor("F32", [1], 4, 8)}, b"\0" * 8), "Hole"),
        (SAFE + zipped({"archive/data.pkl": b"."}), "Polyglot"),
        (GGUF[:40], "Truncated"),
        (GGUF[:-64], "OutOfRange"),
        (GGUF + b"\0" * 64, "TrailingData"),
        (gguf([], version=1), "UnknownVersion"),
        (gguf([], tensor_count=2**60), "Truncated"),
        (gguf([], key_count=2**62), "Truncated"),
        (gguf([("t", [32], 8, 8)], size=64), "Unaligned"),
        (gguf([("t", [32], 0, 0), ("u", [32], 0, 32)], size=192), "Overlap"),
        (gguf([("t", [32], 0, 0), ("t", [32], 0, 128)], size=256), "DuplicateKey"),
        (gguf([("t", [31], 8, 0)], size=64), "SizeMismatch"),
        (gguf([("t", [2**63, 2**63], 0, 0)], size=64), "OutOfRange"),
        (gguf([], gguf_text("k") + struct.pack("<I", 99), 1), "UnknownType"),
        (gguf([], gguf_text("k") + struct.pack("<IIQ", 9, 8, 2**60), 1), "Truncated"),
        (gguf([], gguf_text("k") + struct.pack("<IIQ", 9, 0, 2**63), 1), "Truncated"),
        (gguf([], gguf_text("k") + struct.pack("<IQ", 8, 2**63), 1), "Truncated"),
        (gguf([], gguf_text("general.alignment") + struct.pack("<II", 4, 3), 1), "MalformedHeader"),
        (gguf([], struct.pack("<Q", 2**40) + b"\0" * 32, 1), "TooLarge"),
        (onnx(onnx_tensor(location="../../etc/passwd")), "ExternalData"),
        (onnx(onnx_tensor(location="/etc/passwd")), "ExternalData"),
        (onnx(onnx_tensor(location="..\\secret")), "ExternalData"),
        (onnx(onnx_tensor(location="c:secret")), "ExternalData"),
        (onnx(onnx_tensor(location="")), "ExternalData"),
        (onnx(onnx_tensor(location="w.bin", offset="-1")), "MalformedModel"),
        (onnx(node=field(5, field(5, onnx_tensor(location="../x")))), "ExternalData"),
        (onnx(node=field(5, field(6, field(5, onnx_tensor(location="../x"))))), "ExternalData"),
        (onnx(node=field(5, field(22, field(1, onnx_tensor(location="../x"))))), "ExternalData"),
        (onnx(extra=field(25, field(7, field(5, field(5, onnx_tensor(location="../x")))))), "ExternalData"),
        (onnx(extra=field(20, field(1, field(5, onnx_tensor(location="../x"))))), "ExternalData"),
        (ONNX[:-1], "Truncated"),
        (NPY[:-1], "Truncated"),
        (NPY + b"x", "TrailingData"),
        (npy("'<f4'", "(-1,)", b""), "MalformedHeader"),
        (npy("__import__('os')", "(1,)", b""), "MalformedHeader"),
        (npy("'<f4'", "(" * 500 + ")" * 500, b""), "MalformedHeader"),
        (b"\x93NUMPY\x09\x00" + b"\0" * 8, "MalformedHeader"),
        (zipped({"../x": b""}), "UnsafeName"),
        (zipped({"/x": b""}), "UnsafeName"),
        (zipped({"a/..\\..\\x": b""}), "UnsafeName"),
        (zipped({"c:/x": b""}), "UnsafeName"),
        (zipped({"x.npy": NPY}) + b"tail", "TrailingData"),
        (b"PK\x03\x04" + b"\0" * 40, "Truncated"),
        (zipped({"x.npy": NPY, "inner.zip": zipped({"x": b""})}), "NestedArchive"),
        (zipped({"x": b""}), "UnknownFormat"),
        (zipped({"zeros.npy": NPY + b"\0" * 70_000_000}, zipfile.ZIP_DEFLATED), "Bomb"),
        (zipped({**KERAS, "config.json": b'{"class_name": "Lambda"}'}), "KerasLambda"),
        (zipped({**KERAS, "config.json": b'{"class_name": "\\u004cambda"}'}), "KerasLambda"),
        (zipped({**KERAS, "config.json": b'[{"class_name": "run", "module": "subprocess"}]'}), "CustomClass"),
        (zipped({**KERAS, "config.json": b'{"a": 1, "a": 2}'}), "MalformedConfig"),
        (b"\x89HDF\r\n\x1a\n" + b" " * 1048570 + b'"class_name": "Lambda"', "KerasLambda"),
        (b"\x89HDF\r\n\x1a\n" + b'"class_name" : "\\u004cambda"', "KerasLambda"),
        (gzip.compress(b"text"), "UnknownFormat"),
        (b"\x28\xb5\x2f\xfd" + b"\0" * 20, "UnknownPacking"),
        (b"\x1f\x8bnonsense", "MalformedPacking"),
        (b"", "UnknownFormat"),
        (b"just text\n", "UnknownFormat"),
        (b"#!/bin/sh\n", "UnknownFormat"),
        (b'{"a": NaN}', "MalformedJson"),
        (b'{"a": 1', "MalformedJson"),
    ],
)
def test_unsound_files_are_refused(data: bytes, kind: str) -> None:
    assert kind in refused(look(data, Policy(allow_pickle=True)))


def test_the_whole_cost_of_a_header_is_bounded() -> None:
    header = {f"t{index}": tensor("F32", [0], 0, 0) for index in range(500)}

    assert refused(look(safetensors(header), values=1_000)) == ["TooLarge"]


def tampered(at: int, put: bytes) -> bytes:
    data = bytearray(zipped({"x.npy": NPY}))
    data[at : at + len(put)] = put
    return bytes(data)


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (tampered(30, b"y.npy"), "HeaderMismatch"),
        (tampered(6, b"\x01"), "HeaderMismatch"),
        (tampered(40, b"\xff"), "UnreadableEntry"),
        (b"x" + zipped({"x.npy": NPY}), "Polyglot"),
        (zipped({"x.npy": NPY}) + zipped({"y.npy": NPY}), "Polyglot"),
    ],
)
def test_archives_that_readers_would_read_differently_are_refused(data: bytes, kind: str) -> None:
    assert kind in refused(look(data))


def test_an_entry_that_comes_twice_is_refused() -> None:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive, pytest.warns(UserWarning, match="Duplicate name"):
        archive.writestr("x.npy", NPY)
        archive.writestr("x.npy", NPY)

    assert "DuplicateEntry" in refused(look(out.getvalue()))


@pytest.mark.parametrize(("dtype", "code"), [("F16", "f2"), ("F32", "f4"), ("F64", "f8")])
def test_values_that_are_no_numbers_are_counted(dtype: str, code: str) -> None:
    data = np.array([1, np.nan, -np.inf, np.inf, 0], dtype=code).tobytes()
    file = safetensors({"a": tensor(dtype, [5], 0, len(data))}, data)

    report = look(file, Policy(count_non_finite=True))

    assert report.tensors is not None
    assert (report.tensors.nan, report.tensors.infinite, refused(report)) == (1, 2, ["NonFinite"])
    assert look(file).findings == []


def test_values_of_bfloat16_are_counted() -> None:
    data = struct.pack("<4H", 0x7FC0, 0x7F80, 0xFF80, 0x3F80)

    report = look(safetensors({"a": tensor("BF16", [4], 0, 8)}, data), Policy(count_non_finite=True))

    assert report.tensors is not None
    assert (report.tensors.nan, report.tensors.infinite) == (1, 2)


def test_files_beside_a_model_stay_in_its_folder(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    (tmp_path / "secret").write_bytes(b"\0" * 8)
    (folder / "w.bin").write_bytes(b"\0" * 8)
    (folder / "link").symlink_to(tmp_path / "secret")
    model = folder / "m.onnx"

    model.write_bytes(onnx(onnx_tensor(location="w.bin", offset="4")))
    report = describe(model)
    assert (report.external, report.findings) == (["w.bin"], [])

    for location, offset, kind in (
        ("link", "0", "ExternalData"),
        ("w.bin", "5", "OutOfRange"),
        ("no", "0", "ExternalData"),
    ):
        model.write_bytes(onnx(onnx_tensor(location=location, offset=offset)))
        assert refused(describe(model)) == [kind]


def test_unknown_operators_and_templates_are_pointed_out() -> None:
    assert [each.kind for each in look(onnx(domain="my.ops")).warnings] == ["CustomOperators"]
    template = gguf_text("tokenizer.chat_template") + struct.pack("<I", 8) + gguf_text("{{ x }}")
    assert [each.kind for each in look(gguf([], template, 1)).findings] == ["ChatTemplate"]


NOW = datetime(2026, 3, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    ("policy", "kinds"),
    [
        (Policy(), []),
        (Policy(sha256=hashlib.sha256(SAFE).hexdigest().upper()), []),
        (Policy(sha256="0" * 64), ["ChecksumMismatch"]),
        (Policy(format=Format.SAFETENSORS), []),
        (Policy(format=Format.ONNX), ["FormatMismatch"]),
        (Policy(format=Format.RAW), ["FormatMismatch"]),
        (Policy(max_age=timedelta(days=2)), []),
        (Policy(max_age=timedelta(hours=23)), ["TooOld"]),
    ],
)
def test_a_policy_is_held_against_the_file(tmp_path: Path, policy: Policy, kinds: list[str]) -> None:
    file = tmp_path / "model.bin"
    file.write_bytes(SAFE)
    written = NOW - timedelta(days=1)
    os.utime(file, (written.timestamp(), written.timestamp()))

    report = describe(file, policy, now=NOW)

    assert refused(report) == kinds
    assert report.modified == written


def test_an_age_that_cannot_be_told_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "model.bin"
    file.write_bytes(SAFE)
    policy = Policy(max_age=timedelta(days=1))

    assert refused(describe(file, policy)) == ["AgeUnknown"]
    assert refused(describe(file, policy, now=NOW, created=NOW + timedelta(hours=1))) == ["FromTheFuture"]
    assert refused(describe(file, policy, now=NOW, created=NOW + timedelta(minutes=1))) == []


def test_raw_is_only_what_nothing_else_is() -> None:
    assert look(b"\x01\x02weights", Policy(format=Format.RAW)).findings == []
    assert refused(look(pickled({}), Policy(format=Format.RAW))) == ["PickleNotAllowed", "FormatMismatch"]


@pytest.mark.parametrize("kind", ["missing", "folder", "fifo"])
def test_what_is_no_file_is_bad_input(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "x"
    if kind == "folder":
        path.mkdir()
    elif kind == "fifo":
        os.mkfifo(path)

    with pytest.raises(BadInput, match="expected a file"):
        describe(path)


def test_a_config_has_one_checksum_however_it_is_spelled() -> None:
    one, two = json.loads('{"b": [1, 2.0], "a": "é"}'), json.loads('{"a":"\\u00e9",\n"b":[1,2.0]}')

    assert config_checksum(one) == config_checksum(two)
    assert config_checksum(one) != config_checksum({**one, "a": "e"})
    with pytest.raises(ValueError, match="not JSON compliant"):
        config_checksum({"a": float("nan")})


SEEDS = [SAFE, ONNX, GGUF, NPY, zipped({"x.npy": NPY}), zipped(KERAS), zipped({"a/data.pkl": pickled({"a": 1})})]


@settings(max_examples=400, deadline=None)
@given(st.sampled_from(SEEDS), st.integers(0, 500), st.binary(max_size=9), st.integers(0, 9))
def test_a_damaged_file_is_described_and_never_crashes(seed: bytes, at: int, put: bytes, cut: int) -> None:
    at %= len(seed)
    look(seed[:at] + put + seed[at + cut :], Policy(allow_pickle=True, count_non_finite=True))


HEADS = [
    b"",
    b"GGUF\x03\0\0\0",
    b"PK\x03\x04",
    b"\x93NUMPY\x01\x00",
    b"\x08\x09",
    b"\x1f\x8b\x08",
    b"{",
    b"\x89HDF\r\n\x1a\n",
]


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(HEADS), st.binary(max_size=200))
def test_any_bytes_are_described(head: bytes, tail: bytes) -> None:
    look(head + tail)
