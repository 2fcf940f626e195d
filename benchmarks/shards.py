"""Two operators that share the rollouts by a label: what each costs, and whether one ever writes to one of the other.

Half of the rollouts have the label `ops-commander.dev/shard: a` and belong to one, the others have none. Each operator
is a user of its own, so the API server's audit log tells who has written what. `make bench-shards`.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import re
import sys
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from statistics import median
from typing import Any

from benchmarks import audit, controlplane, invocation, machine, report
from benchmarks.commander import POLL_SECONDS, Commander
from benchmarks.controlplane import OPERATORS, ControlPlane
from benchmarks.fleet import Key
from benchmarks.report import Figures, spread
from benchmarks.stage import FAILURES, MANY_SECONDS, Stage, causes, control_plane, is_rolled_back, now, staged
from hack.cluster.progress import say
from ops_commander.core import names
from tests.integration.controlplane import ControlPlaneError

STEADY_TICKS = 12
BROKEN = 5
"""Of each shard, each time; a quarter of it where that is less."""
DOWN_SECONDS = 30.0
"""At least so long one shard is down, with rollouts that should be reverted."""
SHOWN = 20
_ROLLOUT = re.compile(r"(model-\d{4})(?![0-9])")


@dataclass(frozen=True, slots=True)
class Shard:
    name: str
    user: str
    selector: str


A = Shard("a", OPERATORS[0], f"{names.SHARD}=a")
REST = Shard("rest", OPERATORS[1], f"{names.SHARD} notin (a)")
SHARDS = (A, REST)


@dataclass(frozen=True, slots=True)
class Violation:
    """A write by an operator that the rollout does not belong to at that moment, or a rollout that has none."""

    rollout: str
    user: str
    what: str
    at: float


@dataclass
class Ownership:
    """Whose each rollout is, from when on."""

    keys: Sequence[Key]
    since: dict[Key, list[tuple[float, Shard]]] = field(default_factory=lambda: defaultdict(list))

    def gives(self, key: Key, shard: Shard, at: float) -> None:
        self.since[key].append((at, shard))

    def now_of(self, shard: Shard) -> list[Key]:
        return [key for key in self.keys if self.since[key][-1][1] == shard]

    def judge(self, calls: Iterator[audit.Call]) -> Figures:
        """The former owner may end what it was doing, until the new one has written: such writes are late."""
        known, violations = set(self.keys), []
        written: Counter[tuple[str, str]] = Counter()
        taken: set[tuple[Key, int]] = set()
        late: list[float] = []
        for call in sorted(calls, key=lambda each: each.at):
            name = _ROLLOUT.match(call.name)
            key = (call.namespace, name[1]) if name else ("", "")
            if not call.writes or key not in known:
                continue
            written[call.user, call.resource] += 1
            periods = [(at, shard) for at, shard in self.since[key] if at <= call.at]
            owner = periods[-1][1] if periods else None
            if owner and owner.user == call.user:
                taken.add((key, len(periods)))
            elif len(periods) > 1 and (key, len(periods)) not in taken and periods[-2][1].user == call.user:
                late.append(call.at - periods[-1][0])
            else:
                violations.append(Violation("/".join(key), call.user, f"{call.verb} {call.resource}", call.at))
        for key, periods in self.since.items():
            for number, (at, shard) in enumerate(periods, 1):
                if (key, number) not in taken:
                    violations.append(Violation("/".join(key), shard.user, "no write of its owner", at))
        return {
            "violations": len(violations),
            "shown": [asdict(violation) for violation in violations[:SHOWN]],
            "late_writes_after_a_move": spread(late),
            "writes": {f"{user} {resource}": count for (user, resource), count in sorted(written.items())},
        }


@dataclass
class Measurement:
    stage: Stage
    ownership: Ownership
    running: dict[Shard, Commander] = field(default_factory=dict)

    async def run(self) -> Figures:
        figures: Figures = {"setup": await self._set_up()}
        say(f"set up: {figures['setup']}")
        figures["steady"] = await self._steady()
        say(f"steady: {figures['steady']}")
        figures["both_up"] = await self._break(SHARDS)
        figures["one_down"] = await self._one_down()
        say(f"one down: {figures['one_down']}")
        await self.stage.restore()
        figures["moved"] = await self._moved()
        say(f"moved: {figures['moved']}")
        figures["audit"] = self.ownership.judge(audit.calls(self.stage.plane.audit_log))
        return figures

    async def _start(self, shard: Shard) -> Commander:
        flags = (f"--selector={shard.selector}", f"--lease-name=ops-commander-{shard.name}")
        self.running[shard] = self.stage.commanders.start(shard.user, None, *flags)
        await self.running[shard].ready()
        return self.running[shard]

    async def _set_up(self) -> Figures:
        began = now()
        for number, key in enumerate(self.ownership.keys):
            self.ownership.gives(key, SHARDS[number % 2], began)
        await asyncio.gather(*map(self._start, SHARDS))
        await self.stage.launch()
        await self.stage.renew(self.stage.fleet.keys)
        await self.stage.judged(self.stage.fleet.keys)
        return {"seconds": round(now() - began, 1)}

    async def _steady(self) -> Figures:
        await asyncio.sleep(2 * POLL_SECONDS)
        before = {shard: machine.usage(operator.pid) for shard, operator in self.running.items()}
        memory = defaultdict(list)
        for _ in range(STEADY_TICKS):
            await asyncio.sleep(POLL_SECONDS)
            for shard, operator in self.running.items():
                memory[shard].append(machine.usage(operator.pid).rss)
        return {
            shard.name: {
                "rollouts": len(self.ownership.now_of(shard)),
                "cores": round(machine.usage(operator.pid).cores_since(before[shard]), 3),
                "rss": round(median(memory[shard]), 1),
                "pss": round(machine.pss(operator.pid), 1),
            }
            for shard, operator in self.running.items()
        }

    def _chosen(self, shard: Shard) -> list[Key]:
        healthy = set(self.stage.fleet.healthy())
        mine = [key for key in self.ownership.now_of(shard) if key in healthy]
        return random.sample(mine, max(1, min(BROKEN, len(mine) // 4)))

    async def _break(self, shards: Sequence[Shard]) -> Figures:
        """Fault begins → weight 0, by shard."""
        chosen = {shard: self._chosen(shard) for shard in shards}
        at = now() + 0.5 + random.uniform(0, POLL_SECONDS)
        await self.stage.fault([key for keys in chosen.values() for key in keys], at)
        return {shard.name: await self._reverted(keys, at) for shard, keys in chosen.items()}

    async def _reverted(self, keys: Sequence[Key], at: float) -> Figures:
        fleet = self.stage.fleet
        await fleet.until(
            "it is reverted", lambda seen: is_rolled_back(seen) and bool(seen.weight_zero_after(at)), keys, MANY_SECONDS
        )
        return spread((fleet.of(key).weight_zero_after(at) or at) - at for key in keys)

    async def _one_down(self) -> Figures:
        """Candidates of both break as one is killed. The dead one's wait; those of the other must not."""
        fleet = self.stage.fleet
        chosen = {shard: self._chosen(shard) for shard in SHARDS}
        killed = self.running.pop(A).kill()
        await self.stage.fault([*chosen[A], *chosen[REST]], killed)
        rest = await self._reverted(chosen[REST], killed)
        await asyncio.sleep(max(0.0, killed + DOWN_SECONDS - now()))
        waited = sum(not fleet.of(key).weight_zero_after(killed) for key in chosen[A])
        back = (await self._start(A)).started
        decides = await self.running[A].reconciles() - back
        after_fault = await self._reverted(chosen[A], killed)
        after_start = spread((fleet.of(key).weight_zero_after(back) or back) - back for key in chosen[A])
        return {
            "down_seconds": round(back - killed, 1),
            "rest_fault_to_weight_0": rest,
            "a_broken": len(chosen[A]),
            "a_waited": waited,
            "a_start_to_first_reconcile": round(decides, 2),
            "a_fault_to_weight_0": after_fault,
            "a_start_to_weight_0": after_start,
        }

    async def _moved(self) -> Figures:
        """Some of each get the other's label while they are judged; then they break."""
        chosen = {shard: self._chosen(shard) for shard in SHARDS}
        for shard, keys in chosen.items():
            other = REST if shard == A else A
            for key in keys:
                self.ownership.gives(key, other, now())
                label = "a" if other == A else None
                await self.stage.fleet.patch(key, {"metadata": {"labels": {names.SHARD: label}}})
        at = now() + 0.5 + random.uniform(0, POLL_SECONDS)
        await self.stage.fault([key for keys in chosen.values() for key in keys], at)
        return {
            f"from_{shard.name}_fault_to_weight_0": await self._reverted(keys, at) for shard, keys in chosen.items()
        }


