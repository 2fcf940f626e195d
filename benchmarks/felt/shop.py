"""What a group of runs needs in the cluster: a namespace whose pods are scraped at one pace, objectives, versions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from hack.cluster.workspace import REPOSITORY
from hack.demo import installed

PREFIX = "felt-"
_ROUTE_PATH = "/v2/models/ranker/infer"


@dataclass(frozen=True, slots=True)
class Shop:
    """Namespace and pace of one group; the rollout in it has the demo's name."""

    session: str
    """Prometheus remembers the namespaces of earlier runs: their traffic is nobody's baseline."""
    scrape: int
    """Seconds between two scrapes of its model pods."""

    @property
    def namespace(self) -> str:
        return f"{PREFIX}{self.session}-{self.scrape}s"

    @property
    def host(self) -> str:
        return f"ranker.{self.namespace}.example"

    def set_up(self) -> None:
        """The namespace and the objectives; no version yet."""
        base = REPOSITORY / "hack" / "demo" / "manifests" / "00-namespace.yaml"
        installed.apply(installed.in_namespace(base.read_text(), self.namespace))
        installed.apply(self.policy())

    def policy(self) -> dict[str, Any]:
        """Of the sample's objectives those that a canary step is judged by, with the sample's targets."""
        document = installed.sample("policy", self.namespace)
        spec = document["spec"]
        spec["objectives"] = [objective for objective in spec["objectives"] if "steps" not in objective]
        del spec["holdAfter"]  # shorter than the slowest pace needs to see a new pod
        spec["baselineWindow"] = "5m"
        return document

    def version(self, number: int, weight: int) -> dict[str, Any]:
        """A version that answers within 5 to 10 ms, to be held at the weight until it fails."""
        document = installed.sample("rollout", self.namespace)
        spec = document["spec"]
        spec["model"]["version"] = str(number)
        template = spec["template"]
        template["metadata"]["annotations"]["prometheus.io/interval"] = f"{self.scrape}s"
        settings = {"MODEL_VERSION": str(number), "LATENCY_MS": "5", "LATENCY_JITTER_MS": "5"}
        template["spec"]["containers"][0]["env"] = [{"name": name, "value": value} for name, value in settings.items()]
        spec["steps"] = [
            {"canary": {"weight": weight, "minDuration": "2h", "maxDuration": "4h"}},
            {"full": {"bake": "1h", "maxDuration": "4h"}},
        ]
        spec["drain"] = "2s"
        return document


def infer_url(gateway: str) -> str:
    return gateway + _ROUTE_PATH


def operator_values(scrapes: list[int], poll: str) -> dict[str, str]:
    """The chart's values: one Prometheus, told apart by the pace at which it scrapes a namespace."""
    servers = [(f"every-{scrape}s", f"{PREFIX}*-{scrape}s", f"{scrape}s") for scrape in scrapes]
    values = {"pollInterval": poll}
    for number, (name, namespaces, interval) in enumerate([*servers, ("rest", "*", "1s")]):
        path = f"prometheus.config.servers[{number}]"
        values[f"{path}.name"] = name
        values[f"{path}.url"] = installed.PROMETHEUS_URL
        values[f"{path}.namespaces[0]"] = namespaces
        values[f"{path}.scrapeInterval"] = interval
    return values
