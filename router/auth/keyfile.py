"""The private key that signs tokens, in a file of its own.

Made at the first start. A file that is there is never written again: the key is written whole to a file beside it and
then linked into place, and link(2) fails where a name exists. Of two processes that start at once, one makes the key and
both read it.
"""

from __future__ import annotations

import contextlib
import os
import stat
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import structlog
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_pem_private_key

from router.auth.jwk import thumbprint
from router.errors import SetupError

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class SigningKey:
    """The private key and the name (kid) under which its public half is published."""

    private: Ed25519PrivateKey
    kid: str


def load_or_make(path: Path) -> SigningKey:
    """Return the key in the file, made now if there is none.

    Raises:
        SetupError: when the file cannot be read or made, or holds something else.
    """
    try:
        if not path.exists():
            _make(path)
        pem = path.read_bytes()
        open_to_others = stat.S_IMODE(path.stat().st_mode) & 0o037
    except OSError as exc:
        raise SetupError(f"auth_key_file {path} cannot be read or made ({exc.strerror}).") from exc
    if open_to_others:
        log.warning("key_file_found_open_to_others", path=str(path), expected="mode 0600, or 0640")
    private = _parse(pem, path)
    return SigningKey(private, thumbprint(private.public_key()))


def _make(path: Path) -> None:
    pem = Ed25519PrivateKey.generate().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    with _written_beside(path, pem) as finished:
        try:
            os.link(finished, path)
        except FileExistsError:
            return  # another process was first: its key is the key
    _sync_folder(path.parent)
    log.info("key_made", path=str(path))


@contextlib.contextmanager
def _written_beside(path: Path, content: bytes) -> Iterator[Path]:
    """Yield a file of mode 0600 (as mkstemp makes them) with the content safely on disk; it is gone afterwards."""
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        yield Path(name)
    finally:
        Path(name).unlink()


def _sync_folder(folder: Path) -> None:
    """Make the file's name outlive a power cut, as fsync made its content."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _parse(pem: bytes, path: Path) -> Ed25519PrivateKey:
    try:
        key = load_pem_private_key(pem, password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as exc:
        raise SetupError(f"auth_key_file {path} is not an unencrypted private key in PEM.") from exc
    if not isinstance(key, Ed25519PrivateKey):
        raise SetupError(f"auth_key_file {path} holds another kind of key; an Ed25519 key is needed.")
    return key
