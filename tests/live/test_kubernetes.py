"""The manifests for Kubernetes: they fit together, a container has no right that it does not need, and a proxy with the
configuration of the ConfigMap answers the probes."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from proxy.devservers.cluster import start_cluster
from proxy.devservers.servers import find_server
from tests.support.fixtures import Serve
from tests.support.processes import eventually
from tests.support.wire import Wire

pytestmark = pytest.mark.live

PLACE = Path(__file__).parents[2] / "deploy" / "kubernetes"
TOML = (PLACE / "slotgate.toml").read_text()
MANIFESTS: list[dict[str, Any]] = [
    manifest
    for file in sorted(PLACE.glob("*.yaml"))
    if file.name != "kustomization.yaml"
    for manifest in yaml.safe_load_all(file.read_text())
]
NAME = {"app.kubernetes.io/name": "slotgate"}


def of_kind(kind: str) -> dict[str, Any]:
    return next(manifest for manifest in MANIFESTS if manifest["kind"] == kind)


POD: dict[str, Any] = of_kind("Deployment")["spec"]["template"]
(CONTAINER,) = POD["spec"]["containers"]


def test_the_kustomization_names_every_file() -> None:
    kustomization = yaml.safe_load((PLACE / "kustomization.yaml").read_text())
    files = {file.name for file in PLACE.glob("*.yaml")} - {"kustomization.yaml"}
    assert sorted(kustomization["resources"]) == sorted(files)
    assert kustomization["configMapGenerator"] == [{"name": "slotgate", "files": ["slotgate.toml"]}]


def test_everything_is_about_the_same_pods() -> None:
    assert all(NAME.items() <= manifest["metadata"]["labels"].items() for manifest in MANIFESTS)
    assert of_kind("Deployment")["spec"]["selector"]["matchLabels"] == POD["metadata"]["labels"] == NAME
    for manifest in MANIFESTS:
        if manifest["kind"] == "Service":
            assert manifest["spec"]["selector"] == NAME
            ports = {port["targetPort"] for port in manifest["spec"]["ports"]}
            assert ports <= {port["name"] for port in CONTAINER["ports"]}
    assert of_kind("PodDisruptionBudget")["spec"]["selector"]["matchLabels"] == NAME
    assert of_kind("NetworkPolicy")["spec"]["podSelector"]["matchLabels"] == NAME
    assert of_kind("HorizontalPodAutoscaler")["spec"]["scaleTargetRef"]["name"] == "slotgate"


def test_an_update_takes_no_proxy_away_first() -> None:
    update = of_kind("Deployment")["spec"]["strategy"]["rollingUpdate"]
    assert (update["maxUnavailable"], update["maxSurge"]) == (0, 1)
    (drain,) = re.findall(r'^drain_timeout = "(\d+)s"', TOML, re.MULTILINE)
    assert POD["spec"]["terminationGracePeriodSeconds"] > int(drain) + 10


def test_a_container_has_few_rights() -> None:
    pod, container = POD["spec"]["securityContext"], CONTAINER["securityContext"]
    assert pod["runAsNonRoot"]
    assert pod["runAsUser"] > 0
    assert pod["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container["capabilities"] == {"drop": ["ALL"]}
    assert container["readOnlyRootFilesystem"]
    assert not container["allowPrivilegeEscalation"]
    assert not POD["spec"]["automountServiceAccountToken"]
    assert {"cpu", "memory"} == set(CONTAINER["resources"]["limits"])


def test_secrets_are_where_the_configuration_looks_for_them() -> None:
    mounts = {mount["name"]: mount for mount in CONTAINER["volumeMounts"]}
    assert all(mount["readOnly"] for name, mount in mounts.items() if name != "tmp")
    generated = yaml.safe_load((PLACE / "kustomization.yaml").read_text())["secretGenerator"][0]["files"]
    places = {f"{mounts['secrets']['mountPath']}/{name.partition('=')[0]}" for name in generated}
    assert set(re.findall(r'_file = "(.+)"', TOML)) == places
    assert CONTAINER["args"][-1] == f"{mounts['configuration']['mountPath']}/slotgate.toml"


def test_the_probes_and_the_alerts(serve: Serve, tmp_path: Path) -> None:
    """They are those of a proxy that has the configuration of the ConfigMap, with addresses and files of this
    machine."""
    with start_cluster(3, 0, binary=find_server()) as cluster:
        config = re.sub(r"^(listen|seeds) = .*\n", "", TOML, flags=re.MULTILINE)
        config = config.replace("[cluster]\n", f"[cluster]\nseeds = {cluster.seeds.split(',')!r}\n".replace("'", '"'))
        config = re.sub(r'^address = "0.0.0.0:9121"\n', "", config, flags=re.MULTILINE)
        config = config.replace("/run/secrets/slotgate/app-password", str(tmp_path / "app"))
        config = re.sub(r"^\[backend\]\npassword_file.*\n", "", config, flags=re.MULTILINE)
        (tmp_path / "app").write_text("of-the-app\n")
        proxy = serve(config=config, ready=False)
        for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
            path = CONTAINER[probe]["httpGet"]["path"]
            assert eventually(lambda path=path: proxy.http(path)[0] == 200)  # type: ignore[misc]
        with Wire(proxy.address) as client:
            assert client.ask("AUTH", "of-the-app") == b"+OK\r\n"
            assert client.ask("SET", "k", "v") == b"+OK\r\n"
        known = set(re.findall(r"^(?:# TYPE )?(slotgate_\w+)", proxy.http("/metrics")[1], re.MULTILINE))
        for rule in of_kind("PrometheusRule")["spec"]["groups"][0]["rules"]:
            named = set(re.findall(r"\bslotgate_\w+", rule["expr"]))
            # A certificate's metric is there only where a listener has TLS.
            assert named <= known | {"slotgate_certificate_expiry_seconds"}, rule["alert"]
