"""What status says of a candidate's files, from files on disk: the checks are those of `ops-commander preflight`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from ops_commander.api.risk import Verdict
from ops_commander.api.verification import VerificationStatus, VerifiedComponent, VerifiedFile
from ops_commander.core.risk import Veto
from ops_commander.integration import preflight
from ops_commander.integration.dependencies.platform import parse_platform
from ops_commander.integration.documents import BadInput, printable
from ops_commander.integration.manifest import CandidateManifest, read_manifest
from ops_commander.integration.preflight_report import PreflightReport
from ops_commander.integration.verification_request import VerificationRequest

_MOST_SAID: Final = 60
_LONGEST: Final = 500


@dataclass(frozen=True, slots=True)
class Candidate:
    """A version's files on disk, as they were fetched."""

    version: str
    run_id: str
    manifest: Path
    manifest_sha256: str
    files: tuple[VerifiedFile, ...]
    """All that was fetched of the candidate, the manifest first."""
    fetched: Mapping[str, Path] = field(default_factory=dict)
    """By the URI that the manifest names."""
    absent: Mapping[str, Veto] = field(default_factory=dict)
    """Why a file was not fetched, by the path or URI that the manifest names."""
    baseline: preflight.Baseline | None = None
    baseline_note: str = ""
    """Why there is none."""


@dataclass(frozen=True, slots=True)
class Reference:
    """A file that a manifest names."""

    name: str
    """The path or URI as it is named."""
    is_uri: bool = False


def references(manifest: CandidateManifest, *, has_baseline: bool) -> list[Reference]:
    """All files that a check reads, each once. The manifest's own baseline is not read where another one is."""
    own = [] if has_baseline else [manifest.schemas.baseline, manifest.lockfile.production]
    paths = [*own, manifest.schemas.candidate, manifest.lockfile.candidate, manifest.config.path]
    paths += [each.evidence for each in manifest.tests if each.evidence]
    found = [Reference(each) for each in paths]
    for item in (*manifest.checkpoints, *manifest.evidence):
        found.append(Reference(item.name, is_uri=item.uri is not None))
    return list(dict.fromkeys(found))


def verify(
    request: VerificationRequest, candidate: Candidate, now: datetime
) -> tuple[VerificationStatus, PreflightReport | None]:
    """The status, and the full report; None where the candidate's files cannot be read."""
    try:
        manifest, _, _ = read_manifest(candidate.manifest, request.manifest)
    except BadInput as error:
        return rejected(request, now, [Veto("ManifestInvalid", str(error))], candidate), None
    strangers = list(_mismatches(request, candidate, manifest))
    try:
        report = preflight.run(candidate.manifest, _settings(request, candidate, now))
    except BadInput as error:
        vetoes = [*strangers, _unreadable(request, candidate, error), *candidate.absent.values()]
        return _stating(rejected(request, now, vetoes, candidate), manifest), None
    except MemoryError:
        veto = Veto("TooCostly", "its files need more memory to be checked than verification may use")
        return rejected(request, now, [*strangers, veto], candidate), None
    return _stating(_status(request, candidate, report, strangers), manifest), report


def rejected(
    request: VerificationRequest, now: datetime, vetoes: Iterable[Veto], candidate: Candidate | None = None
) -> VerificationStatus:
    """A verdict on what could not be checked further. The first veto is the reason."""
    kinds = list(dict.fromkeys(vetoes))
    component = VerifiedComponent(name="files", verdict=Verdict.REJECT, message=_short(_said(kinds[0])))
    return VerificationStatus(
        revision=request.revision,
        asked=request.asked,
        verdict=Verdict.REJECT,
        reason=kinds[0].kind,
        message=_short(_counted(kinds[0].message, len(kinds))),
        model_version=candidate.version if candidate else request.model.version or f"@{request.model.alias}",
        run_id=candidate.run_id if candidate else request.model.run_id or "",
        manifest_sha256=candidate.manifest_sha256 if candidate else "",
        components=[component],
        vetoes=[_short(_said(each)) for each in kinds[:_MOST_SAID]],
        files=list(candidate.files) if candidate else [],
        checked_at=now,
    )


def _settings(request: VerificationRequest, candidate: Candidate, now: datetime) -> preflight.Settings:
    return preflight.Settings(
        now,
        parse_platform(request.platform),
        name=request.manifest,
        baseline=candidate.baseline,
        baseline_note=candidate.baseline_note,
        fetched=candidate.fetched,
        absent=candidate.absent,
        waiver=request.waiver,
        tests_elsewhere=request.tests_elsewhere,
    )


