"""The Helm chart, rendered by a real helm: what it grants, how its pods run, and that nothing generated has drifted."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml

from hack.render import helm
from ops_commander.adapters.prometheus_servers import PrometheusServers
from ops_commander.api.schema import KINDS
from ops_commander.core.names import SHARD
from ops_commander.core.selectors import parse

ROOT = Path(__file__).resolve().parents[2]
CHART = ROOT / "charts" / "ops-commander"
NAMESPACE = "ops-commander-system"
Object = dict[str, Any]
Grant = tuple[str, str, str, str]  # API group, resource, verb, resource name

# All that the operator may do to what it works on. A wider grant must be argued for here.
WORK = """
ops-commander.dev/modelrollouts:           get list watch create patch
ops-commander.dev/modelrollouts/status:    get patch
ops-commander.dev/modelrollouts/finalizers: update
ops-commander.dev/rolloutpolicies:         get list watch
ops-commander.dev/actionplans:             get list watch
ops-commander.dev/actionplans/status:      get patch
/podtemplates:                             get
ops-commander.dev/votes:                   get list watch
ops-commander.dev/votes/status:            patch
apps/replicasets:                          get list watch create patch delete
batch/jobs:                                get list watch create patch delete
/pods:                                     get list watch
/pods/log:                                 get
/services:                                 get list watch create patch delete
discovery.k8s.io/endpointslices:           get list watch
gateway.networking.k8s.io/httproutes:      get list watch create patch delete
events.k8s.io/events:                      create patch
"""
EVERYTHING_ON = [
    *("mlflow.url=http://mlflow.mlops.svc:5000", "networkPolicy.enabled=true", "priorityClassName=high"),
    *("serviceMonitor.enabled=true", "prometheusRule.enabled=true", "prometheusRule.alertLabels.team=ml"),
    *("networkPolicy.ingress.from[0].namespaceSelector.matchLabels.team=monitoring", "commonLabels.team=ml"),
    *("networkPolicy.egress.apiServer.to[0].ipBlock.cidr=10.0.0.1/32", "podLabels.tier=control"),
    *("extraObjects[0].apiVersion=v1", "extraObjects[0].kind=ConfigMap"),
    r"extraObjects[0].metadata.name=\{\{ .Release.Name \}\}-extra",
]
SHARDS = "shards={blue,red}"


def run_helm(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([helm(), *arguments], capture_output=True, text=True, timeout=60)


def template(*values: str, release: str = "ops-commander") -> list[Object]:
    run = run_helm("template", release, str(CHART), "-n", NAMESPACE, *(f"--set={value}" for value in values))
    assert run.returncode == 0, run.stderr
    return [document for document in yaml.safe_load_all(run.stdout) if document]


def refusal(*values: str) -> str:
    run = run_helm("template", "ops-commander", str(CHART), *(f"--set={value}" for value in values))
    assert run.returncode != 0, f"helm took {values}"
    return run.stderr


def of_kind(objects: list[Object], kind: str) -> list[Object]:
    return [each for each in objects if each["kind"] == kind]


def only(objects: list[Object], kind: str) -> Object:
    (found,) = of_kind(objects, kind)
    return found


def named(objects: list[Object], kind: str, name: str) -> Object:
    (found,) = [each for each in of_kind(objects, kind) if each["metadata"]["name"] == name]
    return found


def grants(role: Object) -> set[Grant]:
    return {
        (group, resource, verb, name)
        for rule in role["rules"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
        for name in rule.get("resourceNames", [""])
    }


def expected(lines: str) -> set[Grant]:
    found = set()
    for line in lines.strip().splitlines():
        what, verbs = line.split(":")
        group, resource = what.split("/", 1)
        found |= {(group, resource, verb, "") for verb in verbs.split()}
    return found


def leaves(values: Object, schema: Object, path: str = "") -> Iterator[tuple[str, Any]]:
    """The keys that a user sets: maps of a closed shape are descended into, everything else is one value."""
    for key, value in values.items():
        inner = resolved(schema["properties"][key])
        if "properties" in inner:
            yield from leaves(value, inner, f"{path}{key}.")
        else:
            yield path + key, value


def schema_leaves(schema: Object, path: str = "") -> Iterator[str]:
    for key, reference in schema["properties"].items():
        inner = resolved(reference)
        if "properties" in inner:
            yield from schema_leaves(inner, f"{path}{key}.")
        else:
            yield path + key


SCHEMA: Object = json.loads((CHART / "values.schema.json").read_text())
VALUES: Object = yaml.safe_load((CHART / "values.yaml").read_text())


def resolved(schema: Object) -> Object:
    reference = schema.get("$ref")
    definition: Object = SCHEMA["definitions"][reference.rsplit("/", 1)[1]] if reference else schema
    return definition


def pod_templates(objects: list[Object]) -> list[Object]:
    return [only(objects, "Deployment")["spec"]["template"]["spec"], only(objects, "Pod")["spec"]]


@pytest.fixture(scope="module")
def default() -> list[Object]:
    return template()


def test_lint_is_clean() -> None:
    for values in ([], EVERYTHING_ON, ["watchNamespaces={shop,search}"], [*EVERYTHING_ON, SHARDS]):
        run = run_helm("lint", "--strict", str(CHART), *(f"--set={value}" for value in values))
        assert run.returncode == 0, run.stdout + run.stderr


class TestRBAC:
    def test_cluster_role_grants_exactly_the_work(self, default: list[Object]) -> None:
        role = named(default, "ClusterRole", f"ops-commander.{NAMESPACE}")
        assert grants(role) == expected(WORK)

    def test_every_binding_is_for_the_operator_alone(self, default: list[Object]) -> None:
        account = only(default, "ServiceAccount")
        subject = {"kind": "ServiceAccount", "name": account["metadata"]["name"], "namespace": NAMESPACE}
        bindings = of_kind(default, "ClusterRoleBinding") + of_kind(default, "RoleBinding")
        assert [binding["subjects"] for binding in bindings] == [[subject], [subject]]
        roles = {binding["roleRef"]["name"] for binding in bindings}
        assert roles == {f"ops-commander.{NAMESPACE}", "ops-commander-leader-election"}

    @pytest.mark.parametrize(
        ("values", "lease"), [([], "ops-commander"), (["leaderElection.leaseName=other"], "other")]
    )
    def test_only_the_lease_it_is_told_of(self, values: list[str], lease: str) -> None:
        objects = template(*values)
        role = only(objects, "Role")
        assert role["metadata"]["namespace"] == NAMESPACE
        by_name = {("coordination.k8s.io", "leases", verb, lease) for verb in ("get", "update", "patch")}
        assert grants(role) == {("coordination.k8s.io", "leases", "create", ""), *by_name}
        assert environment(objects)["OPS_COMMANDER_LEASE_NAME"] == lease

    def test_built_in_roles_learn_the_kinds_and_cast_no_vote(self, default: list[Object]) -> None:
        kinds = ["modelrollouts", "rolloutpolicies", "actionplans"]
        for role, verbs, also in (
            ("view", {"get", "list", "watch"}, {"view"}),
            (
                "edit",
                {"get", "list", "watch", "create", "update", "patch", "delete", "deletecollection"},
                {"edit", "admin"},
            ),
        ):
            found = named(default, "ClusterRole", f"ops-commander.{NAMESPACE}-{role}")
            scale = {("ops-commander.dev", "modelrollouts/scale", verb, "") for verb in ("get", "patch", "update")}
            wanted = {("ops-commander.dev", kind, verb, "") for kind in kinds for verb in verbs}
            wanted |= {("ops-commander.dev", "votes", verb, "") for verb in ("get", "list", "watch")}
            assert grants(found) == wanted | (scale if role == "edit" else set())
            labels = found["metadata"]["labels"]
            assert {key for key in labels if "/aggregate-to-" in key} == {
                f"rbac.authorization.k8s.io/aggregate-to-{each}" for each in also
            }

    @pytest.mark.parametrize("role", ["infrastructure", "quality", "commander"])
    def test_a_voter_casts_votes_of_one_role_and_takes_none_back(self, default: list[Object], role: str) -> None:
        voter = named(default, "ClusterRole", f"ops-commander.{NAMESPACE}-voter-{role}")
        votes = {("ops-commander.dev", "votes", verb, "") for verb in ("get", "list", "watch", "create")}
        rollouts = {
            ("ops-commander.dev", "modelrollouts", verb, "") for verb in ("get", "list", "watch", f"vote-{role}")
        }
        assert grants(voter) == votes | rollouts

    def test_named_namespaces_need_no_cluster_role(self) -> None:
        objects = template("watchNamespaces={shop,search}", "votes.roles=false")
        assert not of_kind(objects, "ClusterRole") + of_kind(objects, "ClusterRoleBinding")
        roles = {each["metadata"]["namespace"]: each for each in of_kind(objects, "Role")}
        assert set(roles) == {"shop", "search", NAMESPACE}
        assert grants(roles["shop"]) == grants(roles["search"]) == expected(WORK)
        assert {each["metadata"]["namespace"] for each in of_kind(objects, "RoleBinding")} == set(roles)
        assert environment(objects)["OPS_COMMANDER_NAMESPACES"] == "shop,search"

    def test_releases_in_two_namespaces_share_no_cluster_wide_name(self) -> None:
        def names(namespace: str) -> set[str]:
            run = run_helm("template", "ops-commander", str(CHART), "-n", namespace, "--set=crds.enabled=false")
            objects = [document for document in yaml.safe_load_all(run.stdout) if document]
            wide = ("ClusterRole", "ValidatingAdmission")
            return {each["metadata"]["name"] for each in objects if each["kind"].startswith(wide)}

        assert names("a") and not names("a") & names("b")


def environment(objects: list[Object]) -> dict[str, str]:
    (container,) = only(objects, "Deployment")["spec"]["template"]["spec"]["containers"]
    return {
        each["name"]: each.get("value") or each.get("valueFrom", {}).get("fieldRef", {}).get("fieldPath", "")
        for each in container["env"]
    }


class TestPods:
    def test_they_pass_the_restricted_standard(self, default: list[Object]) -> None:
        for spec in pod_templates(default):
            pod = spec["securityContext"]
            assert pod["runAsNonRoot"] is True and pod["runAsUser"] == 65532
            assert pod["seccompProfile"] == {"type": "RuntimeDefault"}
            assert not {"hostNetwork", "hostPID", "hostIPC"} & set(spec)
            assert all(set(volume) == {"name", "emptyDir"} for volume in spec.get("volumes", []))
            (container,) = spec["containers"]
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }

    def test_only_the_operator_holds_a_token(self, default: list[Object]) -> None:
        operator, test = pod_templates(default)
        assert operator["automountServiceAccountToken"] is True
        assert test["automountServiceAccountToken"] is False and "serviceAccountName" not in test
        assert only(default, "ServiceAccount")["automountServiceAccountToken"] is False

    def test_operator(self, default: list[Object]) -> None:
        spec = only(default, "Deployment")["spec"]
        assert spec["replicas"] == 2
        assert spec["strategy"] == {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 1}}
        pod = spec["template"]["spec"]
        assert pod["terminationGracePeriodSeconds"] == 30
        (container,) = pod["containers"]
        assert container["args"] == ["run"] and "command" not in container
        assert container["resources"] == {
            "requests": {"cpu": "50m", "memory": "128Mi"},
            "limits": {"memory": "512Mi"},
        }
        probes = {probe: container[probe]["httpGet"]["path"] for probe in container if probe.endswith("Probe")}
        assert probes == {"startupProbe": "/healthz", "livenessProbe": "/healthz", "readinessProbe": "/readyz"}
        (tmp,) = pod["volumes"]
        assert container["volumeMounts"] == [{"name": tmp["name"], "mountPath": "/tmp"}]
        assert "medium" not in tmp["emptyDir"]

    def test_environment(self) -> None:
        assert environment(template("mlflow.url=https://mlflow.example.com")) == {
            "POD_NAME": "metadata.name",
            "POD_NAMESPACE": "metadata.namespace",
            "OPS_COMMANDER_IDENTITY": "$(POD_NAME)",
            "OPS_COMMANDER_LEASE_NAMESPACE": "$(POD_NAMESPACE)",
            "OPS_COMMANDER_LEASE_NAME": "ops-commander",
            "OPS_COMMANDER_LEASE_DURATION": "4s",
            "OPS_COMMANDER_NAMESPACES": "",
            "OPS_COMMANDER_PROMETHEUS_URL": "http://prometheus-operated.monitoring.svc:9090",
            "OPS_COMMANDER_SCRAPE_INTERVAL": "15s",
            "OPS_COMMANDER_MLFLOW_URL": "https://mlflow.example.com",
            "OPS_COMMANDER_IMAGE": "ops-commander/ops-commander:0.1.0",
            "OPS_COMMANDER_IMAGE_PULL_POLICY": "IfNotPresent",
            "OPS_COMMANDER_HTTP_PORT": "8080",
            "OPS_COMMANDER_POLL_INTERVAL": "5s",
            "OPS_COMMANDER_QUERY_TIMEOUT": "4s",
            "OPS_COMMANDER_LOG_LEVEL": "info",
            "OPS_COMMANDER_LOG_FORMAT": "json",
        }

    @pytest.mark.parametrize(
        ("values", "image"),
        [
            ([], "ops-commander/ops-commander:0.1.0"),
            (["image.repository=localhost/ops-commander", "image.tag=dev"], "localhost/ops-commander:dev"),
            (["image.tag=dev", f"image.digest=sha256:{'a' * 64}"], f"ops-commander/ops-commander@sha256:{'a' * 64}"),
        ],
    )
    def test_image(self, values: list[str], image: str) -> None:
        for spec in pod_templates(template(*values)):
            assert spec["containers"][0]["image"] == image

    def test_selectors_find_the_operator_and_not_the_test(self) -> None:
        objects = template(*EVERYTHING_ON)
        deployment = only(objects, "Deployment")["spec"]
        operator = deployment["template"]["metadata"]["labels"].items()
        test = only(objects, "Pod")["metadata"]["labels"].items()
        spread = [each["labelSelector"] for each in deployment["template"]["spec"]["topologySpreadConstraints"]]
        policy = only(objects, "NetworkPolicy")["spec"]
        selectors = [
            deployment["selector"]["matchLabels"],
            only(objects, "Service")["spec"]["selector"],
            only(objects, "PodDisruptionBudget")["spec"]["selector"]["matchLabels"],
            policy["podSelector"]["matchLabels"],
            *(each["matchLabels"] for each in spread),
        ]
        for selector in selectors:
            assert selector.items() <= operator and not selector.items() <= test
        monitor = only(objects, "ServiceMonitor")["spec"]["selector"]["matchLabels"]
        assert monitor.items() <= only(objects, "Service")["metadata"]["labels"].items()
        peers = policy["ingress"][0]["from"]
        assert peers[-1]["podSelector"]["matchLabels"].items() <= test


class TestPrometheusServers:
    TWO = [
        *("prometheus.config.servers[0].name=a", "prometheus.config.servers[0].url=http://a:9090"),
        *("prometheus.config.servers[0].namespaces[0]=team-*", "prometheus.config.servers[0].scrapeInterval=30s"),
        "prometheus.config.servers[0].auth.bearerTokenFile=/etc/ops-commander/secrets/a/token",
        *("prometheus.config.servers[1].name=b", "prometheus.config.servers[1].url=http://b:9090"),
    ]

    def test_a_config_is_mounted_and_the_operator_understands_it(self, tmp_path: Path) -> None:
        objects = template(*self.TWO)
        (key, text), *_ = only(objects, "ConfigMap")["data"].items()
        pod = only(objects, "Deployment")["spec"]["template"]["spec"]
        (mount,) = [each for each in pod["containers"][0]["volumeMounts"] if each["name"] == "prometheus"]
        (volume,) = [each for each in pod["volumes"] if each["name"] == "prometheus"]
        assert volume["configMap"]["name"] == only(objects, "ConfigMap")["metadata"]["name"]
        assert mount["readOnly"] is True
        variables = environment(objects)
        assert variables["OPS_COMMANDER_PROMETHEUS_CONFIG"] == f"{mount['mountPath']}/{key}"
        assert not {"OPS_COMMANDER_PROMETHEUS_URL", "OPS_COMMANDER_SCRAPE_INTERVAL"} & set(variables)
        (tmp_path / key).write_text(text)
        servers = PrometheusServers.of_file(tmp_path / key, timeout=timedelta(seconds=4))
        assert [server.name for server in servers.all] == ["a", "b"]
        assert servers.server_for("team-x") is servers.all[0] and servers.server_for("x") is servers.all[1]
        servers.close()

    def test_another_config_makes_new_pods(self) -> None:
        def annotations(*values: str) -> Object:
            found: Object = only(template(*values), "Deployment")["spec"]["template"]["metadata"]["annotations"]
            return found

        assert annotations(*self.TWO) != annotations(*self.TWO, "prometheus.config.servers[1].timeout=2s")
        assert "checksum/prometheus" not in annotations()

    def test_a_secret_of_the_users_serves_as_well(self) -> None:
        objects = template("prometheus.existingSecret=servers")
        assert not of_kind(objects, "ConfigMap")
        (volume,) = only(objects, "Deployment")["spec"]["template"]["spec"]["volumes"][1:]
        assert volume == {"name": "prometheus", "secret": {"secretName": "servers", "defaultMode": 0o440}}
        assert "OPS_COMMANDER_PROMETHEUS_CONFIG" in environment(objects)
        said = refusal(*self.TWO, "prometheus.existingSecret=servers")
        assert "prometheus.config and prometheus.existingSecret are both set: expected one of them" in said

    def test_secrets_become_files_that_only_the_operator_may_read(self) -> None:
        pod = only(template("prometheus.secretMounts={thanos,my.ca}"), "Deployment")["spec"]["template"]["spec"]
        assert pod["containers"][0]["volumeMounts"][1:] == [
            {"name": "secret-0", "mountPath": "/etc/ops-commander/secrets/thanos", "readOnly": True},
            {"name": "secret-1", "mountPath": "/etc/ops-commander/secrets/my.ca", "readOnly": True},
        ]
        assert [each["secret"] for each in pod["volumes"][1:]] == [
            {"secretName": name, "defaultMode": 0o440} for name in ("thanos", "my.ca")
        ]

    def test_the_example_of_the_readme_is_understood(self, tmp_path: Path) -> None:
        (text,) = re.findall(r"```yaml\n(prometheus:.*?)```", (CHART / "README.md").read_text(), re.DOTALL)
        (tmp_path / "prometheus.yaml").write_text(yaml.safe_dump(yaml.safe_load(text)["prometheus"]["config"]))
        PrometheusServers.of_file(tmp_path / "prometheus.yaml", timeout=timedelta(seconds=4)).close()


def selects(selector: Object, labels: Object) -> bool:
    found = selector.get("matchExpressions", [])
    assert all(each["operator"] == "In" for each in found)
    return selector["matchLabels"].items() <= labels.items() and all(
        labels[each["key"]] in each["values"] for each in found
    )


@pytest.fixture(scope="module")
def sharded() -> dict[str, list[Object]]:
    """The objects of each shard, by the shard's name; those of the default one by \"\"."""
    objects = template(*EVERYTHING_ON, SHARDS)
    names = {"ops-commander": "", "ops-commander-blue": "blue", "ops-commander-red": "red"}
    of_shards = [each for kind in ("Deployment", "PodDisruptionBudget", "Service") for each in of_kind(objects, kind)]
    found: dict[str, list[Object]] = {name: [] for name in names.values()}
    for each in of_shards:
        found[names[each["metadata"]["name"].removesuffix("-metrics")]].append(each)
    return found


