"""Where images come from: public registries if an engine and a registry answer, else packages composed here."""

from __future__ import annotations

import os
import shutil
from functools import cache as once

from hack.cluster.commands import BootstrapError, succeeds
from hack.cluster.progress import say

PUBLIC = "public"
PACKAGES = "packages"
_PROBE_IMAGE = "hello-world"
_PROBE_TIMEOUT = 20.0


def overridden() -> bool:
    """Tell whether the user has fixed the source of images."""
    return bool(os.environ.get("OPS_COMMANDER_IMAGES"))


@once
def detect() -> str:
    """Tell the source of images; OPS_COMMANDER_IMAGES overrides what looking finds."""
    wanted = os.environ.get("OPS_COMMANDER_IMAGES", "")
    if wanted:
        if wanted not in (PUBLIC, PACKAGES):
            raise BootstrapError(f"OPS_COMMANDER_IMAGES is {wanted!r}: must be {PUBLIC} or {PACKAGES}")
        return wanted
    if not shutil.which("docker") or not succeeds(["docker", "info"], timeout=_PROBE_TIMEOUT):
        say("no container engine answers: composing images from packages")
        return PACKAGES
    if not succeeds(["docker", "pull", "--quiet", _PROBE_IMAGE], timeout=_PROBE_TIMEOUT):
        say("no image registry answers: composing images from packages")
        return PACKAGES
    return PUBLIC
