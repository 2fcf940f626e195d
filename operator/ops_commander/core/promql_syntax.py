"""PromQL text to a tree and back: bounded in size and depth, with placeholders, and errors that name the place."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

import promql_parser as tree
from promql_parser import Expr, Matcher, MatchOp, VectorSelector

MOST_CHARACTERS: Final = 4096
MOST_NESTING: Final = 32
MOST_OPERATORS: Final = 100
PLACEHOLDERS: Final = ("$scope", "$comparer", "$labels")
PLACEHOLDER_LABEL: Final = "__placeholder_"
"""How the label names begin that stand for placeholders in a tree."""


class QueryProblem(ValueError):
    """A query that cannot be used; the text says what is wrong, where, and what was expected."""


@dataclass(frozen=True, slots=True)
class Token:
    kind: str
    text: str
    start: int


_TOKEN = re.compile(
    r"""
      (?P<space> \s+ | \#[^\n]* )
    | (?P<string> "(?:\\.|[^"\\\n])*" | '(?:\\.|[^'\\\n])*' | `[^`]*` )
    | (?P<placeholder> \$\w+ )
    | (?P<number> 0[xX][0-9a-fA-F]+ | \.?\d(?:[eE][+-]?\d|[\w.])* )
    | (?P<name> [A-Za-z_:][\w:]* )
    | (?P<mark> =~|!~|!=|==|<=|>=|[-+*/%^<>=(){}\[\],@] )
    """,
    re.VERBOSE | re.ASCII,
)
_PAIRS: Final = {"(": ")", "[": "]", "{": "}"}
_CLOSING: Final = frozenset(_PAIRS.values())
_OPERATORS: Final = frozenset([*"+-*/%^<>", "==", "!=", "<=", ">=", "and", "or", "unless", "atan2"])
_IDENTIFIER = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_METRIC_NAME = re.compile(r"[A-Za-z_:][A-Za-z0-9_:]*")
_ESCAPES: Final = {"\\": "\\\\", '"': '\\"', "\n": "\\n", "\r": "\\r", "\t": "\\t"}
_OPS: Final = ((MatchOp.Equal, "="), (MatchOp.NotEqual, "!="), (MatchOp.Re, "=~"), (MatchOp.NotRe, "!~"))


def quoted(text: str) -> str:
    """A PromQL string."""
    return '"' + "".join(_ESCAPES.get(each) or _visible(each) for each in text) + '"'


def _visible(character: str) -> str:
    return character if ord(character) >= 32 and ord(character) != 127 else f"\\x{ord(character):02x}"


def short(text: str, most: int = 80) -> str:
    """One line for a message."""
    line = " ".join(text.split())
    return line if len(line) <= most else f"{line[: most - 1]}…"


def tokens(query: str) -> list[Token]:
    """Raises QueryProblem for a query that is too large or too deep to parse, or has unbalanced brackets."""
    if len(query) > MOST_CHARACTERS:
        raise QueryProblem(f"the query has {len(query)} characters: expected at most {MOST_CHARACTERS}")
    found = list(_split(query))
    if not found:
        raise QueryProblem("the query is empty: expected a selector of a counter, such as http_requests_total")
    _bounded(found)
    return found


def _split(query: str) -> Iterator[Token]:
    place = 0
    while place < len(query):
        match = _TOKEN.match(query, place)
        if match is None:
            what = "a string that does not end" if query[place] in "\"'`" else f"{query[place]!r}"
            raise QueryProblem(f"syntax error at {at(query, place)}: {what} is not PromQL")
        kind = str(match.lastgroup)
        if kind == "placeholder" and match.group() not in PLACEHOLDERS:
            raise QueryProblem(f"syntax error at {at(query, place)}: {match.group()!r} is not PromQL")
        if kind != "space":
            yield Token(kind, match.group(), place)
        place = match.end()


def _bounded(found: list[Token]) -> None:
    open_: list[Token] = []
    operators = 0
    for token in found:
        if token.text in _PAIRS:
            open_.append(token)
        elif token.text in _CLOSING and not (open_ and _PAIRS[open_.pop().text] == token.text):
            raise QueryProblem(f"syntax error at character {token.start + 1}: {token.text!r} closes nothing")
        operators += token.text.lower() in _OPERATORS
        if len(open_) > MOST_NESTING and token.text != "{":
            raise QueryProblem(
                f"brackets are nested too deeply at character {token.start + 1}: expected at most {MOST_NESTING} levels"
            )
    if open_:
        raise QueryProblem(f"syntax error: {open_[-1].text!r} at character {open_[-1].start + 1} is not closed")
    if operators > MOST_OPERATORS:
        raise QueryProblem(f"the query has {operators} operators: expected at most {MOST_OPERATORS}")


def parse(query: str) -> Expr:
    """The tree; `$scope` and `$labels` stand in it as matchers. Raises QueryProblem."""
    found = tokens(query)
    try:
        return tree.parse(" ".join(map(_plain, found)))
    except UnicodeEncodeError as error:
        raise QueryProblem(f"the query is not valid Unicode: {error.reason}") from error
    except ValueError as error:
        if _is_grammar(error):
            raise QueryProblem(_where(query, found)) from error
        raise QueryProblem(f"{short(str(error), 200)}, in {short(query)!r}") from error


def _plain(token: Token) -> str:
    if token.kind == "placeholder":
        return f'{PLACEHOLDER_LABEL}{token.text[1:]}__=""'
    if token.kind == "string" and token.text.startswith("`"):
        return quoted(token.text[1:-1])  # the parser takes backslashes in it for escapes
    return token.text


def _is_grammar(error: ValueError) -> bool:
    return str(error).startswith(("invalid promql query", "unexpected"))


def at(query: str, place: int) -> str:
    return f"character {place + 1}, near {short(query[place : place + 24])!r}"


def _where(query: str, found: list[Token]) -> str:
    """The parser does not tell the place: it is the first token up to which the text is no query's beginning."""
    good, bad = 0, len(found) + 1
    while bad - good > 1:
        middle = (good + bad) // 2
        if _begins_a_query(found[:middle]):
            good = middle
        else:
            bad = middle
    if bad > len(found):
        return f"syntax error after {short(query[found[-1].start :], 24)!r}: the query ends too early"
    place = found[bad - 1].start
    return f"syntax error at {at(query, place)}: {found[bad - 1].text!r} was not expected there"


