"""config/cluster-init.sh, which makes the cluster of docker-compose.yml, on nodes of this machine."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from proxy.devservers.cluster import LocalCluster
from proxy.devservers.servers import ServerBinary, kept_directory, stop_all
from tests.support.binaries import path_outside_environment, system_tool

pytestmark = [
    pytest.mark.live,
    pytest.mark.skipif(system_tool("redis-cli") is None, reason="no redis-cli on PATH (Debian: redis-tools)"),
]

SCRIPT = Path(__file__).parent.parent.parent / "config/cluster-init.sh"


def run(nodes: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [shutil.which("sh") or "sh", SCRIPT],
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
        env={**os.environ, "PATH": path_outside_environment(), "NODES": nodes},
    )


@pytest.mark.drill
def test_makes_a_cluster_once_and_leaves_it_alone_then(binary: ServerBinary) -> None:
    with kept_directory() as directory:
        cluster = LocalCluster(binary, directory)
        try:
            addresses = " ".join(cluster.start_node().address for _ in range(6))
            first = run(addresses)
            assert first.returncode == 0, first.stdout + first.stderr
            assert first.stdout.endswith("the cluster serves\n")
            cluster.wait_ok()
            assert len(cluster.primaries()) == 3
            before = {(seen.id, seen.slots) for seen in cluster.nodes[0].known()}
            for node in cluster.nodes:
                node.stop()
            for node in cluster.nodes:
                node.start()
            again = run(addresses)
            assert (again.returncode, again.stdout, again.stderr) == (0, "the cluster serves\n", "")
            assert {(seen.id, seen.slots) for seen in cluster.nodes[0].known()} == before
        finally:
            stop_all(cluster.nodes)
