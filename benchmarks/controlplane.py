"""A control plane without machines: etcd, API server, controllers, scheduler, and kwok that plays the pods."""

from __future__ import annotations

import secrets
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import yaml

from hack.cluster import packages
from hack.cluster.workspace import REPOSITORY
from tests.integration import controlplane as parts
from tests.integration.controlplane import ApiServer, process, wait_until

KWOK = packages.GoProgram("kwok", "v0.8.0", "kwok", "sigs.k8s.io/kwok/cmd/kwok")
"""Not one of packages.GO_PROGRAMS: those go into the images of the kind cluster."""

OPERATORS = ("operator-a", "operator-b")
_CONTROLLERS = (
    "replicaset-controller",
    "endpointslice-controller",
    "garbage-collector-controller",
    "namespace-controller",
)
_ETCD_BYTES = 8 << 30
"""Each write of a status is a copy of it until the next compaction: the usual 2 GiB may not last for 5,000 rollouts."""
_FAST = ("--kube-api-qps=500", "--kube-api-burst=1000")
_STAGES = ("node/fast/node-initialize", "node/heartbeat/node-heartbeat", "pod/fast/pod-ready", "pod/fast/pod-delete")
_NODE = {
    "apiVersion": "v1",
    "kind": "Node",
    "metadata": {"name": "fake", "annotations": {"kwok.x-k8s.io/node": "fake"}, "labels": {"type": "kwok"}},
    "status": {what: {"cpu": "10000", "memory": "100Ti", "pods": "20000"} for what in ("capacity", "allocatable")},
}
_AUDIT = {
    "apiVersion": "audit.k8s.io/v1",
    "kind": "Policy",
    "omitStages": ["RequestReceived", "ResponseStarted"],
    "rules": [{"level": "Metadata", "users": list(OPERATORS)}, {"level": "None"}],
}


@dataclass(frozen=True, slots=True)
class ControlPlane:
    server: ApiServer
    audit_log: Path
    pids: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Programs:
    """Paths of what is started, built where they are not in the cache."""

    etcd: Path
    apiserver: Path
    controllers: Path
    scheduler: Path
    kwok: Path
    crds: tuple[Path, ...]
    stages: str


def programs() -> Programs:
    """Needs the network the first time: programs are compiled from Go modules."""
    packages.ensure_test_programs()
    kwok = KWOK.artifact().ensure(lambda partial: packages._build(KWOK, partial)) / "kwok"
    stages = packages.module_folder("kwok", "sigs.k8s.io/kwok") / "kustomize" / "stage"
    return Programs(
        etcd=packages.go_program("etcd"),
        apiserver=packages.go_program("kube-apiserver"),
        controllers=packages.go_program("kube-controller-manager"),
        scheduler=packages.go_program("kube-scheduler"),
        kwok=kwok,
        crds=(*sorted((REPOSITORY / "crds").glob("*.yaml")), packages.gateway_api_crds()),
        stages="---\n".join((stages / f"{name}.yaml").read_text() for name in _STAGES),
    )


@contextmanager
def running(folder: Path, found: Programs) -> Iterator[ControlPlane]:
    """All parts, with CRDs and a node that is Ready, until the block ends."""
    etcd_port, peer_port, api_port, controllers_port, scheduler_port, kwok_port = parts.free_ports(6)
    keys = folder / "keys"
    keys.mkdir()
    parts._make_keys(keys)
    tokens = {user: secrets.token_hex(16) for user in ("admin", *OPERATORS)}
    (keys / "tokens.csv").write_text(_token_file(tokens))
    audit_log = folder / "audit.jsonl"
    (folder / "audit.yaml").write_text(yaml.safe_dump(_AUDIT))
    (folder / "stages.yaml").write_text(found.stages)
    server = ApiServer(f"https://127.0.0.1:{api_port}", keys / "tls.crt", tokens, folder, keys)
    url = f"http://127.0.0.1:{etcd_port}"
    apiserver = [
        *parts._kube_apiserver(found.apiserver, folder, keys, url, api_port),
        "--service-cluster-ip-range=10.0.0.0/16",
        f"--audit-policy-file={folder / 'audit.yaml'}",
        f"--audit-log-path={audit_log}",
        "--audit-log-maxsize=100000",
    ]
    config = str(server.kubeconfig)
    controllers = [
        *(str(found.controllers), f"--kubeconfig={config}", "--leader-elect=false", *_FAST),
        *(f"--controllers={','.join(_CONTROLLERS)}", f"--secure-port={controllers_port}", f"--cert-dir={keys}"),
        *("--bind-address=127.0.0.1", f"--authentication-kubeconfig={config}", f"--authorization-kubeconfig={config}"),
        *("--concurrent-replicaset-syncs=20", "--concurrent-service-endpoint-syncs=20"),
    ]
    scheduler = [
        *(str(found.scheduler), f"--kubeconfig={config}", "--leader-elect=false", *_FAST),
        *("--bind-address=127.0.0.1", f"--secure-port={scheduler_port}", f"--cert-dir={keys}"),
        *(f"--authentication-kubeconfig={config}", f"--authorization-kubeconfig={config}"),
    ]
    kwok = [
        *(str(found.kwok), f"--kubeconfig={config}", "--manage-all-nodes=true", f"--config={folder / 'stages.yaml'}"),
        *(f"--server-address=127.0.0.1:{kwok_port}", "--cidr=10.128.0.1/9"),
    ]
    pids: dict[str, int] = {}
    with ExitStack() as stack:

        def start(name: str, command: list[str]) -> None:
            pids[name] = stack.enter_context(process(name, command, folder)).pid

        start("etcd", [*parts._etcd(found.etcd, folder, url, peer_port), f"--quota-backend-bytes={_ETCD_BYTES}"])
        wait_until("etcd is healthy", lambda: parts._answers(f"{url}/health"), folder)
        start("kube-apiserver", apiserver)
        wait_until("kube-apiserver is ready", lambda: parts._answers(f"{server.url}/readyz", server), folder)
        start("kube-controller-manager", controllers)
        start("kube-scheduler", scheduler)
        _prepare(server, found)
        start("kwok", kwok)
        wait_until("the node is Ready", lambda: _is_ready(server), folder)
        # Without the node lifecycle controller nobody else takes the taint of its first moment off.
        server.kubectl("patch", "node", "fake", "--type=merge", "--patch", '{"spec":{"taints":null}}')
        yield ControlPlane(server, audit_log, pids)


def _token_file(tokens: dict[str, str]) -> str:
    """The operator is a service account as in a cluster: the API server's fair queues hold for it."""
    groups = {"admin": "system:masters"}
    rows = (f'{token},{user},{user},"{groups.get(user, "system:serviceaccounts")}"\n' for user, token in tokens.items())
    return "".join(rows)


def _prepare(server: ApiServer, found: Programs) -> None:
    for path in found.crds:
        server.kubectl("apply", "--server-side", "-f", str(path))
    for user in OPERATORS:
        server.kubectl("create", "clusterrolebinding", user, "--clusterrole=cluster-admin", f"--user={user}")
    server.kubectl("create", "-f", "-", stdin=yaml.safe_dump(_NODE))
    for path in found.crds:
        server.kubectl("wait", "--for=condition=Established", "--timeout=30s", "-f", str(path))


def _is_ready(server: ApiServer) -> bool:
    path = "{.status.conditions[?(@.type=='Ready')].status}"
    done: subprocess.CompletedProcess[str] = server.kubectl("get", "node", "fake", f"--output=jsonpath={path}")
    return done.stdout.strip() == "True"
