"""The official client for asyncio, without the rest of its package.

`import kubernetes` loads the synchronous client, websockets, OAuth and Google's credentials too: 12 MiB for nothing.
So the package itself is not run, if nobody has loaded it before; its parts are found by their names as ever.
"""

from __future__ import annotations

import sys
from importlib.util import find_spec, module_from_spec


def _enter(package: str) -> None:
    spec = None if package in sys.modules else find_spec(package)
    if spec is not None:
        sys.modules[package] = module_from_spec(spec)


_enter("kubernetes")

from kubernetes.aio import client, config  # noqa: E402

__all__ = ["client", "config"]
