"""How one operator process runs: flags, each with an environment variable."""

from __future__ import annotations

import secrets
import socket
from dataclasses import dataclass, field
from datetime import timedelta

from ops_commander.core.selectors import EVERYTHING, Selector


@dataclass(frozen=True, slots=True)
class Settings:
    """Every field is a flag of `ops-commander run` and a variable OPS_COMMANDER_<NAME>."""

    prometheus_url: str = ""
    """One server for all namespaces; empty where `prometheus_config` names the servers."""
    prometheus_config: str = ""
    """File with several servers, or with one that needs more than a URL."""
    scrape_interval: timedelta = timedelta(seconds=15)
    """Of the server at `prometheus_url`."""
    mlflow_url: str = ""
    """Empty: runs are not verified."""
    image: str = ""
    """The operator's own image, which comparers run from; empty: answers cannot be compared."""
    image_pull_policy: str = "IfNotPresent"
    namespaces: tuple[str, ...] = ()
    """Empty: all namespaces."""
    selector: Selector = EVERYTHING
    """Of the ModelRollouts and ActionPlans to serve; other processes, with another Lease each, serve the others."""
    lease_name: str = "ops-commander"
    lease_namespace: str = "default"
    lease_duration: timedelta = timedelta(seconds=4)
    """How long a leader that was killed keeps the others out; longer where the API server is often slow."""
    identity: str = field(default_factory=lambda: f"{socket.gethostname()}-{secrets.token_hex(4)}")
    http_port: int = 8080
    poll_interval: timedelta = timedelta(seconds=5)
    query_timeout: timedelta = timedelta(seconds=4)
    workers: int = 16
    log_level: str = "info"
    log_format: str = "json"
    kubeconfig: str = ""

    @property
    def watched_namespaces(self) -> tuple[str | None, ...]:
        """One None where all are."""
        return self.namespaces or (None,)

    @property
    def stale_after(self) -> timedelta:
        """An answer is stale when two later polls should have replaced it."""
        return 3 * self.poll_interval + self.query_timeout
