"""Ops Commander and the sample service in the development cluster; the demo and tests/e2e share this.

python3 -m hack.demo.installed            cluster, images, operator
python3 -m hack.demo.installed --images   build the images, and load them where there is a cluster
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
from typing import Any

import yaml

from hack.cluster import images, source, state
from hack.cluster.commands import BootstrapError, output
from hack.cluster.progress import say, step
from hack.cluster.workspace import REPOSITORY, bin_folder

OPERATOR_IMAGE = "localhost/ops-commander:dev"
RANKER_IMAGE = "localhost/ranker:dev"
OPERATOR_NAMESPACE = "ops-commander-system"
RELEASE = "ops-commander"
PROMETHEUS_URL = "http://prometheus.monitoring.svc:9090"
MLFLOW_URL = "http://mlflow.mlflow.svc:5000"
NAMESPACE = "shop"
ROLLOUT = "ranker"
SAMPLES = REPOSITORY / "manifests" / "samples"

_CONTEXTS = {OPERATOR_IMAGE: REPOSITORY, RANKER_IMAGE: REPOSITORY / "hack" / "demo"}
_BASE = REPOSITORY / "hack" / "demo" / "manifests"
_CLUSTER_TIMEOUT = 3600.0


def environment() -> dict[str, str]:
    """The environment in which kubectl and helm are the pinned ones and talk to the cluster."""
    path = f"{bin_folder()}{os.pathsep}{os.environ.get('PATH', '')}"
    return {**os.environ, "PATH": path, "KUBECONFIG": str(state.kubeconfig(state.DEFAULT_NAME))}


def kubectl(*arguments: str, stdin: str | None = None, timeout: float = 60) -> str:
    """Run kubectl and return what it printed; raise BootstrapError with its own words if it fails."""
    return output([bin_folder() / "kubectl", *arguments], stdin=stdin, timeout=timeout, env=environment())


def _cluster(*arguments: str) -> None:
    argv = [sys.executable, "-m", "hack.cluster", *arguments]
    if subprocess.run(argv, cwd=REPOSITORY, timeout=_CLUSTER_TIMEOUT, check=False).returncode:
        raise BootstrapError(f"failed: python3 -m hack.cluster {' '.join(arguments)}")


def ensure_cluster() -> state.State:
    """Bring up what is missing of the cluster and its add-ons."""
    _cluster("up")
    record = state.load(state.DEFAULT_NAME)
    if record is None:
        raise BootstrapError("the cluster is gone again: did somebody take it down?")
    return record


def build_images() -> None:
    """Build both images unless nothing has changed, and load them where there is a cluster."""
    load = ["--load"] if state.load(state.DEFAULT_NAME) else []
    for tag, context in _CONTEXTS.items():
        _cluster("build-image", "--tag", tag, "--context", str(context), *load)


def _image_id(tag: str) -> str:
    record = state.load(state.DEFAULT_NAME)
    return images.image_id(tag, record.source if record else source.detect())


def install_operator(**values: str) -> None:
    """Install or upgrade the chart and wait for its pods. More values by their path, dots as in --set."""
    repository, _, tag = OPERATOR_IMAGE.rpartition(":")
    wanted = {
        "image.repository": repository,
        "image.tag": tag,
        "prometheus.url": PROMETHEUS_URL,
        "prometheus.scrapeInterval": "1s",
        "mlflow.url": MLFLOW_URL,
        "pollInterval": "1s",
        # a new build under the same tag: new pods
        r"podAnnotations.ops-commander\.dev/image": _image_id(OPERATOR_IMAGE),
        **values,
    }
    chart = str(REPOSITORY / "charts" / "ops-commander")
    arguments = ["upgrade", "--install", RELEASE, chart, "--create-namespace", "--set", "replicas=2"]
    for path, value in wanted.items():
        arguments += ["--set-string", f"{path}={value}"]
    with step("Ops Commander by its chart, two replicas"):
        _forget_interrupted_release()
        _helm(*arguments)
        try:
            await_operator()
        except BootstrapError:
            say(operator_log(20))
            raise


def _helm(*arguments: str) -> str:
    argv = [str(bin_folder() / "helm"), *arguments, f"--namespace={OPERATOR_NAMESPACE}"]
    return output(argv, timeout=120, env=environment())


def _forget_interrupted_release() -> None:
    """A helm that was killed leaves a release that no other helm touches."""
    try:
        status = json.loads(_helm("status", RELEASE, "--output=json"))["info"]["status"]
    except BootstrapError:
        return
    if status.startswith("pending"):
        say(f"an interrupted run left the release in {status}: removing it")
        _helm("uninstall", RELEASE, "--wait", "--timeout=60s")


def await_operator(timeout: int = 120) -> None:
    """Wait until every replica of the newest operator is ready; not the condition Available, which one may lack."""
    arguments = ["status", f"deployment/{RELEASE}", f"--namespace={OPERATOR_NAMESPACE}", f"--timeout={timeout}s"]
    kubectl("rollout", *arguments, timeout=timeout + 10)


def operator_log(lines: int = 40) -> str:
    """The last words of the operator's pods, or why they cannot be read."""
    selector = f"app.kubernetes.io/instance={RELEASE}"
    arguments = ["logs", f"--namespace={OPERATOR_NAMESPACE}", f"--selector={selector}", f"--tail={lines}", "--prefix"]
    try:
        return kubectl(*arguments)
    except BootstrapError as error:
        return str(error)


