"""Two answers to the same request: the deviation of the candidate's from stable's, and its silent regressions."""

from __future__ import annotations

from typing import Any, Final

from ops_commander.integration.outputs.answers import (
    Answer,
    NoAnswer,
    Unreadable,
    begins_with_mark,
    check_comparable,
    decoded,
    is_readable,
)
from ops_commander.integration.outputs.findings import Compared, Difference, Finding, Kind, Skip, Skipped
from ops_commander.integration.outputs.rules import Rules
from ops_commander.integration.outputs.walk import Walk

_NOT_ANSWERED: Final = {"unreachable": "no connection", "timeout": "no answer in time"}


def compare(stable: Answer | NoAnswer, candidate: Answer | NoAnswer, rules: Rules) -> Compared | Skipped:
    """Never raises, whatever the answers are. Time and memory are bounded: walk.MOST_STEPS, answers.MOST_BYTES."""
    try:
        return _compared(stable, candidate, rules)
    except Skip as skip:
        return Skipped(skip.reason, skip.detail)
    except RecursionError:
        return Skipped("too_deep", "nested more deeply than can be compared")


def _compared(stable: Answer | NoAnswer, candidate: Answer | NoAnswer, rules: Rules) -> Compared:
    mine = _usable(stable)
    check_comparable(mine)
    if not is_readable(mine):
        raise Skip("unsupported_type", f"{mine.content_type[0] or 'no content type'}: expected JSON, text or tensors")
    theirs = _counted(candidate)
    if isinstance(theirs, Compared):
        return theirs
    check_comparable(theirs)
    if findings := _other_type(mine, theirs):
        return _all_of(findings)
    if mine.body == theirs.body and mine.headers.get("content-type") == theirs.headers.get("content-type"):
        return Compared(0.0)
    tree = _read_stable(mine)
    try:
        other = decoded(theirs)
    except Unreadable as error:
        kind = Kind.ENCODING_MISMATCH if error.is_encoding else Kind.CONTENT_TYPE
        return _all_of((Finding(kind, (), str(error)),))
    walk = Walk(rules)
    if begins_with_mark(theirs) and not begins_with_mark(mine):
        walk.find(Kind.ENCODING_MISMATCH, (), "begins with a byte order mark")
    walk.go(tree, other)
    return walk.result()


def _usable(stable: Answer | NoAnswer) -> Answer:
    """A pair counts only if stable has answered: the candidate is not to blame for the rest."""
    if isinstance(stable, NoAnswer):
        named = {"unreachable": "stable_unreachable", "timeout": "stable_timeout"}
        raise Skip(named.get(stable.reason, stable.reason), stable.detail)
    if not 200 <= stable.status < 300:
        raise Skip("stable_status", f"stable answered {stable.status}")
    return stable


def _counted(candidate: Answer | NoAnswer) -> Answer | Compared:
    """The candidate's answer, or what its lack of one says."""
    if isinstance(candidate, NoAnswer):
        if candidate.reason not in _NOT_ANSWERED:
            raise Skip(candidate.reason, candidate.detail)
        return _all_of((Finding(Kind.STATUS, (), _NOT_ANSWERED[candidate.reason]),))
    if not 200 <= candidate.status < 300:
        return _all_of((Finding(Kind.STATUS, (), f"status {candidate.status}"),))
    return candidate


def _other_type(stable: Answer, candidate: Answer) -> tuple[Finding, ...]:
    """A client of stable could not read it at all."""
    (mine, charset), (theirs, other) = stable.content_type, candidate.content_type
    if (mine, stable.is_binary) != (theirs, candidate.is_binary):
        said = f"{_named(theirs, candidate)} where stable has {_named(mine, stable)}"
        return (Finding(Kind.CONTENT_TYPE, (), said),)
    if (charset or "utf-8") != (other or "utf-8"):
        said = "another charset than stable's"
        return (Finding(Kind.ENCODING_MISMATCH, (), said, charset or "utf-8", other or "utf-8"),)
    return ()


def _named(media_type: str, answer: Answer) -> str:
    return f"{media_type or 'no content type'}{' with binary tensors' if answer.is_binary else ''}"


def _read_stable(answer: Answer) -> Any:
    try:
        return decoded(answer)
    except Unreadable as error:
        raise Skip("stable_unreadable", str(error)) from error


def _all_of(findings: tuple[Finding, ...]) -> Compared:
    """A pair that is as far apart as can be."""
    kinds = frozenset(finding.kind for finding in findings)
    return Compared(1.0, kinds, findings, Difference((), 1.0, None, None))
