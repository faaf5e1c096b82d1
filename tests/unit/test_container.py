"""The Dockerfile and the compose set-up hold together. No Docker engine is needed: the files are read."""

import ipaddress
import json
import re
import subprocess
import sys
import threading
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from fnmatch import fnmatch
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from proxy.config import Config, load

ROOT = Path(__file__).parent.parent.parent

TEXT = {"type": "string", "minLength": 1}
TEXTS = {"type": "array", "items": TEXT, "uniqueItems": True}
DURATION = {"type": "string", "pattern": r"^(\d+(us|ms|s|m|h))+$"}
# The part of the Compose Specification (https://compose-spec.io) that the file uses, and nothing else.
COMPOSE_SCHEMA = {
    "type": "object",
    "required": ["services"],
    "additionalProperties": False,
    "patternProperties": {"^x-": {}},
    "properties": {
        "services": {
            "type": "object",
            "propertyNames": {"pattern": "^[a-zA-Z0-9._-]+$"},
            "additionalProperties": {"$ref": "#/$defs/service"},
        },
        "networks": {"type": "object", "additionalProperties": {"$ref": "#/$defs/network"}},
    },
    "$defs": {
        "network": {
            "type": "object",
            "additionalProperties": False,
            "properties": {
                "ipam": {
                    "type": "object",
                    "additionalProperties": False,
                    "properties": {
                        "config": {
                            "type": "array",
                            "items": {
                                "type": "object",
                                "additionalProperties": False,
                                "properties": {"subnet": {"type": "string", "pattern": r"^[\d.]+/\d+$"}},
                            },
                        },
                    },
                },
            },
        },
        "service": {
            "type": "object",
            "additionalProperties": False,
            "anyOf": [{"required": ["image"]}, {"required": ["build"]}],
            "properties": {
                "image": TEXT,
                "build": TEXT,
                "command": {"type": "array", "items": TEXT},
                "environment": {"type": "object", "additionalProperties": TEXT},
                "networks": {
                    "type": "object",
                    "additionalProperties": {
                        "type": "object",
                        "additionalProperties": False,
                        "properties": {"ipv4_address": {"type": "string", "format": "ipv4"}},
                    },
                },
                "restart": {"enum": ["no", "always", "unless-stopped"]},
                "ports": {
                    "type": "array",
                    "items": {"type": "string", "pattern": r"^\d+\.\d+\.\d+\.\d+:\d+:\d+$"},
                },
                "volumes": {"type": "array", "items": {"type": "string", "pattern": "^[^:]+:/[^:]+:ro$"}},
                "read_only": {"type": "boolean"},
                "tmpfs": TEXTS,
                "cap_drop": TEXTS,
                "security_opt": TEXTS,
                "stop_grace_period": DURATION,
                "healthcheck": {
                    "type": "object",
                    "additionalProperties": False,
                    "required": ["test"],
                    "properties": {
                        "test": {"type": "array", "items": TEXT, "minItems": 2},
                        "interval": DURATION,
                        "timeout": DURATION,
                        "retries": {"type": "integer"},
                    },
                },
                "depends_on": {
                    "type": "object",
                    "additionalProperties": {
                        "type": "object",
                        "additionalProperties": False,
                        "required": ["condition"],
                        "properties": {
                            "condition": {
                                "enum": ["service_started", "service_healthy", "service_completed_successfully"]
                            }
                        },
                    },
                },
            },
        },
    },
}


@pytest.fixture
def compose() -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
    return loaded


