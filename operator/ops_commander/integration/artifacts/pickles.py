"""Pickles, read opcode by opcode as by an unpickler that builds nothing: no name is imported, nothing is called.

The stack and the memo are followed for constants and imports alone, so that an import whose name is put together
from the memo is seen, and one whose name is computed is refused.
"""

from __future__ import annotations

import io
import itertools
import math
import pickletools
import re
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

from ops_commander.integration.artifacts.findings import Import, Malformed, Notes, Trust
from ops_commander.integration.artifacts.imports import is_listed, trust_of

MAX_ARGUMENT: Final = 1024 * 1024
MAX_LINE: Final = 64 * 1024
MAX_TEXT: Final = 256
MAX_STACK: Final = 1_000_000
MAX_IMPORTS: Final = 2_000
MAX_NESTED: Final = 4
MAX_PICKLES: Final = 10_000
_CHUNK: Final = 1024 * 1024
_SMALL: Final = 64
_TORCH_MAGIC: Final = 0x1950A86A20F9469CFC6C
_TORCH_PICKLES: Final = 5
_FIRST_OPCODE: Final = min(ord(opcode.code) for opcode in pickletools.opcodes)
_IDENTIFIER: Final = re.compile(r"[^\W\d][\w]*(?:\.[^\W\d<][\w<>]*)*")


class Stream(Protocol):
    """What is read: a file, an entry of an archive, or what comes out of a decompressor."""

    def read(self, size: int, /) -> bytes: ...

    def readline(self, size: int, /) -> bytes: ...


class _Long(bytes):
    """An argument too long to keep: has its length, and nothing in it."""

    length: int

    def __new__(cls, length: int) -> _Long:
        made = super().__new__(cls)
        made.length = length
        return made

    def __len__(self) -> int:
        return self.length


class Tape:
    """A stream that never reads much at once, and knows where it is."""

    def __init__(self, stream: Stream) -> None:
        self._stream = stream
        self._ahead = b""
        self.position = 0

    def read(self, size: int) -> bytes:
        if size > MAX_ARGUMENT:
            skipped = self.skip(size)
            return _Long(size) if skipped == size else _Long(skipped)
        data = self._ahead[:size]
        self._ahead = self._ahead[size:]
        while len(data) < size and (more := self._stream.read(size - len(data))):
            data += more
        self.position += len(data)
        return data

    def readline(self) -> bytes:
        if self._ahead:
            return self._readline_slowly()
        data = self._stream.readline(MAX_LINE)
        self.position += len(data)
        return data

    def _readline_slowly(self) -> bytes:
        data = b""
        while not data.endswith(b"\n") and len(data) < MAX_LINE and (one := self.read(1)):
            data += one
        return data

    def tell(self) -> int:
        return self.position

    def peek(self, size: int) -> bytes:
        while len(self._ahead) < size and (more := self._stream.read(size - len(self._ahead))):
            self._ahead += more
        return self._ahead[:size]

    def skip(self, size: int) -> int:
        """How many bytes there were to skip."""
        left = size
        while left and (data := self.read(min(left, _CHUNK))):
            left -= len(data)
        return size - left


class _Mark:
    pass


@dataclass(frozen=True, slots=True)
class _Name:
    """An imported name, not called."""

    module: str
    name: str


@dataclass(slots=True)
class _Made:
    """What a call of an imported name would have made."""

    of: _Name | None
    arguments: Any = None
    state: Any = None


@dataclass(slots=True)
class _Dict:
    items: dict[Any, Any] = field(default_factory=dict)


_MARK: Final = _Mark()
_UNKNOWN: Final = object()
_WRAPPER: Final = _Name("joblib.numpy_pickle", "NumpyArrayWrapper")
_BYTES: Final = frozenset(
    "STRING BINSTRING SHORT_BINSTRING BINBYTES SHORT_BINBYTES BINBYTES8 BYTEARRAY8".split()  # noqa: SIM905
)
_TEXTS: Final = frozenset("UNICODE SHORT_BINUNICODE BINUNICODE BINUNICODE8".split())  # noqa: SIM905
_NUMBERS: Final = frozenset("INT BININT BININT1 BININT2 LONG LONG1 LONG4".split())  # noqa: SIM905
_CONSTANTS: Final = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}


