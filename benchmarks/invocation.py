"""How a benchmark is run from the command line: what it started ends with it, and errors are told in a line."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable
from typing import NoReturn

from benchmarks import machine
from benchmarks.report import Figures
from hack.cluster.commands import BootstrapError
from ops_commander.runtime import clock
from tests.integration.controlplane import ControlPlaneError


def run(main: Callable[[], int]) -> NoReturn:
    """Exits with what `main` gives, 143 after SIGTERM: what was started is ended on the way out."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        sys.exit(main())
    except (BootstrapError, ControlPlaneError) as error:
        sys.stderr.write(f"error: {error}\n")
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)


def circumstances() -> Figures:
    """When and on what it was measured."""
    return {
        "at": clock.now().isoformat(timespec="seconds"),
        "machine": {**machine.described(), "load_average": machine.load_average()},
    }
