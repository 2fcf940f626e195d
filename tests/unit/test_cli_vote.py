"""`ops-commander vote`: the Vote that is made, and what is shown."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from ops_commander.api.ballot import Choice, RiskLevel, VoteEvidence, VoterRole
from ops_commander.api.vote import Vote
from ops_commander.cli import vote
from ops_commander.cli.main import main
from ops_commander.integration.handoffs.evidence import Proved

ROLLOUT: dict[str, Any] = {
    "metadata": {"name": "ranker", "namespace": "shop", "uid": "u1"},
    "status": {"phase": "Progressing", "deployment": {"id": "ranker-2bcdfghjkl-3"}},
}
LOG = VoteEvidence(
    kind="file",
    path="run.log",
    sha256="a" * 64,
    run_id="run_8724",
    created_at=datetime(2026, 3, 4, tzinfo=UTC),
)
GO = vote.Wish(VoterRole.QUALITY_OFFICER, Choice.GO, RiskLevel.LOW, "")


def test_a_vote_is_for_the_deployment_under_way() -> None:
    made = vote.vote_for(ROLLOUT, "mila", GO, [Proved((LOG,), ("report.yaml: p95 is 510 ms",))])

    parsed = Vote.model_validate(made)
    assert parsed.name == "ranker-2bcdfghjkl-3-quality-officer"
    assert (parsed.spec.deployment_id, parsed.spec.voter, parsed.spec.evidence) == (
        "ranker-2bcdfghjkl-3",
        "mila",
        [LOG],
    )
    assert made["metadata"]["ownerReferences"][0]["uid"] == "u1"
    assert vote.described(made, [Proved((LOG,), ("report.yaml: p95 is 510 ms",))]).splitlines() == [
        "Quality & Safety Officer: GO (Low risk) on ranker-2bcdfghjkl-3, cast by mila",
        "  evidence  file run.log @ run_8724 sha256 aaaaaaaaaaaa 2026-03-04T00:00:00.000Z",
        "  against   report.yaml: p95 is 510 ms",
    ]


@pytest.mark.parametrize("deployment", [{}, {"id": "ranker-2bcdfghjkl-3", "outcome": "Completed"}])
def test_there_must_be_a_deployment_under_way(deployment: dict[str, Any]) -> None:
    rollout = {**ROLLOUT, "status": {"phase": "Completed", "deployment": deployment}}

    with pytest.raises(ValueError, match=r"no deployment under way \(phase Completed\)"):
        vote.vote_for(rollout, "mila", GO, [])


def test_a_no_go_needs_its_concern_and_evidence_has_a_limit() -> None:
    with pytest.raises(ValueError, match="key concern"):
        vote.vote_for(ROLLOUT, "mila", vote.Wish(GO.role, Choice.NO_GO, RiskLevel.HIGH, " "), [])
    with pytest.raises(ValueError, match="33 pieces of evidence: expected at most 32"):
        vote.vote_for(ROLLOUT, "mila", GO, [Proved((LOG,) * 33)])


def test_list_shows_each_role_and_what_does_not_count() -> None:
    rows = [
        {"role": "InfrastructureMonitor", "holder": "Operator", "vote": "GO", "risk": "Low", "evidence": [{}, {}]},
        {"role": "QualityOfficer", "holder": "External", "concern": "has not voted yet"},
    ]
    quorum = {"deploymentId": "ranker-2bcdfghjkl-3", "line": "**Quorum:** 1/3 GO votes → **HOLD**"}
    old = {
        "metadata": {"name": "ranker-2bcdfghjkl-2-quality-officer", "uid": "old"},
        "spec": {"vote": "GO", "rollout": "ranker"},
        "status": {"counted": False, "reason": "OtherDeployment", "message": "for another"},
    }
    lines = vote.listed({**ROLLOUT, "status": {"votes": rows, "quorum": quorum}}, [old])

    assert lines[1].split() == ["ROLE", "VOTE", "RISK", "HOLDER", "VOTER", "CAST", "EVIDENCE", "KEY", "CONCERN"]
    assert lines[2].split() == ["InfrastructureMonitor", "GO", "Low", "Operator", "—", "—", "2"]
    assert lines[3].endswith("has not voted yet")
    assert lines[4] == "Quorum: 1/3 GO votes → HOLD"
    assert lines[-1] == "  ranker-2bcdfghjkl-2-quality-officer GO: OtherDeployment, for another"
    assert "no votes are asked for" in vote.listed(ROLLOUT, [])[0]


@pytest.mark.parametrize(
    "arguments",
    [
        ("vote", "go", "ranker", "--risk", "low"),
        ("vote", "go", "ranker", "--role", "king", "--risk", "low"),
        ("vote", "maybe", "ranker"),
        ("vote", "go", "ranker", "--role", "quality", "--risk", "low", "--max-age", "soon"),
    ],
)
def test_wrong_arguments_end_with_exit_code_2(arguments: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2
    assert "usage: ops-commander vote" in capsys.readouterr().err
