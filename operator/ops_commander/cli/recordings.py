"""What `record`, `replay` and `backtest` have in common: flags, times, and how decisions are shown."""

from __future__ import annotations

import argparse
import json
import os
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from ops_commander.api.fields import format_time, parse_duration, parse_time

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ops_commander.adapters.prometheus_servers import PrometheusServers
    from ops_commander.api.v1alpha1 import ObjectiveStatus
    from ops_commander.core.recordings.player import Replayed

QUERY_TIMEOUT = timedelta(seconds=30)
"""Nobody's traffic waits for these queries."""

_FROM_THE_ENVIRONMENT = {
    "prometheus-url": "Prometheus server that has the counters",
    "prometheus-config": "file with Prometheus servers, as the operator has it; instead of --prometheus-url",
    "mlflow-url": "MLflow tracking server, where objectives read runs",
}
_RELATIVE = re.compile(r"^-\d.*$")


def add_prometheus_arguments(parser: argparse.ArgumentParser, environment: Mapping[str, str] = os.environ) -> None:
    for flag, help_ in _FROM_THE_ENVIRONMENT.items():
        variable = f"OPS_COMMANDER_{flag.replace('-', '_').upper()}"
        parser.add_argument(f"--{flag}", default=environment.get(variable, ""), help=f"{help_} [{variable}]")
    parser.add_argument(
        "--scrape-interval", type=duration, default=timedelta(seconds=15), help="that of the operator (default: 15s)"
    )
    parser.add_argument(
        "--interval", type=duration, default=timedelta(seconds=5), help="the operator's poll interval (default: 5s)"
    )
    parser.add_argument(
        "--stale-after", type=duration, default=None, help="default: three intervals and 4s, as the operator has it"
    )
    parser.add_argument("--kubeconfig", default=None, help="file with access to the cluster")


def stale_after(arguments: argparse.Namespace) -> timedelta:
    length: timedelta = arguments.stale_after or 3 * arguments.interval + timedelta(seconds=4)
    return length


def check_prometheus(parser: argparse.ArgumentParser, arguments: argparse.Namespace) -> None:
    """Ends with exit code 2 unless exactly one way to Prometheus is given."""
    url, file = arguments.prometheus_url, arguments.prometheus_config
    if not url and not file:
        parser.error("--prometheus-url is not set: expected the URL of a Prometheus server, or --prometheus-config")
    if url and file:
        parser.error(f"--prometheus-config is {file!r}: expected it or --prometheus-url, not both")


@contextmanager
def prometheus_servers(arguments: argparse.Namespace) -> Iterator[PrometheusServers]:
    """Raises ServersProblem."""
    from ops_commander.adapters.prometheus_servers import PrometheusServers

    if arguments.prometheus_config:
        servers = PrometheusServers.of_file(arguments.prometheus_config, timeout=QUERY_TIMEOUT)
    else:
        servers = PrometheusServers.of_url(
            arguments.prometheus_url, timeout=QUERY_TIMEOUT, scrape_interval=arguments.scrape_interval
        )
    try:
        yield servers
    finally:
        servers.close()


def duration(text: str) -> timedelta:
    """A duration above 0, for argparse."""
    try:
        length = parse_duration(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    if not length:
        raise argparse.ArgumentTypeError(f"{text!r}: expected more than 0")
    return length


def let_times_begin_with_a_dash(parser: argparse.ArgumentParser) -> None:
    """`--from -2h`: argparse takes only what looks like a number for the value of a flag."""
    parser._negative_number_matcher = _RELATIVE


def moment(text: str, now: datetime) -> datetime:
    """RFC 3339, `now`, or a time ago such as -2h. Raises ValueError naming what was expected."""
    if text == "now":
        return now
    if text.startswith("-"):
        return now - parse_duration(text[1:])
    try:
        found = parse_time(text)
    except ValueError:
        found = None
    if found is None or found.tzinfo is None:
        raise ValueError(f"{text!r} is not a time: expected one such as 2026-01-05T09:00:00Z, -2h or now")
    return found


# --- Output -------------------------------------------------------------------------------------------

_COLOURS = {"Pass": "32", "Passed": "32", "Completed": "32", "Fail": "31", "RolledBack": "31", "Undecided": "33"}


def coloured(text: str, word: str) -> str:
    """In the colour of a verdict, on a terminal."""
    if word not in _COLOURS or not sys.stdout.isatty() or os.environ.get("NO_COLOR"):
        return text
    return f"\033[{_COLOURS[word]}m{text}\033[0m"


def table(rows: Sequence[Sequence[str]], *, indent: str = "") -> Iterator[str]:
    """Aligned columns; the last one is as long as it likes."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]) - 1)] if rows else []
    for row in rows:
        cells = [coloured(cell.ljust(width), cell) for cell, width in zip(row, widths, strict=False)]
        yield f"{indent}{'  '.join([*cells, coloured(row[-1], row[-1])])}".rstrip()


def clock(at: datetime | None) -> str:
    return f"{at.astimezone(UTC):%H:%M:%S.%f}"[:-3] if at else "—"


_WIDTHS = (12, 12, 6, 12, 19)
HEADING = ("TIME (UTC)", "STEP", "WEIGHT", "VERDICT", "RULE", "DECISION")


def columns(cells: Sequence[str]) -> str:
    """One line of a table that is printed while it comes about."""
    padded = [coloured(cell.ljust(width), cell) for cell, width in zip(cells, _WIDTHS, strict=False)]
    return "  ".join([*padded, cells[-1]]).rstrip()


def decision_lines(item: Replayed) -> Iterator[str]:
    """A decision, with the rows that it was made of where it ends a step's evidence."""
    verdict = item.verdict.value if item.verdict else "—"
    said = f"{item.reason}: {item.message}"
    yield columns((clock(item.at), item.step or "—", f"{item.weight}%", verdict, item.rule, said))
    if ends_evidence(item):
        yield from table([_row(row) for row in item.rows], indent="    ")


def ends_evidence(item: Replayed) -> bool:
    return item.transition is not None and item.transition.rule in (
        *("running", "promoted", "objective_breached", "overdue", "blind"),
        *("candidate_restarted", "capacity_lost", "aborted"),
    )


def _row(row: ObjectiveStatus) -> tuple[str, ...]:
    return row.name, row.verdict.value, row.reason, row.message


def decision_body(item: Replayed) -> dict[str, Any]:
    body: dict[str, Any] = {
        "at": format_time(item.at),
        "rule": item.rule,
        "reason": item.reason,
        "message": item.message,
        "step": item.step,
        "state": item.state,
        "weight": item.weight,
        "verdict": item.verdict,
        "tick": format_time(item.tick) if item.tick else None,
        "transition": item.transition is not None,
    }
    if ends_evidence(item):
        body["objectives"] = row_bodies(item.rows)
    return body


def row_bodies(rows: Iterable[ObjectiveStatus]) -> list[dict[str, Any]]:
    return [row.model_dump(mode="json", by_alias=True, exclude_none=True) for row in rows]


def print_json(body: Mapping[str, Any]) -> None:
    print(json.dumps(body, ensure_ascii=False, indent=2, allow_nan=False))


def exhaust(ticks: Iterable[object]) -> None:
    """The rest of a file is to be sound, too."""
    for _ in ticks:
        pass


def unread() -> int:
    """Whoever read our output has gone, such as `head`: nothing is left to be said."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 1


def told(command: str, error: BaseException, code: int) -> int:
    """An error on stderr, in one line."""
    print(f"ops-commander {command}: {error}", file=sys.stderr)
    return code
