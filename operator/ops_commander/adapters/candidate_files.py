"""A candidate's files out of MLflow: resolved once, exactly those that its manifest names, within limits."""

from __future__ import annotations

import errno
import os
import posixpath
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from ops_commander.adapters.mlflow_artifacts import (
    ArtifactError,
    Downloaded,
    MLflowArtifacts,
    ModelVersion,
    NotThere,
    TooLarge,
    Unreachable,
    Unsupported,
    checked_path,
    checked_run,
)
from ops_commander.api.verification import VerifiedFile
from ops_commander.core.risk import Veto
from ops_commander.integration.documents import BadInput
from ops_commander.integration.manifest import MAX_BYTES, CandidateManifest, read_manifest
from ops_commander.integration.preflight import Baseline
from ops_commander.integration.verification import Candidate, Reference, references
from ops_commander.integration.verification_request import MAX_FILES, Recheck, VerificationRequest

_FINISHED: Final = "FINISHED"
_RUNS: Final = "runs:/"
_MODELS: Final = "models:/"
_MISSING: Final = "ArtifactMissing"
_DISK_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT})


class Refused(Exception):
    """The candidate is rejected before its files could be checked."""

    def __init__(self, veto: Veto, candidate: Candidate | None = None) -> None:
        super().__init__(f"{veto.kind}: {veto.message}")
        self.veto, self.candidate = veto, candidate


async def fetch(mlflow: MLflowArtifacts, request: VerificationRequest, folder: Path) -> Candidate:
    """All that the checks read, below a folder. Raises Refused, and Unreachable where MLflow does not tell now."""
    return await _Fetch(mlflow, request, folder).candidate()


async def recheck(mlflow: MLflowArtifacts, request: VerificationRequest, files: Iterable[VerifiedFile]) -> Recheck:
    """Whether version and files are still as verified; no alias is followed. Raises Unreachable."""
    problems: list[str] = []
    run_id = request.model.run_id
    try:
        found = await mlflow.resolve(request.model.name, version=request.model.version)
        run_id = run_id or found.run_id
        if found.run_id != run_id:
            problems.append(f"version {found.version} of {found.name} is of run {found.run_id}: expected {run_id}")
    except NotThere as error:
        problems.append(str(error))
    for file in files:
        problems += await _changes(mlflow, run_id or "", file)
    return Recheck(unchanged=not problems, problems=problems)


async def _changes(mlflow: MLflowArtifacts, run_id: str, file: VerifiedFile) -> list[str]:
    run, path = _of_uri(file.path) if file.path.startswith(_RUNS) else (run_id, file.path)
    try:
        sha256, size = await mlflow.digest(run, path, max_bytes=file.size)
    except Unreachable:
        raise
    except ArtifactError as error:
        return [str(error)]
    if sha256 == file.sha256:
        return []
    return [f"{path} of run {run} has sha256 {sha256} ({size} bytes): expected {file.sha256}, as it was verified"]