class TestShards:
    def test_each_has_a_lease_of_its_own_which_it_may_hold(self, sharded: dict[str, list[Object]]) -> None:
        leases = {shard: environment(objects)["OPS_COMMANDER_LEASE_NAME"] for shard, objects in sharded.items()}
        assert leases == {"": "ops-commander", "blue": "ops-commander-blue", "red": "ops-commander-red"}
        named_lease = template(SHARDS, "leaderElection.leaseName=other")
        for objects, wanted in (
            (template(SHARDS), set(leases.values())),
            (named_lease, {"other", "other-blue", "other-red"}),
        ):
            assert {name for _, _, verb, name in grants(only(objects, "Role")) if verb == "update"} == wanted

    @pytest.mark.parametrize("shard", [None, "blue", "red", "default", "no-such-shard", ""])
    def test_whatever_a_rollout_is_labelled_one_of_them_serves_it(
        self, sharded: dict[str, list[Object]], shard: str | None
    ) -> None:
        labels = {} if shard is None else {SHARD: shard}
        asked = {name: environment(objects)["OPS_COMMANDER_SELECTOR"] for name, objects in sharded.items()}
        serving = [name for name, text in asked.items() if parse(text).matches(labels)]
        assert serving == [shard if shard in ("blue", "red") else ""]

    def test_each_selects_its_own_pods_alone(self, sharded: dict[str, list[Object]]) -> None:
        pods = {name: only(objects, "Deployment")["spec"]["template"] for name, objects in sharded.items()}
        for name, objects in sharded.items():
            spread = pods[name]["spec"]["topologySpreadConstraints"]
            selectors = [
                only(objects, "Deployment")["spec"]["selector"],
                only(objects, "PodDisruptionBudget")["spec"]["selector"],
                {"matchLabels": only(objects, "Service")["spec"]["selector"]},
                *(each["labelSelector"] for each in spread),
            ]
            for selector in selectors:
                assert [other for other, pod in pods.items() if selects(selector, pod["metadata"]["labels"])] == [name]

    def test_what_is_for_all_of_them_finds_all_of_them(self, sharded: dict[str, list[Object]]) -> None:
        objects = template(*EVERYTHING_ON, SHARDS)
        policy, monitor = (only(objects, kind)["spec"] for kind in ("NetworkPolicy", "ServiceMonitor"))
        test = only(objects, "Pod")
        assert not selects(policy["podSelector"], test["metadata"]["labels"])
        asked = test["spec"]["containers"][0]["command"]
        for each in sharded.values():
            pod, service = only(each, "Deployment")["spec"]["template"], only(each, "Service")["metadata"]
            assert selects(policy["podSelector"], pod["metadata"]["labels"])
            assert selects(monitor["selector"], service["labels"])
            assert f"http://{service['name']}.{NAMESPACE}.svc:8080" in asked

    def test_one_that_is_not_there_at_all_is_alerted_on(self, sharded: dict[str, list[Object]]) -> None:
        groups = only(template(*EVERYTHING_ON, SHARDS), "PrometheusRule")["spec"]["groups"]
        expressions = [rule["expr"] for rule in groups[1]["rules"]]
        jobs = [only(objects, "Service")["metadata"]["name"] for objects in sharded.values()]
        assert expressions == [
            f'absent(ops_commander_is_leader{{namespace="{NAMESPACE}", job="{job}"}}) == 1' for job in jobs
        ]
        assert all(rule["labels"] == {"severity": "critical", "team": "ml"} for rule in groups[1]["rules"])

    def test_a_shard_more_changes_no_selector_of_a_deployment_which_nobody_may_change(
        self, default: list[Object], sharded: dict[str, list[Object]]
    ) -> None:
        before, after = only(default, "Deployment"), only(sharded[""], "Deployment")
        assert before["spec"]["selector"] == after["spec"]["selector"]
        assert before["metadata"]["name"] == after["metadata"]["name"]
        assert "OPS_COMMANDER_SELECTOR" not in environment(default)

    def test_shards_of_a_few_namespaces(self) -> None:
        objects = template(SHARDS, "watchNamespaces={shop,search}", "votes.roles=false")
        found = [environment([each]) for each in of_kind(objects, "Deployment")]
        assert [each["OPS_COMMANDER_NAMESPACES"] for each in found] == ["shop,search"] * 3
        assert len({each["OPS_COMMANDER_SELECTOR"] for each in found}) == 3
        assert not of_kind(objects, "ClusterRole")

    def test_shards_as_releases_side_by_side_share_no_object(self) -> None:
        def names(release: str, namespaces: str) -> set[tuple[str, str, str]]:
            objects = template("crds.enabled=false", f"watchNamespaces={namespaces}", release=release)
            metadata = [(each["kind"], each["metadata"]) for each in objects]
            return {(kind, each.get("namespace", ""), each["name"]) for kind, each in metadata}

        assert not names("shard-a", "{shop}") & names("shard-b", "{search,bank}")

    def test_a_name_that_makes_other_names_too_long_is_refused(self) -> None:
        said = refusal(f"shards={{{'a' * 45}}}")
        assert "expected a shorter name" in said and "more than 52 characters" in said


