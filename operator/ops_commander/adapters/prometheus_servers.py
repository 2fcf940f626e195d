"""Which Prometheus server answers for a namespace: one by its URL, or several by a file."""

from __future__ import annotations

import logging
import re
import warnings
from collections.abc import Iterable
from datetime import timedelta
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlsplit

import yaml
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator
from pydantic.alias_generators import to_camel
from urllib3.exceptions import InsecureRequestWarning

from ops_commander.adapters.prometheus import Access, Prometheus
from ops_commander.adapters.prometheus_http import Basic, BearerToken
from ops_commander.api.fields import parse_duration
from ops_commander.core.promql import PodLabels

log = logging.getLogger(__name__)


class ServersProblem(Exception):
    """The servers cannot be used as they are configured; the text names the file, the field and what was expected."""


class PrometheusServers:
    """All servers. The operator's owner decides which one serves a namespace; rollouts and policies cannot choose."""

    def __init__(self, servers: Iterable[tuple[Access, tuple[str, ...]]]) -> None:
        self._servers = [(Prometheus(access), globs) for access, globs in servers]

    @classmethod
    def of_url(cls, url: str, *, timeout: timedelta, scrape_interval: timedelta) -> PrometheusServers:
        """One server for all namespaces. Raises ServersProblem."""
        try:
            _url(url)
        except ValueError as error:
            raise ServersProblem(f"--prometheus-url: {error}") from None
        return cls([(Access(url, timeout=timeout, lookback=lookback_of(scrape_interval)), ("*",))])

    @classmethod
    def of_file(cls, path: str | Path, *, timeout: timedelta) -> PrometheusServers:
        """The servers of a YAML file; `timeout` is for those that name none. Raises ServersProblem."""
        return cls((server.access(timeout), tuple(server.namespaces)) for server in _read(Path(path)).servers)

    @property
    def all(self) -> tuple[Prometheus, ...]:
        return tuple(server for server, _ in self._servers)

    def server_for(self, namespace: str) -> Prometheus | None:
        """The first server in the file that serves the namespace."""
        for server, globs in self._servers:
            if any(fnmatchcase(namespace, glob) for glob in globs):
                return server
        return None

    def named(self, name: str) -> Prometheus:
        """The server of that name; names are those of `server_for`."""
        return next(server for server in self.all if server.name == name)

    def close(self) -> None:
        for server in self.all:
            server.close()


def lookback_of(scrape_interval: timedelta) -> timedelta:
    """One scrape may fail before a series is absent."""
    return 2 * scrape_interval + timedelta(seconds=1)


def _url(text: str) -> str:
    if "@" in text:
        raise ValueError("the URL holds credentials: expected them in files, named by auth")
    parts = urlsplit(text)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.port == 0 or parts.query or parts.fragment:
        raise ValueError(f"{text!r}: expected http:// or https://, a host and perhaps a path")
    return text


def _duration(value: Any) -> timedelta:
    length = parse_duration(str(value))
    if not length:
        raise ValueError(f"{value!r}: expected more than 0")
    return length


def _parameter(value: Any) -> Any:
    """YAML takes `true` and `1` for what is a text in a URL."""
    return str(value).lower() if isinstance(value, bool | int) else value


def _absolute(value: Path) -> Path:
    if not value.is_absolute():
        raise ValueError(f"{str(value)!r}: expected an absolute path")
    return value


Duration = Annotated[timedelta, BeforeValidator(_duration)]
File = Annotated[Path, AfterValidator(_absolute)]
Label = Annotated[str, Field(pattern="^[A-Za-z_][A-Za-z0-9_]*$")]
Glob = Annotated[str, Field(pattern=r"^[-a-z0-9*?\[\]!]{1,63}$")]


class _Part(BaseModel):
    model_config = ConfigDict(alias_generator=to_camel, extra="forbid", frozen=True, hide_input_in_errors=True)


class Labels(_Part):
    namespace: Label = "namespace"
    pod: Label = "pod"


class BasicAuth(_Part):
    username: str = Field(min_length=1)
    password_file: File


class Auth(_Part):
    bearer_token_file: File | None = None
    basic: BasicAuth | None = None

    @model_validator(mode="after")
    def _exactly_one(self) -> Auth:
        if (self.bearer_token_file is None) == (self.basic is None):
            raise ValueError("expected exactly one of bearerTokenFile and basic")
        return self

    def credentials(self) -> BearerToken | Basic | None:
        if self.basic is not None:
            return Basic(self.basic.username, self.basic.password_file)
        return None if self.bearer_token_file is None else BearerToken(self.bearer_token_file)


