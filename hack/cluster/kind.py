"""The kind cluster itself: made, checked, removed; the same code for both sources of images."""

from __future__ import annotations

import json
import string
from dataclasses import dataclass
from pathlib import Path

from hack.cluster import engine, image_store, node_image, packages, source, state
from hack.cluster.commands import BootstrapError, output, run, succeeds, wait_until
from hack.cluster.mlflow_image import mlflow_archive
from hack.cluster.progress import say, step
from hack.cluster.workspace import HERE, bin_folder, digest, log_file, publish, remove_tree

NODE_PORTS = {"gateway": 30080, "prometheus": 30090, "mlflow": 30500}
STORE_IN_NODE = Path("/var/lib/containerd")
_CREATE_TIMEOUT = 600.0


def docker_environment(images: str) -> dict[str, str]:
    """Return the environment in which docker and kind find the engine of the cluster."""
    return engine.docker_environment() if images == source.PACKAGES else {}


def address(images: str, slot: int) -> str:
    """Return the address at which the host reaches a cluster's published ports."""
    return engine.cluster_address(slot) if images == source.PACKAGES else "127.0.0.1"


def kubectl(name: str, *arguments: str, timeout: float = 60, stdin: str | None = None) -> str:
    """Run kubectl against a cluster and return what it printed."""
    argv: list[str | Path] = [bin_folder() / "kubectl", "--kubeconfig", state.kubeconfig(name), *arguments]
    return output(argv, timeout=timeout, stdin=stdin)


def render(template: str, values: dict[str, str]) -> str:
    """Fill the placeholders of a manifest."""
    return string.Template((HERE / "manifests" / template).read_text()).substitute(values)


def _ports(listen: str) -> str:
    mappings = [
        {"containerPort": port, "hostPort": port, "listenAddress": listen} for port in sorted(NODE_PORTS.values())
    ]
    return json.dumps(mappings)


def store_folder(name: str) -> Path:
    """Return the cluster's own copy of the image store, which its node has as containerd's root."""
    return state.folder(name) / "containerd"


def _copy_store(name: str, origin: Path) -> None:
    """Give the cluster its own view of the image store: hard links for layers, which are only read; databases anew."""
    target = store_folder(name)
    remove_tree(target)
    target.parent.mkdir(parents=True, exist_ok=True)
    run(["cp", "-a", "--link", origin, target], log=log_file("store"), timeout=120)
    for database in target.glob("*/*.db"):
        content = database.read_bytes()
        database.unlink()
        database.write_bytes(content)


@dataclass(frozen=True)
class Plan:
    """What a cluster of this name would be made from; the fingerprint tells whether a standing one still fits."""

    name: str
    source: str
    slot: int
    configuration: str
    store: Path | None
    fingerprint: str

    @property
    def environment(self) -> dict[str, str]:
        return docker_environment(self.source)


def make_plan(name: str) -> Plan:
    """Work out what the cluster is made from; in the packages mode this builds whatever is not in the cache."""
    existing = state.load(name)
    images = existing.source if existing and not source.overridden() else source.detect()
    slot = state.free_slot(name)
    listen = address(images, slot)
    if images == source.PUBLIC:
        configuration = render("kind-public.yaml", {"PORTS": _ports(listen)})
        return Plan(name, images, slot, configuration, None, digest([configuration, packages.KIND]))
    packages.ensure_host_packages()
    store = image_store.image_store([mlflow_archive()])
    values = {
        "PORTS": _ports(listen),
        "ADDRESS": listen,
        "NODE_IMAGE": node_image.node_tag(),
        "STORE": str(store_folder(name)),
        "REPOSITORY": image_store.REPOSITORY,
        "ETCD": packages.ETCD,
        "COREDNS": packages.COREDNS,
    }
    configuration = render("kind-packages.yaml", values)
    fingerprint = digest([configuration, packages.KIND, store.key])
    return Plan(name, images, slot, configuration, store.path / "containerd", fingerprint)


def node_name(name: str) -> str:
    """Return the name of the cluster's node, which is its container's, too."""
    return f"{name}-control-plane"


