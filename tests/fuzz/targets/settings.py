"""Settings: a TOML file or variables, in whatever bytes: settings, or a `SettingError` that names what is wrong.

The first byte says where they come from.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from router.errors import SettingError
from router.settings import ENV_PREFIX, FILE_SUFFIX, SECRETS, Settings, load_settings
from tests.fuzz.inputs import Choices

_FILE: Final = Path(f"/proc/self/fd/{os.memfd_create('settings')}")
"""Written anew for each input; in memory, and gone with the process."""

SEEDS: Final = (
    b'\x00redis_url = "redis://a"\nshards = 4\nedge_origins = ["https://a"]\nlease_ms = 500\n',
    b"\x00shards = 0\nshard = 1\n",
    b"\x00shards = nan\nretention_s = inf\n",
    b"\x00retention_s = 1e9\ncursor_idle_s = 1\n",
    b'\x00jwt_secret = "short"\njwt_algorithms = ["none"]\n',
    b"\x00shards = 1979-05-27T07:32:00Z\nprefix = [1, {a = 2}]\n",
    b"\x00[shards]\na = 1\n",
    b"\x00\xff\xfe",
    b"\x00a = " + b"[" * 1_500,
    b"\x00shards = " + b"9" * 5_000,
    b"\x00\xef\xbb\xbfshards = 1",
    b"\x01SHARDS\x004\x00EDGE_ORIGINS\x00a,b",
    b"\x01SHARDS\x00\xc2\xb2\x00LEASE_MS\x001e3",
    b"\x01JWT_SECRET\x00a,b\nc\x00AUTH_BY\x00issuer",
    b"\x01REDIS_URL\x00http://secret@a\x00X\x00y",
    b"\x02redis://user:secret@a",
    b"\x02\xff",
)


def run(data: bytes) -> None:
    """Load the settings."""
    choices = Choices(data)
    kind, rest = choices.byte() % 3, choices.rest()
    environ: dict[str, str] = {}
    if kind == 1:
        texts = rest.decode("utf-8", "surrogateescape").split("\0")
        environ = {f"{ENV_PREFIX}{name}": value for name, value in zip(texts[::2], texts[1::2], strict=False)}
        # Files are read wherever they are.
        environ = {name: value for name, value in environ.items() if not name.endswith((FILE_SUFFIX, "_CONFIG", "_file"))}
    else:
        _FILE.write_bytes(rest)
    if kind == 2:
        environ = {f"{ENV_PREFIX}REDIS_URL{FILE_SUFFIX}": str(_FILE)}
    try:
        settings = load_settings(config=_FILE if kind == 0 else None, environ=environ)
    except SettingError as exc:
        for error in (exc, *exc.others):
            assert error.source
            assert error.problem
        _check_secrets(environ, str(exc))
    else:
        assert Settings.model_validate(settings.model_dump()) == settings


def _check_secrets(environ: Mapping[str, str], said: str) -> None:
    """See to it that no error shows a secret that stands where secrets do, and is long enough to be known again."""
    for name, value in environ.items():
        is_secret = name.removeprefix(ENV_PREFIX).lower() in SECRETS
        if (
            is_secret
            and len(value) > 9
            and not any(value in other for other in (*environ.values(), *environ) if other != value)
        ):
            assert value not in said, name
