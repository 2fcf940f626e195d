"""`.proto` files, proto2, proto3 and editions: what decides about messages; options and extensions are passed over."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from ops_commander.integration.schema.jsontext import position
from ops_commander.integration.schema.model import SchemaError, canonical
from ops_commander.integration.schema.protobuf_types import SCALARS, ProtoField, ProtoFiles, ProtoMessage, ProtoMethod

MAX_TOKENS: Final = 1_000_000
_MAX_DEPTH: Final = 64

_TOKEN = re.compile(
    r"""
      (?P<space> (?: \s++ | //[^\n]*+ | /\*(?:[^*]++|\*(?!/))*+\*/ )++ )
    | (?P<string> "(?:[^"\\\n]++|\\.)*+" | '(?:[^'\\\n]++|\\.)*+' )
    | (?P<name> \.?[A-Za-z_][\w]*+(?:\.[A-Za-z_]\w*+)*+ )
    | (?P<number> [0-9][\w.+-]*+ | \.[0-9]\w*+ )
    | (?P<mark> [{}\[\]()<>=;,:/+-] )
    """,
    re.VERBOSE,
)
_BEGINS = re.compile(
    r"""(?:syntax|edition)\s*=\s*["'] | (?:message|enum|service)\s+\w+\s*[{] | package\s+[\w.]+\s*;
      | (?:import|option)\s+[^:;{}]{1,500};""",
    re.VERBOSE,
)
_SPACE = re.compile(r"(?:\s++|//[^\n]*+|/\*(?:[^*]++|\*(?!/))*+\*/)*+")


def is_proto(text: str) -> bool:
    """Whether a text begins as a `.proto` does, comments aside."""
    begin = _SPACE.match(text)
    at = begin.end() if begin else 0
    return _BEGINS.match(text, at) is not None


@dataclass(frozen=True, slots=True)
class _Token:
    kind: str
    text: str
    at: int


def read(text: str) -> ProtoFiles:
    """All declarations of one file. Raises SchemaError with line and column."""
    return _Parser(text).file()


def _tokens(text: str) -> Iterator[_Token]:
    at, count = 0, 0
    while at < len(text):
        match = _TOKEN.match(text, at)
        if match is None:
            raise SchemaError(f"{text[at]!r}", "a .proto file", position(text, at))
        if match.lastgroup != "space":
            count += 1
            if count > MAX_TOKENS:
                raise SchemaError(f"more than {MAX_TOKENS:,} words", f"at most {MAX_TOKENS:,}", position(text, at))
            yield _Token(match.lastgroup or "", match.group(), at)
        at = match.end()


class _Parser:
    def __init__(self, text: str) -> None:
        self._text = text
        self._tokens = _tokens(text)
        self._next = self._advance()
        self._package = ""
        self._files = ProtoFiles()
        self._scopes: list[tuple[ProtoField, str]] = []
        self._uses: list[tuple[ProtoMethod, str]] = []

    # --- tokens ----------------------------------------------------------------------------------

    def _advance(self) -> _Token:
        return next(self._tokens, _Token("end", "", len(self._text)))

    def _take(self) -> _Token:
        token = self._next
        self._next = self._advance()
        return token

    def _is(self, text: str) -> bool:
        return self._next.text == text and self._next.kind != "string"

    def _took(self, text: str) -> bool:
        found = self._is(text)
        if found:
            self._take()
        return found

    def _expect(self, text: str) -> None:
        if not self._took(text):
            raise self._error(repr(text))

    def _word(self, kind: str, what: str) -> str:
        if self._next.kind != kind:
            raise self._error(what)
        return self._take().text

    def _error(self, expected: str, at: _Token | None = None) -> SchemaError:
        token = at or self._next
        found = repr(token.text[:40]) if token.kind != "end" else "the end of the file"
        return SchemaError(found, expected, position(self._text, token.at))

    def _skip_statement(self) -> None:
        """To the end of a statement or block, over nested brackets."""
        depth = 0
        while True:
            token = self._take()
            if token.kind == "end":
                raise self._error("';' or '}'", token)
            if token.kind != "mark":
                continue
            depth += {"{": 1, "[": 1, "(": 1, "}": -1, "]": -1, ")": -1}.get(token.text, 0)
            if depth <= 0 and token.text in ";}":
                return

    # --- declarations ----------------------------------------------------------------------------

    def file(self) -> ProtoFiles:
        while self._next.kind != "end":
            word = self._next.text
            if self._took(";"):
                continue
            if word == "package":
                self._take()
                self._package = f"{self._word('name', 'the name of a package')}."
                self._expect(";")
            elif word in ("syntax", "edition", "import", "option", "extend"):
                self._skip_statement()
            elif not self._declaration(self._package, 0):
                raise self._error("message, enum, service, import, option or extend")
        self._resolve()
        return self._files

    def _declaration(self, scope: str, depth: int) -> bool:
        """A message, enum or service, if one is next."""
        word = self._next.text
        if word not in ("message", "enum", "service"):
            return False
        self._take()
        name = scope + self._word("name", f"the name of the {word}")
        if word == "message":
            self._message(name, depth)
        elif word == "enum":
            self._enum(name)
        else:
            self._service(name)
        return True

    def _message(self, name: str, depth: int) -> None:
        self._check_depth(depth)
        message = ProtoMessage(name)
        self._files.messages[name] = message
        self._expect("{")
        while not self._took("}"):
            self._member(message, depth, None)

    def _check_depth(self, depth: int) -> None:
        if depth > _MAX_DEPTH:
            place = position(self._text, self._next.at)
            raise SchemaError(f"nested more than {_MAX_DEPTH} levels", f"at most {_MAX_DEPTH}", place)

    def _member(self, message: ProtoMessage, depth: int, oneof: str | None) -> None:
        word = self._next.text
        if self._took(";"):
            return
        if word in ("option", "reserved", "extensions", "extend") and self._passed_over():
            return
        if word in ("message", "enum", "oneof"):
            token = self._take()
            if self._next.kind == "name":
                self._nested(token, message, depth)
                return
            raise self._error("a name")
        self._field(message, depth, oneof)

    def _passed_over(self) -> bool:
        self._skip_statement()
        return True

    def _nested(self, word: _Token, message: ProtoMessage, depth: int) -> None:
        if word.text == "message":
            self._message(f"{message.name}.{self._word('name', 'a name')}", depth + 1)
        elif word.text == "enum":
            self._enum(f"{message.name}.{self._word('name', 'a name')}")
        else:
            oneof = self._word("name", "the name of the oneof")
            self._check_depth(depth)
            self._expect("{")
            while not self._took("}"):
                self._member(message, depth + 1, oneof)

    def _field(self, message: ProtoMessage, depth: int, oneof: str | None) -> None:
        label = ""
        if self._next.text in ("optional", "required", "repeated"):
            label = self._take().text.replace("optional", "")
        if self._is("group"):
            self._group(message, depth, label, oneof)
            return
        type_, key = self._type()
        name = self._word("name", "the name of a field")
        found = ProtoField(name, self._number(), type_, label, oneof=oneof, map_key=key)
        found.default = self._options()
        self._expect(";")
        self._add(message, found)

    def _group(self, message: ProtoMessage, depth: int, label: str, oneof: str | None) -> None:
        self._take()
        name = self._word("name", "the name of the group")
        number = self._number()
        self._options()
        self._add(message, ProtoField(name.lower(), number, name, label, oneof=oneof, group=True))
        self._message(f"{message.name}.{name}", depth + 1)

    def _add(self, message: ProtoMessage, found: ProtoField) -> None:
        message.fields.append(found)
        self._scopes.append((found, message.name))

    def _type(self) -> tuple[str, str | None]:
        """A type, and that of its keys if it is a map."""
        name = self._word("name", "the type of a field")
        if name != "map" or not self._took("<"):
            return name, None
        key = self._word("name", "the type of keys")
        self._expect(",")
        value = self._word("name", "the type of values")
        self._expect(">")
        return value, key

    def _number(self) -> int:
        self._expect("=")
        negative = self._took("-")
        token = self._next
        digits = self._word("number", "a number")
        try:
            value = int(digits, 0) if not re.fullmatch("0[0-7]{1,20}", digits) else int(digits, 8)
        except ValueError as error:
            raise self._error("a whole number", token) from error
        return -value if negative else value

    def _options(self) -> str | None:
        """The default, of all options in brackets."""
        default = None
        if not self._took("["):
            return None
        depth = 1
        while depth:
            token = self._take()
            if token.kind == "end":
                raise self._error("']'", token)
            if token.kind == "mark":
                depth += {"[": 1, "{": 1, "]": -1, "}": -1}.get(token.text, 0)
            elif token.text == "default" and depth == 1 and self._took("="):
                sign = "-" if self._took("-") else ""
                value = self._take()
                default = value.text[1:-1] if value.kind == "string" else sign + value.text
        return default

    def _enum(self, name: str) -> None:
        values: list[str] = []
        self._expect("{")
        while not self._took("}"):
            if self._took(";"):
                continue
            if self._next.text in ("option", "reserved"):
                self._skip_statement()
                continue
            label = self._word("name", "a value of the enum")
            values.append(canonical(f"{label}={self._number()}"))
            self._options()
            self._expect(";")
        self._files.enums[name] = frozenset(values)

    def _service(self, name: str) -> None:
        self._expect("{")
        while not self._took("}"):
            if self._took(";"):
                continue
            if not self._is("rpc"):
                self._skip_statement()
                continue
            self._take()
            method = ProtoMethod(f"{name}/{self._word('name', 'the name of a method')}", "", "")
            method.request, method.request_stream = self._message_type()
            self._expect("returns")
            method.response, method.response_stream = self._message_type()
            if not self._took(";"):
                self._expect("{")
                while not self._took("}"):
                    self._skip_statement()
            self._files.methods.append(method)
            self._uses.append((method, name))

    def _message_type(self) -> tuple[str, bool]:
        self._expect("(")
        word = self._word("name", "a message")
        stream = word == "stream" and self._next.kind == "name"
        name = self._take().text if stream else word
        self._expect(")")
        return name, stream

    # --- names -----------------------------------------------------------------------------------

    def _resolve(self) -> None:
        """Types by their full names; those of other files stay as they were written."""
        for found, scope in self._scopes:
            if found.type not in SCALARS:
                found.type = self._full(found.type, scope)
        for method, scope in self._uses:
            method.request = self._full(method.request, scope)
            method.response = self._full(method.response, scope)

    def _full(self, name: str, scope: str) -> str:
        if name.startswith("."):
            return name[1:]
        parts = scope.split(".")
        for length in range(len(parts), -1, -1):
            full = ".".join([*parts[:length], name])
            if full in self._files.messages or full in self._files.enums:
                return full
        return name
