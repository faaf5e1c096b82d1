"""``python -m benchmarks.tls``: CPU per command with TLS towards the clients, beside Envoy and HAProxy."""

import argparse
import contextlib
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import median
from typing import Any, Final, cast

from benchmarks import rounds
from benchmarks.figures import NONE, at_most, or_none, ratio, table
from benchmarks.loadgen import RunFailed
from benchmarks.peers import OURS, Envoy, Proxy, Slotgate, envoy_bootstrap
from benchmarks.processes import started
from benchmarks.scenarios import Scenario, scenarios_named
from proxy.devservers.servers import LOOPBACK, LocalServer, LocalShards, free_port, start_many
from proxy.errors import SlotgateError

_SHARDS: Final = 3
_SCENARIOS: Final = ("get-p1", "set-p1", "get-p16", "set-p16", "get-16k", "connect")
_ROUNDS: Final = 5
_BUDGET: Final = 110.0
_QUICK_ROUNDS: Final = 2
_QUICK_BUDGET: Final = 30.0
_QUICK_SHARE: Final = 0.2
_TARGET: Final = 1.0
_PLAIN: Final = "plain"
_CERTIFICATE: Final = "tls.pem"


class TlsSlotgate(Slotgate):
    """Slotgate with one listener, with TLS."""

    tls = True

    def arguments(self, port: int, shards: Sequence[LocalServer], directory: Path) -> list[str]:
        files = f'cert_file = "{_CERTIFICATE}"\nkey_file = "{_CERTIFICATE}"\n'
        configuration = directory / "slotgate-tls.toml"
        configuration.write_text(f'[[listeners]]\naddress = "{LOOPBACK}:{port}"\n[listeners.tls]\n{files}')
        static = ",".join(shard.address for shard in shards)
        return ["serve", "-c", str(configuration), "--static", static, "--admin", f"{LOOPBACK}:{free_port()}"]


class TlsEnvoy(Envoy):
    """Envoy whose listener has TLS."""

    tls = True

    def arguments(self, port: int, shards: Sequence[LocalServer], directory: Path) -> list[str]:
        found = super().arguments(port, shards, directory)
        bootstrap = cast(dict[str, Any], envoy_bootstrap(port, [shard.port for shard in shards]))
        pair = {"certificate_chain": _file(directory), "private_key": _file(directory)}
        kind = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext"
        versions = {"tls_minimum_protocol_version": "TLSv1_2", "tls_maximum_protocol_version": "TLSv1_3"}
        bootstrap["static_resources"]["listeners"][0]["filter_chains"][0]["transport_socket"] = {
            "name": "envoy.transport_sockets.tls",
            "typed_config": {
                "@type": kind,
                "common_tls_context": {"tls_params": versions, "tls_certificates": [pair]},
            },
        }
        Path(found[1]).write_text(json.dumps(bootstrap, indent=2))
        return found


class HAProxy(Proxy):
    """HAProxy, which passes decrypted bytes on to the first shard."""

    name = "haproxy"
    absent = "not installed (Debian, Ubuntu: apt-get install haproxy)"
    tls = True

    def find(self) -> tuple[str, ...] | None:
        found = shutil.which("haproxy") or shutil.which("haproxy", path="/usr/sbin:/usr/local/sbin")
        return None if found is None else (found,)

    def version(self, command: Sequence[str]) -> str:
        said = subprocess.run([*command, "-v"], capture_output=True, text=True, timeout=20).stdout
        found = re.search(r"\d+\.\d+\.\d+", said)
        return found[0] if found is not None else "unknown"

    def arguments(self, port: int, shards: Sequence[LocalServer], directory: Path) -> list[str]:
        lines = [
            "global",
            "  nbthread 1",
            "defaults",
            "  mode tcp",
            "  timeout connect 5s",
            "  timeout client 1m",
            "  timeout server 1m",
            "listen redis",
            f"  bind {LOOPBACK}:{port} ssl crt {directory / _CERTIFICATE} ssl-min-ver TLSv1.2",
            f"  server shard {shards[0].address}",
        ]
        configuration = directory / "haproxy.cfg"
        configuration.write_text("\n".join(lines) + "\n")
        return ["-db", "-f", str(configuration)]


