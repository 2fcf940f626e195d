"""Runs stages of the Makefile one after the other and tells how long each took.

python3 -m hack.stages STAGE...        each stage by make; a table at the end
python3 -m hack.stages --e2e [--keep]  the tests in the cluster, which is taken down unless it was there before
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import time
from pathlib import Path

from hack.cluster import state
from hack.cluster.commands import BootstrapError
from hack.demo import installed

ROOT = Path(__file__).resolve().parent.parent


def descriptions() -> dict[str, str]:
    """What the Makefile says of its targets."""
    found = re.findall(r"^([a-z0-9-]+):.*## (.*)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    return dict(found)


def duration(seconds: float) -> str:
    minutes, rest = divmod(seconds, 60)
    return f"{minutes:.0f} min {rest:04.1f} s" if minutes else f"{rest:.1f} s"


def run_stages(names: list[str]) -> int:
    """Run until one fails; the table tells of all."""
    texts = descriptions()
    rows: list[tuple[str, str, str]] = []
    code = 0
    for name in names:
        if code:
            rows.append((name, "not run", ""))
            continue
        print(f"\n━━ {name}: {texts.get(name, '')}", flush=True)
        started = time.monotonic()
        code = subprocess.run(["make", name], cwd=ROOT, check=False).returncode
        rows.append((name, "failed" if code else "passed", duration(time.monotonic() - started)))
    print()
    for name, outcome, took in rows:
        print(f"  {name:<12} {outcome:<8} {took:>14}")
    return code


def run_e2e(keep: bool) -> int:
    """Bring up what is missing, run the tests, and leave the machine as it was."""
    was_up = state.load(state.DEFAULT_NAME) is not None
    code = 1
    try:
        installed.ensure()
        code = subprocess.run([sys.executable, "-m", "pytest", "tests/e2e"], cwd=ROOT, check=False).returncode
    except BootstrapError as error:
        print(f"error: {error}", file=sys.stderr)
    finally:
        if not (keep or was_up):
            subprocess.run([sys.executable, "-m", "hack.cluster", "down"], cwd=ROOT, check=False)
    return code


def main() -> int:
    parser = argparse.ArgumentParser(prog="python3 -m hack.stages", description=__doc__)
    parser.add_argument("stages", nargs="*")
    parser.add_argument("--e2e", action="store_true")
    parser.add_argument("--keep", action="store_true")
    options = parser.parse_args()
    return run_e2e(options.keep) if options.e2e else run_stages(options.stages)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
