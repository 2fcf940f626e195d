"""What runs in the cluster beside the operator: Gateway API with Envoy, Prometheus, MLflow."""

from __future__ import annotations

import json
import shutil
import urllib.error
import urllib.request
from pathlib import Path

from hack.cluster import image_store, images, kind, packages, source, state
from hack.cluster.commands import BootstrapError, run, wait_until
from hack.cluster.loading import load_images
from hack.cluster.mlflow_image import MLFLOW_IMAGE, mlflow_build
from hack.cluster.progress import step
from hack.cluster.workspace import HERE, TOOLS, Artifact, bin_folder, digest, log_file

GATEWAY_NAMESPACE = "envoy-gateway-system"
_PUBLIC_IMAGES = {
    "ENVOY_GATEWAY_IMAGE": f"envoyproxy/gateway:{packages.ENVOY_GATEWAY}",
    "ENVOY_IMAGE": "envoyproxy/envoy:distroless-v1.39.1",
    "PROMETHEUS_IMAGE": "prom/prometheus:v3.5.0",
    "MLFLOW_IMAGE": MLFLOW_IMAGE,
}
_COMPOSED_IMAGES = {
    "ENVOY_GATEWAY_IMAGE": image_store.ENVOY_GATEWAY_IMAGE,
    "ENVOY_IMAGE": image_store.ENVOY_IMAGE,
    "PROMETHEUS_IMAGE": image_store.PROMETHEUS_IMAGE,
    "MLFLOW_IMAGE": MLFLOW_IMAGE,
}
_NODE_PORT = {"name": "http-80", "port": 80, "protocol": "TCP", "nodePort": kind.NODE_PORTS["gateway"]}
_PROXY_SERVICES: dict[str, dict[str, object]] = {
    "ops-commander": {"type": "ClusterIP"},
    "ops-commander-shared": {
        "type": "NodePort",
        "externalTrafficPolicy": "Cluster",
        "patch": {"type": "StrategicMerge", "value": {"spec": {"ports": [_NODE_PORT]}}},
    },
}
# what must answer on the host, and where
_PROBES = {"gateway": "/", "prometheus": "/-/ready", "mlflow": "/health"}


def urls(record: state.State) -> dict[str, str]:
    """Return where the host reaches the add-ons."""
    return {name: f"http://{kind.address(record.source, record.slot)}:{port}" for name, port in kind.NODE_PORTS.items()}


def _copy_chart(partial: Path) -> None:
    """Envoy Gateway's chart as the Go module has it: the values file is a template there, its version a placeholder."""
    folder = packages.module_folder("envoy-gateway", "github.com/envoyproxy/gateway") / "charts" / "gateway-helm"
    chart = partial / "chart"
    shutil.copytree(folder, chart, copy_function=shutil.copyfile)
    for path in [chart, *chart.rglob("*")]:
        path.chmod(0o755 if path.is_dir() else 0o644)
    (chart / "values.tmpl.yaml").rename(chart / "values.yaml")
    (chart / "Chart.lock").unlink()
    version = packages.ENVOY_GATEWAY
    text = (chart / "Chart.yaml").read_text()
    text = text.replace("version: v0.0.0-latest", f"version: {version.removeprefix('v')}")
    (chart / "Chart.yaml").write_text(text.replace('appVersion: "latest"', f"appVersion: {version}"))


def _chart() -> Path:
    inputs: list[str | bytes | Path] = [TOOLS / "envoy-gateway" / "go.mod", "values from the template"]
    return Artifact("envoy-gateway-chart", packages.ENVOY_GATEWAY, inputs).ensure(_copy_chart) / "chart"


def _rendered(record: state.State) -> dict[str, str]:
    configuration = (HERE / "manifests" / "prometheus.yml").read_text()
    values = dict(_COMPOSED_IMAGES if record.source == source.PACKAGES else _PUBLIC_IMAGES)
    # JSON is YAML: the configuration becomes one quoted scalar, whatever its own indentation
    values["PROMETHEUS_CONFIGURATION"] = json.dumps(configuration)
    values["PROMETHEUS_CHECKSUM"] = digest([configuration])[:16]
    names = ("namespaces.yaml", "mlflow.yaml", "prometheus.yaml", "envoy-gateway-values.yaml", "gateway.yaml")
    rendered = {name: kind.render(name, values) for name in names}
    proxies = [rendered["gateway.yaml"]]
    for proxy, service in _PROXY_SERVICES.items():
        proxy_values = values | {"PROXY_NAME": proxy, "PROXY_SERVICE": json.dumps(service)}
        proxies.append(kind.render("envoy-proxy.yaml", proxy_values))
    rendered["gateway.yaml"] = "---\n".join(reversed(proxies))
    return rendered