async def _measure(plane: ControlPlane, options: argparse.Namespace) -> Figures:
    keys = [("bench-0", f"model-{number:04}") for number in range(options.size)]
    async with asyncio.timeout(options.limit), staged(plane, keys, flags=options.flag) as stage:
        of_a = set(keys[::2])
        stage.fleet.labels_of = lambda key: {names.SHARD: "a"} if key in of_a else {}
        return await Measurement(stage, Ownership(keys)).run()


def _measured(plane: ControlPlane, options: argparse.Namespace) -> Figures:
    found: Figures = {}
    try:
        found |= asyncio.run(_measure(plane, options))
    except* FAILURES as failure:
        found["failed"] = causes(failure)
    return found


def _table(found: Figures) -> str:
    rows = [["", *(f"shard {shard.name}" for shard in SHARDS)]]
    for what, title in (("rollouts", "rollouts"), ("cores", "steady: CPU (cores)"), ("rss", "steady: RSS (MiB)")):
        rows.append([title, *(str(found["steady"][shard.name][what]) for shard in SHARDS)])
    down, moved = found["one_down"], found["moved"]
    for title, a, rest in (
        ("both up: fault begins → weight 0", *(found["both_up"][shard.name] for shard in SHARDS)),
        ("shard a down: fault begins → weight 0", down["a_fault_to_weight_0"], down["rest_fault_to_weight_0"]),
        ("shard a started → weight 0", down["a_start_to_weight_0"], None),
        (
            "came from there: fault begins → weight 0",
            *(moved[f"from_{shard.name}_fault_to_weight_0"] for shard in SHARDS),
        ),
    ):
        rows.append([f"{title} (s, p50 / max)", report.seconds(a, "p50", "max"), report.seconds(rest, "p50", "max")])
    lines = ["| " + " | ".join(row) + " |" for row in rows]
    lines.insert(1, "|---|---|---|")
    told = found["audit"]
    return "\n".join([*lines, "", f"{told['violations']} violations {told['shown']}", f"writes: {told['writes']}"])


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.shards", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--size", type=int, default=200, help="rollouts, half of them for each; 4 to 5000")
    parser.add_argument("--limit", type=float, default=2400.0, help="seconds in all")
    parser.add_argument("--flag", action="append", default=[], help="one more flag of `ops-commander run`")
    options = parser.parse_args()
    if not 4 <= options.size <= 5000:
        parser.error(f"--size is {options.size}: expected a number from 4 to 5000")
    return options


def main() -> int:
    options = _options()
    programs = controlplane.programs()
    machine.isolate_network()
    told: dict[str, Any] = {
        **invocation.circumstances(),
        "method": " ".join((__doc__ or "").split()),
        "options": vars(options),
    }
    say(f"{told['machine']}\n{told['options']}")
    with control_plane(programs) as plane:
        found = _measured(plane, options)
    path = report.result_file("shards")
    report.write(path, {**told, "results": found})
    if "failed" in found:
        raise ControlPlaneError(f"given up: {found['failed']}")
    sys.stdout.write(f"{_table(found)}\n\nload average {machine.load_average()}; {path}\n")
    return 1 if found["audit"]["violations"] or found["one_down"]["a_waited"] != found["one_down"]["a_broken"] else 0


if __name__ == "__main__":
    invocation.run(main)