class _Fetch:
    def __init__(self, mlflow: MLflowArtifacts, request: VerificationRequest, folder: Path) -> None:
        self._mlflow, self._request, self._folder = mlflow, request, folder
        self._left = request.max_bytes
        self._taken: dict[tuple[str, str], Downloaded] = {}

    async def candidate(self) -> Candidate:
        version = await self._version()
        await self._finished(version)
        try:
            taken = await self._take(version.run_id, self._request.manifest, MAX_BYTES)
        except ArtifactError as error:
            raise Refused(_veto(error)) from error
        bare = Candidate(
            version=version.version,
            run_id=version.run_id,
            manifest=taken.path,
            manifest_sha256=taken.sha256,
            files=(VerifiedFile(path=self._request.manifest, sha256=taken.sha256, size=taken.size),),
        )
        manifest = self._read(bare)
        baseline, note = await self._baseline(bare)
        wanted = references(manifest, has_baseline=baseline is not None)
        if len(wanted) > MAX_FILES:
            message = f"{self._request.manifest} names {len(wanted)} files: expected at most {MAX_FILES}"
            raise Refused(Veto("TooManyFiles", message), bare)
        return await self._with_files(bare, wanted, baseline, note)

    # Which version.

    async def _version(self) -> ModelVersion:
        model = self._request.model
        alias = None if model.version else model.alias
        try:
            found = await self._mlflow.resolve(model.name, version=model.version, alias=alias)
        except NotThere as error:
            raise Refused(Veto("ModelVersionNotFound", str(error))) from error
        if not found.run_id:
            message = f"version {found.version} of {found.name} names no run: expected the run that made it"
            raise Refused(Veto("ModelRunNotFound", message))
        if model.run_id and model.run_id != found.run_id:
            message = f"version {found.version} of {found.name} is of run {found.run_id}: expected {model.run_id}"
            raise Refused(Veto("IdentityMismatch", message))
        return found

    async def _finished(self, version: ModelVersion) -> None:
        """A run under way may still change its artifacts."""
        try:
            run = await self._mlflow.run(version.run_id)
        except NotThere as error:
            raise Refused(Veto("ModelRunNotFound", str(error))) from error
        except Unsupported as error:
            raise Refused(Veto("NotVerified", str(error))) from error
        if run.status != _FINISHED:
            message = f"run {run.run_id} of version {version.version} is {run.status}: expected {_FINISHED}"
            raise Refused(Veto("ModelRunNotFinished", message))

    def _read(self, bare: Candidate) -> CandidateManifest:
        pinned = self._request.manifest_sha256
        if pinned and pinned != bare.manifest_sha256:
            message = f"{self._request.manifest} has sha256 {bare.manifest_sha256}: expected {pinned}, as pinned"
            raise Refused(Veto("ManifestChecksum", message), bare)
        try:
            return read_manifest(bare.manifest, self._request.manifest)[0]
        except BadInput as error:
            raise Refused(Veto("ManifestInvalid", str(error)), bare) from error

    # The version that serves.

    async def _baseline(self, bare: Candidate) -> tuple[Baseline | None, str]:
        """What serves decides what is compared with; only where it has no manifest the candidate says it."""
        run, path = self._request.stable_run_id, self._request.stable_manifest or self._request.manifest
        if run is None:
            return None, "no run is known of a version that serves"
        name = f"{path} of run {run}"
        try:
            taken = await self._take(run, path, MAX_BYTES)
        except NotThere:
            return None, f"run {run}, whose version serves, has no {path}"
        except ArtifactError as error:
            raise Refused(Veto("BaselineInvalid", str(error)), bare) from error
        try:
            manifest = read_manifest(taken.path, name)[0]
            for reference in (manifest.schemas.candidate, manifest.lockfile.candidate):
                await self._take(run, _beside(path, reference), self._request.max_file)
        except (BadInput, ArtifactError) as error:
            if isinstance(error, Unreachable):
                raise
            raise Refused(Veto("BaselineInvalid", str(error)), bare) from error
        return Baseline(taken.path, name), ""

    # The files.

    async def _with_files(
        self, bare: Candidate, wanted: list[Reference], baseline: Baseline | None, note: str
    ) -> Candidate:
        files, fetched, absent = list(bare.files), {}, {}
        for reference in wanted:
            try:
                run, path = await self._place(bare.run_id, reference)
                taken = await self._take(run, path, self._request.max_file)
            except Unreachable:
                raise
            except ArtifactError as error:
                absent[reference.name] = _veto(error)
                continue
            own = run == bare.run_id
            files.append(
                VerifiedFile(path=path if own else f"{_RUNS}{run}/{path}", sha256=taken.sha256, size=taken.size)
            )
            if reference.is_uri:
                fetched[reference.name] = taken.path
        return Candidate(
            version=bare.version,
            run_id=bare.run_id,
            manifest=bare.manifest,
            manifest_sha256=bare.manifest_sha256,
            files=tuple({file.path: file for file in files}.values()),
            fetched=fetched,
            absent=absent,
            baseline=baseline,
            baseline_note=note,
        )

    async def _place(self, run_id: str, reference: Reference) -> tuple[str, str]:
        """Run and path of a file that the manifest names. Raises Unsupported for what is not of this MLflow."""
        if not reference.is_uri:
            path = _beside(self._request.manifest, reference.name)
            if path == self._request.evidence_path or path.startswith(f"{self._request.evidence_path}/"):
                raise Unsupported(f"{path} lies where reports of its verification are written: expected another folder")
            return run_id, path
        if reference.name.startswith(_RUNS):
            return _of_uri(reference.name)
        if reference.name.startswith(_MODELS):
            return await self._of_model(reference.name)
        raise Unsupported(f"{reference.name} is not fetched: expected runs:/<run>/<path> of this MLflow, or a path")

    async def _of_model(self, uri: str) -> tuple[str, str]:
        name, version, path = [*uri.removeprefix(_MODELS).split("/", 2), "", ""][:3]
        if "@" in name or not version.isdigit() or not path:
            raise Unsupported(f"{uri} names no file of a version: expected models:/<name>/<version>/<path>")
        found = await self._mlflow.resolve(name, version=version)
        return await self._source(found, uri, path)

    async def _source(self, version: ModelVersion, uri: str, path: str) -> tuple[str, str]:
        """A version's files lie below its source."""
        if version.source.startswith(_RUNS):
            run, folder = _of_uri(version.source)
            return run, f"{folder}/{path}"
        below = self._mlflow.proxied(version.source, uri)
        root = f"{(await self._mlflow.run(version.run_id)).root}/"
        if not f"{below}/".startswith(root):
            raise Unsupported(f"{uri} lies at {version.source}: expected the artifacts of run {version.run_id}")
        return version.run_id, f"{below}/{path}".removeprefix(root)

    async def _take(self, run_id: str, path: str, limit: int) -> Downloaded:
        """A file, each only once: what was checked is what was pinned."""
        if known := self._taken.get((run_id, path)):
            return known
        target = self._folder / checked_run(run_id) / checked_path(path)
        limit = min(limit, self._left)
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            taken = await self._mlflow.download(run_id, path, target, max_bytes=limit)
            _date(taken)
        except TooLarge as error:
            if limit == self._left:
                total = self._request.max_bytes
                raise TooLarge(f"{error}: what is left of {total} for all files together") from error
            raise
        except OSError as error:
            if error.errno in _DISK_FULL:
                raise Unreachable(f"{path} of run {run_id}: {error.strerror}: expected room for its files") from error
            raise NotThere(f"{path} of run {run_id} cannot be kept: {error.strerror}") from error
        self._left -= taken.size
        self._taken[run_id, path] = taken
        return taken


def _date(taken: Downloaded) -> None:
    """The file looks as old as it is in MLflow; where that is not known, too old for any limit."""
    moment = taken.modified_at.timestamp() if taken.modified_at else 0.0
    os.utime(taken.path, (moment, moment))


def _beside(manifest: str, reference: str) -> str:
    """A path of the run, from one that is relative to a manifest. Raises Unsupported where it leaves its folder."""
    folder = posixpath.dirname(manifest)
    path = posixpath.normpath(posixpath.join(folder, reference))
    if reference.startswith("/") or path.startswith("../") or (folder and not path.startswith(f"{folder}/")):
        raise Unsupported(f"{reference[:200]!r} leaves the folder of {manifest}: expected a path in it")
    return path


def _of_uri(uri: str) -> tuple[str, str]:
    run, _, path = uri.removeprefix(_RUNS).partition("/")
    if not run or not path:
        raise Unsupported(f"{uri} names no file of a run: expected runs:/<run>/<path>")
    return run, path


def _veto(error: ArtifactError) -> Veto:
    if isinstance(error, Unreachable):
        raise error
    kinds = {NotThere: _MISSING, TooLarge: "TooLarge", Unsupported: "NotVerified"}
    return Veto(kinds.get(type(error), _MISSING), str(error))