def node_running(name: str, environment: dict[str, str]) -> bool:
    """Tell whether the cluster's node container runs."""
    argv = ["docker", "inspect", "--format", "{{.State.Running}}", node_name(name)]
    try:
        return output(argv, env=environment, timeout=20).strip() == "true"
    except BootstrapError:
        return False


def api_ready(name: str) -> bool:
    """Tell whether the cluster's API server says it is ready."""
    try:
        return kubectl(name, "get", "--raw", "/readyz", "--request-timeout=5s", timeout=15).strip() == "ok"
    except BootstrapError:
        return False


def service_network_ready(record: state.State) -> bool:
    """Tell whether the API server's service address leads to it, seen from the node."""
    service = kubectl(record.name, "get", "service", "kubernetes", "--output=jsonpath={.spec.clusterIP}")
    curl = ["curl", "--silent", "--insecure", "--max-time", "2", "--output", "/dev/null", f"https://{service}"]
    return succeeds(["docker", "exec", node_name(record.name), *curl], env=docker_environment(record.source))


def standing(plan: Plan) -> state.State | None:
    """Return the record of the cluster if it is complete, up to date and answers."""
    record = state.load(plan.name)
    if not record:
        return None
    if record.fingerprint != plan.fingerprint:
        say("the cluster was made from other versions or settings: it will be made anew")
        return None
    if not node_running(plan.name, plan.environment):
        say("the cluster's node does not run: it will be made anew")
        return None
    if not api_ready(plan.name):
        say("the cluster's API server does not answer: it will be made anew")
        return None
    return record


def _kind() -> Path:
    publish(packages.go_program("kind"), bin_folder() / "kind")
    return bin_folder() / "kind"


def delete(name: str, environment: dict[str, str]) -> None:
    """Remove the cluster and what the cache keeps of it; nothing to remove is fine."""
    if succeeds(["docker", "version"], env=environment):
        argv: list[str | Path] = [_kind(), "delete", "cluster", "--name", name, "--kubeconfig", state.kubeconfig(name)]
        run(argv, log=log_file("kind"), timeout=180, env=environment)
    remove_tree(state.folder(name))


def _save_diagnosis(name: str, environment: dict[str, str]) -> str:
    log = log_file("kind-failure")
    for command in (
        ["docker", "logs", "--tail", "50", node_name(name)],
        ["docker", "exec", node_name(name), "journalctl", "--no-pager", "--lines", "200"],
    ):
        try:
            run(command, log=log, timeout=30, env=environment)
        except BootstrapError as error:
            say(str(error))
    return f"logs of the node: {log}"


def create(plan: Plan) -> state.State:
    """Make the cluster; on failure keep the node's logs and remove the rest."""
    delete(plan.name, plan.environment)
    folder = state.folder(plan.name)
    folder.mkdir(parents=True)
    if plan.store:
        _copy_store(plan.name, plan.store)
    configuration = folder / "kind.yaml"
    configuration.write_text(plan.configuration)
    argv: list[str | Path] = [_kind(), "create", "cluster", "--name", plan.name, "--config", configuration, "--retain"]
    argv += ["--kubeconfig", state.kubeconfig(plan.name)]
    try:
        run(argv, log=log_file("kind"), timeout=_CREATE_TIMEOUT, env=plan.environment)
        wait_until("the API server to be ready", lambda: api_ready(plan.name), timeout=60)
    except BootstrapError as error:
        where = _save_diagnosis(plan.name, plan.environment)
        delete(plan.name, plan.environment)
        raise BootstrapError(f"{error}\n  {where}") from error
    record = state.State(plan.name, plan.source, plan.slot, plan.fingerprint)
    record.save()
    return record


def ensure(plan: Plan) -> state.State:
    """Return the record of a cluster that stands and is up to date."""
    if plan.source == source.PACKAGES:
        engine.ensure()
        if not succeeds(["docker", "image", "inspect", node_image.node_tag()], env=plan.environment):
            with step("node image into the engine"):
                node_image.import_node_image(plan.environment)
    record = standing(plan)
    if record:
        return record
    with step(f"kind cluster {plan.name}"):
        return create(plan)
