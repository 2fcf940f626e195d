"""What `preflight` says: for programs, people and pull requests."""

from __future__ import annotations

from pydantic import Field

from ops_commander.api.fields import Resource, Time
from ops_commander.api.risk import Band, Part, Verdict
from ops_commander.integration.artifacts.findings import ArtifactReport
from ops_commander.integration.dependencies.report import LockDiff
from ops_commander.integration.documents import cell, printable
from ops_commander.integration.schema import ApiSchemaDiff


class Component(Resource):
    """One part of the candidate."""

    name: str
    """`schema`, `lockfile`, `config`, `checkpoints[0]`, `tests`, `evidence` or `risk`."""
    verdict: Verdict
    """Safe, ShadowOnly or Reject."""
    reasons: list[str] = Field(default_factory=list)
    """Why, and what was looked at."""
    vetoes: list[str] = Field(default_factory=list)
    """What rejects it whatever the risk is."""


class RiskPart(Resource):
    """A part of the composite risk."""

    name: Part
    """Which one."""
    value: float
    """In [0, 1]."""
    weight: float
    """Its share."""
    missing: bool
    """Whether it was not measured, and so counts 1."""
    explanation: str
    """What it was made from."""


class RiskReport(Resource):
    """The composite risk."""

    value: float
    """Weighted sum, to four places."""
    band: Band
    """Low, Medium or High."""
    weights_version: str
    """Which weights."""
    digest: str
    """sha256 of all inputs, weights and limits."""
    parts: list[RiskPart]
    """What it is made of."""


class Identity(Resource):
    """The candidate that was looked at."""

    name: str
    """Of the model."""
    version: str
    """Of the model."""
    run_id: str
    """That made it."""


class PreflightReport(Resource):
    """What a candidate may do next."""

    model: Identity
    """The candidate."""
    manifest: str
    """The file, as it was named."""
    manifest_sha256: str
    """Of its bytes."""
    checked_at: Time
    """When."""
    verdict: Verdict
    """The worst of all components."""
    components: list[Component]
    """Each with its verdict."""
    risk: RiskReport
    """S, D, L and O together."""
    schema_diff: ApiSchemaDiff
    """The API against production's."""
    lock_diff: LockDiff
    """The dependencies against production's."""
    artifacts: list[ArtifactReport]
    """Checkpoints, described without being loaded."""


def as_json(report: PreflightReport) -> str:
    return report.model_dump_json(by_alias=True, indent=2) + "\n"


def as_text(report: PreflightReport) -> str:
    model = report.model
    lines = [f"{model.name} {model.version} @ {model.run_id}: {report.verdict}, risk {report.risk.value:.4f}"]
    for each in report.components:
        lines.append(f"{each.verdict:<11} {each.name}")
        lines += [f"    veto: {printable(veto)}" for veto in each.vetoes]
        lines += [f"    {printable(reason)}" for reason in each.reasons]
    return "\n".join(lines) + "\n"


def as_markdown(report: PreflightReport) -> str:
    model = report.model
    title = f"{model.name} {model.version}"
    lines = [
        f"### Preflight of {cell(title)}: {report.verdict}",
        "",
        f"Run {cell(model.run_id)}, composite risk {report.risk.value:.4f} ({report.risk.band}).",
        "",
        "| Component | Verdict | Vetoes | Reasons |",
        "|---|---|---|---|",
    ]
    for each in report.components:
        vetoes, reasons = "<br>".join(map(cell, each.vetoes)), "<br>".join(map(cell, each.reasons))
        lines.append(f"| {each.name} | **{each.verdict}** | {vetoes} | {reasons} |")
    return "\n".join(lines) + "\n"
