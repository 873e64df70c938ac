"""docs/settings.md and router/settings say the same."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Final

import pytest

from router.settings import Settings

ROOT: Final = Path(__file__).parents[2]
PAGE: Final = (ROOT / "docs" / "settings.md").read_text(encoding="utf-8")


def test_page_is_what_the_code_says() -> None:
    """The page is as scripts/settings-page would write it."""
    script = ROOT / "scripts" / "settings-page"
    done = subprocess.run([sys.executable, script, "--check"], capture_output=True, text=True, check=False, cwd=ROOT.parent)
    assert (done.returncode, done.stderr) == (0, "")
    assert os.access(script, os.X_OK)


@pytest.mark.parametrize("name", Settings.model_fields)
def test_every_setting_is_described(name: str) -> None:
    """Each setting stands on the page once, under a reason and what it accepts."""
    assert Settings.model_fields[name].description
    assert len(re.findall(rf"^(?:# )?{name} = ", PAGE, re.MULTILINE)) == 1


def test_page_is_toml_with_the_defaults() -> None:
    """What is copied from the page into a file changes nothing."""
    values = tomllib.loads("\n".join(re.findall(r"```toml\n(.*?)```", PAGE, re.DOTALL)))
    assert Settings.model_validate(values) == Settings()