def looks_like_pickle(head: bytes) -> bool:
    """Protocol 2 and later say so; earlier ones only look like text, and are tried."""
    return len(head) > 1 and head[0] == 0x80 and head[1] <= 5


def scan(stream: Stream, notes: Notes, where: str = "", depth: int = 0) -> int:
    """All pickles of a stream, one behind the other; how many ended as they should. Malformed becomes a finding."""
    tape = Tape(stream)
    ended = 0
    is_torch = False
    while ended < MAX_PICKLES:
        before = len(notes.imports)
        machine = _Machine(tape, notes, where, depth)
        try:
            result = machine.run()
        except Malformed as error:
            _note_malformed(error, notes, where, is_first=ended == 0, has_imports=len(notes.imports) > before)
            return ended
        ended += 1
        is_torch = is_torch or result == _TORCH_MAGIC
        if not tape.peek(1):
            return ended
        if is_torch and ended >= _TORCH_PICKLES and not looks_like_pickle(tape.peek(2)):
            notes.info("RawStorages", _at(where, "raw storages follow the pickles"), tape.position)
            return ended
    notes.refuse("TooLarge", _at(where, f"more than {MAX_PICKLES} pickles in one stream: expected fewer"))
    return ended


def reads_on(tape: Tape, operations: int) -> bool:
    """Whether the next opcodes make sense, up to a STOP or so many."""
    machine = _Machine(tape, Notes(), "", MAX_NESTED)
    try:
        machine.run(operations)
    except Malformed as error:
        return error.kind == "TooLarge"
    return True


def _note_malformed(error: Malformed, notes: Notes, where: str, *, is_first: bool, has_imports: bool) -> None:
    """What is behind a whole pickle need not be one; but what runs before it breaks has run."""
    if is_first or has_imports or error.kind == "TooLarge":
        notes.malformed(error, where)
    else:
        notes.warn("TrailingData", _at(where, "bytes follow the pickle that are none: expected its end"), error.offset)


def _at(where: str, message: str) -> str:
    return f"{where}: {message}" if where else message