class TestOptions:
    def test_a_single_replica_has_no_disruption_budget(self) -> None:
        assert not of_kind(template("replicas=1"), "PodDisruptionBudget")

    def test_flags_bring_nothing_by_default(self, default: list[Object]) -> None:
        kinds = {each["kind"] for each in default}
        assert not kinds & {"NetworkPolicy", "ServiceMonitor", "PrometheusRule"}

    def test_network_policy_opens_nothing_else(self) -> None:
        spec = only(template("networkPolicy.enabled=true"), "NetworkPolicy")["spec"]
        assert spec["policyTypes"] == ["Ingress", "Egress"]
        assert spec["ingress"] == [{"ports": [{"port": 8080, "protocol": "TCP"}]}]
        opened = {(each["protocol"], each["port"]) for rule in spec["egress"] for each in rule["ports"]}
        assert opened == {("UDP", 53), ("TCP", 53), ("TCP", 443), ("TCP", 6443), ("TCP", 9090)}
        spec = only(template(*EVERYTHING_ON), "NetworkPolicy")["spec"]
        assert [rule.get("to") for rule in spec["egress"]] == [
            None,
            [{"ipBlock": {"cidr": "10.0.0.1/32"}}],
            None,
            None,
        ]
        assert spec["egress"][3]["ports"] == [{"port": 5000, "protocol": "TCP"}]

    def test_extra_objects_are_templates(self) -> None:
        assert only(template(*EVERYTHING_ON), "ConfigMap")["metadata"]["name"] == "ops-commander-extra"

    def test_crds_are_those_of_the_repository_and_are_kept(self, default: list[Object]) -> None:
        sources = {crd["metadata"]["name"]: crd for crd in map(load, (ROOT / "crds").glob("*.yaml"))}
        assert set(sources) == {kind.full_name for kind in KINDS}
        for objects, kept in ((default, True), (template("crds.keep=false"), False)):
            rendered = {crd["metadata"]["name"]: crd for crd in of_kind(objects, "CustomResourceDefinition")}
            assert {name: crd["spec"] for name, crd in rendered.items()} == {
                name: crd["spec"] for name, crd in sources.items()
            }
            for crd in rendered.values():
                policy = crd["metadata"].get("annotations", {}).get("helm.sh/resource-policy")
                assert policy == ("keep" if kept else None)
        assert not of_kind(template("crds.enabled=false"), "CustomResourceDefinition")


