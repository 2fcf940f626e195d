"""A strict reader of reports: headings, tables, lists and paragraphs, and nothing that a report may not have."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from markdown_it import MarkdownIt
from markdown_it.token import Token

_PIPE = re.compile(r"(?<!\\)\|")
_ALLOWED = frozenset(
    f"{name}{end}"
    for name in ("heading", "paragraph", "table", "thead", "tbody", "tr", "th", "td", "bullet_list", "list_item")
    for end in ("_open", "_close")
) | {"inline"}
_ALLOWED_INLINE = frozenset({"text", "code_inline", "softbreak", "strong_open", "strong_close", "image"})


class NotStrict(AssertionError):
    """Something in a report that must not be there."""


@dataclass
class Table:
    header: list[str]
    rows: list[list[str]] = field(default_factory=list)

    def column(self, name: str) -> list[str]:
        return [row[self.header.index(name)] for row in self.rows]


@dataclass
class Section:
    """What stands below one heading, up to the next of any level."""

    level: int
    title: str
    tables: list[Table] = field(default_factory=list)
    paragraphs: list[str] = field(default_factory=list)
    items: list[str] = field(default_factory=list)


def read(text: str) -> list[Section]:
    """Raises NotStrict for HTML, links, code blocks, rows of another width, and text that is not in a section."""
    text.encode()
    tokens = MarkdownIt("commonmark").enable(["table", "strikethrough"]).parse(text)
    for token in tokens:
        _check(token)
    _check_widths(text, tokens)
    return list(_sections(tokens))


def _check(token: Token) -> None:
    if token.type not in _ALLOWED:
        raise NotStrict(f"line {token.map}: {token.type}: {token.content[:200]!r}")
    for child in token.children or ():
        if child.type not in _ALLOWED_INLINE:
            raise NotStrict(f"line {token.map}: {child.type} in {token.content[:200]!r}")
        if child.type == "image" and not re.fullmatch(r"[a-z]+\.svg", str(child.attrs["src"])):
            raise NotStrict(f"line {token.map}: image {child.attrs['src']!r}")


def _check_widths(text: str, tokens: list[Token]) -> None:
    """The parser pads and cuts rows: what was written is counted."""
    lines = text.split("\n")
    for token in tokens:
        if token.type == "table_open" and token.map:
            widths = {len(_PIPE.findall(line)) for line in lines[token.map[0] : token.map[1]]}
            if len(widths) != 1:
                raise NotStrict(f"table at line {token.map[0]}: rows have {sorted(widths)} separators")


def _sections(tokens: list[Token]) -> Iterator[Section]:
    current: Section | None = None
    context: list[str] = []
    for token in tokens:
        if token.type == "heading_open":
            if current:
                yield current
            current = Section(int(token.tag[1:]), "")
        if current is None:
            raise NotStrict(f"line {token.map}: {token.type} before the first heading")
        if token.type.endswith("_close"):
            context.pop()
        elif token.type.endswith("_open"):
            context.append(token.type.removesuffix("_open"))
            _open(current, context)
        else:
            _put(current, context, _said(token))
    if current:
        yield current


def _open(section: Section, context: list[str]) -> None:
    if context[-1] == "table":
        section.tables.append(Table([]))
    elif context[-1] == "tr" and "tbody" in context:
        section.tables[-1].rows.append([])


def _put(section: Section, context: list[str], said: str) -> None:
    place = context[-1]
    if place == "heading":
        section.title = said
    elif place == "th":
        section.tables[-1].header.append(said)
    elif place == "td":
        section.tables[-1].rows[-1].append(said)
    elif "list_item" in context:
        section.items.append(said)
    else:
        section.paragraphs.append(said)


def _said(token: Token) -> str:
    return "".join("\n" if child.type == "softbreak" else child.content for child in token.children or ())
