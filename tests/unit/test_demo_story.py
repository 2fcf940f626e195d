"""How the demo follows a rollout and counts requests: what makes it fail, above all."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from hack import stages
from hack.cluster.commands import BootstrapError
from hack.demo import installed, runs, story
from hack.demo.ranker.server import weights_of


def stats(sent: int, ok: int, switch: int = 0, **model: int) -> dict[str, Any]:
    failed = {"model": {name.removeprefix("v"): count for name, count in model.items()}, "switch": switch}
    return {"sent": sent, "ok": ok, "failed": failed, "recent_switch_failures": []}


def seen(phase: str, *, generation: int = 2, observed: int = 2, version: str = "2", **status: Any) -> dict[str, Any]:
    told = {"phase": phase, "observedGeneration": observed, "deployment": {"modelVersion": version}, **status}
    return {"metadata": {"generation": generation}, "status": told}


@pytest.fixture
def ledger(monkeypatch: pytest.MonkeyPatch) -> story.Ledger:
    counts = iter([stats(0, 0), stats(100, 98), stats(200, 195, 1, v3=2), stats(300, 294, 1, v3=3), stats(1, 1)])
    monkeypatch.setattr(installed, "reset_load", lambda _: None)
    monkeypatch.setattr(installed, "load_stats", lambda _: next(counts))
    made = story.Ledger("shop")
    made.start()
    return made


def follow(ledger: story.Ledger, monkeypatch: pytest.MonkeyPatch, *objects: dict[str, Any] | None) -> story.Status:
    class Scripted:
        def __init__(self, *_: str) -> None:
            """Takes what the watch takes."""

        def objects(self, _: float) -> Iterator[dict[str, Any] | None]:
            yield from objects

    monkeypatch.setattr(story, "Watch", Scripted)
    return story.Follower("2", ledger, "shop", story.now()).follow("Completed")


def test_counts_belong_to_the_part_in_which_they_were_made(ledger: story.Ledger) -> None:
    for phase in ("v2 full", "v3 canary 5%", "v3 reverting"):
        ledger.close(phase)

    assert ledger.counts == [
        story.Count("v2 full", 100, 98, {}, 0),
        story.Count("v3 canary 5%", 100, 97, {"3": 2}, 1),
        story.Count("v3 reverting", 100, 99, {"3": 1}, 0),
    ]
    assert ledger.switch_failures == 1


def test_follows_one_version_to_its_end(
    ledger: story.Ledger, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    step = {"name": "canary 5%"}
    ended = follow(
        ledger,
        monkeypatch,
        seen("Completed", observed=1, version="1"),
        seen("Completed", version="1"),
        seen("Progressing", step=step, stepName="2/3 canary 5%", weight=5, verdict="Pass", message="dwelling"),
        None,
        seen("Completed", message="model version 2 is stable"),
    )

    assert ended["message"] == "model version 2 is stable"
    assert [count.phase for count in ledger.counts] == ["before v2", "v2 canary 5%"]
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 4
    assert "2/3 canary 5%" in lines[1] and "5 %" in lines[1] and lines[1].endswith("dwelling")
    assert lines[2].endswith("… dwelling")


def test_another_end_than_expected_is_an_error(ledger: story.Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(BootstrapError, match="version 2 ended as RolledBack: expected Completed"):
        follow(ledger, monkeypatch, seen("RolledBack"))


def test_no_end_in_time_is_an_error(ledger: story.Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(BootstrapError, match="not Completed within 480 s; last seen: Held, None: no evidence"):
        follow(ledger, monkeypatch, seen("Held", message="no evidence"))


def test_a_sample_goes_into_another_namespace_whole() -> None:
    found = installed.sample("rollout", "trial-7", "abc")

    assert found["metadata"]["namespace"] == "trial-7"
    assert found["spec"]["traffic"]["gatewayAPI"]["hostnames"] == ["ranker.trial-7.example"]
    assert found["spec"]["model"] == {"name": "ranker", "version": "2", "runId": "abc"}


def test_the_metric_of_a_run_is_a_real_one() -> None:
    good = runs.pair_accuracy(weights_of("1"), rows=80)

    assert 0.85 < good < 1
    assert runs.pair_accuracy(tuple(-weight for weight in weights_of("1")), rows=80) == pytest.approx(1 - good)


def test_every_stage_says_what_it_does() -> None:
    texts = stages.descriptions()

    assert {"lint", "types", "contracts", "generated", "unit", "integration", "e2e"} <= set(texts)
    assert all(texts.values())