def _file(directory: Path) -> dict[str, str]:
    return {"filename": str(directory / _CERTIFICATE)}


_COMPARED: Final = (TlsSlotgate(), TlsEnvoy(), HAProxy(), Slotgate(_PLAIN))
_PEERS: Final = (TlsEnvoy.name, HAProxy.name)


def main(argv: Sequence[str] | None = None) -> int:
    """Exit codes: 0 done, 1 something failed."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.tls", description="With TLS, beside others.")
    parser.add_argument("--quick", action="store_true", help="fewer rounds: for a first impression")
    parser.add_argument("--rounds", type=int, help=f"(default: {_ROUNDS})")
    options = parser.parse_args(argv)
    try:
        with start_many(_SHARDS, 0) as shards:
            found = measure(shards, quick=options.quick, number=options.rounds)
    except (SlotgateError, OSError) as error:
        print(f"benchmarks.tls: {error}", file=sys.stderr)
        return 1
    print("\n".join(lines(found)))
    return 1 if found.failures else 0


def measure(shards: LocalShards, *, quick: bool = False, number: int | None = None) -> rounds.Results:
    """All scenarios with all that are installed. Raises SlotgateError, OSError."""
    _make_certificate(shards.directory)
    with contextlib.ExitStack() as stack:
        targets = []
        for each in _COMPARED:
            command = each.find()
            if command is None:
                print(f"{each.name} is left out: {each.absent}", file=sys.stderr)
            else:
                targets.append(stack.enter_context(started(each, command, shards)))
        return rounds.measure(
            targets,
            scenarios_named(_SCENARIOS),
            shards,
            rounds=number or (_QUICK_ROUNDS if quick else _ROUNDS),
            share=_QUICK_SHARE if quick else 1.0,
            budget=_QUICK_BUDGET if quick else _BUDGET * max(1.0, (number or 0) / _ROUNDS),
        )


def _make_certificate(directory: Path) -> None:
    if shutil.which("openssl") is None:
        raise RunFailed("openssl is not on PATH, which makes the certificate")
    key, certificate = directory / "tls.key", directory / "tls.crt"
    curve = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2")
    command = ["openssl", "req", "-x509", *curve, "-subj", "/CN=benchmark", "-keyout", str(key), "-out"]
    subprocess.run([*command, str(certificate)], check=True, capture_output=True, timeout=30)
    (directory / _CERTIFICATE).write_text(certificate.read_text() + key.read_text())


def lines(results: rounds.Results) -> Iterator[str]:
    """A section."""
    yield "## TLS towards the clients: CPU of the proxy process per command (µs)"
    yield ""
    yield f"Medians of {results.rounds} interleaved rounds. `{HAProxy.name}` passes bytes on to one shard; `{_PLAIN}`"
    yield "is slotgate without TLS."
    yield ""
    names = [target.name for target in results.targets]
    yield from table(
        ["scenario", *names, f"x {_PLAIN}", *(f"x {name}" for name in _PEERS), "target"],
        (_row(results, scenario, names) for scenario in results.scenarios),
    )
    for (scenario, target), why in results.failures.items():
        yield f"- **{target}, {scenario}: failed**: {why}"


def _row(results: rounds.Results, scenario: Scenario, names: Sequence[str]) -> list[str]:
    cpu = {name: [sample.cpu for sample in results.of(scenario.name, name)] for name in (*names, *_PEERS)}
    ratios = [ratio(cpu[OURS], cpu[name]) for name in _PEERS if cpu[name]]
    best = max((each for each in ratios if each is not None), key=lambda each: each.value, default=None)
    return [
        scenario.words,
        *(f"{median(cpu[name]):,.2f}" if cpu[name] else NONE for name in names),
        or_none(ratio(cpu[OURS], cpu.get(_PLAIN, []))),
        *(or_none(ratio(cpu[OURS], cpu[name])) for name in _PEERS),
        at_most(best, _TARGET),
    ]


if __name__ == "__main__":
    sys.exit(main())
