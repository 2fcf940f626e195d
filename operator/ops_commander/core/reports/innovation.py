"""`innovation_report.md`: what the next planning may build on, each with its run and artifact."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from ops_commander.api.fields import format_time
from ops_commander.core.reports.gains import Gain, experiments, faster, gains, mitigations, origin_of
from ops_commander.core.reports.markup import cell_code, code, plain, section, table
from ops_commander.core.reports.provenance import NO_RUN, figure, quantity, span
from ops_commander.core.reports.slos import unit_of
from ops_commander.core.reports.subject import Subject

COLUMNS: Final = ("Metric", "Observed", "CI95", "MLflow Run", "Artifact")
EXPERIMENT_COLUMNS: Final = ("Action", "Experiment", "Result", "MLflow Run", "Artifact")


def innovation_report(subject: Subject) -> str:
    """Markdown for the V2 Planning Team."""
    deployment = subject.deployment
    identity = code(deployment.id) if deployment else "none yet"
    lines = [
        "# Innovation report",
        "",
        f"- Deployment: {identity}, model {plain(subject.rollout.spec.model.name)} version"
        f" {plain(subject.model_version)}, held against version"
        f" {plain((deployment.stable_version if deployment else None) or 'none')}",
        f"- Outcome: {subject.outcome or ('under way' if deployment else 'not started')}",
        f"- MLflow: {plain(subject.provenance.mlflow_url or 'no address is known')}",
        f"- Written: {format_time(subject.now)}",
        "",
        *section(
            "GAINS (CI95 ABOVE 0)",
            _listed(gains(subject), "No gain: no objective's whole CI95 shows an improvement over stable."),
        ),
        *section(
            "ABLATION MITIGATIONS (ATTENTION COLLAPSE)",
            _listed(mitigations(subject), "No mitigation: no ablation objective is met by its whole CI95."),
        ),
        *section(
            "LATENCY IMPROVEMENTS",
            _listed(faster(subject), "No improvement: no latency's whole CI95 is below that of stable."),
        ),
        *section("EXPERIMENTS OF THE PLAN", _experiments(subject)),
    ]
    return "\n".join(lines)


def _listed(found: Sequence[Gain], none: str) -> list[str]:
    proved = [(gain.row, gain.origin) for gain in found if gain.origin]
    lines = []
    if proved:
        lines = table(
            COLUMNS,
            (
                [
                    plain(row.name),
                    figure(quantity(row.observed, unit_of(row)), origin),
                    figure(span(row.interval, unit_of(row)), origin),
                    cell_code(origin.run_id),
                    cell_code(origin.path),
                ]
                for row, origin in proved
            ),
        )
    unproved = [gain.row for gain in found if gain.origin is None]
    if unproved:
        names = ", ".join(plain(row.name) for row in unproved)
        lines += ["", f"{names}: {NO_RUN} proves it."] if lines else [f"{names}: {NO_RUN} proves it."]
    return lines or [none]


def _experiments(subject: Subject) -> list[str]:
    found = experiments(subject)
    if not found:
        return ["None: no experiment of a plan has met its criteria."]
    rows = []
    for action, row in found:
        origin = origin_of(row)
        result = figure(plain(row.result), origin) if row.result else "none"
        where = (cell_code(origin.run_id), cell_code(origin.path)) if origin else ("", "")
        rows.append([plain(action.id), plain(action.title), result, *where])
    return table(EXPERIMENT_COLUMNS, rows)


def relay_note(subject: Subject) -> list[str]:
    """The same in a few lines, for the execution report."""
    lines = []
    for what, found in (
        ("Gains with CI95 above 0", gains(subject)),
        ("Ablation mitigations", mitigations(subject)),
        ("Latency improvements", faster(subject)),
    ):
        said = [
            f"{plain(gain.row.name)} {figure(quantity(gain.row.observed, unit_of(gain.row)), gain.origin)}"
            for gain in found
            if gain.origin
        ]
        lines.append(f"- {what}: {'; '.join(said) or 'none proved'}")
    return [*lines, "- All of them with runs and artifacts: `reports/innovation_report.md`"]
