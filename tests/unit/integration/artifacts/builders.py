"""Small artifacts by hand, so that each field can be wrong."""

from __future__ import annotations

import io
import json
import pickle
import struct
import zipfile
from typing import Any


def safetensors(header: dict[str, Any] | bytes, data: bytes = b"", length: int | None = None) -> bytes:
    raw = header if isinstance(header, bytes) else json.dumps(header).encode()
    return (len(raw) if length is None else length).to_bytes(8, "little") + raw + data


def tensor(dtype: str, shape: list[Any], begin: int, end: int) -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


def varint(value: int) -> bytes:
    out = b""
    while value > 0x7F:
        out, value = out + bytes([value & 0x7F | 0x80]), value >> 7
    return out + bytes([value])


def field(number: int, value: int | bytes | str) -> bytes:
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    data = value.encode() if isinstance(value, str) else value
    return varint(number << 3 | 2) + varint(len(data)) + data


def onnx_tensor(name: str = "w", location: str | None = None, offset: str = "0", length: str = "4") -> bytes:
    made = field(1, 2) + field(1, 3) + field(2, 1) + field(8, name)
    if location is None:
        return made + field(9, b"\0" * 24)
    entries = (("location", location), ("offset", offset), ("length", length))
    return made + b"".join(field(13, field(1, key) + field(2, value)) for key, value in entries) + field(14, 1)


def onnx_value(name: str, *dims: int | str) -> bytes:
    shape = b"".join(field(1, field(1, dim) if isinstance(dim, int) else field(2, dim)) for dim in dims)
    return field(1, name) + field(2, field(1, field(1, 1) + field(2, shape)))


def onnx(*initializers: bytes, node: bytes = b"", domain: str = "", extra: bytes = b"") -> bytes:
    graph = field(1, node) + field(2, "g") + b"".join(field(5, each) for each in initializers)
    graph += field(11, onnx_value("x", "N", 3)) + field(11, onnx_value("w", 2, 3)) + field(12, onnx_value("y", 1))
    return field(1, 9) + field(2, "test") + field(7, graph) + field(8, field(1, domain) + field(2, 18)) + extra


def gguf_text(text: str) -> bytes:
    return struct.pack("<Q", len(text)) + text.encode()


def gguf(
    tensors: list[tuple[str, list[int], int, int]],
    keys: bytes = b"",
    key_count: int = 0,
    size: int = 0,
    version: int = 3,
    tensor_count: int | None = None,
) -> bytes:
    head = b"GGUF" + struct.pack("<IQQ", version, len(tensors) if tensor_count is None else tensor_count, key_count)
    made = head + keys
    for name, shape, kind, offset in tensors:
        made += gguf_text(name) + struct.pack("<I", len(shape)) + struct.pack(f"<{len(shape)}Q", *shape)
        made += struct.pack("<IQ", kind, offset)
    return made + b"\0" * (-len(made) % 32) + b"\0" * size


def npy(descr: str, shape: str, data: bytes, version: int = 1) -> bytes:
    header = f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}}}\n".encode()
    return b"\x93NUMPY" + bytes([version, 0]) + len(header).to_bytes(2 if version == 1 else 4, "little") + header + data


def zipped(entries: dict[str, bytes], method: int = zipfile.ZIP_STORED) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", method) as archive:
        for name, data in entries.items():
            archive.writestr(name, data)
    return out.getvalue()


class Payload:
    """Pickles to a call that would leave a file. Nothing in these tests may ever load it."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.call = (function, arguments)

    def __reduce__(self) -> tuple[Any, tuple[Any, ...]]:
        return self.call


def pickled(value: Any, protocol: int = 4) -> bytes:
    return pickle.dumps(value, protocol)


def text(value: str) -> bytes:
    """SHORT_BINUNICODE."""
    return b"\x8c" + bytes([len(value)]) + value.encode()
