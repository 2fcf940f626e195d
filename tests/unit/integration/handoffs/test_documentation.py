"""Every YAML of the documentation is as the code takes it."""

from __future__ import annotations

import re
from datetime import timedelta
from pathlib import Path

import pytest
import yaml

from ops_commander.api.fields import parse_time
from ops_commander.api.quorum import Quorum
from ops_commander.api.vote import Vote, vote_name
from ops_commander.integration.handoffs.evidence import Terms, prove
from ops_commander.integration.handoffs.reports import KINDS

TEXT = (Path(__file__).parents[4] / "docs" / "votes.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```yaml\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)
REPORTS = [block for block in BLOCKS if "handoff/v1" in block]


@pytest.mark.parametrize("block", REPORTS)
def test_the_reports_are_good_evidence(tmp_path: Path, block: str) -> None:
    path = tmp_path / "report.yaml"
    path.write_text(block, encoding="utf-8")

    proved = prove(str(path), Terms(parse_time("2026-03-04T12:00:00Z"), timedelta(hours=24), "ranker-2bcdfghjkl-3"))

    assert proved.evidence[0].kind in KINDS and proved.against == ()


def test_each_kind_of_report_is_shown() -> None:
    assert {yaml.safe_load(block)["kind"] for block in REPORTS} == set(KINDS)


def test_the_policy_and_the_vote_are_taken() -> None:
    policy, vote = (yaml.safe_load(block) for block in BLOCKS if "handoff/v1" not in block)

    assert len(Quorum.model_validate(policy["quorum"]).external) == 2
    parsed = Vote.model_validate(vote)
    assert parsed.name == vote_name(parsed.spec.deployment_id, parsed.spec.role)
