"""Where a figure comes from. A figure without run id and artifact path is not reported as a figure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from ops_commander.api.v1alpha1 import GROUP, Interval, Verdict
from ops_commander.core.objectives import number
from ops_commander.core.reports.markup import cell_code, plain

FOLDER: Final = "reports"
STATUS_PATH: Final = "deployment.json"
"""Artifact of a deployment's run with the whole status: what figures of the status are proved by."""
AUDIT_PATH: Final = f"{FOLDER}/audit.jsonl"
GRAFANA_RUN_ID: Final = f"{GROUP}/grafana-run-id"
"""Annotation of a ModelRollout with the Grafana run that its metrics can be looked at in."""

NO_RUN: Final = "not reported: no run"
NOT_MEASURED: Final = "not reported: not measured"
_SHOWN_OF_ID: Final = 12


@dataclass(frozen=True, slots=True)
class Origin:
    """An artifact of a run in MLflow."""

    run_id: str
    path: str

    @property
    def mark(self) -> str:
        """The run in short, `run_87245b5f0c7b`; the whole id stands in the column for evidence."""
        identity = "".join(sign for sign in self.run_id if sign.isascii() and (sign.isalnum() or sign in "-_."))
        short = identity.removeprefix("run")[:_SHOWN_OF_ID].strip("-_.")
        return f"run_{short or 'unnamed'}"

    @property
    def cell(self) -> str:
        return cell_code(f"{self.run_id}/{self.path}")


@dataclass(frozen=True, slots=True)
class Point:
    """One objective at one tick."""

    at: datetime
    value: float | None
    interval: Interval | None = None
    verdict: Verdict | None = None
    samples: float | None = None


@dataclass(frozen=True, slots=True)
class Provenance:
    """What is known of a deployment besides its ModelRollout. All of it may be absent."""

    deploy_run_id: str | None = None
    """MLflow run of the deployment; where absent, that in status."""
    mlflow_url: str | None = None
    """Where people open MLflow."""
    grafana_run_id: str | None = None
    """Where absent, the annotation GRAFANA_RUN_ID."""
    series_paths: Mapping[str, str] = field(default_factory=dict)
    """By objective: path of its series among the artifacts of the deployment's run; STATUS_PATH where absent."""
    series: Mapping[str, Sequence[Point]] = field(default_factory=dict)
    """By objective: what it was at each tick, in order, from a replay."""


def figure(text: str | None, origin: Origin | None) -> str:
    """`463ms @ run_8724`, or why there is none."""
    if text is None:
        return NOT_MEASURED
    return f"{text} @ {origin.mark}" if origin else NO_RUN


def quoted(text: str, origin: Origin | None) -> str:
    """A sentence of the operator that may hold figures, with their provenance."""
    return figure(f"“{text}”", origin)


def quantity(value: float | None, unit: str = "") -> str | None:
    """A value with its unit, as Markdown; seconds below one are shown in milliseconds."""
    if value is None:
        return None
    if unit == "s" and abs(value) < 1:
        return f"{number(value * 1000)}ms"
    short = plain(unit, 16)
    return f"{number(value)} {short}" if len(short) > 2 else f"{number(value)}{short}"


def span(interval: Interval | None, unit: str = "") -> str | None:
    """A confidence interval; an end that is absent is unbounded."""
    if interval is None:
        return None
    low = quantity(interval.low, unit) or "−∞"
    high = quantity(interval.high, unit) or "∞"
    return f"{low} to {high}"