class Tls(_Part):
    ca_file: File | None = None
    cert_file: File | None = None
    key_file: File | None = None
    insecure_skip_verify: bool = False

    @model_validator(mode="after")
    def _belong_together(self) -> Tls:
        if (self.cert_file is None) != (self.key_file is None):
            raise ValueError("expected certFile and keyFile together")
        if self.insecure_skip_verify and self.ca_file is not None:
            raise ValueError("expected caFile or insecureSkipVerify, not both")
        return self

    @property
    def verify(self) -> bool | str:
        return str(self.ca_file) if self.ca_file is not None else not self.insecure_skip_verify

    @property
    def certificate(self) -> tuple[str, str] | None:
        return None if self.cert_file is None else (str(self.cert_file), str(self.key_file))


_RESERVED_HEADERS = {"authorization", "host", "content-type", "content-length", "transfer-encoding", "cookie"}
_RESERVED_PARAMETERS = {"query", "time", "start", "end", "step", "timeout", "limit", "lookback_delta"}
_TOKEN = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")


def _headers(value: dict[str, str]) -> dict[str, str]:
    for name, text in value.items():
        if name.lower() in _RESERVED_HEADERS:
            raise ValueError(f"{name} cannot be set: expected other headers; credentials belong into auth")
        if not _TOKEN.fullmatch(name) or not text.isprintable() or not text.isascii() or text != text.strip():
            raise ValueError(f"{name!r}: expected the name and one line of ASCII")
    return value


def _parameters(value: dict[str, str]) -> dict[str, str]:
    taken = sorted(_RESERVED_PARAMETERS & value.keys())
    if taken:
        raise ValueError(
            f"{', '.join(taken)} cannot be set: expected parameters that the operator does not send itself"
        )
    return value


class Server(_Part):
    name: str = Field(pattern="^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$")
    url: Annotated[str, AfterValidator(_url)]
    namespaces: list[Glob] = Field(default=["*"], min_length=1)
    scrape_interval: Duration = timedelta(seconds=15)
    timeout: Duration | None = None
    labels: Labels = Labels()
    auth: Auth | None = None
    headers: Annotated[dict[str, str], AfterValidator(_headers)] = {}
    parameters: Annotated[dict[str, Annotated[str, BeforeValidator(_parameter)]], AfterValidator(_parameters)] = {}
    tls: Tls = Tls()

    def access(self, timeout: timedelta) -> Access:
        if self.tls.insecure_skip_verify:
            log.warning("the certificate of Prometheus server %s is not verified", self.name)
            warnings.filterwarnings("ignore", category=InsecureRequestWarning)
        return Access(
            self.url,
            timeout=self.timeout or timeout,
            lookback=lookback_of(self.scrape_interval),
            name=self.name,
            labels=PodLabels(self.labels.namespace, self.labels.pod),
            auth=self.auth.credentials() if self.auth is not None else None,
            headers=self.headers,
            parameters=self.parameters,
            verify=self.tls.verify,
            certificate=self.tls.certificate,
        )


class Servers(_Part):
    servers: list[Server] = Field(min_length=1)

    @model_validator(mode="after")
    def _names_differ(self) -> Servers:
        names = [server.name for server in self.servers]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"{', '.join(twice)} stands there twice: expected a name of its own for each server")
        return self


def _read(path: Path) -> Servers:
    try:
        document = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ServersProblem(f"{path} cannot be read: {error.strerror}") from None
    except (yaml.YAMLError, UnicodeError) as error:
        mark = getattr(error, "problem_mark", None)
        where = f" at line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        raise ServersProblem(f"{path} is not YAML{where}: expected `servers:` and a list") from None
    if not isinstance(document, dict):
        raise ServersProblem(f"{path}: expected `servers:` and a list")
    try:
        return Servers.model_validate(document)
    except ValidationError as error:
        raise ServersProblem("; ".join(f"{path}: {_told(each)}" for each in error.errors())) from None


_SAID = {"missing": "expected a value", "extra_forbidden": "expected no such field"}


def _told(error: Any) -> str:
    """Field, value and what was expected. Values of headers and parameters stay out: they may be secret."""
    places = [str(place) for place in error["loc"]]
    field = ".".join(places) or "servers"
    said = _SAID.get(error["type"]) or error["msg"].removeprefix("Value error, ")
    plain = isinstance(error["input"], str | int | float) and not {"headers", "parameters", "auth", "url"} & {*places}
    if plain and error["type"] not in ("value_error", *_SAID):
        return f"{field} is {error['input']!r}: {said}"
    return f"{field}: {said}"
