"""A throw-away certificate authority: one for the servers and for Tessera, names `localhost` and 127.0.0.1."""

import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

from harness.places import SetupError


@dataclass(frozen=True)
class Certificate:
    certificate: Path
    private_key: Path


class CertificateAuthority:
    """Certificates under one directory; `issue` makes what is not there yet, so the files may be kept between runs."""

    def __init__(self, directory, name="Tessera test CA"):
        self.directory = Path(directory)
        self.directory.mkdir(parents=True, exist_ok=True)
        self.certificate = self.directory / "ca.crt"
        self._key = self.directory / "ca.key"
        if not self.certificate.exists():
            self._openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
                          "-days", "3650", "-subj", f"/CN={name}", "-keyout", self._key, "-out", self.certificate)

    def issue(self, common_name, names=("DNS:localhost", "IP:127.0.0.1")):
        """A certificate for a server (by its names) or, by its common name, for a client."""
        key = self.directory / f"{common_name}.key"
        certificate = self.directory / f"{common_name}.crt"
        if not certificate.exists():
            request = self.directory / f"{common_name}.csr"
            extension = self.directory / f"{common_name}.ext"
            extension.write_text("subjectAltName=" + ",".join(names) + "\n" if names else "basicConstraints=CA:FALSE\n")
            self._openssl("req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
                          "-subj", f"/CN={common_name}", "-keyout", key, "-out", request)
            self._openssl("x509", "-req", "-days", "3650", "-in", request, "-CA", self.certificate, "-CAkey", self._key,
                          "-CAcreateserial", "-extfile", extension, "-out", certificate)
            os.chmod(key, 0o600)
        return Certificate(certificate, key)

    def _openssl(self, *arguments):
        done = subprocess.run(["openssl", *map(str, arguments)], capture_output=True, text=True)
        if done.returncode != 0:
            raise SetupError(f"openssl {arguments[0]} failed: {done.stderr}")
