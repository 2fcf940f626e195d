"""What a process that verifies is asked, and what it answers of files that it knows: as JSON, by its input and output.

The operator asks and reads no file: nothing that reads files is imported here.
"""

from __future__ import annotations

from typing import Annotated, Final, Self

from pydantic import AfterValidator, ConfigDict, Field, model_validator

from ops_commander.api.fields import Resource
from ops_commander.api.verification import VerifiedFile, Waiver
from ops_commander.integration.dependencies.platform import Platform, parse_platform

MAX_FILES: Final = 500
"""Files that one manifest may name."""
_GIB: Final = 1024**3

_Text = Annotated[str, Field(min_length=1, max_length=500)]
_Bytes = Annotated[int, Field(ge=1, le=1024 * _GIB)]


def _is_platform(text: str) -> str:
    parse_platform(text)
    return text


class _Strict(Resource):
    model_config = ConfigDict(extra="forbid")


class RequestedModel(_Strict):
    """The version that is asked for, as `spec.model` names it."""

    name: Annotated[str, Field(min_length=1, max_length=253)]
    """Name of the registered model."""
    version: Annotated[str, Field(min_length=1, max_length=63)] | None = None
    """Its version; unset: that of the alias."""
    alias: Annotated[str, Field(min_length=1, max_length=63)] | None = None
    """An alias, followed once and only where no version is given."""
    run_id: Annotated[str, Field(min_length=1, max_length=64)] | None = None
    """The run that must have made it; unset: any."""

    @model_validator(mode="after")
    def _is_named(self) -> Self:
        if self.version is None and self.alias is None:
            raise ValueError("has neither version nor alias: expected one of them")
        return self


class VerificationRequest(_Strict):
    """What is to be verified, and within which limits."""

    mlflow_url: Annotated[str, Field(pattern="^https?://[^\\s?#]+$", max_length=500)]
    """URL of the tracking server."""
    model: RequestedModel
    """Which version."""
    manifest: _Text = "candidate_manifest.yaml"
    """Path of the candidate's manifest below the artifacts of its run."""
    manifest_sha256: Annotated[str, Field(pattern="^[0-9a-f]{64}$")] | None = None
    """Of the manifest, where it is pinned."""
    stable_run_id: _Text | None = None
    """Run of the version that serves: what its manifest ships is the baseline, if it has one."""
    stable_manifest: _Text | None = None
    """Path of that manifest; unset: as the candidate's."""
    revision: Annotated[str, Field(min_length=1, max_length=63)]
    """Revision that is verified; kept in the answer."""
    asked: Annotated[str, Field(max_length=64)] = ""
    """Digest of what was asked; kept in the answer."""
    waiver: Waiver | None = None
    """Lets a declared version break the API."""
    tests_elsewhere: bool = False
    """Whether Jobs test the candidate, so that its manifest need not name tests."""
    max_bytes: _Bytes = 20 * _GIB
    """Bytes of all files together."""
    max_file: _Bytes = 10 * _GIB
    """Bytes of one file."""
    evidence_path: _Text = "ops-commander/verification"
    """Folder of the reports below the artifacts of the candidate's run."""
    platform: Annotated[str, AfterValidator(_is_platform)] = str(Platform())
    """Which locks are read for, as `linux-x86_64-cp311`."""
    recheck: Annotated[list[VerifiedFile], Field(max_length=2 * MAX_FILES)] | None = None
    """Files that were verified before: they are compared with what is there now, and nothing else is done."""

    @model_validator(mode="after")
    def _has_a_version(self) -> Self:
        if self.recheck is not None and self.model.version is None:
            raise ValueError("recheck follows no alias: expected model.version, as it was resolved")
        return self


class Recheck(Resource):
    """Whether verified files are as they were."""

    unchanged: bool
    """No problem was found."""
    problems: list[str]
    """What is not as it was: file, what was found and what was expected."""