class _Machine:
    """One pickle, to its STOP."""

    def __init__(self, tape: Tape, notes: Notes, where: str, depth: int) -> None:
        self.tape, self.notes, self.where, self.depth = tape, notes, where, depth
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}
        self.offset = tape.position
        self.result: Any = _UNKNOWN

    def run(self, operations: int | None = None) -> Any:
        """What would be the result, as far as it is a constant. Ends after so many opcodes, if that is stated."""
        try:
            with warnings.catch_warnings():
                # pickletools undoes escapes of old strings, and Python warns of those that are none.
                warnings.simplefilter("ignore", DeprecationWarning)
                for opcode, argument, _ in itertools.islice(self._operations(), operations):
                    self._do(opcode, argument)
        except (ValueError, OverflowError, UnicodeError, IndexError, MemoryError, EOFError) as error:
            raise Malformed(
                "MalformedPickle", f"broken pickle: {error}: expected opcodes to a STOP", self.offset
            ) from None
        return self.result

    def _operations(self) -> Iterator[tuple[pickletools.OpcodeInfo, Any, int | None]]:
        operations = pickletools.genops(self.tape)  # type: ignore[arg-type]
        while True:
            self.offset = self.tape.position
            self.notes.spend(1, self.offset)
            try:
                yield next(operations)
            except StopIteration:
                return

    def _do(self, opcode: pickletools.OpcodeInfo, argument: Any) -> None:
        name = opcode.name
        if handler := _SPECIAL.get(name):
            handler(self, argument)
        elif name in _TEXTS:
            self._text(argument)
        elif name in _NUMBERS:
            self._push(argument)
        elif name in _BYTES:
            self._bytes(name, argument)
        elif name in _CONSTANTS:
            self._push(_CONSTANTS[name])
        else:
            self._generic(opcode)
        if len(self.stack) > MAX_STACK or len(self.memo) > MAX_STACK:
            raise Malformed("TooLarge", f"more than {MAX_STACK} values at once: expected fewer", self.offset)

    def _push(self, value: Any) -> None:
        self.stack.append(value)

    def _pop(self) -> Any:
        if not self.stack or self.stack[-1] is _MARK:
            raise Malformed("MalformedPickle", "takes more from the stack than there is", self.offset)
        return self.stack.pop()

    def _top(self) -> Any:
        if not self.stack or self.stack[-1] is _MARK:
            raise Malformed("MalformedPickle", "looks at an empty stack", self.offset)
        return self.stack[-1]

    def _pop_to_mark(self) -> list[Any]:
        for index in range(len(self.stack) - 1, -1, -1):
            if self.stack[index] is _MARK:
                items = self.stack[index + 1 :]
                del self.stack[index:]
                return items
        raise Malformed("MalformedPickle", "looks for a mark that was not set", self.offset)

    def _generic(self, opcode: pickletools.OpcodeInfo) -> None:
        before = [each.name for each in opcode.stack_before]
        if "mark" in before:
            self._pop_to_mark()
            before = before[: before.index("mark")]
        for _ in before:
            self._pop()
        for _ in opcode.stack_after:
            self._push(_UNKNOWN)

    def _text(self, argument: str) -> None:
        """Protocols before 3 spell bytes as text in Latin-1."""
        if argument.startswith("\x80"):
            self._nested(argument.encode("latin-1", "replace"))
        self._push(argument if len(argument) <= MAX_TEXT else _UNKNOWN)

    def _bytes(self, name: str, argument: Any) -> None:
        """Old strings may name a module too; bytes may be a pickle in the pickle."""
        data = argument.encode("latin-1", "replace") if isinstance(argument, str) else bytes(argument)
        if len(data) == len(argument):
            self._nested(data)
        is_text = isinstance(argument, str) and len(argument) <= MAX_TEXT
        self._push(argument if is_text and name not in ("BINBYTES", "SHORT_BINBYTES") else _UNKNOWN)

    def _nested(self, data: bytes) -> None:
        if not looks_like_pickle(data[:2]):
            return
        if self.depth >= MAX_NESTED:
            self.notes.refuse(
                "NestedPickle", _at(self.where, f"more than {MAX_NESTED} pickles in each other"), self.offset
            )
            return
        inner = Notes(self.notes.policy, self.notes.limits, spent=self.notes.spent)
        scan(io.BytesIO(data), inner, f"{self.where}[nested at {self.offset}]", self.depth + 1)
        self.notes.spent = inner.spent
        if inner.imports or any(each.kind == "NestedPickle" for each in inner.findings):
            self.notes.warn("NestedPickle", _at(self.where, "bytes that are a pickle themselves"), self.offset)
            self.notes.imports |= inner.imports
            self.notes.findings += [each for each in inner.findings if each not in self.notes.findings]

    # Stack, marks and memo.

    def _on_mark(self, _: Any) -> None:
        self._push(_MARK)

    def _on_pop(self, _: Any) -> None:
        if not self.stack:
            raise Malformed("MalformedPickle", "takes from an empty stack", self.offset)
        self.stack.pop()

    def _on_stop(self, _: Any) -> None:
        self.result = self._pop()

    def _on_dup(self, _: Any) -> None:
        self._push(self._top())

    def _on_memoize(self, _: Any) -> None:
        self.memo[len(self.memo)] = self._top()

    def _on_put(self, index: Any) -> None:
        self.memo[int(index)] = self._top()

    _on_binput = _on_put
    _on_long_binput = _on_put

    def _on_get(self, index: Any) -> None:
        if int(index) not in self.memo:
            raise Malformed("MalformedPickle", f"reads entry {index} of the memo, which was not written", self.offset)
        self._push(self.memo[int(index)])

    _on_binget = _on_get
    _on_long_binget = _on_get

    # Containers, as far as their content is asked for later.

    def _on_empty_tuple(self, _: Any) -> None:
        self._push(())

    def _on_tuple(self, _: Any) -> None:
        items = self._pop_to_mark()
        self._push(tuple(items) if len(items) <= _SMALL else _UNKNOWN)

    def _on_tuple1(self, _: Any) -> None:
        self._small_tuple(1)

    def _on_tuple2(self, _: Any) -> None:
        self._small_tuple(2)

    def _on_tuple3(self, _: Any) -> None:
        self._small_tuple(3)

    def _small_tuple(self, size: int) -> None:
        self._push(tuple(reversed([self._pop() for _ in range(size)])))

    def _on_empty_dict(self, _: Any) -> None:
        self._push(_Dict())

    def _on_setitem(self, _: Any) -> None:
        value, key = self._pop(), self._pop()
        self._set([key, value])

    def _on_setitems(self, _: Any) -> None:
        self._set(self._pop_to_mark())

    def _set(self, items: list[Any]) -> None:
        target = self._top()
        if not isinstance(target, _Dict):
            return
        for key, value in zip(items[::2], items[1::2], strict=False):
            if isinstance(key, str) and len(target.items) < _SMALL:
                target.items[key] = value

    # Imports and calls.

    def _on_global(self, argument: Any) -> None:
        module, _, name = str(argument).partition(" ")
        self._push(self._imported(module, name))

    def _on_stack_global(self, _: Any) -> None:
        name, module = self._pop(), self._pop()
        if isinstance(module, str) and isinstance(name, str):
            self._push(self._imported(module, name))
            return
        message = "imports a name that is computed: expected constants"
        self.notes.refuse("ComputedImport", _at(self.where, message), self.offset)
        self._push(_UNKNOWN)

    def _on_inst(self, argument: Any) -> None:
        module, _, name = str(argument).partition(" ")
        arguments = tuple(self._pop_to_mark()[:_SMALL])
        self._push(_Made(self._imported(module, name), arguments))

    def _on_obj(self, _: Any) -> None:
        items = self._pop_to_mark()
        if not items:
            raise Malformed("MalformedPickle", "makes an object of nothing", self.offset)
        self._call(items[0], tuple(items[1:_SMALL]))

    def _on_reduce(self, _: Any) -> None:
        arguments, function = self._pop(), self._pop()
        self._call(function, arguments)

    _on_newobj = _on_reduce

    def _on_newobj_ex(self, _: Any) -> None:
        self._pop()
        arguments, function = self._pop(), self._pop()
        self._call(function, arguments)

    def _call(self, function: Any, arguments: Any) -> None:
        if not isinstance(function, _Name):
            message = "calls what another call has made: expected an imported name"
            self.notes.refuse("ComputedCall", _at(self.where, message), self.offset)
        elif isinstance(arguments, tuple) and _WRAPPER in arguments:
            # An object of it that is not seen as one would hide where joblib goes on reading.
            message = f"{function.module}.{function.name} is given {_WRAPPER.name}: expected it to be called itself"
            self.notes.refuse("ComputedCall", _at(self.where, message), self.offset)
        self._push(_Made(function if isinstance(function, _Name) else None, arguments))

    def _on_build(self, _: Any) -> None:
        state, target = self._pop(), self._top()
        if isinstance(target, _Name):
            message = f"writes into {target.module}.{target.name} itself: expected an object of it"
            self.notes.refuse("StateOnImport", _at(self.where, message), self.offset)
        if isinstance(target, _Made):
            target.state = state
            if target.of == _WRAPPER:
                self._skip_array(state)
                self.stack[-1] = _UNKNOWN

    def _on_ext1(self, code: Any) -> None:
        message = f"asks for entry {code} of the extension registry: expected an import by name"
        self.notes.refuse("ExtensionRegistry", _at(self.where, message), self.offset)
        self._push(_UNKNOWN)

    _on_ext2 = _on_ext1
    _on_ext4 = _on_ext1

    def _imported(self, module: str, name: str) -> _Name:
        key = (module, name)
        if key not in self.notes.imports:
            if len(self.notes.imports) >= MAX_IMPORTS:
                raise Malformed("TooLarge", f"more than {MAX_IMPORTS} imports: expected fewer", self.offset)
            trust = Trust.DANGEROUS if not _is_name(module, name) else trust_of(module, name)
            self.notes.imports[key] = Import(module=module, name=name, trust=trust, offset=self.offset)
            self._judge(module, name, trust)
        return _Name(module, name)

    def _judge(self, module: str, name: str, trust: Trust) -> None:
        said = f"{module}.{name}"
        if trust is Trust.DANGEROUS:
            message = f"imports {said}, which can run code: expected none of its kind"
            self.notes.refuse("DangerousImport", _at(self.where, message), self.offset)
        elif trust is Trust.SUSPICIOUS and not is_listed(module, name, self.notes.policy.allow_imports):
            message = f"imports {said}, which is not known to only rebuild numbers: list it in allowImports, or not"
            self.notes.warn("SuspiciousImport", _at(self.where, message), self.offset)

    # joblib puts the bytes of an array behind the opcode that has built its wrapper.

    def _skip_array(self, state: Any) -> None:
        items = state.items if isinstance(state, _Dict) else {}
        code, shape = _dtype_code(items.get("dtype")), items.get("shape")
        if code.startswith("O"):
            self._inline_pickle()
            return
        size = _item_size(code) if _is_plain(items.get("dtype"), 0) and _is_sized(items["dtype"], code) else None
        if size is None or not isinstance(shape, tuple) or not all(_is_count(each) for each in shape):
            raise Malformed(
                "UnreadableArray", "an array whose size cannot be told: expected dtype and shape", self.offset
            )
        padding = self.tape.read(1)
        if items.get("numpy_array_alignment_bytes") is None or not padding or padding[0] >= _FIRST_OPCODE:
            # Else a plain unpickler could run the array, which joblib skips.
            message = "an array without padding, as of joblib before 1.1: expected a byte that ends a plain unpickler"
            raise Malformed("UnreadableArray", message, self.offset)
        self._skip(padding[0])
        self._skip(size * math.prod(shape))

    def _skip(self, size: int) -> None:
        if (skipped := self.tape.skip(size)) != size:
            message = f"an array of {size} bytes of which {skipped} are there"
            raise Malformed("Truncated", message, self.offset)

    def _inline_pickle(self) -> None:
        if self.depth >= MAX_NESTED:
            raise Malformed("NestedPickle", f"more than {MAX_NESTED} pickles in each other", self.offset)
        _Machine(self.tape, self.notes, self.where, self.depth + 1).run()