def load(path: Path) -> Object:
    document: Object = yaml.safe_load(path.read_text())
    return document


class TestAlerts:
    # Names that the operator exports, without the suffixes of histograms.
    METRICS = frozenset(
        re.findall(
            r"\w+",
            """
            rollout_info rollout_weight rollbacks_total rollback_traffic_seconds rollback_replicaset_seconds
            rollback_in_progress_since_seconds cannot_steer reconcile_errors_total reconcile_duration_seconds
            queue_depth is_leader metric_query_errors_total metric_query_duration_seconds poll_age_seconds
            last_watch_event_age_seconds
            """,
        )
    )

    def test_the_rule_object_carries_the_file(self) -> None:
        (group,) = load(CHART / "files" / "alerts.yaml")["groups"]
        spec = only(template(*EVERYTHING_ON), "PrometheusRule")["spec"]
        for rule in group["rules"]:
            rule["labels"]["team"] = "ml"
        assert spec == {"groups": [group]}

    def test_each_is_there_and_asks_for_metrics_that_exist(self) -> None:
        (group,) = load(CHART / "files" / "alerts.yaml")["groups"]
        names = {rule["alert"] for rule in group["rules"]}
        assert names == {"RollbackSlowerThanRTO", "CannotSteer", "NoLeader", "ReconcileErrors", "MetricsBlind"}
        for rule in group["rules"]:
            asked = re.findall(r"ops_commander_(\w+)", rule["expr"])
            assert asked and {re.sub("_(count|bucket)$", "", name) for name in asked} <= self.METRICS
            assert rule["labels"]["severity"] in {"critical", "warning"}
            assert {"summary", "description"} <= set(rule["annotations"])

    @pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not on PATH")
    def test_they_fire_when_they_should(self) -> None:
        command = ["promtool", "test", "rules", str(ROOT / "tests" / "alerts" / "alerts_test.yaml")]
        run = subprocess.run(command, capture_output=True, text=True, timeout=60)
        assert run.returncode == 0, run.stdout + run.stderr

    def test_the_monitor_lets_metrics_name_the_namespace_of_their_rollout(self) -> None:
        (endpoint,) = only(template(*EVERYTHING_ON), "ServiceMonitor")["spec"]["endpoints"]
        assert endpoint["honorLabels"] is True


