"""Shadow comparison: what stable and candidate answer to the same requests, and what counts as a difference."""

from __future__ import annotations

from datetime import timedelta
from enum import StrEnum
from typing import Annotated

from pydantic import Field, WithJsonSchema

from ops_commander.api.cel import rule, rules
from ops_commander.api.fields import PositiveDuration, Resource

PATH_PATTERN = r"^(/([^/~]|~[01])*)+$"
_CPU = r"^([1-9][0-9]{0,2}([.][0-9]{1,3})?|0[.][0-9]{1,3}|[1-9][0-9]{0,5}m)$"
_MEMORY = r"^[1-9][0-9]{0,11}(Ki|Mi|Gi|k|M|G)?$"

Path = Annotated[str, Field(min_length=1, max_length=256, pattern=PATH_PATTERN)]
"""A JSON pointer in which * stands for one step and ** for any number: /predictions/*/score, /**/timestamp."""
Paths = Annotated[list[Path], Field(max_length=64)]
Cpu = Annotated[str, Field(max_length=10, pattern=_CPU)]
Memory = Annotated[str, Field(max_length=16, pattern=_MEMORY)]
Finite = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class Method(StrEnum):
    GET = "GET"
    POST = "POST"


class Payloads(StrEnum):
    """What evidence keeps of requests and answers."""

    REDACTED = "Redacted"
    HASHED = "Hashed"
    FULL = "Full"


class Tolerance(Resource):
    """Numbers a of the candidate and b of stable are the same if |a - b| ≤ absolute + relative·|b|."""

    absolute: Finite = 1e-6
    """In the unit of the number."""
    relative: Finite = 1e-3
    """Share of stable's number."""


_A_METHOD_ONCE = rule(
    "self.all(method, self.exists_one(other, other == method))", "methods are named once each, but are %s", "self"
)

_METHODS = {
    "type": "array",
    "minItems": 1,
    "maxItems": 2,
    "items": {"type": "string", "enum": [method.value for method in Method]},
    **rules(_A_METHOD_ONCE),
}


class Comparison(Resource):
    """A sample of the live requests is asked again of stable and candidate, and their answers are compared."""

    sample: Annotated[int, Field(ge=1, le=100)] = 10
    """Percentage of the live requests that is compared. Each is asked of stable once more."""
    tolerance: Tolerance = Tolerance()
    """How far numbers may differ. Ten times as far is a deviation of 1."""
    ignore: Paths = []
    """Nothing at or below these is looked at, such as /id, /created and /**/timestamp."""
    unordered: Paths = []
    """Arrays whose order is of no meaning."""
    labels: Paths = []
    """Values that are classes: a different one is a deviation of 1. Other texts are compared by similarity."""
    methods: Annotated[list[Method], Field(min_length=1, max_length=2), WithJsonSchema(_METHODS)] = [
        Method.GET,
        Method.POST,
    ]
    """Methods of the requests that are compared. Only of such as change nothing: stable gets them twice."""
    concurrency: Annotated[int, Field(ge=1, le=64)] = 8
    """Pairs that are asked at the same time."""
    queue: Annotated[int, Field(ge=1, le=1024)] = 64
    """Requests that wait; more are dropped."""
    timeout: PositiveDuration = timedelta(seconds=5)
    """Deadline of one answer."""
    payloads: Payloads = Payloads.REDACTED
    """What evidence keeps of values: their type and size, a keyed hash, or the values themselves."""
    worst: Annotated[int, Field(ge=0, le=100)] = 20
    """Pairs that are kept as evidence: those that differ most."""
    cpu: Cpu = "1"
    """CPU limit of the comparer, as a Kubernetes quantity."""
    memory: Memory = "512Mi"
    """Memory limit of the comparer, as a Kubernetes quantity."""
