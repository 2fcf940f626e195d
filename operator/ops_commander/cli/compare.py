"""`ops-commander compare`: flags, each with an environment variable, into settings of the shadow comparer."""

from __future__ import annotations

import argparse
import asyncio
import os
from collections.abc import Mapping
from typing import Final
from urllib.parse import urlsplit

from pydantic import ValidationError

from ops_commander.api.comparison import Comparison
from ops_commander.comparer.settings import Settings

_HELP: Final = {
    "stable-url": "where the stable version answers",
    "candidate-url": "where the candidate answers",
    "comparison": "what is compared, and how: spec.steps[].shadow.compare as JSON",
    "deployment-id": "deployment that the evidence is for",
    "port": "port of mirrored requests",
    "metrics-port": "port of /metrics, /report, /healthz and /readyz",
    "mlflow-url": "MLflow tracking server that keeps the evidence; empty: it is only printed",
    "run-id": "MLflow run that gets the evidence",
    "evidence-path": "folder in the run's artifacts below which deployment/shadow is put",
    "log-level": "debug, info, warning or error",
    "log-format": "json or text",
}


def add_arguments(parser: argparse.ArgumentParser, environment: Mapping[str, str] = os.environ) -> None:
    """One flag for each setting; its default is the environment's, then the built-in one."""
    for flag, help_ in _HELP.items():
        variable = f"OPS_COMMANDER_COMPARE_{flag.replace('-', '_').upper()}"
        parser.add_argument(f"--{flag}", default=environment.get(variable), help=f"{help_} [{variable}]")
    parser.set_defaults(handle=lambda arguments: _compare(parser, arguments))


def settings_from(arguments: argparse.Namespace) -> Settings:
    """Settings from parsed flags. Raises ValueError naming the flag, the value and what was expected."""
    given = {flag.replace("-", "_"): getattr(arguments, flag.replace("-", "_")) for flag in _HELP}
    values: dict[str, object] = {name: value for name, value in given.items() if value is not None}
    for name in ("stable_url", "candidate_url"):
        values[name] = _url(name, str(values.get(name, "")))
    for name in ("port", "metrics_port"):
        if name in values:
            values[name] = _port(name, str(values[name]))
    if "comparison" in values:
        values["comparison"] = _comparison(str(values["comparison"]))
    if bool(values.get("mlflow_url")) != bool(values.get("run_id")):
        raise ValueError("--mlflow-url and --run-id go together: expected both or neither")
    return Settings(**values)  # type: ignore[arg-type]


def _flag(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def _url(name: str, text: str) -> str:
    parts = urlsplit(text)
    if parts.scheme not in ("http", "https") or not parts.netloc or parts.query or parts.fragment:
        raise ValueError(f"{_flag(name)} is {text!r}: expected a URL such as http://ranker-stable:8080")
    return text


def _port(name: str, text: str) -> int:
    if not text.isdigit() or not 0 < int(text) < 65536:
        raise ValueError(f"{_flag(name)} is {text!r}: expected a port from 1 to 65535")
    return int(text)


def _comparison(text: str) -> Comparison:
    try:
        return Comparison.model_validate_json(text)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"])) or "the whole"
        raise ValueError(f"--comparison: {place}: {first['msg']}; the value is {first['input']!r}") from error


def _compare(parser: argparse.ArgumentParser, arguments: argparse.Namespace) -> int:
    from ops_commander.adapters.mlflow_artifacts import MLflowArtifacts
    from ops_commander.comparer import app
    from ops_commander.runtime import clock, logs

    try:
        settings = settings_from(arguments)
        logs.configure(settings.log_level, settings.log_format)
    except ValueError as error:
        parser.error(str(error))
    store = MLflowArtifacts(settings.mlflow_url) if settings.mlflow_url else None
    try:
        asyncio.run(app.main(settings, store=store, now=clock.now, tell=_tell))
    except OSError as error:
        parser.exit(1, f"{error}\n")
    return 0


def _tell(line: str) -> None:
    print(line, flush=True)
