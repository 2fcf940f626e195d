"""The harness of `make bench-felt`, as far as it needs no cluster: shares of a run, cells, what it makes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks.felt.answers import Answers, Failure
from benchmarks.felt.results import Results
from benchmarks.felt.shares import SHARES, Observed, cells, figures
from benchmarks.felt.shop import Shop, operator_values
from benchmarks.felt.table import table
from ops_commander.api.policy import RolloutPolicy
from ops_commander.api.v1alpha1 import ModelRollout

FAILURES = (Failure(100.0, 100.25, 500, "2"), Failure(101.5, 101.75, None, None))


def observed(**changes: Any) -> Observed:
    values: dict[str, Any] = {"fault": 100.0, "failures": FAILURES, "failing_scrapes": (100.5, 101.5)}
    values |= {"visible": 101.0, "decided": 101.25, "steered": 101.5, **changes}
    return Observed(**values)


def run(weight: int, **changes: Any) -> dict[str, Any]:
    return {"interval": 5, "weight": weight, **figures(observed(**changes)), "idle": 0.4}


def test_shares_of_a_run_add_up_to_what_is_felt() -> None:
    found = figures(observed())
    assert found["felt"] == 1.75
    assert [found[name] for name in SHARES] == [0.5, 0.0, 0.75, 0.25, 0.25]
    assert (found["failed"], found["first_failed"]) == (2, 0.25)
    assert found["failed_by_kind"] == {"500 of 2": 1, "None of None": 1}
    assert (found["visible"], found["failing_scrapes"]) == (1.0, 1), "the second scrape came after the proof"


def test_proof_takes_as_many_scrapes_as_it_needs() -> None:
    found = figures(observed(failing_scrapes=(100.25, 100.75, 101.5)))
    assert (found["scrape"], found["proof"], found["decision"], found["failing_scrapes"]) == (0.25, 0.5, 0.5, 2)


def test_proxy_share_is_negative_where_no_request_met_the_candidate_any_more() -> None:
    assert figures(observed(failures=FAILURES[:1]))["proxy"] == -1.25


@pytest.mark.parametrize("missing", [{"failures": ()}, {"failing_scrapes": ()}, {"steered": None}])
def test_run_without_one_of_its_moments_is_not_measured(missing: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="nothing to measure"):
        figures(observed(**missing))


def test_revert_that_had_another_cause_is_not_measured() -> None:
    with pytest.raises(ValueError, match="before any scrape held a failure"):
        figures(observed(visible=100.25))


def test_table_has_a_row_a_cell_and_counts_what_was_not_measured() -> None:
    text = table(cells([run(50), run(5), {"interval": 5, "weight": 5, "error": "TimeoutError"}]))
    _, _, five, fifty = text.splitlines()
    assert five.startswith("| 5 s") and "1, 1 not measured" in five and "1.75 / 1.75" in five and "40%" in five
    assert "| 50 " in fifty and "2 / 2" in fifty


def test_results_keep_each_run_and_a_resumed_file_says_what_is_missing(tmp_path: Path) -> None:
    path = tmp_path / "results" / "felt.json"
    told = {"operator_image": "sha256:1", "poll": 1, "rate": 200.0, "at_once": 1}
    results = Results(path, told)
    assert results.missing(5, [5, 50], 2) == [5, 50, 5, 50]
    results.add(run(5))
    results.add({"interval": 5, "weight": 50, "error": "TimeoutError"})
    assert len(json.loads(path.read_text())["runs"]) == 2
    assert Results.resumed(path, told).missing(5, [5, 50], 2) == [50, 5, 50]
    with pytest.raises(SystemExit, match="operator_image sha256:1, this is sha256:2"):
        Results.resumed(path, told | {"operator_image": "sha256:2"})


def test_every_failure_is_kept_with_its_times() -> None:
    answers = Answers(90.0)
    answers.answered("2", 200, 5.0, 100.0)
    answers.answered("2", 500, 250.0, 100.25)
    answers.switch_failed("reset", None, "reset by peer", 500.0, 102.0, "id")
    assert [(one.sent, one.received, one.version) for one in answers.failures] == [
        (100.0, 100.25, "2"),
        (101.5, 102.0, None),
    ]
    assert (answers.answers_of("2"), answers.answers_of("3")) == (2, 0)


def test_shop_is_valid_and_its_namespace_is_asked_at_its_pace() -> None:
    shop = Shop("ab12", 15)
    made = ModelRollout.model_validate(shop.version(3, 50))
    policy = RolloutPolicy.model_validate(shop.policy())
    assert made.spec.steps[0].weight == 50
    assert [one.name for one in policy.spec.objectives] == ["error-rate", "error-ratio", "p95-latency"]
    values = operator_values([1, 15], "1s")
    assert values["prometheus.config.servers[1].namespaces[0]"] == "felt-*-15s"
    assert values["prometheus.config.servers[1].scrapeInterval"] == "15s"
    assert values["prometheus.config.servers[2].namespaces[0]"] == "*"