def in_namespace(text: str, namespace: str) -> str:
    """A manifest of the demo for another namespace: `shop` stands in it for the namespace, in host names too."""
    return re.sub(rf"\b{NAMESPACE}\b", namespace, text)


def apply(manifest: str | dict[str, Any]) -> str:
    """kubectl apply; an object goes as JSON, which is YAML."""
    text = manifest if isinstance(manifest, str) else json.dumps(manifest)
    return kubectl("apply", "--filename", "-", stdin=text).strip()


def remove_demo(namespace: str = NAMESPACE) -> None:
    """Take away what an earlier demo left in its namespace."""
    if not kubectl("get", "namespace", namespace, "--ignore-not-found"):
        return
    with step(f"namespace {namespace} of an earlier run goes"):
        # rollouts first: their finalizer needs the operator, which cannot write into a namespace on its way out
        kubectl("delete", "mro", "--all", f"--namespace={namespace}", "--timeout=60s", timeout=70)
        kubectl("delete", "namespace", namespace, "--timeout=120s", timeout=130)


def apply_demo_base(namespace: str = NAMESPACE) -> None:
    """The namespace with the way to the gateway, steady load, and the objectives; no model yet."""
    with step(f"load client and objectives in namespace {namespace}"):
        for path in sorted(_BASE.glob("*.yaml")):
            apply(in_namespace(path.read_text(), namespace))
        # taken in before any other answer of the API server is: the operator has just brought the CRDs
        kubectl("wait", "--for=condition=Established", "crd/rolloutpolicies.ops-commander.dev", "--timeout=30s")
        apply(in_namespace((SAMPLES / "policy.yaml").read_text(), namespace))
        available = ["--for=condition=Available", "deployment/load", f"--namespace={namespace}", "--timeout=90s"]
        kubectl("wait", *available, timeout=100)


def sample(name: str, namespace: str = NAMESPACE, run_id: str | None = None) -> dict[str, Any]:
    """A rollout of manifests/samples, with the MLflow run that its model comes from."""
    document: dict[str, Any] = yaml.safe_load(in_namespace((SAMPLES / f"{name}.yaml").read_text(), namespace))
    if run_id:
        document["spec"]["model"]["runId"] = run_id
    return document


def rollout(namespace: str = NAMESPACE, name: str = ROLLOUT) -> dict[str, Any]:
    """The ModelRollout as it is now."""
    found: dict[str, Any] = json.loads(kubectl("get", f"mro/{name}", f"--namespace={namespace}", "--output=json"))
    return found


def wait_ready(namespace: str = NAMESPACE, name: str = ROLLOUT, timeout: int = 120) -> None:
    """Wait until the wanted version serves all traffic."""
    arguments = ["--for=condition=Ready", f"mro/{name}", f"--namespace={namespace}", f"--timeout={timeout}s"]
    kubectl("wait", *arguments, timeout=timeout + 10)


def _load(namespace: str) -> str:
    return f"/api/v1/namespaces/{namespace}/services/load:8081/proxy"


def load_stats(namespace: str = NAMESPACE) -> dict[str, Any]:
    """What the load client has counted since the last reset."""
    stats: dict[str, Any] = json.loads(kubectl("get", "--raw", f"{_load(namespace)}/stats"))
    return stats


def reset_load(namespace: str = NAMESPACE) -> None:
    """Start the load client's counts from zero."""
    kubectl("create", "--raw", f"{_load(namespace)}/reset", "--filename", "-", stdin="{}")


def ensure() -> state.State:
    """Cluster, images and operator: what the demo and the tests start from."""
    record = ensure_cluster()
    build_images()
    install_operator()
    return record


def main() -> int:
    parser = argparse.ArgumentParser(prog="python3 -m hack.demo.installed", description=__doc__)
    parser.add_argument("--images", action="store_true", help="only the images")
    options = parser.parse_args()
    try:
        if options.images:
            build_images()
        else:
            ensure()
    except BootstrapError as error:
        say(f"error: {error}")
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
