"""`ops-commander run`: flags, each with an environment variable, into settings."""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
from collections.abc import Mapping
from datetime import timedelta

from ops_commander.api.fields import parse_duration
from ops_commander.core import selectors
from ops_commander.core.selectors import Selector
from ops_commander.runtime.settings import Settings

log = logging.getLogger(__name__)

_HELP = {
    "prometheus-url": "Prometheus server that is asked for evidence",
    "prometheus-config": "file with several Prometheus servers, credentials or TLS; instead of --prometheus-url",
    "scrape-interval": "how often the server at --prometheus-url scrapes",
    "mlflow-url": "MLflow tracking server in which runs are verified; empty: they are not",
    "image": "this operator's image, from which comparers of shadow traffic run",
    "image-pull-policy": "Always, IfNotPresent or Never, for that image",
    "namespaces": "comma-separated namespaces to serve; empty: all",
    "selector": "label selector of the ModelRollouts and ActionPlans to serve; empty: all",
    "lease-name": "Lease for leader election; processes with another --selector need another one",
    "lease-namespace": "namespace of the Lease",
    "lease-duration": "seconds for which a leader that was killed keeps the others out, at least 2s",
    "identity": "name of this process in the Lease and in Events",
    "http-port": "port of /healthz, /readyz and /metrics",
    "poll-interval": "pace of asking Prometheus",
    "query-timeout": "deadline of one query",
    "workers": "rollouts reconciled at the same time",
    "log-level": "debug, info, warning or error",
    "log-format": "json or text",
    "kubeconfig": "kubeconfig file outside of a cluster",
}


def add_arguments(parser: argparse.ArgumentParser, environment: Mapping[str, str] = os.environ) -> None:
    """One flag for each setting; its default is the environment's, then the built-in one."""
    for flag, help_ in _HELP.items():
        variable = f"OPS_COMMANDER_{flag.replace('-', '_').upper()}"
        parser.add_argument(f"--{flag}", default=environment.get(variable), help=f"{help_} [{variable}]")
    parser.set_defaults(handle=lambda arguments: _run(parser, arguments))


def settings_from(arguments: argparse.Namespace) -> Settings:
    """Settings from parsed flags. Raises ValueError naming the flag, the value and what was expected."""
    given = {flag.replace("-", "_"): getattr(arguments, flag.replace("-", "_")) for flag in _HELP}
    values: dict[str, object] = {name: value for name, value in given.items() if value is not None}
    _one_of_prometheus(values)
    for name in ("http_port", "workers"):
        if name in values:
            values[name] = _number(name, str(values[name]))
    for name in ("poll_interval", "query_timeout", "scrape_interval", "lease_duration"):
        if name in values:
            values[name] = _duration(name, str(values[name]))
    _whole_seconds(values.get("lease_duration", timedelta(seconds=2)))
    if "namespaces" in values:
        values["namespaces"] = tuple(part.strip() for part in str(values["namespaces"]).split(",") if part.strip())
    if "selector" in values:
        values["selector"] = _selector(str(values["selector"]))
    return Settings(**values)  # type: ignore[arg-type]


def _one_of_prometheus(values: Mapping[str, object]) -> None:
    url, config = values.get("prometheus_url"), values.get("prometheus_config")
    if not url and not config:
        raise ValueError("--prometheus-url is not set: expected the URL of a Prometheus server, or --prometheus-config")
    if url and config:
        raise ValueError(f"--prometheus-config is {config!r}: expected it or --prometheus-url, not both")


def _whole_seconds(lease: object) -> None:
    """A Lease has no other durations."""
    assert isinstance(lease, timedelta)
    if lease < timedelta(seconds=2) or lease % timedelta(seconds=1):
        raise ValueError(f"--lease-duration is {lease.total_seconds():g}s: expected whole seconds, at least 2s")


def _selector(text: str) -> Selector:
    try:
        return selectors.parse(text)
    except ValueError as error:
        raise ValueError(f"--selector is {text!r}: {error}") from error


def _number(name: str, text: str) -> int:
    if not text.isdigit() or int(text) == 0:
        raise ValueError(f"--{name.replace('_', '-')} is {text!r}: expected a number above 0")
    return int(text)


def _duration(name: str, text: str) -> timedelta:
    try:
        value = parse_duration(text)
    except ValueError as error:
        raise ValueError(f"--{name.replace('_', '-')}: {error}") from error
    if not value:
        raise ValueError(f"--{name.replace('_', '-')} is {text!r}: expected more than 0")
    return value


def _run(parser: argparse.ArgumentParser, arguments: argparse.Namespace) -> int:
    from ops_commander.adapters.kubernetes import ApiError, ConfigurationError
    from ops_commander.adapters.prometheus_servers import ServersProblem
    from ops_commander.runtime import app, logs

    try:
        settings = settings_from(arguments)
        logs.configure(settings.log_level, settings.log_format)
    except ValueError as error:
        parser.error(str(error))
    try:
        asyncio.run(app.main(settings))
    except (app.PartEnded, ConfigurationError, ApiError, ServersProblem) as error:
        log.critical("%s", error)
        return 1
    return 0