_SPECIAL: Final[dict[str, Callable[[_Machine, Any], None]]] = {
    name.removeprefix("_on_").upper(): method for name, method in vars(_Machine).items() if name.startswith("_on_")
}


def _is_name(module: str, name: str) -> bool:
    return _IDENTIFIER.fullmatch(module) is not None and _IDENTIFIER.fullmatch(name) is not None


def _dtype_code(value: Any) -> str:
    if isinstance(value, _Made) and isinstance(value.arguments, tuple) and value.arguments:
        first = value.arguments[0]
        is_dtype = value.of is not None and value.of.name == "dtype"
        return first if is_dtype and isinstance(first, str) else ""
    return ""


def _is_plain(value: Any, depth: int) -> bool:
    """Whether a dtype holds no objects: of a record, by each of its fields."""
    code = _dtype_code(value)
    if not code.lstrip("<>=|").startswith("V"):
        return bool(code) and not code.lstrip("<>=|").startswith("O")
    state = value.state
    if depth >= MAX_NESTED or not isinstance(state, tuple) or len(state) < 5:
        return False
    fields = state[4]
    if state[2] is not None or not isinstance(fields, _Dict) or not fields.items:
        return False
    entries = fields.items.values()
    return all(isinstance(each, tuple) and len(each) > 1 and _is_plain(each[0], depth + 1) for each in entries)


def _is_sized(value: Any, code: str) -> bool:
    """Whether the state of a dtype says no other size than its code."""
    state = value.state
    return state is None or (isinstance(state, tuple) and (len(state) < 6 or state[5] in (-1, _item_size(code))))


def _item_size(code: str) -> int | None:
    """Of `f8`, `i4`, `b1`, `U10`, `V64`."""
    found = re.fullmatch(r"[<>=|]?([biufcmMSUV])(\d{1,9})", code)
    if found is None:
        return None
    return int(found[2]) * (4 if found[1] == "U" else 1)


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0
