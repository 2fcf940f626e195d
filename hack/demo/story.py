"""The main job, end to end: a good model version goes live step by step, a bad one is thrown back. Run by `make demo`.

Exits with 1 if either ends otherwise, or if any request failed because of a switch.
"""

from __future__ import annotations

import argparse
import json
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from hack.cluster import addons, state
from hack.cluster.commands import BootstrapError
from hack.cluster.progress import say, step
from hack.cluster.workspace import bin_folder
from hack.demo import installed, runs

_FOLLOW_TIMEOUT = 480.0
_HEARTBEAT = 20.0
_ENDED = ("Completed", "RolledBack")

Status = Mapping[str, Any]


def tell(line: str = "") -> None:
    print(line, flush=True)


def now() -> float:
    return time.time()  # noqa: TID251 - the demo's own clock, set against times that the cluster wrote


def title(text: str) -> None:
    tell(f"\n━━ {text}")


def table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Print columns, numbers to the right."""
    cells = [list(header), *[[str(cell) for cell in row] for row in rows]]
    widths = [max(len(row[column]) for row in cells) for column in range(len(header))]
    numeric = [all(_is_number(row[column]) for row in cells[1:]) for column in range(len(header))]
    for row in cells:
        columns = zip(row, widths, numeric, strict=True)
        padded = [cell.rjust(width) if right else cell.ljust(width) for cell, width, right in columns]
        tell(f"  {'  '.join(padded)}".rstrip())


def _is_number(text: str) -> bool:
    return text.removesuffix(" s").replace(".", "", 1).replace("–", "0").isdigit()


@dataclass(frozen=True)
class Count:
    """Requests between two looks at the load client."""

    phase: str
    sent: int
    ok: int
    by_model: Mapping[str, int]
    by_switch: int


class Ledger:
    """Requests sent and failed, by the phase of the story in which they were sent."""

    def __init__(self, namespace: str) -> None:
        self._namespace = namespace
        self.counts: list[Count] = []
        self.latest: dict[str, Any] = {}

    def start(self) -> None:
        installed.reset_load(self._namespace)
        self.latest = installed.load_stats(self._namespace)

    def close(self, phase: str) -> None:
        """What was sent since the last look belongs to this phase."""
        before, after = self.latest, installed.load_stats(self._namespace)
        failed_before = before["failed"]["model"]
        models = {
            version: count - failed_before.get(version, 0)
            for version, count in after["failed"]["model"].items()
            if count != failed_before.get(version, 0)
        }
        switch = after["failed"]["switch"] - before["failed"]["switch"]
        self.counts.append(Count(phase, after["sent"] - before["sent"], after["ok"] - before["ok"], models, switch))
        self.latest = after

    @property
    def switch_failures(self) -> int:
        return int(self.latest["failed"]["switch"])

    def show(self) -> None:
        rows = [
            (count.phase, count.sent, count.ok, _by_version(count.by_model), count.by_switch) for count in self.counts
        ]
        failed = self.latest["failed"]
        rows.append(("in all", self.latest["sent"], self.latest["ok"], _by_version(failed["model"]), failed["switch"]))
        table(("phase", "sent", "answered 200", "failed: model's own", "failed: by a switch"), rows)
        for failure in self.latest["recent_switch_failures"][:10]:
            tell(f"    {failure['time']} {failure['kind']} {failure['message']}")


def _by_version(failed: Mapping[str, int]) -> str:
    return ", ".join(f"v{version}: {count}" for version, count in failed.items()) or "0"


class Watch:
    """The statuses of one ModelRollout as they come, by `kubectl get --watch`."""

    def __init__(self, namespace: str, name: str) -> None:
        self._argv = [str(bin_folder() / "kubectl"), "get", f"mro/{name}", f"--namespace={namespace}", "--watch"]
        self._argv.append("--output=jsonpath={@}{'\\n'}")
        self._lines: queue.Queue[str | None] = queue.Queue()
        self._process: subprocess.Popen[str] | None = None

    def _start(self) -> None:
        process = subprocess.Popen(
            self._argv, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=installed.environment()
        )
        self._process = process

        def read() -> None:
            assert process.stdout is not None
            for line in process.stdout:
                self._lines.put(line)
            self._lines.put(None)

        threading.Thread(target=read, daemon=True).start()

    def objects(self, timeout: float) -> Iterator[dict[str, Any] | None]:
        """Each change; None when nothing has changed for a while. Ends after the time-out."""
        deadline = time.monotonic() + timeout
        self._start()
        try:
            while time.monotonic() < deadline:
                try:
                    line = self._lines.get(timeout=_HEARTBEAT)
                except queue.Empty:
                    yield None
                    continue
                if line is None:  # the server ends a watch now and then
                    time.sleep(1)
                    self._start()
                    continue
                yield json.loads(line)
        finally:
            if self._process:
                self._process.terminate()
                self._process.wait()


def _line(status: Status) -> str:
    step_name = (status.get("stepName") or "–")[:14]
    verdict = status.get("verdict") or "–"
    return f"{status.get('phase', 'Pending'):<12} {step_name:<14} {status.get('weight', 0):>3} %  {verdict:<12} "


def _key(status: Status) -> tuple[object, ...]:
    """What makes a line of its own."""
    names = ("phase", "stepName", "weight", "verdict", "reason")
    return tuple(status.get(name) for name in names)


def _part(status: Status) -> str:
    """The part of the story that requests are counted under."""
    phase = str(status.get("phase", "Pending"))
    name = (status.get("step") or {}).get("name")
    if phase in ("RollingBack", "Promoting", "Held"):
        return {"RollingBack": "reverting", "Promoting": "promotion", "Held": "held"}[phase]
    return str(name or phase)


class Follower:
    """Prints the way of one version as it happens, and counts the requests of each part of it."""

    def __init__(self, version: str, ledger: Ledger, namespace: str, began: float) -> None:
        self._version = version
        self._ledger = ledger
        self._namespace = namespace
        self._began = began
        self._part = ""
        self._key: tuple[object, ...] = ()

    def _enter(self, part: str) -> None:
        if part != self._part:
            self._ledger.close(f"v{self._version} {self._part}" if self._part else f"before v{self._version}")
            self._part = part

    def follow(self, expected: str, timeout: float = _FOLLOW_TIMEOUT) -> Status:
        """Until it has ended as expected; raise BootstrapError if it ends otherwise or not in time."""
        tell(f"  {'elapsed':>8}  {'phase':<12} {'step':<14} {'live':>5}  {'verdict':<12} why")
        last: Status = {}
        for seen in Watch(self._namespace, installed.ROLLOUT).objects(timeout):
            elapsed = now() - self._began
            if seen is None:
                tell(f"  {elapsed:7.1f}s  … {last.get('message') or 'nothing reported yet'}")
                continue
            last = seen.get("status") or {}
            if not self._is_about_this(seen, last):
                continue
            if _key(last) != self._key:
                self._key = _key(last)
                tell(f"  {elapsed:7.1f}s  {_line(last)}{last.get('message') or ''}")
            self._enter(_part(last))
            if last.get("phase") in _ENDED:
                if last["phase"] != expected:
                    raise BootstrapError(f"version {self._version} ended as {last['phase']}: expected {expected}")
                return last
        where = f"{last.get('phase')}, {last.get('stepName')}: {last.get('message')}"
        raise BootstrapError(f"version {self._version} was not {expected} within {timeout:.0f} s; last seen: {where}")

    def _is_about_this(self, seen: Mapping[str, Any], status: Status) -> bool:
        if status.get("observedGeneration") != seen["metadata"]["generation"]:
            return False
        deployment = status.get("deployment") or {}
        return status.get("phase") not in _ENDED or deployment.get("modelVersion") == self._version

    def finish(self) -> None:
        """A few seconds more, so that the last switch is among what was counted."""
        time.sleep(5)
        self._ledger.close(f"after v{self._version}")


def _time(text: str) -> datetime:
    return datetime.fromisoformat(text.replace("Z", "+00:00"))


def _between(start: str | None, end: str | None) -> str:
    return f"{(_time(end) - _time(start)).total_seconds():.1f} s" if start and end else "–"


def _step_rows(version: str, status: Status) -> list[tuple[str, ...]]:
    rows = []
    for record in status["deployment"]["steps"]:
        entered, reached, left = record["enteredAt"], record.get("reachedAt"), record.get("leftAt")
        rows.append((f"v{version}", record["name"], _between(entered, reached), _between(entered, left)))
    whole = _between(status["deployment"]["startedAt"], status["deployment"].get("endedAt"))
    return [*rows, (f"v{version}", f"→ {status['deployment']['outcome']}", "–", whole)]


def _show_rollback(rollback: Mapping[str, Any]) -> None:
    tell(f"  {rollback['reason']}: {rollback['message']}")
    decided = _between(rollback["breachVisibleAt"], rollback["decidedAt"])
    rows = [
        ("breach visible → revert decided", decided),
        ("breach visible → all traffic on stable", f"{rollback['trafficSeconds']:.1f} s"),
        ("breach visible → ReplicaSet reverted", f"{rollback['replicaSetSeconds']:.1f} s"),
    ]
    table(("revert of v3", "took"), rows)


def _diagnose(namespace: str) -> None:
    """What one would look at first."""
    tell("\n━━ what the cluster says")
    for arguments in (
        ("describe", "mro", f"--namespace={namespace}"),
        ("get", "pods,replicasets,services,httproutes", "--output=wide", f"--namespace={namespace}"),
        ("get", "events", "--sort-by=.lastTimestamp", f"--namespace={namespace}"),
        ("get", "pods", f"--namespace={installed.OPERATOR_NAMESPACE}"),
    ):
        tell(f"\n$ kubectl {' '.join(arguments)}")
        try:
            tell("\n".join(installed.kubectl(*arguments).splitlines()[-120:]))
        except BootstrapError as error:
            tell(str(error))
    tell("\n$ the operator's log")
    tell(installed.operator_log(40))


class Story:
    """The whole of it, in order."""

    def __init__(self, namespace: str, started: float) -> None:
        self._namespace = namespace
        self._started = started
        self._ledger = Ledger(namespace)
        self._first_rollout_after = 0.0

    def _ship(self, sample: str, version: str, run_id: str, expected: str) -> Status:
        tell(f"$ kubectl apply -f manifests/samples/{sample}.yaml    # with spec.model.runId: {run_id}")
        follower = Follower(version, self._ledger, self._namespace, now())
        tell("  " + installed.apply(installed.sample(sample, self._namespace, run_id)))
        status = follower.follow(expected)
        follower.finish()
        return status

    def _first_version(self, run_id: str) -> None:
        with step("version 1, live as the first one"):
            installed.apply(installed.sample("rollout-v1", self._namespace, run_id))
            installed.wait_ready(self._namespace)
        with step("steady answers by version 1"):
            self._steady("1", timeout=60)
        self._ledger.start()

    def _steady(self, version: str, timeout: float) -> None:
        """Until all answers of a second come from this version."""
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline:
            installed.reset_load(self._namespace)
            time.sleep(1.5)
            stats = installed.load_stats(self._namespace)
            if stats["by_version"].get(version, 0) > stats["rate"] and not stats["failed"]["switch"]:
                return
        raise BootstrapError(f"no steady answers by version {version} within {timeout:.0f} s; load client: {stats}")

    def run(self) -> int:
        title("the cluster, and Ops Commander in it")
        record = installed.ensure()
        installed.remove_demo(self._namespace)
        installed.apply_demo_base(self._namespace)
        urls = addons.urls(record)
        with step("three finished runs in MLflow"):
            run_ids = {version: runs.log_run(urls["mlflow"], version) for version in ("1", "2", "3")}
        self._first_version(run_ids["1"])

        self._first_rollout_after = now() - self._started
        title(f"version 2, which is better ({self._first_rollout_after:.0f} s after the start)")
        completed = self._ship("rollout", "2", run_ids["2"], "Completed")
        title("version 3, which fails under live traffic")
        reverted = self._ship("rollout-v3", "3", run_ids["3"], "RolledBack")
        self._show(completed, reverted)
        self._show_where_to_look(record, urls)
        return self._verdict()

    def _show(self, completed: Status, reverted: Status) -> None:
        title("time in each step")
        rows = [*_step_rows("2", completed), *_step_rows("3", reverted)]
        table(("version", "step", "until its traffic was confirmed", "in all"), rows)
        title("how fast version 3 was thrown back")
        _show_rollback(reverted["rollback"])
        title("requests")
        self._ledger.show()

    def _show_where_to_look(self, record: state.State, urls: Mapping[str, str]) -> None:
        title("have a look; `make demo-down` removes all of it")
        kubeconfig = state.kubeconfig(record.name)
        host = installed.in_namespace("ranker.shop.example", self._namespace)
        tell(f"  export KUBECONFIG={kubeconfig} PATH={bin_folder()}:$PATH")
        tell(f"  kubectl get mro -n {self._namespace}")
        tell(f"  kubectl describe mro ranker -n {self._namespace}")
        tell(f"  kubectl logs -n {installed.OPERATOR_NAMESPACE} -l app.kubernetes.io/name=ops-commander --prefix -f")
        tell(f"  curl -i -H 'Host: {host}' {urls['gateway']}/v2/models/ranker")
        tell(f"  Prometheus {urls['prometheus']}   MLflow {urls['mlflow']}")
        tell()
        tell(installed.kubectl("get", "mro", f"--namespace={self._namespace}").rstrip())

    def _verdict(self) -> int:
        title("the end")
        took = now() - self._started
        tell(f"  first rollout {self._first_rollout_after:.0f} s after the start, all of it {took:.0f} s")
        failures = self._ledger.switch_failures
        if failures:
            tell(f"  ✗ {failures} request(s) failed by a switch: expected 0")
            return 1
        tell("  ✓ version 2 is live, version 3 is out, and no request failed by any switch")
        return 0


def main() -> int:
    parser = argparse.ArgumentParser(prog="python3 -m hack.demo.story", description=__doc__)
    parser.add_argument("--namespace", default=installed.NAMESPACE)
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that the watch ends with us
    started = float(os.environ.get("OPS_COMMANDER_STARTED") or now())
    try:
        return Story(options.namespace, started).run()
    except BootstrapError as error:
        if state.load(state.DEFAULT_NAME):
            _diagnose(options.namespace)
        say(f"\nerror: {error}")
        return 1
    except KeyboardInterrupt:
        say("interrupted; `make demo` starts over, `make demo-down` removes all of it")
        return 130


if __name__ == "__main__":
    sys.exit(main())
