"""Which server serves a namespace, and how a wrong file is told."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml

from ops_commander.adapters.prometheus_http import Access, Basic, BearerToken
from ops_commander.adapters.prometheus_servers import PrometheusServers, ServersProblem
from ops_commander.core.promql import PodLabels

TIMEOUT = timedelta(seconds=4)
FULL = """\
servers:
  - name: thanos
    url: https://thanos.monitoring.svc:9091/base
    namespaces: [team-*, search]
    scrapeInterval: 30s
    timeout: 2500ms
    labels: {namespace: kubernetes_namespace, pod: kubernetes_pod}
    auth: {bearerTokenFile: /var/run/secrets/token}
    headers: {X-Scope-OrgID: ml}
    parameters: {dedup: true, max_source_resolution: 0s, replica: 1}
    tls: {caFile: /ca.crt, certFile: /tls.crt, keyFile: /tls.key}
  - name: team-a
    url: http://prometheus:9090
    namespaces: [team-a]
  - name: rest
    url: http://prometheus:9090/
    auth: {basic: {username: me, passwordFile: /password}}
    tls: {insecureSkipVerify: true}
"""


@contextmanager
def servers_of(text: str, folder: Path) -> Iterator[PrometheusServers]:
    path = folder / "prometheus.yaml"
    path.write_text(text)
    with warnings.catch_warnings():
        servers = PrometheusServers.of_file(path, timeout=TIMEOUT)
        try:
            yield servers
        finally:
            servers.close()


def problem(text: str, folder: Path) -> str:
    with pytest.raises(ServersProblem) as error, servers_of(text, folder):
        pass
    return str(error.value).replace(f"{folder / 'prometheus.yaml'}", "file")


def one(**fields: Any) -> str:
    return yaml.safe_dump({"servers": [{"name": "a", "url": "http://a", **fields}]})


def access(servers: PrometheusServers, name: str) -> Access:
    (found,) = [server.access for server in servers.all if server.name == name]
    return found


def test_every_field_arrives(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with servers_of(FULL, tmp_path) as servers:
        assert [server.name for server in servers.all] == ["thanos", "team-a", "rest"]
        assert access(servers, "thanos") == Access(
            "https://thanos.monitoring.svc:9091/base",
            timeout=timedelta(seconds=2.5),
            lookback=timedelta(seconds=61),
            name="thanos",
            labels=PodLabels("kubernetes_namespace", "kubernetes_pod"),
            auth=BearerToken(Path("/var/run/secrets/token")),
            headers={"X-Scope-OrgID": "ml"},
            parameters={"dedup": "true", "max_source_resolution": "0s", "replica": "1"},
            verify="/ca.crt",
            certificate=("/tls.crt", "/tls.key"),
        )
        assert access(servers, "team-a") == Access(
            "http://prometheus:9090", timeout=TIMEOUT, lookback=timedelta(seconds=31), name="team-a"
        )
        rest = access(servers, "rest")
        assert (rest.auth, rest.verify) == (Basic("me", Path("/password")), False)
    assert caplog.messages == ["the certificate of Prometheus server rest is not verified"]


@pytest.mark.parametrize(
    ("namespace", "name"),
    [("team-a", "thanos"), ("team-", "thanos"), ("search", "thanos"), ("search2", "rest"), ("Team-a", "rest")],
)
def test_the_first_server_that_serves_a_namespace_answers_for_it(tmp_path: Path, namespace: str, name: str) -> None:
    with servers_of(FULL, tmp_path) as servers:
        found = servers.server_for(namespace)
        assert found is not None and found.name == name


def test_a_namespace_may_have_no_server(tmp_path: Path) -> None:
    with servers_of(one(namespaces=["team-?"]), tmp_path) as servers:
        assert servers.server_for("team-a") is servers.all[0] and servers.server_for("team-ab") is None


def test_one_url_serves_all_namespaces() -> None:
    servers = PrometheusServers.of_url("http://prometheus:9090", timeout=TIMEOUT, scrape_interval=timedelta(seconds=5))
    assert servers.server_for("anything") is servers.all[0]
    assert servers.all[0].access.lookback == timedelta(seconds=11)
    servers.close()


@pytest.mark.parametrize(
    "url", ["prometheus:9090", "http://", "https://a?b=c", "http://[", "ftp://a", "", "http://a:x"]
)
def test_a_wrong_url_is_told(url: str) -> None:
    with pytest.raises(ServersProblem, match=r"^--prometheus-url: "):
        PrometheusServers.of_url(url, timeout=TIMEOUT, scrape_interval=TIMEOUT)


@pytest.mark.parametrize("url", ["http://me:secret@a", "me:secret@a:9090", "http://secret@a"])
def test_credentials_in_a_url_are_refused_and_not_repeated(tmp_path: Path, url: str) -> None:
    with pytest.raises(ServersProblem) as error:
        PrometheusServers.of_url(url, timeout=TIMEOUT, scrape_interval=TIMEOUT)
    assert "the URL holds credentials: expected them in files, named by auth" in str(error.value)
    told = problem(one(url=url), tmp_path)
    assert told == "file: servers.0.url: the URL holds credentials: expected them in files, named by auth"


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"name": "A"}, "servers.0.name is 'A': "),
        ({"name": None}, "servers.0.name: "),
        ({"url": None}, "servers.0.url: "),
        ({"url": "a:9090"}, "servers.0.url: 'a:9090': expected http:// or https://, a host and perhaps a path"),
        ({"other": 1}, "servers.0.other: expected no such field"),
        ({"namespaces": []}, "servers.0.namespaces: "),
        ({"namespaces": ["A"]}, "servers.0.namespaces.0 is 'A': "),
        ({"scrapeInterval": 15}, "servers.0.scrapeInterval: '15' is not a duration: expected a form such as 30s"),
        ({"scrapeInterval": "0s"}, "servers.0.scrapeInterval: '0s': expected more than 0"),
        ({"timeout": "soon"}, "servers.0.timeout: 'soon' is not a duration"),
        ({"labels": {"pod": "a-b"}}, "servers.0.labels.pod is 'a-b': "),
        ({"auth": {}}, "servers.0.auth: expected exactly one of bearerTokenFile and basic"),
        ({"auth": {"bearerTokenFile": "rel"}}, "servers.0.auth.bearerTokenFile: 'rel': expected an absolute path"),
        ({"auth": {"basic": {"username": "a"}}}, "servers.0.auth.basic.passwordFile: expected a value"),
        ({"auth": {"bearerToken": "hidden"}}, "servers.0.auth.bearerToken: expected no such field"),
        ({"headers": {"authorization": "Bearer hidden"}}, "servers.0.headers: authorization cannot be set"),
        ({"headers": {"X-A": "hidden\nX-B: c"}}, "servers.0.headers: 'X-A': expected the name and one line of ASCII"),
        ({"headers": {"X A": "hidden"}}, "servers.0.headers: 'X A': expected the name"),
        ({"headers": {"X-A": ["hidden"]}}, "servers.0.headers.X-A: "),
        ({"parameters": {"query": "hidden"}}, "servers.0.parameters: query cannot be set"),
        ({"parameters": {"a": ["hidden"]}}, "servers.0.parameters.a: "),
        ({"tls": {"certFile": "/a"}}, "servers.0.tls: expected certFile and keyFile together"),
        ({"tls": {"caFile": "/a", "insecureSkipVerify": True}}, "servers.0.tls: expected caFile or insecureSkipVerify"),
        ({"tls": {"insecureSkipVerify": "maybe"}}, "servers.0.tls.insecureSkipVerify is 'maybe': "),
    ],
)
def test_a_wrong_field_is_named_with_what_was_expected(tmp_path: Path, fields: dict[str, Any], said: str) -> None:
    told = problem(one(**fields), tmp_path)
    assert told.startswith(f"file: {said}") and "hidden" not in told


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("servers: [", "file is not YAML at line 1, column 11: expected `servers:` and a list"),
        ("servers: !!python/object:os.system x", "file is not YAML at line 1, column 10"),
        ("", "file: expected `servers:` and a list"),
        ("[]", "file: expected `servers:` and a list"),
        ("{}", "file: servers: expected a value"),
        ("servers: []", "file: servers: List should have at least 1 item"),
        ("servers: [{name: a, url: 'http://a'}, {name: a, url: 'http://b'}]", "file: servers: a stands there twice"),
        ("servers: [{}, {}]", "file: servers.0.name: expected a value; file: servers.0.url: expected a value; file: "),
    ],
)
def test_a_wrong_file_is_told(tmp_path: Path, text: str, said: str) -> None:
    assert problem(text, tmp_path).startswith(said)


def test_a_file_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(ServersProblem, match=r"absent cannot be read: No such file"):
        PrometheusServers.of_file(tmp_path / "absent", timeout=TIMEOUT)
    with pytest.raises(ServersProblem, match="cannot be read: Is a directory"):
        PrometheusServers.of_file(tmp_path, timeout=TIMEOUT)
    (tmp_path / "binary").write_bytes(b"\xff\xfe")
    with pytest.raises(ServersProblem, match="binary is not YAML"):
        PrometheusServers.of_file(tmp_path / "binary", timeout=TIMEOUT)
