"""`mlserver start`, but for idle connections, which are kept: a proxy in front must be the first to close them.

uvicorn closes after 5 s; a request that comes at that moment fails.
"""

from __future__ import annotations

import asyncio
import sys

from mlserver import MLServer  # type: ignore[import-not-found]
from mlserver.cli.serve import load_settings  # type: ignore[import-not-found]
from mlserver.logging import configure_logger  # type: ignore[import-not-found]
from mlserver.utils import install_uvloop_event_loop  # type: ignore[import-not-found]

KEEP_ALIVE_SECONDS = 3900


async def serve(folder: str) -> None:
    settings, models = await load_settings(folder)
    settings._custom_rest_server_settings = {"timeout_keep_alive": KEEP_ALIVE_SECONDS}
    await MLServer(settings).start(models)


if __name__ == "__main__":
    configure_logger()
    install_uvloop_event_loop()
    asyncio.run(serve(sys.argv[1]))
