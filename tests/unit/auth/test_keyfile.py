"""router.auth.keyfile: one key, made once, whole or not at all."""

from __future__ import annotations

import os
import stat
import threading
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from router.auth.jwk import thumbprint
from router.auth.keyfile import load_or_make
from router.errors import SetupError


def test_first_start_makes_a_key_for_the_owner_alone(tmp_path: Path) -> None:
    """The file has mode 0600 and nothing is left beside it; kid is the thumbprint."""
    path = tmp_path / "key.pem"
    key = load_or_make(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert list(tmp_path.iterdir()) == [path]
    assert key.kid == thumbprint(key.private.public_key())


def test_mode_does_not_depend_on_the_umask(tmp_path: Path) -> None:
    """A process that gives its files to everybody keeps this one."""
    before = os.umask(0)
    try:
        load_or_make(tmp_path / "key.pem")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "key.pem").stat().st_mode) == 0o600


def test_later_start_reads_the_same_key(tmp_path: Path) -> None:
    """A restart keeps the key, so tokens outlive it."""
    path = tmp_path / "key.pem"
    first = load_or_make(path)
    written = path.read_bytes()
    assert load_or_make(path).kid == first.kid
    assert path.read_bytes() == written


def test_starters_at_once_end_with_one_key(tmp_path: Path) -> None:
    """However many begin together, one key is made and all of them read it."""
    path, starters = tmp_path / "key.pem", 8
    at_once = threading.Barrier(starters)
    kids: list[str] = []

    def start() -> None:
        at_once.wait()
        kids.append(load_or_make(path).kid)

    threads = [threading.Thread(target=start) for _ in range(starters)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(kids) == starters
    assert len(set(kids)) == 1
    assert list(tmp_path.iterdir()) == [path]


def test_loser_of_the_race_takes_the_winner_s_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A starter that looked before the winner was done does not overwrite its key."""
    path = tmp_path / "key.pem"
    winner = load_or_make(path)
    monkeypatch.setattr(Path, "exists", lambda _path: False)
    assert load_or_make(path).kid == winner.kid
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("content", [b"", b"garbage", b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"])
def test_file_without_a_key_is_refused(tmp_path: Path, content: bytes) -> None:
    """What is not a key is never replaced by one."""
    path = tmp_path / "key.pem"
    path.write_bytes(content)
    with pytest.raises(SetupError, match="not an unencrypted private key"):
        load_or_make(path)
    assert path.read_bytes() == content


def test_key_of_another_kind_is_refused(tmp_path: Path) -> None:
    """An RSA key is named as the wrong kind."""
    path = tmp_path / "key.pem"
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    path.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    with pytest.raises(SetupError, match="Ed25519 key is needed"):
        load_or_make(path)


def test_missing_folder_is_said(tmp_path: Path) -> None:
    """The error names the file and the reason."""
    with pytest.raises(SetupError, match=r"no-such-folder.*No such file"):
        load_or_make(tmp_path / "no-such-folder" / "key.pem")
