"""Every setting: its name, its default, what it accepts and why it is what it is.

Sources, the later winning: the defaults here, a TOML file, `PUSHWAY_*` variables (`PUSHWAY_<NAME>_FILE` names a file that
holds a secret), flags. A wrong value names itself, where it came from and what it accepts, and nothing starts.
docs/settings.md is made from this package, and a test holds the two together.
"""

from router.settings.model import SECRETS, Settings, accepted_values
from router.settings.sources import CONFIG_VARIABLE, ENV_PREFIX, FILE_SUFFIX, load_settings

__all__ = [
    "CONFIG_VARIABLE",
    "ENV_PREFIX",
    "FILE_SUFFIX",
    "SECRETS",
    "Settings",
    "accepted_values",
    "load_settings",
]
