"""Keras: the config names classes, and a Lambda layer carries code."""

from __future__ import annotations

import re
from typing import Any, BinaryIO, Final

from ops_commander.integration.artifacts.findings import Malformed, Notes
from ops_commander.integration.documents import BadInput, load_json

HDF5_MAGIC: Final = b"\x89HDF\r\n\x1a\n"
MAX_CONFIG: Final = 64 * 1024 * 1024
_CHUNK: Final = 1024 * 1024
_OVERLAP: Final = 4096
_LAMBDA: Final = re.compile(rb'"class_name"\s*:\s*"(?:Lambda|[^"]{0,100}\\u[0-9a-fA-F]{4}[^"]{0,100})"')
_CODE: Final = re.compile(rb'"(?:class_name|function_type)"\s*:\s*"(?:__lambda__|lambda)"')
_MODULES: Final = re.compile(
    r"keras(?:_core|_hub|_nlp|_cv)?(?:\.|$)|builtins$|tensorflow\.keras(?:\.|$)|tf_keras(?:\.|$)"
)
_CODE_NAMES: Final = ("Lambda", "__lambda__", "LambdaLayer")


def check_json(name: str, data: bytes, notes: Notes) -> None:
    """The config of a `.keras` archive: every class in it, wherever it stands."""
    notes.spend(data.count(b"{") + data.count(b"[") + data.count(b","))
    try:
        value = load_json(data.decode("utf-8"), name)
    except UnicodeDecodeError as error:
        raise Malformed("MalformedConfig", f"{name} is not UTF-8", error.start) from error
    except BadInput as error:
        raise Malformed("MalformedConfig", str(error)) from error
    waiting = [value]
    while waiting:
        node = waiting.pop()
        if isinstance(node, dict):
            _check_class(name, node, notes)
            waiting += node.values()
        elif isinstance(node, list):
            waiting += node


def _check_class(name: str, node: dict[str, Any], notes: Notes) -> None:
    class_name, module = node.get("class_name"), node.get("module")
    if class_name in _CODE_NAMES or node.get("function_type") == "lambda":
        notes.refuse(
            "KerasLambda", f"{name} has a {class_name or 'lambda'}, which carries code: expected layers of Keras"
        )
        notes.pickles += 1
    if class_name is None:
        return
    if module is not None and not (isinstance(module, str) and _MODULES.match(module)):
        message = f"{name} makes {str(class_name)[:100]} of module {str(module)[:100]!r}: expected one of Keras"
        notes.refuse("CustomClass", message)
    elif module is None and isinstance(node.get("registered_name"), str) and ">" in node["registered_name"]:
        notes.warn("CustomClass", f"{name} makes {node['registered_name'][:100]}, which is not of Keras")


def check_hdf5(stream: BinaryIO, notes: Notes) -> None:
    """The config stands in an attribute, never compressed: a search of all bytes finds a Lambda in it."""
    stream.seek(0)
    before, position = b"", 0
    while data := stream.read(_CHUNK):
        window = before + data
        if found := _LAMBDA.search(window) or _CODE.search(window):
            message = "a Lambda layer, which carries code, or a class name in escapes: expected layers of Keras"
            notes.refuse("KerasLambda", message, position - len(before) + found.start())
            notes.pickles += 1
            return
        position += len(data)
        before = window[-_OVERLAP:]