@pytest.fixture
def services(compose: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = compose["services"]
    return found


@pytest.fixture
def config() -> Config:
    return load(ROOT / "config/docker.toml", environ={})


@pytest.fixture
def dockerfile() -> list[tuple[str, str]]:
    """(instruction, arguments), comments left out and continued lines joined."""
    text = re.sub(r"^\s*#.*\n", "", (ROOT / "Dockerfile").read_text(), flags=re.MULTILINE)
    lines = text.replace("\\\n", " ").splitlines()
    return [(line.split()[0], line.split(None, 1)[1].strip()) for line in lines if line.strip()]


@pytest.fixture
def final_stage(dockerfile: list[tuple[str, str]]) -> dict[str, str]:
    """The last argument of each instruction of the last stage."""
    starts = [number for number, (instruction, _) in enumerate(dockerfile) if instruction == "FROM"]
    assert len(starts) == 2
    return dict(dockerfile[starts[-1] :])


class TestDockerfile:
    def test_runs_as_a_numbered_user_that_is_not_root(
        self, final_stage: dict[str, str], dockerfile: list[tuple[str, str]]
    ) -> None:
        user, group = final_stage["USER"].split(":")
        assert int(user) > 0
        creates = [
            arguments for instruction, arguments in dockerfile if instruction == "RUN" and "useradd" in arguments
        ]
        assert f"--uid {user} --gid {group}" in creates[0]

    def test_bases_are_slim_and_pinned(self, dockerfile: list[tuple[str, str]]) -> None:
        bases = {arguments.split()[0] for instruction, arguments in dockerfile if instruction == "FROM"}
        assert len(bases) == 1
        assert re.fullmatch(r"python:3\.\d+-slim-\w+", bases.pop())

    def test_starts_the_command_that_the_package_installs(self, final_stage: dict[str, str]) -> None:
        project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
        assert json.loads(final_stage["ENTRYPOINT"])[0] in project["scripts"]
        assert json.loads(final_stage["CMD"])[:2] == ["serve", "-c"]
        assert final_stage["STOPSIGNAL"] == "SIGTERM"

    def test_exposes_the_configured_ports(self, final_stage: dict[str, str], config: Config) -> None:
        assert config.admin.address is not None
        ports = {address.port for address in config.listen} | {config.admin.address.port}
        assert {int(port) for port in final_stage["EXPOSE"].split()} == ports

    def test_needs_nothing_written_at_run_time(self, final_stage: dict[str, str]) -> None:
        assert "PYTHONDONTWRITEBYTECODE=1" in final_stage["ENV"]
        assert final_stage["WORKDIR"] == "/tmp"

    def test_everything_copied_exists_and_is_in_the_context(self, dockerfile: list[tuple[str, str]]) -> None:
        kept = [line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")]
        copied = [
            source
            for instruction, arguments in dockerfile
            if instruction == "COPY" and not arguments.startswith("--from")
            for source in arguments.split()[:-1]
        ]
        assert copied
        for source in copied:
            assert (ROOT / source).exists(), source
            assert any(fnmatch(source, pattern) for pattern in kept), source

    def test_what_the_build_reads_is_copied(self, dockerfile: list[tuple[str, str]]) -> None:
        project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
        copied = " ".join(arguments for instruction, arguments in dockerfile if instruction == "COPY")
        for name in [project["readme"], *project["license-files"], "pyproject.toml", "setup.py", "proxy"]:
            assert name in copied.split()

    def test_what_was_compiled_elsewhere_is_not_in_the_context(self) -> None:
        assert "**/*.so" in (ROOT / ".dockerignore").read_text().splitlines()

    def test_the_engine_is_compiled_or_the_build_fails(self, dockerfile: list[tuple[str, str]]) -> None:
        runs = [arguments for instruction, arguments in dockerfile if instruction == "RUN"]
        (compiler,) = [number for number, run in enumerate(runs) if re.search(r"apt-get install .*\bgcc\b", run)]
        (wheel,) = [number for number, run in enumerate(runs) if "pip wheel" in run]
        (asked,) = [number for number, run in enumerate(runs) if "--version" in run]
        assert compiler < wheel < asked
        assert runs[wheel].startswith("SLOTGATE_BUILD=require ")
        assert runs[asked] == "/opt/slotgate/bin/slotgate --version | grep --fixed-strings '(engine: compiled)'"

    def test_the_compiler_stays_out_of_the_image(
        self, dockerfile: list[tuple[str, str]], final_stage: dict[str, str]
    ) -> None:
        last = max(number for number, (instruction, _) in enumerate(dockerfile) if instruction == "FROM")
        assert not [arguments for _, arguments in dockerfile[last:] if "apt-get" in arguments]
        assert final_stage["COPY"] == "--from=build /opt/slotgate /opt/slotgate"

    @pytest.mark.parametrize("kind", ["compiled", "python"])
    def test_only_the_compiled_engine_passes(
        self, dockerfile: list[tuple[str, str]], kind: str, tmp_path: Path
    ) -> None:
        (asks,) = [run for instruction, run in dockerfile if instruction == "RUN" and "--version" in run]
        command = tmp_path / "slotgate"
        command.write_text(f"#!/bin/sh\necho 'slotgate 0.1.0 (engine: {kind})'\n")
        command.chmod(0o755)
        script = asks.replace("/opt/slotgate/bin/slotgate", str(command))
        done = subprocess.run(["sh", "-c", script], stdout=subprocess.DEVNULL, timeout=30, check=False)
        assert (done.returncode == 0) is (kind == "compiled")


class TestHealthcheck:
    @pytest.fixture
    def script(self, final_stage: dict[str, str]) -> str:
        command = json.loads(final_stage["HEALTHCHECK"].split("CMD", 1)[1])
        assert command[:2] == ["python", "-c"]
        code: str = command[2]
        return code

    @staticmethod
    def exit_code(script: str, port: int) -> int:
        code = script.replace(":9121/", f":{port}/")
        return subprocess.run(
            [sys.executable, "-c", code],
            capture_output=True,
            timeout=30,
            check=False,
            env={"http_proxy": "http://127.0.0.1:9"},
        ).returncode

    def test_asks_the_configured_admin_port(self, script: str, config: Config) -> None:
        assert config.admin.address is not None
        assert f"http://127.0.0.1:{config.admin.address.port}/healthz" in script

    @pytest.mark.parametrize(("status", "good"), [(200, True), (503, False)])
    def test_says_what_the_proxy_says(self, script: str, status: int, good: bool) -> None:
        with _answering(status) as port:
            assert (self.exit_code(script, port) == 0) is good

    def test_fails_where_nobody_listens(self, script: str) -> None:
        with _answering(200) as port:
            pass
        assert self.exit_code(script, port) != 0


@contextmanager
def _answering(status: int) -> Iterator[int]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status if self.path == "/healthz" else 404)
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield server.server_port
        finally:
            server.shutdown()
            thread.join()


class TestCompose:
    def test_is_a_compose_file(self, compose: dict[str, Any]) -> None:
        jsonschema.Draft202012Validator(COMPOSE_SCHEMA).validate(compose)

    def test_every_mounted_file_exists(self, services: dict[str, Any]) -> None:
        mounts = [mount for service in services.values() for mount in service.get("volumes", ())]
        assert len(mounts) == 3
        for mount in mounts:
            assert (ROOT / mount.split(":")[0]).is_file(), mount

    def test_the_proxy_reads_the_mounted_file(self, services: dict[str, Any], final_stage: dict[str, str]) -> None:
        target = json.loads(final_stage["CMD"])[-1]
        assert f"./config/docker.toml:{target}:ro" in services["proxy"]["volumes"]

    def test_the_proxy_is_confined(self, services: dict[str, Any]) -> None:
        proxy = services["proxy"]
        assert proxy["read_only"] is True
        assert proxy["tmpfs"] == ["/tmp"]
        assert proxy["cap_drop"] == ["ALL"]
        assert proxy["security_opt"] == ["no-new-privileges:true"]
        assert (ROOT / proxy["build"] / "Dockerfile").is_file()

    def test_published_ports_are_listened_at(self, services: dict[str, Any], config: Config) -> None:
        assert config.admin.address is not None
        addresses = [*config.listen, config.admin.address]
        assert {address.host for address in addresses} == {"0.0.0.0"}
        inside = {int(port.split(":")[2]) for port in services["proxy"]["ports"]}
        assert inside == {address.port for address in addresses}

    def test_nothing_is_published_beyond_loopback(self, services: dict[str, Any]) -> None:
        ports = [port for service in services.values() for port in service.get("ports", ())]
        assert all(port.startswith("127.0.0.1:") for port in ports)
        assert len({port.split(":")[1] for port in ports}) == len(ports)

    def test_there_is_time_to_drain(self, services: dict[str, Any], config: Config) -> None:
        assert int(services["proxy"]["stop_grace_period"].removesuffix("s")) > config.drain_timeout

    def test_who_is_waited_for_can_be_healthy(self, services: dict[str, Any], final_stage: dict[str, str]) -> None:
        for name, service in services.items():
            for other, how in service.get("depends_on", {}).items():
                healthy = "healthcheck" in services[other] or (
                    "build" in services[other] and final_stage["HEALTHCHECK"]
                )
                assert how["condition"] != "service_healthy" or healthy, f"{name} waits for {other}"
                ends = services[other].get("restart") == "no"
                assert (how["condition"] == "service_completed_successfully") is ends, f"{name} waits for {other}"

    def test_the_nodes_go_by_their_names_and_keep_their_addresses(
        self, services: dict[str, Any], compose: dict[str, Any]
    ) -> None:
        nodes = nodes_of(services)
        assert len(nodes) == 6
        (pool,) = compose["networks"]["default"]["ipam"]["config"]
        addresses = [ipaddress.IPv4Address(node["networks"]["default"]["ipv4_address"]) for node in nodes.values()]
        assert all(address in ipaddress.IPv4Network(pool["subnet"]) for address in addresses)
        # The first addresses are dealt out to the containers that ask for none.
        assert min(addresses) > ipaddress.IPv4Network(pool["subnet"])[len(services)]
        assert services["cluster-init"]["environment"]["NODES"] == " ".join(f"{address}:6379" for address in addresses)
        for name, node in nodes.items():
            options = dict(zip(node["command"][1::2], node["command"][2::2], strict=True))
            assert options.pop("--cluster-announce-hostname") == name
            assert options == {
                "--appendonly": "yes",
                "--cluster-enabled": "yes",
                "--cluster-node-timeout": "5000",
                "--cluster-preferred-endpoint-type": "hostname",
            }

    def test_a_failover_is_covered_by_the_retry_deadline(self, services: dict[str, Any], config: Config) -> None:
        for node in nodes_of(services).values():
            timeout = int(node["command"][node["command"].index("--cluster-node-timeout") + 1]) / 1000
            # What is suspected after the timeout is voted out, and voted for, within two more seconds or so.
            assert timeout + 3 < config.backend.retry_deadline

    def test_the_seeds_are_nodes(self, services: dict[str, Any], config: Config) -> None:
        assert config.topology.kind == "cluster"
        assert len(config.cluster.seeds) == 3
        for seed in config.cluster.seeds:
            assert seed.host in nodes_of(services)
            assert seed.port == 6379

    def test_the_cluster_is_made_when_all_nodes_are_there(self, services: dict[str, Any]) -> None:
        init = services["cluster-init"]
        assert init["restart"] == "no"
        assert init["depends_on"].keys() == nodes_of(services).keys()
        assert init["image"] == next(iter(nodes_of(services).values()))["image"]
        (mount,) = init["volumes"]
        assert init["command"] == ["sh", mount.split(":")[1]]
        assert "cluster-init" in services["proxy"]["depends_on"]


def nodes_of(services: dict[str, Any]) -> dict[str, Any]:
    """The services that are nodes of the cluster."""
    return {name: service for name, service in services.items() if re.fullmatch(r"redis-\d", name)}


def test_prometheus_scrapes_the_admin_port(services: dict[str, Any], config: Config) -> None:
    assert config.admin.address is not None
    scrape = yaml.safe_load((ROOT / "config/prometheus.yml").read_text())["scrape_configs"]
    (target,) = [target for job in scrape for static in job["static_configs"] for target in static["targets"]]
    name, port = target.split(":")
    assert name in services
    assert int(port) == config.admin.address.port
    assert name in config.admin.hosts
    mounted = [mount.split(":")[0] for mount in services["prometheus"]["volumes"]]
    assert mounted == ["./config/prometheus.yml"]