class TestValues:
    @pytest.mark.parametrize(
        "value",
        [
            *("replica=3", "image.registry=x", "networkPolicy.egress.dns.port=53", "log.level=loud"),
            *("pollInterval=5", "prometheus.url=prometheus:9090", "image.digest=latest", "watchNamespaces={*}"),
            *("replicas=two", "prometheus.scrapeInterval=15", "prometheus.config.url=http://a"),
            *("prometheus.config.servers[0].name=a", "prometheus.secretMounts={../a}"),
            *(
                "shards={Blue}",
                "shards={a.b}",
                "shards={-a}",
                "shards={blue,blue}",
                f"shards={{{'a' * 64}}}",
                "shards=a",
            ),
        ],
    )
    def test_what_the_schema_does_not_know_is_refused(self, value: str) -> None:
        assert "values don't meet the specifications of the schema" in refusal(value)

    @pytest.mark.parametrize("value", ["global.imageRegistry=x", "enabled=true"])
    def test_a_parent_chart_may_pass_what_is_its_own(self, value: str) -> None:
        template(value)

    def test_schema_values_and_readme_hold_the_same_keys_and_defaults(self) -> None:
        defaults = dict(leaves(VALUES, SCHEMA))
        assert set(schema_leaves(SCHEMA)) - {"global", "enabled"} == set(defaults)
        rows = re.findall(r"^\| `([^`]+)` \| `([^`]+)` \|", (CHART / "README.md").read_text(), re.MULTILINE)
        assert {key: json.loads(value) for key, value in rows} == defaults
        assert [key for key, _ in rows] == list(defaults)

    def test_every_closed_map_is_closed(self) -> None:
        def check(schema: Object) -> None:
            if "properties" in schema:
                assert schema["additionalProperties"] is False
            for inner in schema.get("properties", {}).values():
                check(resolved(inner))

        check(SCHEMA)


def test_versions_agree() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    chart = load(CHART / "Chart.yaml")
    assert chart["appVersion"] == project["version"]
    assert chart["annotations"]["artifacthub.io/images"].rstrip().endswith(f":{project['version']}")


def test_nothing_generated_has_drifted() -> None:
    command = [sys.executable, "-m", "hack.render", "all", "--check"]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert run.returncode == 0, run.stdout + run.stderr


def test_install_manifest_needs_nothing_of_helm() -> None:
    text = (ROOT / "manifests" / "install.yaml").read_text()
    assert "helm" not in text.lower()
    objects = list(yaml.safe_load_all(text))
    namespace = objects[0]
    assert (namespace["kind"], namespace["metadata"]["name"]) == ("Namespace", NAMESPACE)
    assert namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"
    assert {each["metadata"].get("namespace", NAMESPACE) for each in objects} == {NAMESPACE}
    assert len(of_kind(objects, "CustomResourceDefinition")) == 4
    assert not of_kind(objects, "Pod")
