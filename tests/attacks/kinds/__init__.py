"""The kinds of attack, each in a module of its own: one `Attack` by the name `ATTACK`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from tests.attacks.kinds import connects
from tests.attacks.target import Attack

KINDS: Final[Mapping[str, Attack]] = {module.ATTACK.name: module.ATTACK for module in (connects,)}
"""Every attack by its name."""
