"""A real etcd and kube-apiserver for tests: free loopback ports, a temporary folder, nothing left behind."""

from __future__ import annotations

import ctypes
import os
import secrets
import signal
import socket
import ssl
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import yaml
from kubernetes.aio import client

_START_SECONDS = 60.0
_STOP_SECONDS = 15.0
_PR_SET_PDEATHSIG = 1

USERS = {
    "admin": ("system:masters",),
    "operator": (),
    "editor": (),
    "viewer": (),
    "nobody": (),
}
"""Users with a token, and their groups. All but admin may do nothing until a test binds a role to them."""


class ControlPlaneError(RuntimeError):
    """A part of the control plane is absent, did not start or ended early."""


def cache() -> Path:
    """Where `make binaries` puts what the tests run."""
    root = os.environ.get("OPS_COMMANDER_CACHE")
    return Path(root) if root else Path.home() / ".cache" / "ops-commander"


def cached(*parts: str) -> Path:
    """A file of the cache; an error that says how to get it where it is absent."""
    path = cache().joinpath(*parts)
    if not path.exists():
        raise ControlPlaneError(f"{path} is not there: run `make binaries` (OPS_COMMANDER_CACHE moves the cache)")
    return path


@dataclass(frozen=True, slots=True)
class ApiServer:
    """A running API server and how to reach it."""

    url: str
    ca: Path
    tokens: dict[str, str]
    folder: Path
    keys: Path = field(repr=False)

    @property
    def admin_token(self) -> str:
        return self.tokens["admin"]

    @property
    def kubeconfig(self) -> Path:
        """The admin's kubeconfig."""
        return self.kubeconfig_of("admin")

    def kubeconfig_of(self, user: str) -> Path:
        path = self.folder / f"{user}.kubeconfig"
        if not path.exists():
            path.write_text(self._kubeconfig(user), encoding="utf-8")
        return path

    def kubectl(
        self, *arguments: str, user: str = "admin", stdin: str | None = None, check: bool = True
    ) -> subprocess.CompletedProcess[str]:
        """Run kubectl as a user; with `check`, an error carries what kubectl said."""
        # A discovery cache of its own: the one in the home folder outlives the server and its CRDs.
        command = [
            str(cached("bin", "kubectl")),
            f"--kubeconfig={self.kubeconfig_of(user)}",
            f"--cache-dir={self.folder / 'kubectl'}",
        ]
        done = subprocess.run([*command, *arguments], input=stdin, capture_output=True, text=True, timeout=60)
        if check and done.returncode:
            raise AssertionError(f"kubectl {' '.join(arguments)} → {done.returncode}\n{done.stdout}{done.stderr}")
        return done

    def log_tails(self, lines: int = 20) -> dict[str, str]:
        return {path.name: tail(path, lines) for path in sorted(self.folder.glob("*.log"))}

    def _kubeconfig(self, user: str) -> str:
        document = {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "test",
            "clusters": [{"name": "test", "cluster": {"server": self.url, "certificate-authority": str(self.ca)}}],
            "users": [{"name": user, "user": {"token": self.tokens[user]}}],
            "contexts": [{"name": "test", "context": {"cluster": "test", "user": user}}],
        }
        return yaml.safe_dump(document)


def client_for(server: ApiServer, user: str) -> client.ApiClient:
    """A client of one of `controlplane.USERS`; use it in `async with`."""
    configuration = client.Configuration()
    configuration.host = server.url
    configuration.ssl_ca_cert = str(server.ca)
    configuration.api_key = {"BearerToken": f"Bearer {server.tokens[user]}"}
    return client.ApiClient(configuration)


@contextmanager
def running(folder: Path) -> Iterator[ApiServer]:
    """An API server over an etcd of its own, until the block ends."""
    etcd, apiserver = cached("bin", "etcd"), cached("bin", "kube-apiserver")
    client_port, peer_port, secure_port = free_ports(3)
    keys = folder / "keys"
    keys.mkdir()
    _make_keys(keys)
    tokens = {user: secrets.token_hex(16) for user in USERS}
    (keys / "tokens.csv").write_text(_token_file(tokens), encoding="utf-8")
    server = ApiServer(
        url=f"https://127.0.0.1:{secure_port}", ca=keys / "tls.crt", tokens=tokens, folder=folder, keys=keys
    )
    with ExitStack() as stack:
        etcd_url = f"http://127.0.0.1:{client_port}"
        stack.enter_context(process("etcd", _etcd(etcd, folder, etcd_url, peer_port), folder))
        wait_until("etcd is healthy", lambda: _answers(f"{etcd_url}/health"), folder)
        command = _kube_apiserver(apiserver, folder, keys, etcd_url, secure_port)
        stack.enter_context(process("kube-apiserver", command, folder))
        wait_until("kube-apiserver is ready", lambda: _answers(f"{server.url}/readyz", server), folder)
        yield server


@contextmanager
def controller_manager(server: ApiServer) -> Iterator[None]:
    """kube-controller-manager: garbage collection, namespaces, ReplicaSets and EndpointSlices move."""
    (port,) = free_ports(1)
    config = server.kubeconfig
    command = [
        str(cached("bin", "kube-controller-manager")),
        f"--kubeconfig={config}",
        f"--authentication-kubeconfig={config}",
        f"--authorization-kubeconfig={config}",
        "--bind-address=127.0.0.1",
        f"--secure-port={port}",
        f"--cert-dir={server.keys}",
        f"--root-ca-file={server.ca}",
        f"--service-account-private-key-file={server.keys / 'sa.key'}",
        "--leader-elect=false",
        "--authorization-always-allow-paths=/healthz",
    ]
    with process("kube-controller-manager", command, server.folder):
        url = f"https://127.0.0.1:{port}/healthz"
        wait_until("kube-controller-manager is healthy", lambda: _answers(url, verify=False), server.folder)
        yield