_ENDINGS: Final = (
    *("", " a", '"a"', "5m", "(a)", "(b)(a)", "=5", '="c"', 'b="c"', "{}", "by (b) (a)", "b (a)"),
    *("(2, a)", '("b", a)', "on (b) a", "on (b) group_left (b) a"),
)


def _begins_a_query(beginning: list[Token]) -> bool:
    closing: list[str] = []
    for token in beginning:
        if token.text in _PAIRS:
            closing.append(_PAIRS[token.text])
        elif token.text in _CLOSING:
            closing.pop()
    text, close = " ".join(map(_plain, beginning)), "".join(reversed(closing))
    return any(_is_grammatical(f"{text} {end}{close}{more}") for end in _ENDINGS for more in ("", " (a)", " a"))


def _is_grammatical(text: str) -> bool:
    try:
        tree.parse(text)
    except ValueError as error:
        return not _is_grammar(error)
    return True


def nodes(root: Expr) -> Iterator[Expr]:
    yield root
    for child in children(root):
        yield from nodes(child)


def children(node: Expr) -> list[Expr]:
    match node:
        case tree.BinaryExpr():
            return [node.lhs, node.rhs]
        case tree.AggregateExpr():
            return [node.expr] if node.param is None else [node.param, node.expr]
        case tree.Call():
            return list(node.args)
        case tree.MatrixSelector():
            return [node.vector_selector]
        case tree.ParenExpr() | tree.UnaryExpr() | tree.SubqueryExpr():
            return [node.expr]
    return []


Rewrite = Callable[[VectorSelector], Iterable[str]]
"""The matchers that a selector shall have, as text."""


def matchers_of(selector: VectorSelector) -> list[str]:
    """As written, placeholders included."""
    return [_matcher_text(each) for each in selector.matchers.matchers]


def _matcher_text(each: Matcher) -> str:
    placeholder = placeholder_of(each)
    if placeholder:
        return placeholder
    sign = next(text for op, text in _OPS if op == each.op)
    return f"{label_text(each.name)}{sign}{quoted(each.value)}"


