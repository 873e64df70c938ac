"""The data folder of `pushway up`."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from router.errors import SetupError
from router.settings import Settings, load_settings
from router.up import folder


def test_a_folder_has_one_up_at_a_time(tmp_path: Path) -> None:
    """The second is refused while the first runs, and welcome afterwards."""
    data = tmp_path / "data"
    with folder.locked(data), pytest.raises(SetupError, match="another `pushway up`"), folder.locked(data):
        pass
    with folder.locked(data):
        pass


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    """The message says which folder, why, and what to pass."""
    (tmp_path / "file").touch()
    with pytest.raises(SetupError, match=r"Not a directory.*--data"), folder.locked(tmp_path / "file" / "data"):
        pass


def test_settings_come_back_as_they_were_written(tmp_path: Path) -> None:
    """What is written is what a service reads, whatever characters it has."""
    config = tmp_path / "pushway.toml"
    written = Settings(
        redis_url='redis://:p"w\\d✓@127.0.0.1/0', edge_urls=("ws://a", "ws://b"), retention_s=61.5, auth_key_file=tmp_path / "k"
    )
    folder.write_config(config, written)
    assert load_settings(config=config, environ={}) == written


def test_settings_file_is_its_owners_alone(tmp_path: Path) -> None:
    """It holds secrets: mode 0600, also where a wider file stood, and no draft stays."""
    config = tmp_path / "pushway.toml"
    config.touch(mode=0o644)
    folder.write_config(config, Settings())
    assert stat.S_IMODE(config.stat().st_mode) == 0o600
    assert list(tmp_path.iterdir()) == [config]


def test_api_key_is_kept_across_starts(tmp_path: Path) -> None:
    """Back ends that were given the key go on working."""
    config = tmp_path / "pushway.toml"
    key = folder.kept(config).api_key
    assert len(key) > 40
    folder.write_config(config, Settings(api_key=key))
    assert folder.kept(config).api_key == key


def test_shards_are_kept_across_starts(tmp_path: Path) -> None:
    """The first start decides; before it there is no number."""
    config = tmp_path / "pushway.toml"
    assert folder.kept(config).shards is None
    folder.write_config(config, Settings(shards=4))
    assert folder.kept(config).shards == 4


@pytest.mark.parametrize("text", ["not toml at all", "api_key = 5\nshards = 0", ""])
def test_a_settings_file_that_cannot_be_used_gives_a_new_key(tmp_path: Path, text: str) -> None:
    """A broken file is replaced, and does not keep anybody from starting."""
    config = tmp_path / "pushway.toml"
    config.write_text(text)
    kept = folder.kept(config)
    assert (len(kept.api_key) > 40, kept.shards) == (True, None)


def test_a_log_is_bounded_while_its_writer_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Too long, it is moved aside; the writer's next line stands at the beginning."""
    monkeypatch.setattr(folder, "LOG_MAX_BYTES", 10)
    log = tmp_path / "edge-1.log"
    with log.open("ab", buffering=0) as writer:
        writer.write(b"eleven bytes or more\n")
        folder.bound_log(log)
        writer.write(b"new\n")
    assert log.read_bytes() == b"new\n"
    assert (tmp_path / "edge-1.log.1").read_bytes() == b"eleven bytes or more\n"


def test_log_tail_is_the_last_lines(tmp_path: Path) -> None:
    """A log that is not there has none."""
    log = tmp_path / "a.log"
    assert folder.log_tail(log) == ""
    log.write_text("\n".join(str(n) for n in range(100)))
    assert folder.log_tail(log, lines=3) == "97\n98\n99"
