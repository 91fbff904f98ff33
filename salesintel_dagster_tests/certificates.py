"""Certificates for tests of TLS: an authority, what it signed, and what signed itself."""

from __future__ import annotations

import ssl
import subprocess
from dataclasses import dataclass
from pathlib import Path
from shutil import which

import pytest


@dataclass(frozen=True, slots=True)
class Certificate:
    key: Path
    chain: Path

    def server_context(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.chain, self.key)
        return context


class Authority:
    """Signs certificates into `folder`; `file` is what a client trusts. Skips the test where openssl is missing."""

    def __init__(self, folder: Path) -> None:
        self._openssl = which("openssl") or pytest.skip("openssl is not on PATH: no certificate to serve TLS with")
        self._folder = folder
        root = self.self_signed("authority", "DNS:authority.example")
        self._key, self.file = root.key, root.chain

    def self_signed(self, name: str, names: str) -> Certificate:
        return self._made(name, names, [])

    def signed(self, name: str, names: str) -> Certificate:
        """Sign a certificate for `names`, such as `DNS:localhost,IP:127.0.0.1`."""
        return self._made(name, names, ["-CA", str(self.file), "-CAkey", str(self._key)])

    def _made(self, name: str, names: str, signer: list[str]) -> Certificate:
        key, chain = self._folder / f"{name}.key", self._folder / f"{name}.pem"
        curve = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"]
        subject = ["-subj", f"/CN={name}", "-addext", f"subjectAltName={names}"]
        if signer:
            subject += ["-addext", "basicConstraints=critical,CA:FALSE"]
        command = [self._openssl, "req", "-x509", *curve, *subject, *signer, "-keyout", str(key), "-out", str(chain)]
        subprocess.run(command, check=True, capture_output=True)
        return Certificate(key, chain)