def placeholder_of(each: Matcher) -> str:
    """The placeholder that a matcher stands for; empty for every other matcher."""
    if not each.name.startswith(PLACEHOLDER_LABEL):
        return ""
    return "$" + each.name.removeprefix(PLACEHOLDER_LABEL).removesuffix("__")


def label_text(name: str) -> str:
    return name if _IDENTIFIER.fullmatch(name) else quoted(name)


def text_of(node: Expr, rewrite: Rewrite = matchers_of) -> str:
    """PromQL of a tree, with the matchers of each selector rewritten."""
    inside = [text_of(child, rewrite) for child in children(node) if not isinstance(node, tree.MatrixSelector)]
    match node:
        case tree.ParenExpr():
            return f"({inside[0]})"
        case tree.UnaryExpr():
            return f"-{inside[0]}"
        case tree.BinaryExpr():
            return f"{inside[0]} {_operator(node)} {inside[1]}"
        case tree.AggregateExpr():
            return f"{node.op}{_grouping(node)} ({', '.join(inside)})"
        case tree.Call():
            return f"{node.func.name}({', '.join(inside)})"
        case tree.SubqueryExpr():
            return f"{inside[0]}[{_duration(node.range)}:{_duration(node.step)}]{_moved(node)}"
    return _leaf(node, rewrite)


def _leaf(node: Expr, rewrite: Rewrite) -> str:
    match node:
        case tree.VectorSelector():
            return _selector(node, rewrite) + _moved(node)
        case tree.MatrixSelector():
            inner = node.vector_selector
            return f"{_selector(inner, rewrite)}[{_duration(node.range)}]{_moved(inner)}"
        case tree.StringLiteral():
            return quoted(node.val)
        case tree.NumberLiteral():
            return number_text(node.val)
    raise QueryProblem(f"{type(node).__name__} is not supported")


def _selector(node: VectorSelector, rewrite: Rewrite) -> str:
    inside = ",".join(rewrite(node))
    name = node.name or ""
    if name and not _METRIC_NAME.fullmatch(name):
        return f"{{{','.join(filter(None, (quoted(name), inside)))}}}"
    return f"{name}{{{inside}}}" if inside or not name else name


def number_text(value: float) -> str:
    text = repr(value)
    return {"inf": "Inf", "-inf": "-Inf", "nan": "NaN"}.get(text, text.removesuffix(".0"))


def _duration(value: timedelta | None) -> str:
    return "" if value is None else str(tree.display_duration(value))


def _moved(node: VectorSelector | tree.SubqueryExpr) -> str:
    parts = ""
    if node.at is not None:
        kinds = ((tree.AtModifierType.Start, "start()"), (tree.AtModifierType.End, "end()"))
        named = next((text for kind, text in kinds if kind == node.at.type), None)
        parts += f" @ {named or (node.at.at and number_text(node.at.at.timestamp()))}"
    if node.offset is not None:
        parts += f" offset {'-' if node.offset < timedelta(0) else ''}{_duration(abs(node.offset))}"
    return parts


def _grouping(node: tree.AggregateExpr) -> str:
    if node.modifier is None:
        return ""
    word = "by" if node.modifier.type == tree.AggModifierType.By else "without"
    return f" {word} ({_labels(node.modifier.labels)})"


def _labels(names: Iterable[str]) -> str:
    return ", ".join(map(label_text, names))


def _operator(node: tree.BinaryExpr) -> str:
    parts, modifier = [str(node.op)], node.modifier
    if modifier is None:
        return parts[0]
    if modifier.return_bool:
        parts.append("bool")
    if modifier.matching is not None:
        word = "on" if modifier.matching.type == tree.LabelModifierType.Include else "ignoring"
        parts.append(f"{word} ({_labels(modifier.matching.labels)})")
    for card, word in (
        (tree.VectorMatchCardinality.ManyToOne, "group_left"),
        (tree.VectorMatchCardinality.OneToMany, "group_right"),
    ):
        if modifier.card == card:
            parts.append(f"{word} ({_labels(modifier.group_labels or [])})")
    for value, word in ((modifier.fill_values.lhs, "fill_left"), (modifier.fill_values.rhs, "fill_right")):
        if value is not None:
            parts.append(f"{word} ({number_text(value)})")
    return " ".join(parts)
