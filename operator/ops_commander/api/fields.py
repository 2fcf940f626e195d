"""Field types shared by the resources, each with its validation for Python and for the CRD."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Final

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, PlainSerializer, WithJsonSchema
from pydantic.alias_generators import to_camel

# So few digits that no sum of 32 characters overflows the API server's 64 bits of nanoseconds.
DURATION_PATTERN: Final = "^([0-9]{1,4}([.][0-9]{1,3})?h|[0-9]{1,7}([.][0-9]{1,3})?(m|s|ms))+$"
DURATION_FORM: Final = f"self.matches('{DURATION_PATTERN}')"
NOT_ZERO: Final = "> duration('0s')"
MAX_DURATION_LENGTH: Final = 32
MAX_DURATION: Final = timedelta(days=365)

_DURATION = re.compile(DURATION_PATTERN)
_PART = re.compile(r"([0-9.]+)(ms|s|m|h)")
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
    if len(text) > MAX_DURATION_LENGTH or not _DURATION.fullmatch(text):
        raise ValueError(f"{text!r} is not a duration: expected a form such as 30s, 10m or 1h30m")
    value = timedelta(seconds=sum(float(number) * _SECONDS[unit] for number, unit in _PART.findall(text)))
    if value > MAX_DURATION:
        raise ValueError(f"{text!r} is out of range: expected at most 8760h, which is a year")
    return value


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


def _positive(value: timedelta) -> timedelta:
    if value <= timedelta(0):
        raise ValueError("expected more than 0")
    return value


def are_durations(*expressions: str) -> str:
    """CEL: each is a duration. Guards `duration()`, whose own error would hide the better message."""
    return " && ".join(f"{expression}.matches('{DURATION_PATTERN}')" for expression in expressions)


def _duration_schema(*limits: tuple[str, str]) -> dict[str, Any]:
    """A duration within limits, each a CEL comparison and what was expected."""
    form = {
        "rule": DURATION_FORM,
        "messageExpression": (
            "'%s is not a duration: expected 0 or more, in a form such as 30s, 10m or 1h30m'.format([self])"
        ),
    }
    others = [
        {
            "rule": f"!{DURATION_FORM} || duration(self) {comparison}",
            "messageExpression": f"'%s is out of range: expected {expected}'.format([self])",
        }
        for comparison, expected in limits
    ]
    return {"type": "string", "maxLength": MAX_DURATION_LENGTH, "x-kubernetes-validations": [form, *others]}


_AT_MOST_A_YEAR = ("<= duration('8760h')", "at most 8760h, which is a year")
_MORE_THAN_NOTHING = (NOT_ZERO, "more than 0")

Duration = Annotated[
    timedelta,
    BeforeValidator(_to_duration),
    PlainSerializer(format_duration, return_type=str),
    WithJsonSchema(_duration_schema(_AT_MOST_A_YEAR)),
]

PositiveDuration = Annotated[
    timedelta,
    BeforeValidator(_to_duration),
    AfterValidator(_positive),
    PlainSerializer(format_duration, return_type=str),
    WithJsonSchema(_duration_schema(_AT_MOST_A_YEAR, _MORE_THAN_NOTHING)),
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


_NOT_RAW = r"(^|[^a-zA-Z0-9_:])(rate|irate|increase|delta|idelta|histogram_quantile)[ \t\r\n]*[(]"


def _counter(query: str) -> str:
    if not query.strip():
        raise ValueError("a query may not be empty")
    if found := re.search(_NOT_RAW, query):
        raise ValueError(f"counters are read as they stand: remove {found.group(2)}()")
    return query


Query = Annotated[
    str,
    AfterValidator(_counter),
    WithJsonSchema(
        {
            "type": "string",
            "maxLength": 4096,
            "x-kubernetes-validations": [
                {"rule": "self.trim() != ''", "message": "the query is empty: PromQL is expected"},
                {
                    "rule": f"!self.matches('{_NOT_RAW}')",
                    "message": "counters are read as they stand: remove rate(), increase() and the like",
                },
            ],
        }
    ),
]
"""PromQL of a cumulative counter: a selector, or sums of selectors that keep `namespace` and `pod`."""
