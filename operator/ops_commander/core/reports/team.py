"""TEAM CONSENSUS: what each agent says, and the quorum line."""

from __future__ import annotations

import re
from typing import Final

from ops_commander.api.ballot import VoterRole, VoteStatus
from ops_commander.core.quorum import REACHED, ROLES, in_order
from ops_commander.core.reports.markup import ABSENT, one_line, plain, table
from ops_commander.core.reports.subject import Subject

COLUMNS: Final = ("Agent", "Recommendation", "Risk Assessment", "Key Concern")
_TARGET: Final = re.compile(r"PROCEED TO ([A-Z0-9 %]{1,40})")
QUOTED: Final = "Concerns are quoted: figures in them are the agents' own, their evidence is with the votes."


def lines(subject: Subject) -> list[str]:
    rows = [_row(row) for row in in_order(subject.votes)]
    rows += [_unasked(role) for role in ROLES if not any(row.role is role for row in subject.votes)]
    note = ["", QUOTED] if subject.votes else []
    return [*table(COLUMNS, rows), *note, "", line(subject)]


def line(subject: Subject) -> str:
    """The quorum line."""
    quorum = subject.quorum
    if quorum is None:
        return f"**Quorum:** 0/{len(ROLES)} GO votes, none asked for → **NO QUORUM**"
    absent = ", ".join(row.agent for row in subject.votes if row.vote is None)
    missing = f", missing: {plain(one_line(absent))}" if absent else ""
    target = _TARGET.search(quorum.line)
    is_reached = quorum.reached_at is not None or quorum.reason == REACHED
    verdict = f"PROCEED TO {target[1].strip() if target else 'PRODUCTION'}" if is_reached else "HOLD"
    return f"**Quorum:** {quorum.go}/{len(ROLES)} GO votes{missing} → **{verdict}**"


def _row(row: VoteStatus) -> list[str]:
    agent = row.role.agent
    if row.vote is None:
        return [agent, "missing", "not assessed", _quote(row.concern)]
    return [agent, row.vote, row.risk or "not assessed", _quote(row.concern)]


def _unasked(role: VoterRole) -> list[str]:
    return [role.agent, "not asked", "not assessed", ABSENT]


def _quote(concern: str) -> str:
    return f"“{plain(concern)}”" if concern.strip() else ABSENT