def _mismatches(request: VerificationRequest, candidate: Candidate, manifest: CandidateManifest) -> Iterator[Veto]:
    stated = manifest.model
    wanted = {"name": request.model.name, "version": candidate.version, "runId": candidate.run_id}
    for key, found in {"name": stated.name, "version": stated.version, "runId": stated.run_id}.items():
        if found != wanted[key]:
            message = f"{request.manifest}: .model.{key} is {found!r}: expected {wanted[key]!r}, as asked for"
            yield Veto("IdentityMismatch", message)


def _unreadable(request: VerificationRequest, candidate: Candidate, error: BadInput) -> Veto:
    """What kind of file could not be read decides what it is called."""
    if absent := candidate.absent.get(error.file):
        return absent
    if candidate.baseline and error.file.endswith(candidate.baseline.name):
        return Veto("BaselineInvalid", str(error))
    return Veto("ManifestInvalid" if error.file == request.manifest else "ArtifactInvalid", str(error))


def _status(
    request: VerificationRequest, candidate: Candidate, report: PreflightReport, strangers: list[Veto]
) -> VerificationStatus:
    vetoes = [_said(each) for each in strangers]
    vetoes += [veto for component in report.components for veto in component.vetoes]
    vetoes = list(dict.fromkeys(vetoes))
    verdict = Verdict.REJECT if strangers else report.verdict
    reason, message = _why(verdict, vetoes, report)
    identity = VerifiedComponent(
        name="identity",
        verdict=Verdict.REJECT if strangers else Verdict.SAFE,
        message=_short(
            _said(strangers[0])
            if strangers
            else f"{request.model.name} {candidate.version} of run {candidate.run_id}, as asked for"
        ),
    )
    return VerificationStatus(
        revision=request.revision,
        asked=request.asked,
        verdict=verdict,
        reason=reason,
        message=_short(message),
        model_version=candidate.version,
        run_id=candidate.run_id,
        manifest_sha256=candidate.manifest_sha256,
        components=[identity, *_components(report)],
        vetoes=[_short(each) for each in vetoes[:_MOST_SAID]],
        schema_drift=report.schema_diff.schema_drift,
        dependency_mismatch=report.lock_diff.mismatch,
        files=list(candidate.files),
        checked_at=report.checked_at,
    )


def _why(verdict: Verdict, vetoes: list[str], report: PreflightReport) -> tuple[str, str]:
    if vetoes:
        kind, _, message = vetoes[0].partition(": ")
        return kind, _counted(message, len(vetoes))
    if verdict is Verdict.REJECT:
        return "RiskHigh", f"composite risk {report.risk.value:.4f} is {report.risk.band}"
    open_ = [each.name for each in report.components if each.verdict is not Verdict.SAFE]
    said = f"{len(report.components)} parts were checked, composite risk {report.risk.value:.4f} ({report.risk.band})"
    return "Verified", f"{said}; for shadow only: {', '.join(open_)}" if open_ else said


def _components(report: PreflightReport) -> list[VerifiedComponent]:
    """Each with its gravest finding. Where there are too many, safe checkpoints are left out first."""
    found = [
        VerifiedComponent(name=each.name, verdict=each.verdict, message=_short("; ".join(each.vetoes or each.reasons)))
        for each in report.components
    ]
    surplus = len(found) - _MOST_SAID
    ranked = sorted(found, key=lambda each: (each.verdict is Verdict.SAFE) + each.name.startswith("checkpoints"))
    left_out = {each.name for each in ranked[-surplus:]} if surplus > 0 else set()
    return [each for each in found if each.name not in left_out]


def _stating(status: VerificationStatus, manifest: CandidateManifest) -> VerificationStatus:
    """With what the manifest states of latency and outputs."""
    latency, output = manifest.measured.latency, manifest.measured.output
    stated: dict[str, Any] = {
        "latency_upper_ms": latency.upper_ms if latency else None,
        "baseline_p95_ms": latency.baseline_p95_ms if latency else None,
        "output_upper": output.upper if output else None,
    }
    return status.model_copy(update=stated)


def _said(veto: Veto) -> str:
    return f"{veto.kind}: {veto.message}"


def _counted(message: str, count: int) -> str:
    return f"{message} ({count - 1} more after it)" if count > 1 else message


def _short(text: str) -> str:
    return printable(text, _LONGEST)
