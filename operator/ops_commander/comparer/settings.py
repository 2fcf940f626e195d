"""How one comparer runs: flags, each with an environment variable."""

from __future__ import annotations

from dataclasses import dataclass, field

from ops_commander.api.comparison import Comparison


@dataclass(frozen=True, slots=True)
class Settings:
    """Every field is a flag of `ops-commander compare` and a variable OPS_COMMANDER_COMPARE_<NAME>."""

    stable_url: str
    """Where the stable version answers; paths of requests are appended."""
    candidate_url: str
    comparison: Comparison = field(default_factory=Comparison)
    deployment_id: str = ""
    """Named in evidence and logs."""
    port: int = 8080
    """For mirrored requests."""
    metrics_port: int = 8081
    """For /metrics, /report, /healthz and /readyz."""
    mlflow_url: str = ""
    """Empty: evidence is not uploaded."""
    run_id: str = ""
    """The run that gets the evidence."""
    evidence_path: str = ""
    """Folder in the run's artifacts below which it is put."""
    log_level: str = "info"
    log_format: str = "json"
