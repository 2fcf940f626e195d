"""All that can be known of a candidate without a cluster: one verdict for each component, and one for all."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any, Final

from ops_commander.api.risk import Part, Verdict
from ops_commander.core import risk
from ops_commander.core.risk import Veto
from ops_commander.integration import manifest as manifests
from ops_commander.integration import schema
from ops_commander.integration.artifacts.describe import config_checksum, describe
from ops_commander.integration.artifacts.findings import ArtifactReport, Policy
from ops_commander.integration.dependencies.conflicts import tokenizer_against_weights
from ops_commander.integration.dependencies.diff import diff_locks
from ops_commander.integration.dependencies.model import Lock
from ops_commander.integration.dependencies.read import read_lock
from ops_commander.integration.dependencies.report import LockDiff, Severity
from ops_commander.integration.documents import (
    BadInput,
    Document,
    Place,
    decode,
    load_json,
    load_yaml,
    read_bytes,
)
from ops_commander.integration.manifest import CandidateManifest, Checkpoint
from ops_commander.integration.preflight_report import Component, Identity, PreflightReport, RiskPart, RiskReport
from ops_commander.integration.preflight_settings import Baseline as Baseline
from ops_commander.integration.preflight_settings import Compared, of_other
from ops_commander.integration.preflight_settings import Settings as Settings
from ops_commander.integration.schema import ApiSchemaDiff

BREAKING: Final = "SchemaBreaking"
_MAX_CONFIG: Final = 16 * 1024 * 1024
_RECORDED: Final = {
    "transformers_version": "transformers",
    "tokenizers_version": "tokenizers",
    "sentencepiece_version": "sentencepiece",
}
"""What a config of weights says of the versions that have written them."""


@dataclass(frozen=True, slots=True)
class _Found:
    """What a component adds."""

    component: Component
    vetoes: tuple[Veto, ...] = ()


def run(path: Path, settings: Settings) -> PreflightReport:
    """Raises BadInput where the manifest, or a schema, lock or config that it names, cannot be read."""
    manifest, document, checksum = manifests.read_manifest(path, settings.name)
    return _Preflight(path, manifest, document, settings).report(checksum)


class _Preflight:
    def __init__(self, path: Path, manifest: CandidateManifest, document: Document, settings: Settings) -> None:
        self.path, self.manifest, self.document, self.settings = path, manifest, document, settings
        self.compared = self._own_baseline() if settings.baseline is None else of_other(settings.baseline)

    def report(self, checksum: str) -> PreflightReport:
        config, recorded = self._config()
        schema_diff = self._schema_diff()
        lock_diff, lock = self._lock_diff()
        artifacts = list(self._artifacts())
        found = [
            self._schema(schema_diff),
            self._lockfile(lock_diff, lock, recorded),
            config,
            *(found for found, _ in artifacts),
            self._tests(),
            self._evidence(),
        ]
        total = self._risk(schema_diff, lock_diff, [veto for each in found for veto in each.vetoes])
        components = [*(each.component for each in found), self._risk_component(total)]
        return PreflightReport(
            model=Identity(**self.manifest.model.model_dump()),
            manifest=self.settings.name or str(self.path),
            manifest_sha256=checksum,
            checked_at=self.settings.now,
            verdict=risk.worst(each.verdict for each in components),
            components=components,
            risk=_risk_report(total),
            schema_diff=schema_diff,
            lock_diff=lock_diff,
            artifacts=[report for _, report in artifacts if report],
        )

    def _file(self, place: Place, reference: str) -> Path:
        return manifests.resolve(self.path, self.document, place, reference, self.settings.name)

    def _own_baseline(self) -> Compared:
        schemas, locks, note = self.manifest.schemas, self.manifest.lockfile, self.settings.baseline_note
        return Compared(
            (self._file(("schema", "baseline"), schemas.baseline), schemas.baseline),
            (self._file(("lockfile", "production"), locks.production), locks.production),
            f"the baseline is what the manifest names{f': {note}' if note else ''}",
        )

    # Schema.

    def _schema_diff(self) -> ApiSchemaDiff:
        name = self.manifest.schemas.candidate
        sides = [self.compared.schema, (self._file(("schema", "candidate"), name), name)]
        files = [(name, read_bytes(path, schema.MAX_BYTES, name)) for path, name in sides]
        try:
            return schema.compare_files(files[0], files[1])
        except schema.Failed as error:
            file = files[0 if error.is_baseline else 1][0]
            raise BadInput(file, error.error.where, error.error.problem, error.error.expected) from error

    def _schema(self, diff: ApiSchemaDiff) -> _Found:
        reasons = [f"S = {diff.schema_drift:.4f}: {len(diff.changes)} changes"]
        reasons += [f"{_change(each)} ({each.severity:g})" for each in diff.changes[:20]]
        breaking = [each for each in diff.changes if each.severity >= 1]
        vetoes = [Veto(BREAKING, _change(each)) for each in breaking]
        reasons.append(self.compared.said)
        if breaking and (waived := self._waived()):
            reasons.append(waived)
            vetoes = []
        return self._judged("schema", vetoes, reasons, self._is_low(diff.schema_drift))

    def _waived(self) -> str | None:
        waiver, version = self.settings.waiver, self.manifest.model.version
        if waiver is None or waiver.version != version:
            return None
        return f"breaking changes are waived for version {version}: {waiver.reason}"

    # Dependencies.

    def _lock_diff(self) -> tuple[LockDiff, Lock]:
        name, platform = self.manifest.lockfile.candidate, self.settings.platform
        path, production_name = self.compared.lock
        production = read_lock(path, platform, production_name)
        candidate = read_lock(self._file(("lockfile", "candidate"), name), platform, name)
        return diff_locks(production, candidate, platform), candidate

    def _lockfile(self, diff: LockDiff, lock: Lock, recorded: dict[str, str]) -> _Found:
        conflicts = [*diff.conflicts, *tokenizer_against_weights(lock, recorded)]
        vetoes = [Veto(each.kind, each.message) for each in conflicts if each.severity is Severity.VETO]
        warnings = [f"{each.kind}: {each.message}" for each in conflicts if each.severity is not Severity.VETO]
        reasons = [f"D = {diff.mismatch:.4f}: {len(diff.changed)} packages differ"]
        reasons += [f"{each.change}: {each.name}: {each.reason}" for each in diff.changed[:20]]
        reasons += [self.compared.said, *warnings, *(f"note: {note}" for note in diff.candidate.notes)]
        return self._judged("lockfile", vetoes, reasons, self._is_low(diff.mismatch) and not warnings)

    # Config.

    def _config(self) -> tuple[_Found, dict[str, str]]:
        config = self.manifest.config
        data = read_bytes(self._file(("config", "path"), config.path), _MAX_CONFIG, config.path)
        value = _parsed_config(config.path, data)
        checksums = {"its bytes": hashlib.sha256(data).hexdigest()}
        try:
            if value is not None:
                checksums["its canonical JSON"] = config_checksum(value)
        except ValueError:
            pass
        matching = [form for form, checksum in checksums.items() if checksum == config.sha256.lower()]
        found = "; ".join(f"sha256 of {form} is {checksum}" for form, checksum in checksums.items())
        vetoes = [] if matching else [Veto("ConfigChecksum", f"{found}: expected {config.sha256.lower()}")]
        reasons = [f"sha256 of {matching[0]} is as registered"] if matching else []
        return self._judged("config", vetoes, reasons, True), _recorded(value)

    # Checkpoints.

    def _artifacts(self) -> Iterator[tuple[_Found, ArtifactReport | None]]:
        listed = {each.path for each in self.manifest.checkpoints if each.path}
        for index, checkpoint in enumerate(self.manifest.checkpoints):
            name = f"checkpoints[{index}]"
            if absent := self.settings.absent.get(checkpoint.name):
                yield self._judged(name, [absent], [], False), None
                continue
            path = self._located(checkpoint, ("checkpoints", index))
            if path is None:
                message = f"{checkpoint.name} is not here: expected a copy of it in the folder of downloads"
                yield self._judged(name, [Veto("NotVerified", message)], [], False), None
                continue
            try:
                report = self._described(checkpoint, path)
            except BadInput as error:
                yield self._judged(name, [Veto("NotVerified", str(error))], [], False), None
                continue
            yield self._checkpoint(name, checkpoint, report, listed), report

    def _located(self, reference: Checkpoint | manifests.Evidence, place: Place) -> Path | None:
        if reference.path:
            return self._file((*place, "path"), reference.path)
        if fetched := self.settings.fetched.get(reference.uri or ""):
            return fetched
        folder, file = self.settings.downloads, (reference.uri or "").split("#")[0].split("?")[0].rsplit("/", 1)[-1]
        if folder is None or file in ("", ".", ".."):
            return None
        return folder / file

    def _described(self, checkpoint: Checkpoint, path: Path) -> ArtifactReport:
        policy = Policy(
            sha256=checkpoint.sha256,
            format=checkpoint.format,
            max_age=checkpoint.max_age,
            allow_pickle=checkpoint.allow_pickle,
            allow_imports=tuple(checkpoint.allow_imports),
            count_non_finite=checkpoint.count_non_finite,
        )
        return describe(path, policy, now=self.settings.now, created=checkpoint.created_at, name=checkpoint.name)

    def _checkpoint(self, name: str, checkpoint: Checkpoint, report: ArtifactReport, listed: set[str]) -> _Found:
        vetoes = [Veto(each.kind, f"{checkpoint.name}: {each.message}") for each in report.refused]
        for external in report.external:
            beside = (Path(checkpoint.path or "").parent / external).as_posix()
            if beside not in listed:
                message = f"{checkpoint.name} reads its weights from {external}: expected it as a checkpoint too"
                vetoes.append(Veto("NotVerified", message))
        warnings = [f"{each.kind}: {each.message}" for each in report.warnings]
        reasons = [f"{checkpoint.name}: {report.format}, {report.size} bytes, sha256 {report.sha256}", *warnings]
        if report.tensors:
            reasons.append(f"{report.tensors.count} tensors, {report.tensors.parameters} parameters")
        return self._judged(name, vetoes, reasons, not warnings)

    # Tests and evidence.

    def _tests(self) -> _Found:
        tests = self.manifest.tests
        if not tests and not self.settings.tests_elsewhere:
            said = "the manifest names no test: expected at least one, that passed"
            return self._judged("tests", [Veto("NoTests", said)], [], False)
        vetoes = [Veto("TestFailed", f"{each.name} did not pass") for each in tests if not each.passed]
        for index, test in enumerate(tests):
            if test.evidence:
                path = self._file(("tests", index, "evidence"), test.evidence)
                vetoes += self._verified(path, test.evidence, Policy(sha256=test.sha256), "TestEvidence")
        passed = sum(each.passed for each in tests)
        elsewhere = ["Jobs test it before any traffic"] if self.settings.tests_elsewhere else []
        return self._judged("tests", vetoes, [f"{passed} of {len(tests)} passed", *elsewhere], True)

    def _evidence(self) -> _Found:
        vetoes: list[Veto] = []
        unseen = []
        for index, each in enumerate(self.manifest.evidence):
            if absent := self.settings.absent.get(each.name):
                vetoes.append(absent)
                continue
            path = self._located(each, ("evidence", index))
            if path is None:
                unseen.append(f"{each.name} @ {each.run_id} was not looked at: it is not here")
                continue
            vetoes += self._verified(path, each.name, Policy(sha256=each.sha256, max_age=each.max_age), "Evidence")
        reasons = [
            f"{len(self.manifest.evidence) - len(unseen)} of {len(self.manifest.evidence)} were looked at",
            *unseen,
        ]
        return self._judged("evidence", vetoes, reasons, not unseen)

    def _verified(self, path: Path, name: str, policy: Policy, kind: str) -> list[Veto]:
        """It exists, and is what and as young as was said; what it holds is not judged."""
        if absent := self.settings.absent.get(name):
            return [absent]
        try:
            report = describe(path, policy, now=self.settings.now, name=name)
        except BadInput as error:
            return [Veto(kind, str(error))]
        asked = ("ChecksumMismatch", "TooOld", "FromTheFuture", "ChangedWhileRead")
        return [Veto(kind, f"{name}: {each.message}") for each in report.refused if each.kind in asked]

    # Risk.

    def _risk(self, schema_diff: ApiSchemaDiff, lock_diff: LockDiff, vetoes: list[Veto]) -> risk.Risk:
        latency, output = self.manifest.measured.latency, self.manifest.measured.output
        measured = {
            Part.SCHEMA: risk.Measured(
                risk.exact(schema_diff.schema_drift),
                f"{len(schema_diff.changes)} changes of the API",
                schema_diff.candidate.sha256,
            ),
            Part.DEPENDENCY: risk.Measured(
                risk.exact(lock_diff.mismatch),
                f"{len(lock_diff.changed)} packages differ",
                lock_diff.candidate.sha256,
            ),
            Part.LATENCY: risk.latency_change(
                latency.upper_ms if latency else None, latency.baseline_p95_ms if latency else None
            ),
            Part.OUTPUT: risk.output_deviation(output.upper if output else None),
        }
        return risk.composite(measured, vetoes, weights=self.settings.weights, bands=self.settings.bands)

    def _risk_component(self, total: risk.Risk) -> Component:
        reasons = [total.explanation, *(f"{part.part}: {part.explanation}" for part in total.parts)]
        return Component(name="risk", verdict=total.verdict, reasons=reasons)

    def _is_low(self, value: float) -> bool:
        return risk.exact(value) < self.settings.bands.medium

    @staticmethod
    def _judged(name: str, vetoes: list[Veto], reasons: list[str], is_safe: bool) -> _Found:
        verdict = Verdict.REJECT if vetoes else Verdict.SAFE if is_safe else Verdict.SHADOW_ONLY
        said = [f"{veto.kind}: {veto.message}" for veto in vetoes]
        return _Found(Component(name=name, verdict=verdict, reasons=reasons, vetoes=said), tuple(vetoes))


def _change(change: Any) -> str:
    return f"{change.direction} {change.path or '(whole message)'}: {change.kind}: {change.why}"


def _parsed_config(file: str, data: bytes) -> Any:
    """The value of JSON or YAML; None where it is neither."""
    try:
        text = decode(file, data)
        return load_json(text, file) if text.lstrip()[:1] in ("{", "[") else load_yaml(text, file).value
    except BadInput:
        return None


def _recorded(value: Any) -> dict[str, str]:
    if not isinstance(value, dict):
        return {}
    return {name: value[key] for key, name in _RECORDED.items() if isinstance(value.get(key), str)}


def _risk_report(total: risk.Risk) -> RiskReport:
    return RiskReport(
        value=float(total.value),
        band=total.band,
        weights_version=total.weights_version,
        digest=total.digest,
        parts=[
            RiskPart(
                name=part.part,
                value=_float(part.value),
                weight=_float(part.weight),
                missing=part.missing,
                explanation=part.explanation,
            )
            for part in total.parts
        ],
    )


def _float(value: Decimal) -> float:
    return float(risk.rounded(value))