@contextmanager
def process(name: str, command: Sequence[str], folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A child that logs to `folder` and ends with the block, or with the tests however they end."""
    with (folder / f"{name}.log").open("wb") as log:
        # A session of its own: Ctrl-C is for pytest, which then stops the parts in their order.
        child = subprocess.Popen(
            command,
            stdout=log,
            stderr=log,
            stdin=subprocess.DEVNULL,
            start_new_session=True,
            preexec_fn=_die_with_us(),  # noqa: PLW1509 - one system call, resolved before the fork: takes no lock
        )
    try:
        _CHILDREN[name, folder] = child
        yield child
    finally:
        _CHILDREN.pop((name, folder), None)
        child.terminate()
        try:
            child.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()


_CHILDREN: dict[tuple[str, Path], subprocess.Popen[bytes]] = {}


def _die_with_us() -> Callable[[], None] | None:
    """On Linux the kernel ends the child when pytest is killed without a chance to clean up."""
    if sys.platform != "linux":
        return None
    prctl = ctypes.CDLL(None).prctl
    return lambda: prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


def wait_until(what: str, holds: Callable[[], bool], folder: Path) -> None:
    """Poll until it holds. Raises with the ends of the logs when time is up or a child has ended."""
    deadline = time.monotonic() + _START_SECONDS
    while not holds():
        ended = [name for (name, where), child in _CHILDREN.items() if where == folder and child.poll() is not None]
        if ended or time.monotonic() > deadline:
            why = f"{', '.join(ended)} ended" if ended else f"not so after {_START_SECONDS:.0f} s"
            logs = "\n".join(f"--- {path.name}\n{tail(path, 20)}" for path in sorted(folder.glob("*.log")))
            raise ControlPlaneError(f"waited until {what}: {why}\n{logs}")
        time.sleep(0.05)


def tail(path: Path, lines: int) -> str:
    return "\n".join(path.read_text(errors="replace").splitlines()[-lines:])


def free_ports(count: int) -> list[int]:
    """Different ports that nobody listened on a moment ago."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(closing(socket.socket())) for _ in range(count)]
        for sock in sockets:
            sock.bind(("127.0.0.1", 0))
        return [sock.getsockname()[1] for sock in sockets]


def _etcd(binary: Path, folder: Path, url: str, peer_port: int) -> list[str]:
    peer = f"http://127.0.0.1:{peer_port}"
    return [
        str(binary),
        f"--data-dir={folder / 'etcd'}",
        f"--listen-client-urls={url}",
        f"--advertise-client-urls={url}",
        f"--listen-peer-urls={peer}",
        f"--initial-advertise-peer-urls={peer}",
        f"--initial-cluster=default={peer}",
        "--unsafe-no-fsync",
        "--log-level=warn",
    ]


def _kube_apiserver(binary: Path, folder: Path, keys: Path, etcd_url: str, port: int) -> list[str]:
    return [
        str(binary),
        f"--etcd-servers={etcd_url}",
        "--bind-address=127.0.0.1",
        "--advertise-address=127.0.0.1",
        f"--secure-port={port}",
        f"--cert-dir={folder}",
        f"--tls-cert-file={keys / 'tls.crt'}",
        f"--tls-private-key-file={keys / 'tls.key'}",
        f"--token-auth-file={keys / 'tokens.csv'}",
        "--authorization-mode=RBAC",
        "--endpoint-reconciler-type=none",
        "--service-cluster-ip-range=10.0.0.0/24",
        "--service-account-issuer=https://kubernetes.default.svc",
        f"--service-account-key-file={keys / 'sa.key'}",
        f"--service-account-signing-key-file={keys / 'sa.key'}",
        # Pods of tests name no service account, and without a controller manager none would exist.
        "--disable-admission-plugins=ServiceAccount",
        "--allow-privileged=true",
        "--profiling=false",
    ]


def _make_keys(folder: Path) -> None:
    """A self-signed certificate, which is its own CA, and the key that signs service-account tokens."""
    _openssl("genrsa", "-out", str(folder / "sa.key"), "2048")
    _openssl(
        *("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=ops-commander-test"),
        *("-addext", "subjectAltName=IP:127.0.0.1,DNS:localhost"),
        *("-keyout", str(folder / "tls.key"), "-out", str(folder / "tls.crt")),
    )


def _openssl(*arguments: str) -> None:
    try:
        done = subprocess.run(["openssl", *arguments], capture_output=True, text=True)
    except FileNotFoundError as error:
        raise ControlPlaneError("openssl is not on the PATH: the tests make keys with it") from error
    if done.returncode:
        raise ControlPlaneError(f"openssl {arguments[0]} failed:\n{done.stderr}")


def _token_file(tokens: dict[str, str]) -> str:
    rows = (f'{token},{user},{user},"{",".join(USERS[user])}"\n' for user, token in tokens.items())
    return "".join(rows)


def _answers(url: str, server: ApiServer | None = None, *, verify: bool = True) -> bool:
    request = urllib.request.Request(url)
    context = None
    if server:
        request.add_header("Authorization", f"Bearer {server.admin_token}")
        context = ssl.create_default_context(cafile=str(server.ca))
    elif not verify:
        context = ssl._create_unverified_context()  # its own certificate is made at start, in memory
    try:
        with urllib.request.urlopen(request, timeout=2, context=context) as response:
            return bool(response.status == 200)
    except (urllib.error.URLError, OSError):
        return False
