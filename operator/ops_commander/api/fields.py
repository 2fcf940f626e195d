"""Field types shared by the resources, each with its validation for Python and for the CRD."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, PlainSerializer, WithJsonSchema
from pydantic.alias_generators import to_camel

_DURATION = re.compile(r"(?:\d+(?:\.\d+)?(?:ms|s|m|h))+")
_PART = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h)")
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}


class Resource(BaseModel):
    """Base of every API object: camelCase on the wire, immutable, unknown fields kept out."""

    model_config = ConfigDict(
        alias_generator=to_camel,
        populate_by_name=True,
        frozen=True,
        extra="ignore",
        use_attribute_docstrings=True,
    )


def parse_duration(text: str) -> timedelta:
    """`1h30m`, `45s`, `250ms` as a timedelta. Raises ValueError naming what was expected."""
    if not _DURATION.fullmatch(text):
        raise ValueError(f"{text!r} is not a duration: expected a form such as 30s, 10m or 1h30m")
    return timedelta(seconds=sum(float(number) * _SECONDS[unit] for number, unit in _PART.findall(text)))


def format_duration(value: timedelta) -> str:
    """The shortest Go-style form of a duration that is not negative, to the millisecond."""
    millis = round(value.total_seconds() * 1000)
    if millis == 0:
        return "0s"
    hours, millis = divmod(millis, 3_600_000)
    minutes, millis = divmod(millis, 60_000)
    seconds, millis = divmod(millis, 1000)
    parts = ((hours, "h"), (minutes, "m"), (seconds, "s"), (millis, "ms"))
    return "".join(f"{number}{unit}" for number, unit in parts if number)


def _to_duration(value: Any) -> Any:
    return parse_duration(value) if isinstance(value, str) else value


_DURATION_SCHEMA = {
    "type": "string",
    "maxLength": 32,
    "x-kubernetes-validations": [
        {
            "rule": r"self.matches('^([0-9]+([.][0-9]+)?(ms|s|m|h))+$')",
            "messageExpression": (
                "'\"' + self + '\" is not a duration: expected 0 or more, in a form such as 30s, 10m or 1h30m'"
            ),
        }
    ],
}

Duration = Annotated[
    timedelta,
    BeforeValidator(_to_duration),
    PlainSerializer(format_duration, return_type=str),
    WithJsonSchema(_DURATION_SCHEMA),
]


def parse_time(text: str) -> datetime:
    """An RFC 3339 time with zone."""
    return datetime.fromisoformat(text)


def format_time(value: datetime) -> str:
    """RFC 3339 in UTC with milliseconds, so that reverts can be timed from status alone."""
    return value.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


Time = Annotated[
    datetime,
    BeforeValidator(lambda value: parse_time(value) if isinstance(value, str) else value),
    PlainSerializer(format_time, return_type=str),
    WithJsonSchema({"type": "string", "format": "date-time"}),
]


def _not_empty(query: str) -> str:
    if not query.strip():
        raise ValueError("a query may not be empty")
    return query


Query = Annotated[
    str,
    AfterValidator(_not_empty),
    WithJsonSchema({"type": "string", "minLength": 1, "maxLength": 4096}),
]
"""PromQL. `$window` is replaced by the objective's window. Must yield labels `namespace` and `pod`."""
