"""What servers expose, as recorded in tests/data/expositions; and what other versions of them would."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from ops_commander.api.presets import PRESETS, Latency, MeanScore, Share, Throughput

FOLDER = Path(__file__).parent / "data" / "expositions"
INFINITE = "+Inf"

Labels = Mapping[str, str]


def recorded(name: str) -> str:
    return (FOLDER / f"{name}.prom").read_text(encoding="utf-8")


def _with_old_names_too(name: str, old: str, new: str) -> str:
    """Both names at once, as in the version that renames."""
    text = recorded(name)
    return text + "".join(
        line.replace(new, old, 1) + "\n" for line in text.splitlines() if line.startswith((f"{new}{{", f"{new}_"))
    )


_VLLM = ("vllm:time_per_output_token_seconds", "vllm:inter_token_latency_seconds")
_RAY = ("ray_serve_num_http_requests", "ray_serve_num_http_requests_total")


def expositions() -> dict[str, str]:
    """By name: the server's, and for versions that differ a part after a dot."""
    found = {path.stem.replace("-code", ".code"): recorded(path.stem) for path in sorted(FOLDER.glob("*.prom"))}
    return {
        **found,
        "http.status_code": recorded("http-code").replace('code="', 'status_code="'),
        "vllm.old": recorded("vllm").replace(_VLLM[1], _VLLM[0]),
        "vllm.both": _with_old_names_too("vllm", *_VLLM),
        "ray-serve.old": recorded("ray-serve").replace(_RAY[1], _RAY[0]),
        "ray-serve.both": _with_old_names_too("ray-serve", *_RAY),
    }


def server_of(name: str) -> str:
    return name.partition(".")[0]


def queries(preset: str) -> tuple[str, ...]:
    """Those of a preset; the one that counts requests last."""
    known = PRESETS[preset]
    match known:
        case Share():
            return known.bad, known.total
        case MeanScore():
            return known.sum, known.count
        case Latency():
            return (known.buckets,)
        case Throughput():
            return (known.requests,)