def _apply(name: str, manifest: str) -> None:
    arguments = ["apply", "--server-side", "--force-conflicts", "--filename", "-"]
    kind.kubectl(name, *arguments, timeout=120, stdin=manifest)


def _apply_crds(name: str) -> None:
    folder = str(_chart() / "charts" / "crds" / "crds")
    kind.kubectl(name, "apply", "--server-side", "--force-conflicts", "--recursive", "--filename", folder, timeout=120)


def _install_gateway(name: str, values: str) -> None:
    path = state.folder(name) / "envoy-gateway-values.yaml"
    path.write_text(values)
    argv: list[str | Path] = [
        bin_folder() / "helm",
        "upgrade",
        "--install",
        "envoy-gateway",
        _chart(),
        "--skip-crds",
        "--values",
        path,
    ]
    argv += ["--namespace", GATEWAY_NAMESPACE, "--kubeconfig", state.kubeconfig(name), "--timeout", "3m"]
    run(argv, log=log_file("helm"), timeout=240)


def _wait(name: str, what: str, *arguments: str, timeout: int = 180) -> None:
    with step(f"waiting for {what}"):
        kind.kubectl(name, "wait", f"--timeout={timeout}s", *arguments, timeout=timeout + 10)


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=3):
            return True
    except urllib.error.HTTPError as error:
        # without a route, Envoy itself answers 404
        return error.code == 404
    except OSError:
        return False


def probe(record: state.State) -> dict[str, bool]:
    """Tell which add-ons answer on the host."""
    return {name: _answers(url + _PROBES[name]) for name, url in urls(record).items()}


def _scale_dns(name: str, replicas: int) -> None:
    kind.kubectl(name, "--namespace=kube-system", "scale", "deployment/coredns", f"--replicas={replicas}")


def _install(record: state.State, rendered: dict[str, str]) -> None:
    name = record.name
    if record.source == source.PUBLIC:
        images.build_image(mlflow_build(), source.PUBLIC)
        load_images(record, [MLFLOW_IMAGE])
    # MLflow is slow to start: it goes first and is awaited last
    for manifest in ("namespaces.yaml", "mlflow.yaml"):
        _apply(name, rendered[manifest])
    # In a new cluster a connection to the API begun before kube-proxy has written its rules hangs for 30 s: whoever
    # needs the API starts afterwards, DNS anew and with one replica.
    if not record.add_ons:
        _scale_dns(name, 0)
    _apply_crds(name)
    _wait(name, "the node", "--for=condition=Ready", "nodes", "--all")
    wait_until("the service network", lambda: kind.service_network_ready(record), timeout=60)
    _scale_dns(name, 1)
    _apply(name, rendered["prometheus.yaml"])
    with step("Envoy Gateway's chart"):
        _install_gateway(name, rendered["envoy-gateway-values.yaml"])
    _apply(name, rendered["gateway.yaml"])


def _await_all(record: state.State) -> None:
    name, available = record.name, "--for=condition=Available"
    with step("waiting for cluster DNS"):
        # not the condition Available: one replica of which one may be missing is always available
        kind.kubectl(name, "rollout", "status", "deployment/coredns", "--namespace=kube-system", timeout=120)
    gateway = ["--for=condition=Programmed", "gateway/ops-commander", f"--namespace={GATEWAY_NAMESPACE}"]
    _wait(name, "the gateway", *gateway)
    _wait(name, "Prometheus", available, "deployment/prometheus", "--namespace=monitoring")
    _wait(name, "MLflow", available, "deployment/mlflow", "--namespace=mlflow")
    wait_until(f"{', '.join(urls(record).values())} to answer", lambda: all(probe(record).values()), timeout=60)


def ensure(record: state.State) -> None:
    """Install the add-ons unless they are as they should be, and wait until all of them answer on the host."""
    rendered = _rendered(record)
    wanted = digest([*rendered.values(), str(_chart())])
    if record.add_ons == wanted and all(probe(record).values()):
        return
    with step("add-ons"):
        _install(record, rendered)
    try:
        _await_all(record)
    except BootstrapError as error:
        pods = kind.kubectl(record.name, "get", "pods", "--all-namespaces", "--output=wide")
        raise BootstrapError(f"{error}\n{pods}") from error
    record.add_ons = wanted
    record.save()
