"""Certificates for tests, made by the command ``openssl``."""

import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

from proxy.devservers.servers import ServerBinary

SERVER_NAME = "redis.test"
"""The host name in every certificate, which is also valid for 127.0.0.1."""

_KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")


@dataclass(frozen=True, slots=True)
class Pair:
    """A certificate and its key, as paths of PEM files."""

    certificate: Path
    key: Path


class Authority:
    """A certificate authority; ``pair`` is its own certificate. Skips the test if there is no openssl."""

    def __init__(self, directory: Path, name: str = "authority") -> None:
        if shutil.which("openssl") is None:
            pytest.skip("no openssl on PATH (Debian, Ubuntu: apt-get install openssl)")
        directory.mkdir(exist_ok=True)
        self._directory = directory
        self.pair = self._pair(name)
        files = ("-keyout", self.pair.key, "-out", self.pair.certificate)
        openssl("req", "-x509", *_KEY, *files, "-subj", f"/CN={name}", "-days", "2")

    def sign(self, name: str, *, days: int = 2, names: str = f"IP:127.0.0.1,DNS:{SERVER_NAME}") -> Pair:
        """A certificate for servers and clients that is valid for ``days`` days; -1: it expired yesterday. ``names``
        are the alternative ones, as OpenSSL writes them; the common name is ``name``."""
        pair, request, extensions = self._pair(name), self._directory / f"{name}.csr", self._directory / f"{name}.ext"
        openssl("req", "-new", *_KEY, "-keyout", pair.key, "-out", request, "-subj", f"/CN={name}")
        extensions.write_text("basicConstraints=CA:FALSE\n" + (f"subjectAltName={names}\n" if names else ""))
        signer = ("-CA", self.pair.certificate, "-CAkey", self.pair.key, "-CAcreateserial")
        wanted = ("-days", str(days), "-extfile", extensions)
        openssl("x509", "-req", "-in", request, "-out", pair.certificate, *signer, *wanted)
        return pair

    def _pair(self, name: str) -> Pair:
        return Pair(self._directory / f"{name}.crt", self._directory / f"{name}.key")


def speaks_tls(binary: ServerBinary) -> None:
    """Skip the test if the server was built without TLS."""
    said = subprocess.run([binary.path, "-"], input="port 0\ntls-port 1\n", capture_output=True, text=True, timeout=10)
    if "No tls-cert-file" not in said.stdout + said.stderr:
        pytest.skip(f"{binary} was built without TLS")


def openssl(*arguments: str | Path) -> None:
    """Run the command ``openssl``."""
    subprocess.run(["openssl", *arguments], check=True, capture_output=True, timeout=30)
