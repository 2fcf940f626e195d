"""What a package is to a model, and so how much a change of it weighs."""

from __future__ import annotations

import re
from collections.abc import Iterable
from enum import StrEnum
from typing import Final

from ops_commander.integration.dependencies.model import Lock, Package


class Role(StrEnum):
    """Why a package counts in full; other packages have none of these."""

    INTERPRETER = "interpreter"
    FRAMEWORK = "framework"
    NUMERICS = "numerics"
    SERIALIZER = "serializer"
    TOKENIZER = "tokenizer"
    CUDA = "cuda"
    OTHER = "other"


PICKLE_FRAMEWORKS: Final = frozenset(
    [
        "torch",
        "tensorflow",
        "tensorflow-cpu",
        "tensorflow-gpu",
        "jax",
        "jaxlib",
        "onnxruntime",
        "onnxruntime-gpu",
        "scikit-learn",
    ]
)
"""Frameworks whose pickles are not promised to load in another minor version."""
TOKENIZERS: Final = frozenset(["transformers", "tokenizers", "sentencepiece", "tiktoken"])
_FRAMEWORKS: Final = PICKLE_FRAMEWORKS | frozenset(
    [
        "torchvision",
        "torchaudio",
        "keras",
        "flax",
        "onnx",
        "xgboost",
        "lightgbm",
        "catboost",
        "mxnet",
        "paddlepaddle",
        "paddlepaddle-gpu",
        "vllm",
        "sentence-transformers",
        "diffusers",
        "peft",
        "accelerate",
    ]
)
_NUMERICS: Final = frozenset(["numpy", "scipy", "pandas", "polars", "numba", "ml-dtypes", "cupy"])
_SERIALIZERS: Final = frozenset(
    [
        "cloudpickle",
        "dill",
        "joblib",
        "pickle5",
        "skops",
        "protobuf",
        "msgpack",
        "msgpack-numpy",
        "safetensors",
        "h5py",
        "flatbuffers",
        "pyarrow",
    ]
)
_CUDA_NAME: Final = re.compile(
    r"nvidia-.+|cupy-.+|tensorrt(-.+)?|jax-cuda.+|cuda-.+|cudatoolkit|cudnn|nccl|pytorch-cuda|triton|libcu.+|rocm-.+"
)
_SUFFIX: Final = re.compile(r".*[-_](?:cu|cuda)(\d{2})(?:[-_].*)?")
"""`nvidia-cublas-cu12`, `tensorrt-cu12-libs`, `jax-cuda12-plugin`."""
_CUPY: Final = re.compile(r"cupy-cuda(\d{2})\w*")
_LOCAL: Final = re.compile(r"cu(?:da)?(\d{2})")
"""`cu121`, `cu12`, `cuda12.cudnn89`, `pt24cu124`."""
_ROCM: Final = re.compile(r"rocm(\d+).*")
_BUILD: Final = re.compile(r".*cuda_?(\d{2})[._]?\d*.*")
"""Of conda: `py3.11_cuda12.1_cudnn8.9.2_0`, `cuda118py311h…`."""
_VERSIONED: Final = frozenset(
    [
        "nvidia-cuda-runtime",
        "nvidia-cuda-nvrtc",
        "nvidia-cuda-cupti",
        "cuda-toolkit",
        "cudatoolkit",
        "cuda-version",
        "cuda-runtime",
        "cuda-cudart",
        "pytorch-cuda",
    ]
)
"""Packages whose own version is that of CUDA."""
CPU: Final = "cpu"


def role_of(name: str) -> Role:
    """By its normalised name."""
    if name == "python":
        return Role.INTERPRETER
    if name in TOKENIZERS:
        return Role.TOKENIZER
    if name in _FRAMEWORKS:
        return Role.FRAMEWORK
    if _CUDA_NAME.fullmatch(name):
        return Role.CUDA
    if name in _NUMERICS:
        return Role.NUMERICS
    return Role.SERIALIZER if name in _SERIALIZERS else Role.OTHER


def cuda_family(package: Package) -> str:
    """`cu12`, `rocm6`, `cpu`, or nothing where the package does not say."""
    if found := _CUPY.fullmatch(package.name) or _SUFFIX.fullmatch(package.name):
        return f"cu{found[1]}"
    if package.name in _VERSIONED and package.parsed is not None:
        return f"cu{package.parsed.major}"
    return _family_of_tag(package.local) or _family_of_build(package.build)


def _family_of_tag(local: str) -> str:
    if found := _LOCAL.search(local):
        return f"cu{found[1]}"
    if found := _ROCM.fullmatch(local):
        return f"rocm{found[1]}"
    return CPU if local == CPU else ""


def _family_of_build(build: str) -> str:
    if found := _BUILD.fullmatch(build):
        return f"cu{found[1]}"
    return CPU if build.startswith(CPU) or "_cpu" in build else ""


def cuda_families(lock: Lock) -> dict[str, list[Package]]:
    """The packages that speak for each family."""
    found: dict[str, list[Package]] = {}
    for package in lock.packages.values():
        if family := cuda_family(package):
            found.setdefault(family, []).append(package)
    return found


def runs_on_accelerators(packages: Iterable[str]) -> bool:
    """Whether there is a framework whose builds differ by accelerator."""
    return not PICKLE_FRAMEWORKS.isdisjoint(packages)
