"""Certificates for tests: an authority of the test's own, and what it signs."""

from __future__ import annotations

import socket
import ssl
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

import trustme


class Pair(NamedTuple):
    """Files of a certificate and of its key."""

    cert: Path
    key: Path


class Authority:
    """A CA, which nobody but the test trusts.

    Attributes:
        file: its certificate, in PEM.
    """

    def __init__(self, folder: Path, name: str = "ca") -> None:
        self._ca = trustme.CA(key_type=trustme.KeyType.ECDSA)
        self._folder = folder
        self.file = folder / f"{name}.pem"
        self._ca.cert_pem.write_to_path(str(self.file))

    def issue(self, *names: str, file: str = "server", expires_at: datetime | None = None, rsa: bool = False) -> Pair:
        """Sign a certificate for names and addresses, and write it as `<file>.pem` and `<file>.key`, over what is there."""
        kind = trustme.KeyType.RSA if rsa else trustme.KeyType.ECDSA
        issued = self._ca.issue_cert(*names, not_after=expires_at, key_type=kind)
        pair = Pair(self._folder / f"{file}.pem", self._folder / f"{file}.key")
        pair.cert.write_bytes(b"".join(blob.bytes() for blob in issued.cert_chain_pems))
        issued.private_key_pem.write_to_path(str(pair.key))
        return pair

    @property
    def trust(self) -> ssl.SSLContext:
        """The context of a client that trusts this CA alone."""
        return ssl.create_default_context(cafile=self.file)


def shown(port: int, trust: ssl.SSLContext) -> bytes | None:
    """Return the certificate that localhost shows on a port; None where it shows none that is trusted. Blocks."""
    try:
        with (
            socket.create_connection(("localhost", port)) as plain,
            trust.wrap_socket(plain, server_hostname="localhost") as tls,
        ):
            return tls.getpeercert(binary_form=True)
    except OSError:
        return None
