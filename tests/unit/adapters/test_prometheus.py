"""Answers of Prometheus as rows by pod."""

from __future__ import annotations

from datetime import UTC, datetime

from ops_commander.adapters.prometheus import parse

AT = datetime(2026, 1, 5, 9, 0, tzinfo=UTC)


def row(value: str, **labels: str) -> dict[str, object]:
    return {"metric": labels, "value": [AT.timestamp(), value]}


def test_rows_are_kept_by_namespace_and_pod() -> None:
    answer = parse([row("3", namespace="shop", pod="a"), row("4", namespace="mall", pod="a")], AT)
    assert answer.values == {("shop", "a"): 3.0, ("mall", "a"): 4.0}


def test_buckets_are_kept_by_edge() -> None:
    answer = parse([row("3", namespace="s", pod="a", le="0.5"), row("4", namespace="s", pod="a", le="+Inf")], AT)
    assert answer.buckets == {("s", "a"): {0.5: 3.0, float("inf"): 4.0}}


def test_rows_without_pod_or_with_no_finite_value_say_nothing() -> None:
    rows = [row("3", namespace="s"), row("NaN", namespace="s", pod="a"), row("+Inf", namespace="s", pod="b")]
    assert parse(rows, AT).values == {}
